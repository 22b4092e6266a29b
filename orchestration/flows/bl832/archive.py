"""Proposals of 8.3.2 to tape, in NERSC's HPSS."""

from __future__ import annotations

from prefect import flow

from orchestration.errors import ConfigError, InvalidInput
from orchestration.flows.archiving import Project, archive_project, project
from orchestration.flows.bl832.move import BEAMLINE
from orchestration.flows.cancelling import say_cancelled
from orchestration.flows.main import command
from orchestration.flows.work import Work, working
from orchestration.hpss.bundles import Cycle
from orchestration.ledger.service import Document


@flow(name="cfs_to_hpss_flow", flow_run_name="cfs_to_hpss: {file_path}", on_failure=[say_cancelled])
def cfs_to_hpss_flow(file_path: str, cycle: str = "") -> Document:
    """Store what NERSC's community file system has of a proposal, or of one file, in the tape archive.

    `file_path` is that of the proposal's folder (``/global/raw/<proposal>``), or of a file in it, which is then stored
    by itself. `cycle` (``2026-1``: 1 January to 15 July; ``2026-2``: the rest of the year) takes only what was written
    in that beam cycle. What the archive has already is not stored again.
    """
    with working("cfs_to_hpss_flow", {"file_path": file_path, "cycle": cycle}) as work:
        when = cycle_of(cycle)
        return archive_project(work, project_of(work, file_path), cycle=when)


def project_of(work: Work, file_path: str, *, folder: bool = False, carried: bool = True) -> Project:
    """What is archived under that path, which this run carries, unless it carries several.

    Raises:
        InvalidInput: if it is not below the folder of proposals.
    """
    beamline = work.settings.beamline(BEAMLINE)
    if beamline.archive is None:
        raise ConfigError(
            f"{BEAMLINE} has no archive", where=f"beamlines.{BEAMLINE}.archive", next_step="name one of `archives`"
        )
    asked = project(work, BEAMLINE, beamline.relative(file_path), archive=beamline.archive, folder=folder)
    if carried:
        work.ledger.runs.carries(work.run_id, asked.scan.id)
    return asked


def cycle_of(text: str) -> Cycle | None:
    """Raises InvalidInput for what is no beam cycle."""
    try:
        return Cycle.parse(text) if text else None
    except ValueError as error:
        raise InvalidInput(str(error)) from error


if __name__ == "__main__":
    command(cfs_to_hpss_flow)
