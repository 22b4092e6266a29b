"""Reconstruction of an 8.3.2 scan at ALCF, by Globus Compute."""

from __future__ import annotations

from typing import Any

from prefect import flow

from orchestration.flows.bl832.reconstruction import run_reconstruction
from orchestration.flows.cancelling import say_cancelled
from orchestration.flows.main import command
from orchestration.ledger.service import Document

SITE = "alcf"


@flow(name="alcf_recon_flow", flow_run_name="alcf_recon: {file_path}", on_failure=[say_cancelled])
def alcf_recon_flow(
    file_path: str,
    parameters: dict[str, Any] | None = None,
    request: str = "",
    is_export_control: bool = False,
) -> Document:
    """Reconstruct a scan at ALCF, bring the results to the beamline's server, and catalogue them.

    The other parameters are those of `local_recon_flow`.
    """
    return run_reconstruction(
        "alcf_recon_flow", SITE, file_path, parameters, request, is_export_control=is_export_control
    )


if __name__ == "__main__":
    command(alcf_recon_flow)
