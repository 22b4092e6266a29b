"""Reconstruction of an 8.3.2 scan on this machine."""

from __future__ import annotations

from typing import Any

from prefect import flow

from orchestration.flows.bl832.reconstruction import run_reconstruction
from orchestration.flows.cancelling import say_cancelled
from orchestration.flows.main import command
from orchestration.ledger.service import Document

SITE = "local"


@flow(name="local_recon_flow", flow_run_name="local_recon: {file_path}", on_failure=[say_cancelled])
def local_recon_flow(
    file_path: str,
    parameters: dict[str, Any] | None = None,
    request: str = "",
    is_export_control: bool = False,
) -> Document:
    """Reconstruct a scan on this machine, bring the results to the beamline's server, and catalogue them.

    `parameters` are those of ``python -m orchestration.science tomography reconstruct``: ``{"center": 1021.5}``.
    A new `request` has the same parameters computed again; without it, what was done is not done twice. A scan under
    export control is not taken beyond the beamline.
    """
    return run_reconstruction(
        "local_recon_flow", SITE, file_path, parameters, request, is_export_control=is_export_control
    )


if __name__ == "__main__":
    command(local_recon_flow)
