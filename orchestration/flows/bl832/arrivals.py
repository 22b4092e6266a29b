"""New files of any beamline, many at a time, deployed with 8.3.2; scans of 8.3.2 are catalogued as well."""

from __future__ import annotations

from prefect import flow

from orchestration.flows.arrivals import NAME, carry_new_files
from orchestration.flows.bl832.ingest import ingest_raw
from orchestration.flows.bl832.move import BEAMLINE
from orchestration.flows.cancelling import say_cancelled
from orchestration.flows.main import command
from orchestration.flows.work import working
from orchestration.ledger.service import Document

CATALOGUES = {BEAMLINE: ingest_raw}


@flow(name=NAME, flow_run_name="new_files: {beamline}", on_failure=[say_cancelled])
def new_files_flow(
    file_paths: list[str], beamline: str, is_export_control: bool = False, send_to_nersc: bool = True
) -> Document:
    """Move new files to the beamline's server and on to NERSC, many in one transfer, and plan the deletions.

    `file_paths` are the paths as acquisition writes them, each of a file or a folder that is a scan of its own; those
    of 8.3.2 are catalogued. Files under export control stay at the beamline, and go with no others. What is wrong with
    one file keeps no other from its way: the run fails in the end, and names each.
    """
    parameters: Document = {
        "file_paths": [*file_paths],
        "beamline": beamline,
        "is_export_control": is_export_control,
        "send_to_nersc": send_to_nersc,
    }
    with working(NAME, parameters) as work:
        return carry_new_files(
            work,
            work.settings.beamline(beamline),
            file_paths,
            is_export_control=is_export_control,
            send_to_nersc=send_to_nersc,
            catalogues=CATALOGUES,
        )


if __name__ == "__main__":
    command(new_files_flow)
