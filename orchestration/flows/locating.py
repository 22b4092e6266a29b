"""Telling the catalogue where archived data is, and that it is there no more."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from orchestration.flows.cataloguing import DEADLINE_SECONDS, Recorded, raw_identity, recorded
from orchestration.flows.work import Work
from orchestration.hpss.bundles import located
from orchestration.ledger.copy import RAW, CopyRecord
from orchestration.ledger.manifests import FileEvidence
from orchestration.ledger.operation import Operation
from orchestration.paths import RelativePath
from orchestration.policy import Audience
from orchestration.scicat import CATALOGUE, DataFile, PlaceRequest


def add_places(work: Work, copies: Sequence[CopyRecord]) -> int:
    """Add to the record of each scan that has one where its raw data is archived; how many were told so.

    Raises:
        CatalogueRefused: if the catalogue does not take it; the data is archived all the same.
    """
    return sum(_told(work, copy, there=True) for copy in copies if copy.dataset == RAW)


def forget_places(work: Work, copies: Sequence[CopyRecord]) -> int:
    """Take back what `add_places` added.

    Raises:
        CatalogueRefused: if the catalogue does not take it back.
    """
    return sum(_told(work, copy, there=False) for copy in copies if copy.dataset == RAW)


def _told(work: Work, copy: CopyRecord, *, there: bool) -> bool:
    """Whether the scan has a record at all."""
    scan = work.ledger.scans.get(copy.scan_id)
    if work.settings.scicat.api_url is None or scan.export_controlled:
        return False
    known = recorded(work, scan, raw_identity(scan.id))
    if known is None:
        return False
    request = PlaceRequest(
        pid=known.pid,
        archive_id=_address(work, copy),
        audience=_readers(known),
        files=_files(copy),
        there=there,
    )
    how = "add" if there else "take back"
    operation = Operation(
        scan=scan,
        step=f"{how} the place {copy.endpoint} of {copy.dataset} ({copy.generation})",
        request=request,
        destination=CATALOGUE,
        deadline=DEADLINE_SECONDS,
    )
    work.perform(operation, work.services.places)
    return True


def _readers(known: Recorded) -> Audience:
    record = known.record
    readers = (str(record["ownerGroup"]), *map(str, record["accessGroups"]))
    return Audience(readers=readers, everybody=bool(record.get("isPublished")))


def _address(work: Work, copy: CopyRecord) -> str:
    """``hpss://archive.nersc.gov/home/.../bundle.tar``: what holds the files."""
    archive = work.settings.archive(copy.endpoint)
    name, _ = located(copy.path.text)
    return f"{archive.kind}://{archive.uri}{archive.endpoint.full_path(RelativePath(name))}"


def _files(copy: CopyRecord) -> tuple[DataFile, ...]:
    """As they are called in the bundle; a file by itself is called like its object."""
    _, member = located(copy.path.text)
    time = datetime.fromtimestamp(copy.verified_at, UTC)
    if not member:
        return tuple(_file(each, copy.path.name, time) for each in copy.manifest)
    return tuple(_file(each, f"{member}/{each.path}" if each.path else member, time) for each in copy.manifest)


def _file(entry: FileEvidence, path: str, time: datetime) -> DataFile:
    return DataFile(path=path, size=entry.size, time=time, checksum=(entry.checksum or "").partition("sha256:")[2])
