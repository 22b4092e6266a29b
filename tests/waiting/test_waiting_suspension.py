"""Who may give its process up, and who has to stay."""

from __future__ import annotations

import uuid

import pytest
from prefect.client.schemas.objects import FlowRun
from prefect.settings import PREFECT_API_URL, temporary_settings

from orchestration.flows import catalogue, suspending
from orchestration.flows.suspending import Suspension
from orchestration.ledger import Ledger
from orchestration.ledger.owner import Owner
from orchestration.ledger.runs import RunState
from orchestration.ledger.waiting import Awaited

DEPLOYED = FlowRun(flow_id=uuid.uuid4(), deployment_id=uuid.uuid4())


def suspension(ledger: Ledger, run: FlowRun | None = DEPLOYED) -> Suspension:
    return Suspension(ledger, str(uuid.uuid4()) if run is None else str(run.id), run, 60.0)


def test_a_run_of_a_deployment_leaves_after_a_while_if_a_watcher_lives(ledger: Ledger) -> None:
    ledger.watchers.beat(Owner.here())
    assert suspension(ledger).patient(60.0, 60.0)
    assert not suspension(ledger).patient(59.0, 59.0)


def test_a_process_that_was_just_started_again_stays_for_a_moment(ledger: Ledger) -> None:
    ledger.watchers.beat(Owner.here())
    assert not suspension(ledger).patient(3600.0, 1.0)
    assert suspension(ledger).patient(3600.0, suspending.SETTLING_SECONDS)


@pytest.mark.parametrize(
    "run",
    [
        None,
        FlowRun(flow_id=uuid.uuid4()),
        FlowRun(flow_id=uuid.uuid4(), deployment_id=uuid.uuid4(), parent_task_run_id=uuid.uuid4()),
    ],
    ids=["a plain call", "started by hand", "a subflow"],
)
def test_what_no_worker_can_start_again_stays(ledger: Ledger, run: FlowRun | None) -> None:
    ledger.watchers.beat(Owner.here())
    assert not suspension(ledger, run).patient(3600.0, 3600.0)


def test_without_a_watcher_everybody_stays(ledger: Ledger) -> None:
    assert not suspension(ledger).patient(3600.0, 3600.0)


def test_a_run_that_cannot_tell_prefect_stays_and_does_not_try_again_at_once(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suspending, "PATIENCE_SECONDS", 0.2)
    ledger.watchers.beat(Owner.here())
    leaving = suspension(ledger)
    ledger.runs.begin(run_id=leaving.run_id, flow="f", parameters={}, owner=Owner.here())
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        leaving.suspend({"operation": Awaited(until=1.0)})
    record = ledger.runs.get(leaving.run_id)
    assert record is not None
    assert record.state is RunState.RUNNING
    assert not leaving.patient(3600.0, 3600.0)


def test_runs_that_go_on_all_at_once_wait_for_their_turn() -> None:
    """A facility that comes back after a day lets a thousand go on."""
    limits = catalogue.of_beamline("bl832").definitions.queue_limits
    for flow in ("nersc_recon_flow", "alcf_recon_flow", "any_recon_flow", "local_recon_flow"):
        assert 0 < limits[f"{flow}_queue"] <= 8
