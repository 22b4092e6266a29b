"""A new file of 8.3.2: from acquisition to the beamline's server and to NERSC, into the catalogue, and its deletions.

::

    spot832 ──> data832 ──> nersc832
                   └──> SciCat
"""

from __future__ import annotations

from itertools import pairwise

from prefect import flow

from orchestration.config import Endpoint
from orchestration.errors import ScanUnreadable, SourceChanged
from orchestration.flows.bl832.ingest import ingest_raw
from orchestration.flows.calendar import schedule_pruning
from orchestration.flows.cancelling import say_cancelled
from orchestration.flows.copying import Dataset, copy, fingerprint, look, record_source
from orchestration.flows.main import command
from orchestration.flows.work import Work, register, working
from orchestration.ledger.copy import RAW, CopyRecord
from orchestration.ledger.scan import Scan
from orchestration.ledger.service import Document
from orchestration.paths import RelativePath
from orchestration.transfers import FileFacts

BEAMLINE = "bl832"


@flow(name="new_832_file_flow", flow_run_name="new_832_file: {file_path}", on_failure=[say_cancelled])
def process_new_832_file_flow(file_path: str, is_export_control: bool = False, send_to_nersc: bool = True) -> Document:
    """Move a new scan to the beamline's server and on to NERSC, catalogue it, and schedule the deletions.

    `file_path` is the path as acquisition writes it (``/global/raw/<proposal>/<file>.h5``). Export-controlled scans
    stay on the beamline's own computers: they are neither sent to NERSC nor catalogued.
    """
    parameters: Document = {
        "file_path": file_path,
        "is_export_control": is_export_control,
        "send_to_nersc": send_to_nersc,
    }
    with working("new_832_file_flow", parameters) as work:
        scan = register_scan(work, file_path, is_export_control=is_export_control)
        copies = move(work, scan, send_to_nersc=send_to_nersc)
        pid = None
        if scan.export_controlled:
            work.logger.warning("export-controlled: nothing leaves the beamline, and no catalogue entry is made")
        else:
            pid = ingest_raw(work, scan).pid
        for present in copies:
            schedule_pruning(work, scan, present)
        return {"scan": scan.id, "copies": [present.endpoint for present in copies], "pid": pid}


def register_scan(work: Work, file_path: str, *, is_export_control: bool = False) -> Scan:
    """The scan, and the version of its file that acquisition has now.

    Raises:
        ScanUnreadable: if this is a folder: a scan of 8.3.2 is one file.
    """
    beamline = work.settings.beamline(BEAMLINE)
    acquisition = work.settings.endpoint(beamline.acquisition)
    path = beamline.relative(file_path)
    scan = register(work, file_path, beamline=beamline, is_export_control=is_export_control)
    facts = look(work, acquisition, path)
    if facts is None:
        return scan
    demand_file(facts, acquisition, path)
    return register(work, file_path, beamline=beamline, fingerprint=facts.version)


def demand_file(facts: FileFacts, endpoint: Endpoint, path: RelativePath) -> None:
    if facts.is_directory:
        raise ScanUnreadable(
            f"{path} is a folder, and a scan of 8.3.2 is one file",
            where=f"{endpoint.name}:{path}",
            next_step="start the flow for each file in it that is a scan",
        )


def move(work: Work, scan: Scan, *, send_to_nersc: bool) -> list[CopyRecord]:
    """The copies that there are of the raw file when all have arrived, the original first."""
    beamline = work.settings.beamline(BEAMLINE)
    acquisition = work.settings.endpoint(beamline.acquisition)
    server = work.settings.endpoint(beamline.server)
    raw = Dataset(name=RAW, path=scan.path)
    on_server = copy(work, scan, [raw], source=acquisition, destination=server)[0]
    copies = [on_server]
    if _still_there(work, scan, acquisition):
        copies.insert(0, record_source(work, scan, on_server, source=acquisition, path=scan.path))
    if send_to_nersc and not scan.export_controlled and beamline.nersc is not None:
        nersc = work.settings.endpoint(beamline.nersc)
        copies += copy(work, scan, [raw], source=server, destination=nersc)
    return copies


def _still_there(work: Work, scan: Scan, acquisition: Endpoint) -> bool:
    """Whether the file that was carried is where acquisition wrote it; an earlier run may have seen to its deletion.

    Raises:
        SourceChanged: if acquisition has written another one there since this run began.
    """
    version = fingerprint(work, acquisition, scan.path)
    if version and version != scan.fingerprint:
        raise SourceChanged(
            f"{scan.path} was written anew while it was carried", where=f"{acquisition.name}:{scan.path}"
        )
    return bool(version)


@flow(name="test_832_transfers", flow_run_name="test_832_transfers: {file_path}", on_failure=[say_cancelled])
def test_832_transfers(file_path: str = "raw/transfer_tests/test.txt") -> Document:  # noqa: PT028 - no test of pytest
    """Flight check: carry a small file along the way of every scan, and fail loudly if it does not arrive."""
    with working("test_832_transfers", {"file_path": file_path}) as work:
        beamline = work.settings.beamline(BEAMLINE)
        scan = register(work, file_path, beamline=beamline, fingerprint=work.run_id)
        names = [beamline.acquisition, beamline.server, *([beamline.nersc] if beamline.nersc else [])]
        endpoints = [work.settings.endpoint(name) for name in names]
        path = RelativePath.parse(file_path)
        for source, destination in pairwise(endpoints):
            copy(work, scan, [Dataset(name="flight check", path=path)], source=source, destination=destination)
        return {"arrived": [*names[1:]]}


if __name__ == "__main__":
    command(process_new_832_file_flow)
