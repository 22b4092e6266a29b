"""Reconstruction of an 8.3.2 scan at whichever site can take it.

::

    how each site is, its queue, its maintenance, its hours, the data ──> one site ──> reconstruct there
                                                                           ^                  │
                                                                           └── not begun, and ─┘
                                                                               the site went down
"""

from __future__ import annotations

from typing import Any

from prefect import flow

from orchestration.flows.bl832.move import BEAMLINE, register_scan
from orchestration.flows.bl832.reconstruction import reconstruct_at, step_at, variant
from orchestration.flows.cancelling import say_cancelled
from orchestration.flows.choosing import Piece
from orchestration.flows.jobs import job_seconds
from orchestration.flows.main import command
from orchestration.flows.moving import wherever
from orchestration.flows.prospects import Needs, size_of
from orchestration.flows.starting import checked_parameters
from orchestration.flows.work import Work, working
from orchestration.ledger.scan import Scan
from orchestration.ledger.service import Document


@flow(name="any_recon_flow", flow_run_name="any_recon: {file_path}", on_failure=[say_cancelled])
def any_recon_flow(
    file_path: str,
    parameters: dict[str, Any] | None = None,
    request: str = "",
    site: str = "",
    is_export_control: bool = False,
) -> Document:
    """Reconstruct a scan at the site that can take it, bring the results to the beamline's server, and catalogue them.

    `site` pins the run to one site; without it, the sites of the beamline are weighed. A reconstruction that has not
    begun goes to the next site when its own goes down, and never runs at two. The other parameters are those of
    `local_recon_flow`.
    """
    given: Document = {
        "file_path": file_path,
        "parameters": dict(parameters or {}),
        "request": request,
        "site": site,
        "is_export_control": is_export_control,
    }
    with working("any_recon_flow", given) as work:
        chosen = checked_parameters(parameters or {})  # any other would be an option of the program
        scan = register_scan(work, file_path, is_export_control=is_export_control)
        piece = _piece(work, scan, chosen, request, site)
        return wherever(
            work,
            piece,
            candidates=work.settings.beamline(BEAMLINE).sites,
            pin=site,
            do=lambda name: reconstruct_at(work, scan, name, parameters=chosen, request=request),
        )


def _piece(work: Work, scan: Scan, parameters: dict[str, Any], request: str, pin: str) -> Piece:
    """What is asked of one site is other work than what is asked of any: neither run follows the other."""
    size = size_of(work, scan)
    return Piece(
        scan=scan,
        step=f"reconstruct{variant(parameters)}",
        told_by={"parameters": parameters, "request": request, "site": pin},
        needs=Needs(size=size, seconds=lambda each: job_seconds(each, size)),
        job_at=lambda name: step_at(name, parameters),
    )


if __name__ == "__main__":
    command(any_recon_flow)
