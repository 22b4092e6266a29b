"""What happens to a scan of 8.3.2: the branches that operators have switched on, each to its real end."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from prefect import flow

from orchestration.errors import (
    Cancelled,
    ConfigError,
    InvalidInput,
    OperationFailed,
    OrchestrationError,
    PolicyRefused,
    RunFailed,
)
from orchestration.flows.bl832.move import register_scan
from orchestration.flows.cancelling import cancelling, say_cancelled
from orchestration.flows.main import command
from orchestration.flows.runs import RunRequest
from orchestration.flows.variables import decision_settings
from orchestration.flows.work import Work, working
from orchestration.ledger.operation import Operation
from orchestration.ledger.scan import Scan
from orchestration.ledger.service import Document, Json
from orchestration.policy import Zone

NEW_FILE = "new_832_file_flow/new_file_832"
RECONSTRUCTIONS = {
    "local_recon_flow/local_recon_flow": "local",
    "nersc_recon_flow/nersc_recon_flow": "nersc",
    "alcf_recon_flow/alcf_recon_flow": "alcf",
    "any_recon_flow/any_recon_flow": "",
}
"""The deployments that reconstruct, and the compute site of each; empty for the one that chooses among all."""

BRANCH_DEADLINE_SECONDS = 24 * 3600.0
CRASHED_ATTEMPTS = 3
"""A branch whose process died is started again so often; what it had done is not done twice."""


@dataclass(frozen=True)
class Branch:
    """How one branch ended."""

    deployment: str
    state: str
    error: OrchestrationError | None = None

    def document(self) -> Document:
        return {"state": self.state, "error": None if self.error is None else self.error.sentence}


@flow(name="dispatcher", flow_run_name="dispatcher: {file_path}", on_failure=[say_cancelled])
def dispatcher(file_path: str, is_export_control: bool = False) -> Document:
    """Run every branch that `decision-settings` switches on for this scan, wait for all, and fail if one failed.

    The file is moved first; the reconstructions, which read it, then run side by side. An export-controlled scan is
    refused to every branch that would take it beyond the beamline.
    """
    parameters: Document = {"file_path": file_path, "is_export_control": is_export_control}
    with working("dispatcher", parameters) as work:
        scan = register_scan(work, file_path, is_export_control=is_export_control)
        decisions = decision_settings(work.settings)
        written = work.settings.beamline(scan.beamline).written(scan.path)
        branches: list[Branch] = []
        if decisions.get(NEW_FILE):
            moved: Document = {"file_path": written, "is_export_control": scan.export_controlled}
            branches.append(_run(work, scan, NEW_FILE, moved))
        if all(branch.error is None for branch in branches):
            wanted = [name for name in RECONSTRUCTIONS if decisions.get(name)]
            branches += _run_side_by_side(work, scan, wanted, written)
        return _report(work, scan, branches)


def _run_side_by_side(work: Work, scan: Scan, deployments: list[str], file_path: str) -> list[Branch]:
    allowed = [name for name in deployments if _may_run(work, scan, name)]
    refused = [Branch(name, "refused: export control") for name in deployments if name not in allowed]
    calls = [partial(_run, work, scan, name, {"file_path": file_path}) for name in allowed]
    return [*work.side_by_side(calls), *refused]


def _may_run(work: Work, scan: Scan, deployment: str) -> bool:
    """A site that config.yml does not know is beyond the beamline for all we know."""
    named = RECONSTRUCTIONS[deployment]
    names = [named] if named else work.settings.beamline(scan.beamline).sites
    sites = [work.settings.compute_sites.get(name) for name in names]
    return not scan.export_controlled or any(site is not None and site.zone is Zone.BEAMLINE for site in sites)


def _run(work: Work, scan: Scan, deployment: str, parameters: Document) -> Branch:
    flow_name = deployment.partition("/")[0]
    request = RunRequest(
        deployment=deployment,
        parameters=parameters,
        flow_run_name=f"{flow_name}: {scan.path.name}"[:200],
        tags=(scan.beamline,),
    )
    operation = Operation(
        scan=scan,
        step=f"run {flow_name}",
        request=request,
        destination=request.place,
        deadline=BRANCH_DEADLINE_SECONDS,
    )
    for attempt in range(1, CRASHED_ATTEMPTS + 1):
        try:
            _perform(work, operation)
        except OperationFailed as error:
            if attempt < CRASHED_ATTEMPTS and _crashed(work, operation):
                work.logger.warning("%s: its process died; started again", deployment)
                continue
            return Branch(deployment, "failed", error)
        except (InvalidInput, ConfigError, PolicyRefused) as error:
            return Branch(deployment, "failed", error)  # the other branches are waited for all the same
        return Branch(deployment, "completed")
    raise RunFailed(f"{deployment} crashed {CRASHED_ATTEMPTS} times", where=scan.path.text)


def _perform(work: Work, operation: Operation[RunRequest]) -> None:
    """What was done for an earlier dispatcher is asked for again: the flow itself sees what still stands of it."""
    outcome = work.perform(operation, work.services.prefect_run)
    run = work.ledger.runs.get(work.run_id)
    began = work.ledger.now() if run is None else run.started_at
    earlier = outcome.record.run_id != work.run_id and (outcome.record.finished_at or 0.0) < began
    if outcome.already_done and earlier:
        work.ledger.operations.expire(operation.key)
        work.perform(operation, work.services.prefect_run)


def _crashed(work: Work, operation: Operation[RunRequest]) -> bool:
    return (work.ledger.operations.get(operation.key).evidence or {}).get("state") == "Crashed"


def _report(work: Work, scan: Scan, branches: list[Branch]) -> Document:
    if not branches:
        work.logger.warning("nothing was done with %s: decision-settings switches every branch off", scan.path)
    for branch in branches:
        work.logger.info("%s: %s", branch.deployment, branch.state)
    failed = [branch for branch in branches if branch.error is not None]
    if failed:
        first = failed[0].error
        kind = Cancelled if _was_cancelled(work, failed) else RunFailed
        raise kind(
            "; ".join(f"{branch.deployment}: {branch.error.what if branch.error else ''}" for branch in failed),
            where=scan.path.text,
            next_step=first.next_step if first else "",
        ) from first
    report: dict[str, Json] = {branch.deployment: branch.document() for branch in branches}
    return {"scan": scan.id, "branches": report}


def _was_cancelled(work: Work, failed: list[Branch]) -> bool:
    """A branch that a person cancelled by itself leaves the failure of another what it is."""
    cancelled = [branch for branch in failed if isinstance(branch.error, Cancelled)]
    return cancelled == failed or (bool(cancelled) and cancelling(work.ledger, work.run_id))


if __name__ == "__main__":
    command(dispatcher)
