"""Files of 8.3.2 from tape back to NERSC's file systems."""

from __future__ import annotations

from prefect import flow

from orchestration.flows.bl832.archive import project_of
from orchestration.flows.cancelling import say_cancelled
from orchestration.flows.main import command
from orchestration.flows.retrieving import fetch, wanted
from orchestration.flows.work import working
from orchestration.ledger.service import Document


@flow(name="hpss_to_cfs_flow", flow_run_name="hpss_to_cfs: {file_path}", on_failure=[say_cancelled])
def hpss_to_cfs_flow(file_path: str, members: list[str] | None = None, destination: str = "") -> Document:
    """Bring files back from the tape archive to NERSC's community file system, or to another endpoint there.

    `file_path` is that of a bundle (``/global/raw/<proposal>/<proposal>_2026-1.tar``), of which all files or only
    `members` are brought; or that of a file as it was before, wherever it is stored. `destination` is the name of an
    endpoint.
    """
    parameters: Document = {"file_path": file_path, "members": [*(members or [])], "destination": destination}
    with working("hpss_to_cfs_flow", parameters) as work:
        asked = project_of(work, file_path, folder=True)
        return fetch(work, asked, wanted(work, asked, members or []), destination=destination)


if __name__ == "__main__":
    command(hpss_to_cfs_flow)
