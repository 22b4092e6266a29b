"""Cancelled is said once nothing of a token can begin any more, however many jobs of it there are."""

from __future__ import annotations

from pathlib import Path

import pytest
from iri_ground import QUICK, Ground, ended, failure, until

from orchestration.errors import Cancelled, ServiceUnavailable
from orchestration.iri import calls
from orchestration.iri.jobs import IriJobs
from orchestration.jobs import JobSpec
from orchestration.ledger.service import CancelAnswer
from orchestration.sandbox.testing import permitted, running_facility, submit

CANCEL = "DELETE .*/compute/cancel"
LISTS = "POST .*/compute/status"


def two(ground: Ground, jobs: IriJobs, spec: JobSpec) -> tuple[str, str]:
    """Two jobs of one token in the queue: the facility has forgotten the key, or has none."""
    token = ground.token(jobs)
    ground.control.hold()
    ground.control.turn(idempotency_seconds=0.0)
    first = submit(jobs, spec, token)
    second = ""
    while second in ("", first):
        second = submit(jobs, spec, token)
    return first, second


def marker(ground: Ground, handle: str) -> Path:
    return ground.folder / "jobs" / handle.partition("@")[2] / "cancel"


def nothing_runs(ground: Ground) -> None:
    ground.facility.client.faults.clear()
    ground.control.hold(held=False)
    until(lambda: ground.alive() == [])
    assert ground.runs == 0


def test_cancelled_is_said_once_no_job_of_the_token_is_left(ground: Ground, version: int) -> None:
    jobs, spec = ground.jobs(version), ground.spec()
    first, _ = two(ground, jobs, spec)
    until(lambda: jobs.cancel(first) is CancelAnswer.CANCELLED)
    assert ground.alive() == []
    assert marker(ground, first).is_dir()
    nothing_runs(ground)


def test_another_job_of_the_token_that_is_not_cancelled_leaves_it_open(ground: Ground, version: int) -> None:
    jobs, spec = ground.jobs(version), ground.spec()
    first, second = two(ground, jobs, spec)
    ground.facility.client.faults.add(f"{CANCEL}/.*/{second.partition('@')[0]}", status=400, times=0)
    until(lambda: len(ground.alive()) == 1 if jobs.cancel(first) is CancelAnswer.UNKNOWN else False)
    assert jobs.cancel(first) is CancelAnswer.UNKNOWN
    ground.facility.client.faults.clear()
    until(lambda: jobs.cancel(first) is CancelAnswer.CANCELLED)
    nothing_runs(ground)


def test_a_job_that_the_facility_does_not_cancel_does_nothing_all_the_same(ground: Ground) -> None:
    jobs, spec = ground.jobs(2), ground.spec()
    ground.control.hold()
    handle = submit(jobs, spec, ground.token(jobs))
    ground.facility.client.faults.add(CANCEL, status=400, times=0)
    assert jobs.cancel(handle) is CancelAnswer.REFUSED
    nothing_runs(ground)
    assert isinstance(failure(ended(jobs, spec, handle)).error, Cancelled)


def test_without_the_marker_nothing_is_called_cancelled(ground: Ground, version: int) -> None:
    jobs, spec = ground.jobs(version), ground.spec()
    ground.control.hold()
    handle = submit(jobs, spec, ground.token(jobs))
    ground.facility.client.faults.add("/filesystem/", times=0)
    for _ in range(3):
        with pytest.raises(ServiceUnavailable):
            jobs.cancel(handle)
    until(lambda: ground.alive() == [])  # it was asked for all the same
    ground.facility.client.faults.clear()
    assert jobs.cancel(handle) is CancelAnswer.CANCELLED


def test_where_jobs_have_no_names_a_marker_stops_the_one_that_nobody_knows(ground: Ground) -> None:
    ground.control.turn(job_names=False)
    jobs, spec = ground.jobs(1), ground.spec()
    first, _ = two(ground, jobs, spec)
    until(lambda: jobs.cancel(first) is CancelAnswer.CANCELLED)
    assert len(ground.alive()) == 1
    nothing_runs(ground)


def test_a_live_job_without_a_name_may_be_the_one_that_is_looked_for(ground: Ground, version: int) -> None:
    ground.control.turn(job_names=False)
    ground.control.hold()
    jobs, spec = ground.jobs(version), ground.spec()
    token = jobs.reserve(ground.folder.name)
    handle = submit(jobs, spec, token)
    other = ground.jobs(version, patience=QUICK)
    if version == 1:
        for _ in range(3):
            with pytest.raises(ServiceUnavailable, match="does not tell the names"):
                other.find(spec, token)
    else:
        with pytest.raises(ServiceUnavailable, match="does not tell the names"):
            other.find(spec, token)
        assert other.find_by_sending(permitted(other, spec), token) == handle, "its key says it"
    ground.control.turn(job_names=True)
    assert other.find(spec, token) == handle
    assert ground.submitted() == 1


def test_a_list_is_looked_through_to_its_end(
    ground: Ground, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has more than one page, since the facility makes nothing of the condition."""
    monkeypatch.setattr(calls, "PAGE", 2)
    with running_facility(tmp_path_factory.mktemp("facility")) as facility:  # where no other test has jobs
        facility.client.iri.turn(heeds_filters=False)
        facility.client.iri.hold()
        jobs, spec = ground.jobs(1, api_url=f"{facility.url}/iri"), ground.spec()
        token = ground.token(jobs)
        handle = submit(jobs, spec, token)
        for number in range(4):  # the newest come first
            submit(jobs, spec, jobs.reserve(f"{ground.folder.name}-{number}"))
        assert ground.jobs(1, api_url=f"{facility.url}/iri").find(spec, token) == handle
