"""Which errors are a reason to do the work elsewhere: only those after which it is certain not to go on."""

from __future__ import annotations

import logging

import pytest

from orchestration.conditions import SiteCondition, SiteState
from orchestration.config import LocalSite, Settings, SitingPolicy
from orchestration.errors import (
    AccessDenied,
    Cancelled,
    ChecksumMismatch,
    DeadlinePassed,
    EndpointRefused,
    JobFailed,
    JobLost,
    JobNotStarted,
    JobPreempted,
    JobTimedOut,
    NodeFailed,
    NoSpace,
    OperationFailed,
    OutOfMemory,
    OutputMissing,
    SiteUnavailable,
    SourceChanged,
    SourceMissing,
    TransferFailed,
)
from orchestration.flows.guarding import Guard
from orchestration.flows.looking import Watch
from orchestration.flows.moving import movable
from orchestration.flows.services import Services
from orchestration.flows.suspending import Suspension
from orchestration.flows.work import Work
from orchestration.jobs import JobSpec
from orchestration.ledger import Ledger
from orchestration.ledger.operation import Operation
from orchestration.ledger.owner import Owner
from orchestration.paths import RelativePath
from orchestration.policy import Place, Zone


@pytest.fixture
def guard(ledger: Ledger) -> Guard:
    settings = Settings()
    suspension = Suspension(ledger, "run", None, 60.0)
    work = Work(settings, ledger, Services(settings), "run", logging.getLogger("test"), suspension)
    site = LocalSite(name="nersc", kind="local", raw_endpoint="raw", scratch_endpoint="scratch")
    up = SiteCondition(state=SiteState.UP)
    return Guard(work=work, site=site, watch=Watch(site="nersc", policy=SitingPolicy(), ask=lambda: up))


def job(guard: Guard, *, token: bool = True, handle: bool = True, error: OperationFailed | None = None) -> None:
    """The work has come to its job: submitted if it has a handle, ended if there is an error."""
    ledger, owner = guard.work.ledger, Owner.here()
    scan = ledger.scans.register(beamline="bl832", path=RelativePath("raw/p/a.h5"), fingerprint="1")
    spec = JobSpec(executable="/bin/true", directory="/tmp", duration=1.0)
    operation = Operation(
        scan=scan, step="reconstruct", request=spec, destination=Place("here", Zone.BEAMLINE), deadline=9.0
    )
    assert ledger.operations.take(operation, owner, service="test.jobs", redo=True)
    if token:
        ledger.operations.permitted(operation, owner, token="token", site=operation.destination)
    if handle:
        ledger.operations.submitted(operation.key, owner, "handle", adopted=False)
    if error is not None:
        ledger.operations.failed(operation.key, owner, error, {})
    guard.job = operation.key


@pytest.mark.parametrize("kind", [JobNotStarted, JobPreempted, NodeFailed, JobLost])
def test_a_job_that_is_certain_not_to_go_on_moves(guard: Guard, kind: type[JobFailed]) -> None:
    error = kind("it ended")
    job(guard, error=error)
    assert movable(guard.work, guard, error)


@pytest.mark.parametrize("kind", [JobFailed, JobTimedOut, OutOfMemory, OutputMissing])
def test_what_is_wrong_with_the_program_is_wrong_everywhere(guard: Guard, kind: type[JobFailed]) -> None:
    error = kind("it ended")
    job(guard, error=error)
    assert not movable(guard.work, guard, error)


def test_another_version_of_the_programs_is_the_fault_of_the_site(guard: Guard) -> None:
    error = JobFailed("it did not begin", cause="VersionMismatch")
    job(guard, error=error)
    assert movable(guard.work, guard, error)


@pytest.mark.parametrize("error", [JobFailed("Slurm refuses the job"), AccessDenied("not you"), SiteUnavailable("no")])
def test_a_job_that_its_site_refused_moves(guard: Guard, error: OperationFailed) -> None:
    job(guard, handle=False, error=error)
    assert movable(guard.work, guard, error)


def test_a_job_in_doubt_does_not_move_when_its_time_is_over(guard: Guard) -> None:
    job(guard, handle=False)
    assert not movable(guard.work, guard, DeadlinePassed("it did not answer"))


def test_a_job_that_was_submitted_does_not_move_when_its_time_is_over(guard: Guard) -> None:
    job(guard)
    assert not movable(guard.work, guard, DeadlinePassed("it did not end"))


@pytest.mark.parametrize("stage", ["the copy", "the job"])
def test_what_a_person_cancelled_stays_cancelled(guard: Guard, stage: str) -> None:
    if stage == "the job":
        job(guard, error=Cancelled("by a person"))
    assert not movable(guard.work, guard, Cancelled("by a person"))


@pytest.mark.parametrize(
    "error",
    [EndpointRefused("paused"), AccessDenied("no"), NoSpace("full"), TransferFailed("no"), DeadlinePassed("too slow")],
)
def test_data_that_does_not_come_to_a_site_goes_to_another_one(guard: Guard, error: OperationFailed) -> None:
    assert movable(guard.work, guard, error)


@pytest.mark.parametrize("kind", [SourceMissing, SourceChanged, ChecksumMismatch])
def test_what_is_wrong_with_the_data_is_wrong_everywhere(guard: Guard, kind: type[TransferFailed]) -> None:
    assert not movable(guard.work, guard, kind("no"))


def test_results_that_do_not_come_back_are_no_reason_to_compute_them_again(guard: Guard) -> None:
    job(guard)
    assert not movable(guard.work, guard, EndpointRefused("paused"))
