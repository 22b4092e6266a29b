"""Archiving many proposals of 8.3.2: each in a run of its own, and a report of those that could not be."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any

from prefect import flow

from orchestration.errors import BatchIncomplete, Cancelled, InvalidInput, OperationFailed, PolicyRefused, SourceMissing
from orchestration.flows.bl832.archive import cycle_of, project_of
from orchestration.flows.bl832.move import BEAMLINE
from orchestration.flows.cancelling import say_cancelled
from orchestration.flows.main import command
from orchestration.flows.runs import RunRequest
from orchestration.flows.work import Work, working
from orchestration.hpss.bundles import Cycle
from orchestration.ledger.operation import Operation
from orchestration.ledger.service import Document, Json
from orchestration.paths import RelativePath

STORE = "cfs_to_hpss_flow/cfs_to_hpss_flow"
AT_ONCE = 8
"""Runs that are asked for and waited for together; how many of them work is the limit of their queue."""

DEADLINE_SECONDS = 30 * 24 * 3600.0


@flow(
    name="archive_832_project_dispatcher",
    flow_run_name="archive_832_project_dispatcher: {file_path}",
    on_failure=[say_cancelled],
)
def archive_832_project_dispatcher(file_path: str | list[str], cycle: str = "") -> Document:
    """Archive one proposal, or several, by the paths of their folders (``/global/raw/<proposal>``)."""
    paths = [file_path] if isinstance(file_path, str) else [*file_path]
    with working("archive_832_project_dispatcher", {"file_path": [*paths], "cycle": cycle}) as work:
        return _archive(work, paths, cycle_of(cycle))


@flow(
    name="archive_832_projects_from_previous_cycle_dispatcher",
    flow_run_name="archive_832_projects_from_previous_cycle",
    on_failure=[say_cancelled],
)
def archive_832_projects_from_previous_cycle_dispatcher(cycle: str = "") -> Document:
    """Archive what all proposals wrote in the beam cycle before this one, or in the `cycle` that is named."""
    with working("archive_832_projects_from_previous_cycle_dispatcher", {"cycle": cycle}) as work:
        wanted = cycle_of(cycle) or Cycle.at(datetime.now(UTC).timestamp()).previous
        return _archive(work, _proposals(work), wanted)


@flow(
    name="archive_all_832_raw_projects_dispatcher",
    flow_run_name="archive_all_832_raw_projects",
    on_failure=[say_cancelled],
)
def archive_all_832_raw_projects_dispatcher() -> Document:
    """Archive all that there is of all proposals."""
    with working("archive_all_832_raw_projects_dispatcher", {}) as work:
        return _archive(work, _proposals(work), None)


def _proposals(work: Work) -> Sequence[str]:
    """The folders below the one of proposals, as acquisition calls them.

    Raises:
        SourceMissing: if there is no such folder.
    """
    beamline = work.settings.beamline(BEAMLINE)
    archive = work.settings.archive(beamline.archive or "")
    source, folder = work.settings.endpoint(archive.source), RelativePath(archive.source_folder)
    names = work.services.folders(source, folder)
    if names is None:
        raise SourceMissing("there is no folder of proposals", where=f"{source.name}:{folder}")
    return [beamline.written(folder / name) for name in sorted(names) if not name.startswith(".")]


def _archive(work: Work, paths: Sequence[str], cycle: Cycle | None) -> Document:
    """Raises BatchIncomplete if one could not be archived; the others are."""
    failed: dict[str, str] = {}
    for at in range(0, len(paths), AT_ONCE):
        some = paths[at : at + AT_ONCE]
        endings = work.side_by_side([partial(_run, work, path, cycle) for path in some])
        failed |= {path: why for path, why in zip(some, endings, strict=True) if why}
    for path, why in failed.items():
        work.logger.warning("%s: %s", path, why)
    if failed:
        first = next(iter(failed))
        raise BatchIncomplete(
            f"{len(failed)} of {len(paths)} proposals are not archived, {first} among them: {failed[first]}",
            next_step="the log names them; start this one again: what is archived is not archived again",
        )
    archived: list[Json] = [*paths]
    return {"archived": archived, "cycle": "" if cycle is None else str(cycle)}


def _run(work: Work, path: str, cycle: Cycle | None) -> str:
    """Why the proposal is not archived; empty if it is."""
    try:
        asked = project_of(work, path, carried=False)
        when = "" if cycle is None else str(cycle)
        request = RunRequest(
            deployment=STORE,
            parameters={"file_path": path, "cycle": when},
            flow_run_name=f"cfs_to_hpss: {asked.name}"[:200],
            tags=(BEAMLINE, "archive"),
        )
        operation = Operation(
            scan=asked.scan,
            step=f"run cfs_to_hpss_flow{f' for cycle {when}' if when else ''}",
            request=request,
            destination=request.place,
            deadline=DEADLINE_SECONDS,
        )
        outcome = work.perform(operation, work.services.prefect_run)
        if outcome.already_done and outcome.record.run_id != work.run_id:
            # What was archived for an earlier dispatcher is looked at again: there may be more by now.
            work.ledger.operations.expire(operation.key)
            work.perform(operation, work.services.prefect_run)
    except Cancelled:
        raise
    except (OperationFailed, InvalidInput, PolicyRefused) as error:
        return error.what
    return ""


def main(argv: list[str] | None = None) -> Any:
    return command(archive_832_projects_from_previous_cycle_dispatcher, argv)


if __name__ == "__main__":
    main()
