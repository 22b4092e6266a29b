"""What else a transfer takes along: files of export-controlled scans that it is not about."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import PurePosixPath

from sqlalchemy import Connection, select

from orchestration.ledger.copy import CopyState
from orchestration.ledger.scan import Scan, scan_identity
from orchestration.ledger.slices import KEYS_AT_ONCE, batched
from orchestration.ledger.tables import copies, scans
from orchestration.paths import RelativePath
from orchestration.policy import BeamlineRules, Passage


def flagged(
    connection: Connection,
    passages: Sequence[Passage],
    about: Collection[Scan],
    rules: Mapping[str, BeamlineRules],
) -> Iterator[Scan]:
    """Scans under export control of which these passages carry something, and that the transfer is not `about`.

    They are known by their paths, where these are those of acquisition, and by their copies.
    """
    origins = {each.origin for each in passages if each.origin is not None}
    own = {(scan.beamline, scan.path.text) for scan in about}
    ids = {*_of_scans(connection, origins, own, rules), *_of_copies(connection, origins)} - {scan.id for scan in about}
    for some in batched(sorted(ids), KEYS_AT_ONCE):
        query = select(scans).where(scans.c.id.in_(some), scans.c.export_controlled)
        yield from (Scan.from_row(row) for row in connection.execute(query).mappings())


def _of_scans(
    connection: Connection,
    origins: Collection[tuple[str, str]],
    own: Collection[tuple[str, str]],
    rules: Mapping[str, BeamlineRules],
) -> Iterator[str]:
    """That are what is carried, or have it in them, or lie in it."""
    for beamline, demanded in rules.items():
        paths = {path for endpoint, path in origins if endpoint in demanded.keeps}
        strange = {path for path in paths if not any((beamline, each) in own for each in _upwards(path))}
        if not strange:
            continue
        yield from (scan_identity(beamline, RelativePath(each)) for path in strange for each in _upwards(path))
        inside = select(scans.c.id, scans.c.path).where(scans.c.beamline == beamline, scans.c.export_controlled)
        for row in connection.execute(inside):
            if any(each in strange for each in _upwards(row.path)):
                yield row.id


def _of_copies(connection: Connection, origins: Collection[tuple[str, str]]) -> Iterator[str]:
    """Of which that is a copy, or a part of one, or has one in it."""
    for endpoint in {endpoint for endpoint, _ in origins}:
        paths = {each for at, path in origins if at == endpoint for each in _upwards(path)}
        for some in batched(sorted(paths), KEYS_AT_ONCE):
            query = select(copies.c.scan_id).where(copies.c.endpoint == endpoint, copies.c.path.in_(some))
            yield from connection.execute(query.distinct()).scalars()
    # By their scans, of which few are under export control: of an endpoint there may be very many copies.
    secret = copies.c.scan_id.in_(select(scans.c.id).where(scans.c.export_controlled))
    inside = select(copies.c.scan_id, copies.c.endpoint, copies.c.path).where(secret)
    for row in connection.execute(inside.where(copies.c.state != CopyState.DELETED)):
        if any((row.endpoint, each) in origins for each in _upwards(row.path)):
            yield row.scan_id


def _upwards(path: str) -> Iterator[str]:
    """The path, and the folders that it lies in."""
    yield path
    yield from (str(folder) for folder in PurePosixPath(path).parents if str(folder) != ".")
