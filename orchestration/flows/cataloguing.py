"""What cataloguing has in common at all beamlines: each thing has one record, known again by what it is about."""

from __future__ import annotations

import hashlib
import posixpath
import queue
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeAlias

from orchestration.errors import (
    Cancelled,
    DeadlinePassed,
    InvalidInput,
    LeaseLost,
    OrchestrationError,
    ServiceUnavailable,
)
from orchestration.flows.work import Work
from orchestration.ledger.copy import CopyRecord
from orchestration.ledger.manifests import FileEvidence
from orchestration.ledger.operation import Operation, OperationState
from orchestration.ledger.results import ResultRecord
from orchestration.ledger.scan import Scan
from orchestration.scicat import CATALOGUE, DataFile, IngestRequest

DEADLINE_SECONDS = 6 * 3600.0

AT_ONCE = 8
"""Records that are made side by side: the catalogue takes several requests for each, one after another."""

UNKNOWN = "Unknown"
NO_EMAIL = "unknown@example.com"


def raw_identity(scan_id: str) -> str:
    """What the record of the scan is known by; `dataset_pid` makes its PID of it."""
    return f"{scan_id}/raw"


def derived_identity(scan_id: str, *, kind: str, variant: str = "") -> str:
    return f"{scan_id}/{kind}/{variant}" if variant else f"{scan_id}/{kind}"


def making_of(result: ResultRecord) -> str:
    """Names the attempt that made it: what was made again, after another result had replaced it, has its own record."""
    return hashlib.sha256(f"{result.operation_key} {result.receipt.job}".encode()).hexdigest()[:12]


def software_of(result: ResultRecord) -> tuple[str, ...]:
    """Name and version each."""
    used = {"beamline-orchestration": result.receipt.code_version, **result.receipt.environment}
    return tuple(f"{name} {version}" for name, version in used.items())


def ingest(work: Work, scan: Scan, request: IngestRequest, step: str) -> str:
    """The PID of the record.

    Raises:
        PolicyRefused: if nothing about the scan may go to the catalogue; nothing was sent.
        CatalogueRefused: if the catalogue does not take it.
    """
    operation = Operation(scan=scan, step=step, request=request, destination=CATALOGUE, deadline=DEADLINE_SECONDS)
    return str(work.perform(operation, work.services.catalogue).evidence["pid"])


Catalogue: TypeAlias = Callable[[Work, Scan], object]
"""Makes the record of a scan, if it has none."""


def catalogue_all(work: Work, scans: Sequence[Scan], make: Catalogue) -> Mapping[str, OrchestrationError]:
    """Make the records of many scans, some side by side; why of those that have none, by the ids of the scans.

    If one was asked for in vain for as long as that may take, no other is begun.
    """
    waiting: queue.SimpleQueue[Scan] = queue.SimpleQueue()
    for scan in scans:
        waiting.put(scan)
    failed: dict[str, OrchestrationError] = {}
    over: list[OrchestrationError] = []

    def some() -> None:
        while not over and (scan := _next(waiting)) is not None:
            try:
                make(work, scan)
            except (Cancelled, LeaseLost) as end:
                over.append(end)
                raise
            except OrchestrationError as error:
                failed[scan.id] = error
                if isinstance(error, DeadlinePassed | ServiceUnavailable):
                    over.append(error)

    if scans:
        work.side_by_side([some] * min(AT_ONCE, len(scans)))
    while (left := _next(waiting)) is not None:
        failed[left.id] = over[0]
    return failed


def _next(waiting: queue.SimpleQueue[Scan]) -> Scan | None:
    try:
        return waiting.get_nowait()
    except queue.Empty:
        return None


@dataclass(frozen=True)
class Recorded:
    """A record as the ledger has it from the last time that it was catalogued."""

    pid: str
    record: Mapping[str, Any]
    files: Mapping[str, Any]

    def lists(self, files: Sequence[DataFile]) -> bool:
        """Whether it was made of these, as far as their number and sizes tell."""
        return (self.files.get("count"), self.files.get("size")) == (len(files), sum(file.size for file in files))


def recorded(work: Work, scan: Scan, identity: str) -> Recorded | None:
    for done in reversed(work.ledger.operations.of_scan(scan.id)):
        asked: Mapping[str, Any] = done.request
        same = done.service == work.services.catalogue.name and asked.get("identity") == identity
        if same and done.state is OperationState.SUCCEEDED and done.evidence:
            return Recorded(str(done.evidence["pid"]), asked["record"], asked["files"])
    return None


@dataclass(frozen=True)
class Listed:
    """Files as a record names them: the absolute path of a folder on their endpoint, and what is below it."""

    folder: str
    files: tuple[DataFile, ...]


def listed(work: Work, copies: Sequence[CopyRecord], *, time: datetime) -> Listed:
    """All files of copies at one endpoint; `time` is when they were written, which no manifest tells.

    Raises:
        InvalidInput: if there are none, or they are at several endpoints.
    """
    found = {
        posixpath.join(copy.path.text, entry.path).rstrip("/"): entry for copy in copies for entry in copy.manifest
    }
    names = sorted({copy.endpoint for copy in copies})
    if not found or len(names) != 1:
        raise InvalidInput(
            f"one record cannot name {len(found)} files at {', '.join(names) or 'no endpoint'}",
            where="catalogue record",
            next_step="give the copies of one endpoint, of which there must be files",
        )
    folder = posixpath.commonpath([_home(copy) for copy in copies])
    files = tuple(
        DataFile(path=posixpath.relpath(path, folder or "."), size=entry.size, time=time, checksum=_sha256(entry))
        for path, entry in found.items()
    )
    return Listed(posixpath.join(work.settings.endpoint(names[0]).root_path, folder), files)


def _home(copy: CopyRecord) -> str:
    """The folder that was copied, or in which the one file lies that was."""
    is_file = any(not entry.path for entry in copy.manifest)
    return posixpath.dirname(copy.path.text) if is_file else copy.path.text


def _sha256(entry: FileEvidence) -> str:
    """Empty if another checksum is known, or none: the catalogue is told one algorithm for all files."""
    algorithm, _, value = (entry.checksum or "").partition(":")
    return value if algorithm == "sha256" else ""
