"""New files of any beamline, many at a time: to its server and to NERSC in few transfers, and their deletions planned.

::

    acquisition ──> server ──> NERSC (where the beamline has a place there)
                       └──> SciCat (where it is known how to read a scan of the beamline)

Runs that are started for one file each, a file every second, carry their files together as well: they meet in the
ledger (`orchestration.flows.batching`). What a run that has died had begun, the next one carries on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from orchestration.config import Beamline, Endpoint
from orchestration.errors import (
    BatchIncomplete,
    DeadlinePassed,
    InvalidInput,
    OrchestrationError,
    ServiceUnavailable,
    SourceChanged,
    SourceMissing,
)
from orchestration.flows.batching import Sent, Together, copy_together
from orchestration.flows.calendar import schedule_all
from orchestration.flows.cataloguing import Catalogue, catalogue_all
from orchestration.flows.copying import Dataset, record_source
from orchestration.flows.work import Work, register
from orchestration.ledger.copy import RAW, CopyRecord
from orchestration.ledger.operation import canonical
from orchestration.ledger.scan import Scan
from orchestration.ledger.service import Document, Json

NAME = "new_files_flow"

NAMED = 10
"""Files that an error names; the rest are in the log."""


@dataclass
class Files:
    """What a run has to do with, by the id of each scan, and what came of it."""

    scans: dict[str, Scan] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)
    """In bytes, at acquisition."""
    copies: dict[str, list[CopyRecord]] = field(default_factory=dict)
    failed: dict[str, OrchestrationError] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    """The ids of scans that have failed, and would for any other run: they are tried again when they are asked for."""

    @property
    def well(self) -> list[Scan]:
        return [scan for scan in self.scans.values() if scan.id not in self.failed]


def carry_new_files(
    work: Work,
    beamline: Beamline,
    file_paths: Sequence[str],
    *,
    is_export_control: bool,
    send_to_nersc: bool,
    catalogues: Mapping[str, Catalogue],
) -> Document:
    """The body of every flow that takes many new files; `catalogues` make the records of the scans of a beamline.

    Raises:
        InvalidInput: if there are none.
        BatchIncomplete: if some did not get everywhere; the others have.
    """
    if not file_paths:
        raise InvalidInput("no file was named", where=NAME, next_step="give the path of at least one new file")
    acquisition, server = work.settings.endpoint(beamline.acquisition), work.settings.endpoint(beamline.server)
    files = _registered(work, beamline, acquisition, file_paths, is_export_control=is_export_control)
    asked = frozenset(files.scans)
    told: Document = {"is_export_control": is_export_control, "send_to_nersc": send_to_nersc}
    _begin(work, beamline, files, told)
    _leg(work, files, acquisition, server, sizes=files.sizes)
    _record_originals(work, files, acquisition)
    if send_to_nersc and beamline.nersc is not None:
        _leg(work, files, server, work.settings.endpoint(beamline.nersc), sizes={})
    catalogued = _catalogue(work, files, catalogues)
    schedule_all(work, [present for scan in files.well for present in files.copies.get(scan.id, ())])
    _end(work, files, told)
    # What is settled no other run takes over: nobody would tell any more what became of it.
    work.ledger.arrivals.settle([*(scan.id for scan in files.well), *files.refused], run_id=work.run_id)
    _demand_all(work, files, asked)
    arrived: list[Json] = [scan.id for scan in files.well]
    return {"scans": arrived, "copies": sum(map(len, files.copies.values())), "catalogued": catalogued}


def _registered(
    work: Work, beamline: Beamline, acquisition: Endpoint, file_paths: Sequence[str], *, is_export_control: bool
) -> Files:
    """The scans in the versions that acquisition has now; what it does not have is named, and goes nowhere."""
    files = Files()
    known = [
        register(work, each, beamline=beamline, is_export_control=is_export_control, carried=False)
        for each in dict.fromkeys(file_paths)
    ]
    there = work.services.look_at(acquisition, [scan.path for scan in known])
    for scan in known:
        files.scans[scan.id] = scan
        if scan.path in there:
            version = there[scan.path].version
            files.sizes[scan.id] = there[scan.path].size
            files.scans[scan.id] = register(
                work, scan.path.text, beamline=beamline, fingerprint=version, carried=len(known) == 1
            )
        elif not scan.fingerprint:
            where = acquisition.full_path(scan.path)
            files.failed[scan.id] = SourceMissing(f"there is nothing at {where}", where=acquisition.name)
    return files


def _begin(work: Work, beamline: Beamline, files: Files, told: Document) -> None:
    """Several are a batch in the ledger, so that each can tell what becomes of it; the same ones again are the same."""
    names = {scan.path.text: scan.id for scan in files.scans.values()}
    if len(names) == 1:
        return
    first = next(iter(files.scans.values())).path.name
    what = canonical([beamline.id, told, sorted(names)])
    batch = work.ledger.batches.begin(
        id=hashlib.sha256(what.encode()).hexdigest()[:16],
        flow=NAME,
        beamline=beamline.id,
        name=f"{first} and {len(names) - 1} more",
        parameters=told,
        run_id=work.run_id,
        items={name: {} for name in names},
    )
    work.ledger.batches.take_all(batch.id, names)


def _end(work: Work, files: Files, told: Document) -> None:
    """What came of each is told, also of those that were taken over from a run that has died."""
    done: dict[str, Document] = {scan.id: {"copies": len(files.copies.get(scan.id, ()))} for scan in files.well}
    work.ledger.batches.end_scans(NAME, told, done=done, failed=files.failed)


def _leg(work: Work, files: Files, source: Endpoint, destination: Endpoint, *, sizes: Mapping[str, int]) -> None:
    """Also for what a run that has died had left on the same way. `sizes` are those that were seen at the source."""
    leaving = destination.place.zone is not source.place.zone
    sent = [
        Sent(scan=scan, dataset=Dataset(name=RAW, path=scan.path), size=sizes.get(scan.id))
        for scan in files.well
        if not (leaving and work.ledger.scans.get(scan.id).export_controlled)
    ]
    if not sent:
        return
    done = copy_together(work, sent, source=source, destination=destination)
    _take_in(files, done)


def _take_in(files: Files, done: Together) -> None:
    for scan_id, scan in done.scans.items():
        files.scans.setdefault(scan_id, scan)
    for scan_id, copied in done.copies.items():
        files.copies.setdefault(scan_id, []).append(copied)
    files.failed |= done.failed


def _record_originals(work: Work, files: Files, acquisition: Endpoint) -> None:
    """What was carried from there is a copy as well, unless acquisition has written another file there since."""
    there = work.services.look_at(acquisition, [scan.path for scan in files.well])
    for scan in files.well:
        facts, copies = there.get(scan.path), files.copies.get(scan.id)
        if facts is None or not copies:
            continue  # an earlier run may have seen to its deletion
        if facts.version != scan.fingerprint:
            changed = f"{scan.path} was written anew while it was carried"
            files.failed[scan.id] = SourceChanged(changed, where=f"{acquisition.name}:{scan.path}")
            continue
        copies.insert(0, record_source(work, scan, copies[0], source=acquisition, path=scan.path))


def _catalogue(work: Work, files: Files, catalogues: Mapping[str, Catalogue]) -> int:
    """How many of the scans have a record now: of what is under export control nothing is told to anybody."""
    known = work.ledger.scans.among([scan.id for scan in files.well])
    number = 0
    for beamline, make in catalogues.items():
        mine = [scan for scan in files.well if scan.beamline == beamline]
        open_to_tell = [scan for scan in mine if not known[scan.id].export_controlled]
        if len(open_to_tell) < len(mine):
            work.logger.warning("%d scans are export-controlled: not catalogued", len(mine) - len(open_to_tell))
        failed = catalogue_all(work, open_to_tell, make)
        files.failed |= failed
        passing = (DeadlinePassed, ServiceUnavailable)
        files.refused += [scan_id for scan_id, error in failed.items() if not isinstance(error, passing)]
        number += len(open_to_tell) - len(failed)
    return number


def _demand_all(work: Work, files: Files, asked: Collection[str]) -> None:
    """Of what this run was asked for. What a run that has died had left is no failure of this one."""
    for scan_id, error in files.failed.items():
        work.logger.error("%s: %s", files.scans[scan_id].path, error.sentence)
    failed = {files.scans[each].path: error for each, error in files.failed.items() if each in asked}
    if failed:
        named = "; ".join(f"{path}: {error.what}" for path, error in list(failed.items())[:NAMED])
        more = f"; and {len(failed) - NAMED} more" if len(failed) > NAMED else ""
        first = next(iter(failed.values()))
        raise BatchIncomplete(
            f"{len(failed)} of {len(asked)} files did not get everywhere: {named}{more}",
            where=NAME,
            next_step=first.next_step,
        ) from first
