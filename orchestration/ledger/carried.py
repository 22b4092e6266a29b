"""What else a transfer takes along: files of export-controlled scans that it is not about."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import TypeAlias

from sqlalchemy import Connection, select

from orchestration.ledger.copy import CopyState
from orchestration.ledger.scan import Scan, scan_identity
from orchestration.ledger.slices import KEYS_AT_ONCE, batched
from orchestration.ledger.tables import copies, scans
from orchestration.paths import RelativePath
from orchestration.policy import BeamlineRules, Passage

Origin: TypeAlias = tuple[str, str]
"""An endpoint, and a path there."""

ALL = ""
"""The path of what has an endpoint as a whole in it."""


def flagged(
    connection: Connection,
    passages: Sequence[Passage],
    about: Collection[Scan],
    rules: Mapping[str, BeamlineRules],
) -> Iterator[tuple[Scan, Passage]]:
    """Scans under export control of which these passages carry something, and that the transfer is not `about`; each
    with one that does.

    They are known by their paths, where these are those of acquisition, and by their copies, at whichever endpoint of
    the storage these were written down.
    """
    origins = {alias: each for each in passages for alias in each.aliases}
    origins |= {each.origin: each for each in passages if each.origin is not None}
    own = {(scan.beamline, scan.path.text) for scan in about}
    found = dict([*_of_scans(connection, origins, own, rules), *_of_copies(connection, origins)])
    for some in batched(sorted(found.keys() - {scan.id for scan in about}), KEYS_AT_ONCE):
        query = select(scans).where(scans.c.id.in_(some), scans.c.export_controlled)
        for scan in map(Scan.from_row, connection.execute(query).mappings()):
            yield scan, origins[found[scan.id]]


def _of_scans(
    connection: Connection,
    origins: Collection[Origin],
    own: Collection[tuple[str, str]],
    rules: Mapping[str, BeamlineRules],
) -> Iterator[tuple[str, Origin]]:
    """That are what is carried, or have it in them, or lie in it."""
    for beamline, demanded in rules.items():
        paths = {path: (endpoint, path) for endpoint, path in origins if endpoint in demanded.keeps}
        strange = {
            path: origin
            for path, origin in paths.items()
            if not any((beamline, each) in own for each in _upwards(path))
        }
        if not strange:
            continue
        for path, origin in strange.items():
            if path != ALL:
                yield from ((scan_identity(beamline, RelativePath(each)), origin) for each in _upwards(path))
        inside = select(scans.c.id, scans.c.path).where(scans.c.beamline == beamline, scans.c.export_controlled)
        for row in connection.execute(inside):
            yield from ((row.id, strange[each]) for each in (*_upwards(row.path), ALL) if each in strange)


def _of_copies(connection: Connection, origins: Collection[Origin]) -> Iterator[tuple[str, Origin]]:
    """Of which that is a copy, or a part of one, or has one in it."""
    places = {(endpoint, each): (endpoint, path) for endpoint, path in origins for each in _upwards(path)}
    there = copies.c.endpoint.in_(sorted({endpoint for endpoint, _ in places}))
    for some in batched(sorted({path for _, path in places}), KEYS_AT_ONCE):
        query = select(copies.c.scan_id, copies.c.endpoint, copies.c.path).where(there, copies.c.path.in_(some))
        for row in connection.execute(query.distinct()):
            if (row.endpoint, row.path) in places:
                yield row.scan_id, places[row.endpoint, row.path]
    # By their scans, of which few are under export control: of an endpoint there may be very many copies.
    secret = copies.c.scan_id.in_(select(scans.c.id).where(scans.c.export_controlled))
    inside = select(copies.c.scan_id, copies.c.endpoint, copies.c.path).where(secret)
    for row in connection.execute(inside.where(copies.c.state != CopyState.DELETED)):
        above = ((row.endpoint, each) for each in (*_upwards(row.path), ALL))
        yield from ((row.scan_id, place) for place in above if place in origins)


def _upwards(path: str) -> Iterator[str]:
    """The path, and the folders that it lies in."""
    yield path
    yield from (str(folder) for folder in PurePosixPath(path).parents if str(folder) != ".")
