"""Lost answers, late facilities and bad tokens: nothing is done twice, and nothing is given up too early."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
from iri_ground import QUICK, Ground, ended, failure, until

from orchestration.config import Credentials
from orchestration.errors import Cancelled, ConfigError, JobFailed, ServiceUnavailable
from orchestration.iri.auth import EnvironmentToken, GlobusToken
from orchestration.iri.client import IriClient
from orchestration.iri.jobs import IriJobs
from orchestration.jobs import JobSpec
from orchestration.ledger.service import CancelAnswer, Running, Succeeded
from orchestration.sandbox.iri.settings import TOKEN
from orchestration.sandbox.testing import permitted, submit

SUBMIT = "POST /iri/.*compute/job"


def found(jobs: IriJobs, spec: JobSpec, token: str, *, seconds: float = 60.0) -> str | None:
    """What the facility knows, asked until it is certain."""
    end = time.monotonic() + seconds
    while True:
        try:
            return jobs.find(spec, token)
        except ServiceUnavailable:
            assert time.monotonic() < end
            time.sleep(0.02)


def lose(ground: Ground, jobs: IriJobs, spec: JobSpec, token: str, kind: str = "lost_answer") -> None:
    jobs.client.resource("cluster")
    ground.facility.client.faults.add(SUBMIT, kind)
    with pytest.raises(ServiceUnavailable):
        submit(jobs, spec, token)


def test_a_lost_answer_leaves_one_job_which_is_found(ground: Ground, version: int) -> None:
    jobs, spec = ground.jobs(version), ground.spec()
    token = ground.token(jobs)
    lose(ground, jobs, spec, token)
    handle = found(jobs, spec, token)
    assert handle is not None
    assert isinstance(ended(jobs, spec, handle), Succeeded)
    assert (ground.submitted(), ground.runs) == (1, 1)


def test_a_lost_request_is_made_again(ground: Ground, version: int) -> None:
    jobs, spec = ground.jobs(version), ground.spec()
    token = ground.token(jobs)
    lose(ground, jobs, spec, token, "drop")
    assert found(jobs, spec, token) is None
    assert isinstance(ended(jobs, spec, submit(jobs, spec, token)), Succeeded)
    assert ground.submitted() == 1


def test_with_keys_a_submission_may_be_repeated(ground: Ground) -> None:
    jobs, spec = ground.jobs(2), ground.spec()
    token = ground.token(jobs)
    lose(ground, jobs, spec, token)
    assert submit(jobs, spec, token) == submit(jobs, spec, token) == submit(ground.jobs(2), spec, token)
    assert ground.submitted() == 1


def test_not_shown_is_not_absent(ground: Ground, version: int) -> None:
    ground.control.turn(unseen_polls=3)
    jobs, spec = ground.jobs(version, patience=replace(QUICK, settle=3600.0)), ground.spec()
    token = ground.token(jobs)
    lose(ground, jobs, spec, token)
    with pytest.raises(ServiceUnavailable, match="not shown yet"):
        jobs.find(spec, token)
    assert found(jobs, spec, token) is not None


def test_another_process_waits_as_well(ground: Ground, version: int) -> None:
    """It knows only the token, not when the job was asked for, nor what the facility did with the key."""
    jobs, spec = ground.jobs(version), ground.spec()
    token = ground.token(jobs)
    with pytest.raises(ServiceUnavailable, match="not shown yet"):
        ground.jobs(version, patience=replace(QUICK, settle=3600.0)).find(spec, token)
    assert jobs.find(spec, token) is None  # nothing was sent, and here that is known


@pytest.mark.parametrize("status", [408, 500, 502, 503, 504])
def test_a_facility_that_failed_may_have_forgotten_its_key(ground: Ground, status: int) -> None:
    jobs, spec = ground.jobs(2, patience=replace(QUICK, settle=3600.0)), ground.spec()
    token = ground.token(jobs)
    jobs.client.resource("cluster")
    ground.facility.client.faults.add(SUBMIT, status=status)
    with pytest.raises(ServiceUnavailable):
        submit(jobs, spec, token)
    with pytest.raises(ServiceUnavailable, match="not shown yet"):
        jobs.find(spec, token)
    ground.facility.client.faults.add("POST .*/compute/status", times=0)
    with pytest.raises(ServiceUnavailable, match="key does not tell"):
        jobs.find_by_sending(permitted(jobs, spec), token)
    assert ground.submitted() == 0


def test_when_told_to_come_back_nothing_was_sent(ground: Ground) -> None:
    jobs, spec = ground.jobs(1), ground.spec()
    token = ground.token(jobs)
    ground.facility.client.faults.add(SUBMIT, status=429, retry_after=7)
    with pytest.raises(ServiceUnavailable) as doubt:
        submit(jobs, spec, token)
    assert doubt.value.retry_after == 7.0
    assert jobs.find(spec, token) is None


def test_a_submission_in_flight_is_waited_for(ground: Ground) -> None:
    ground.control.turn(submit_delay=3600.0)
    jobs, spec = ground.jobs(2), ground.spec()
    token = ground.token(jobs)
    handles: list[str] = []
    first = threading.Thread(target=lambda: handles.append(submit(jobs, spec, token)))
    first.start()
    try:
        until(lambda: ground.submitted() == 1)
        with pytest.raises(ServiceUnavailable, match="already in progress") as doubt:
            submit(ground.jobs(2), spec, token)
    finally:
        ground.control.turn(submit_delay=0.0)
        first.join()
    assert doubt.value.retry_after == 1.0
    assert submit(ground.jobs(2), spec, token) == handles[0]
    assert ground.submitted() == 1


def test_the_job_under_a_key_is_the_job_even_if_it_would_be_asked_for_otherwise_now(ground: Ground) -> None:
    """The service was given other settings between two tries."""
    jobs, spec = ground.jobs(2), ground.spec()
    token = ground.token(jobs)
    handle = submit(jobs, spec, token)
    assert submit(ground.jobs(2, queue="other"), spec, token) == handle
    ground.control.turn(unseen_polls=10)
    other = ground.token(jobs) + "b"
    submit(jobs, spec, other)
    with pytest.raises(ServiceUnavailable):  # it is there, and not shown
        submit(ground.jobs(2, queue="other"), spec, other)
    assert ground.submitted() == 2


def test_a_facility_without_a_memory_for_keys_is_used_without_them(ground: Ground) -> None:
    ground.control.turn(idempotent=False)
    jobs, spec = ground.jobs(2), ground.spec()
    token = ground.token(jobs)
    handle = submit(jobs, spec, token)
    assert jobs.find(spec, token) == handle
    lost = ground.token(jobs) + "b"
    lose(ground, jobs, spec, lost)
    ground.control.turn(unseen_polls=9)
    with pytest.raises(ServiceUnavailable, match="not shown yet"):
        jobs.find(spec, lost)
    assert ground.submitted() == 2


def test_a_job_that_is_not_shown_yet_is_running(ground: Ground, version: int) -> None:
    ground.control.turn(unseen_polls=3)
    jobs, spec = ground.jobs(version, patience=replace(QUICK, unknown=3600.0)), ground.spec()
    handle = submit(jobs, spec, ground.token(jobs))
    status = jobs.poll(spec, handle)
    assert isinstance(status, Running)
    assert isinstance(ended(jobs, spec, handle), Succeeded)


def test_with_keys_a_list_that_does_not_come_is_not_needed(ground: Ground) -> None:
    jobs, spec = ground.jobs(2), ground.spec()
    token, other = ground.token(jobs), ground.token(jobs) + "b"
    lose(ground, jobs, spec, token)
    lose(ground, jobs, spec, other, "drop")
    ground.facility.client.faults.add("POST .*/compute/status", times=0)
    for each in (token, other):
        fresh = ground.jobs(2)
        with pytest.raises(ServiceUnavailable, match="injected"):
            fresh.find(spec, each)
        handle = fresh.find_by_sending(permitted(fresh, spec), each)
        assert handle is not None
        assert submit(jobs, spec, each) == handle
    assert ground.submitted() == 2


def test_without_keys_a_list_that_does_not_come_leaves_it_open(ground: Ground) -> None:
    jobs, spec = ground.jobs(1), ground.spec()
    token = ground.token(jobs)
    lose(ground, jobs, spec, token)
    ground.facility.client.faults.add("POST .*/compute/status", times=3)
    for _ in range(3):
        with pytest.raises(ServiceUnavailable, match="injected"):
            jobs.find(spec, token)
        with pytest.raises(ServiceUnavailable, match="key does not tell"):
            jobs.find_by_sending(permitted(jobs, spec), token)
    assert found(jobs, spec, token) is not None


def test_jobs_are_told_one_by_one_where_a_list_does_not_come(ground: Ground, version: int) -> None:
    jobs, spec = ground.jobs(version), ground.spec()
    handle = submit(jobs, spec, ground.token(jobs))
    ground.facility.client.faults.add("POST .*/compute/status", "drop", times=0)
    until(lambda: isinstance(jobs.poll_many([(spec, handle)])[handle], Succeeded))
    ground.facility.client.faults.add("GET .*/compute/status")
    with pytest.raises(ServiceUnavailable):
        jobs.poll_many([(spec, handle)])


def test_without_a_list_a_marker_keeps_a_second_job_of_the_name_from_beginning(ground: Ground) -> None:
    jobs, spec = ground.jobs(1), ground.spec()
    token = ground.token(jobs)
    ground.control.hold()
    first, second = submit(jobs, spec, token), submit(jobs, spec, token)
    ground.facility.client.faults.add("POST .*/compute/status", times=0)
    until(lambda: jobs.cancel(first) is CancelAnswer.CANCELLED)
    ground.facility.client.faults.clear()
    ground.control.hold(held=False)
    assert isinstance(failure(ended(jobs, spec, second)).error, Cancelled)
    assert (ground.runs, ground.alive()) == (0, [])


def test_an_odd_answer_about_a_job_says_nothing_about_the_job(ground: Ground) -> None:
    jobs, spec = ground.jobs(2), ground.spec()
    handle = submit(jobs, spec, ground.token(jobs))
    ground.facility.client.faults.add("GET .*/compute/status", status=400)
    with pytest.raises(ServiceUnavailable):
        jobs.poll(spec, handle)
    ground.facility.client.faults.add("GET .*/compute/status", status=403)
    with pytest.raises(ConfigError, match="may not do that"):
        jobs.poll(spec, handle)
    assert isinstance(ended(jobs, spec, handle), Succeeded)


def test_a_report_may_take_long_to_be_read(ground: Ground) -> None:
    jobs, spec = ground.jobs(2), ground.spec()
    object.__setattr__(jobs._files, "patience", 0.05)
    ground.control.turn(task_delay=3600.0)
    handle = submit(jobs, spec, ground.token(jobs))
    until(lambda: "being read" in getattr(jobs.poll(spec, handle), "progress", Running().progress).note)
    ground.control.turn(task_delay=0.0)
    assert isinstance(ended(jobs, spec, handle), Succeeded)


@pytest.mark.parametrize(("version", "status"), [(1, 404), (2, 501)])
def test_where_files_cannot_be_viewed_they_are_downloaded(ground: Ground, version: int, status: int) -> None:
    ground.facility.client.faults.add("filesystem/view", status=status, times=0)
    jobs, spec = ground.jobs(version), ground.spec()
    assert isinstance(ended(jobs, spec, submit(jobs, spec, ground.token(jobs))), Succeeded)


def test_not_now_is_no_answer(ground: Ground) -> None:
    jobs, spec = ground.jobs(2), ground.spec()
    handle = submit(jobs, spec, ground.token(jobs))
    for status in (408, 429, 500, 502, 503, 504):
        ground.facility.client.faults.add("compute/status", status=status, retry_after=3)
        with pytest.raises(ServiceUnavailable, match="injected by the sandbox") as doubt:
            jobs.poll(spec, handle)
        assert doubt.value.retry_after == 3.0


@pytest.mark.parametrize("kind", ["drop", "lost_answer"])
def test_silence_is_no_answer(ground: Ground, kind: str) -> None:
    jobs, spec = ground.jobs(2), ground.spec("import time; time.sleep(30)")
    handle = submit(jobs, spec, ground.token(jobs))
    for question in ("compute/status", "compute/cancel"):
        ground.facility.client.faults.add(question, kind)
    with pytest.raises(ServiceUnavailable):
        jobs.poll(spec, handle)
    with pytest.raises(ServiceUnavailable):
        jobs.cancel(handle)


def test_a_resource_that_is_down_takes_nothing(ground: Ground, version: int) -> None:
    jobs, spec = ground.jobs(version), ground.spec()
    token = ground.token(jobs)
    ground.control.switch("down")
    with pytest.raises(ServiceUnavailable, match="cluster is down"):
        submit(jobs, spec, token)
    ground.control.switch("up")
    assert found(jobs, spec, token) is None
    assert isinstance(ended(jobs, spec, submit(jobs, spec, token)), Succeeded)
    assert ground.submitted() == 1


def test_what_is_not_the_api_is_not_believed(ground: Ground) -> None:
    """Its address leads to something else that answers: a portal, a gateway."""
    with pytest.raises(JobFailed, match="no IRI API of version 2"):
        submit(ground.jobs(2, api_url=f"{ground.facility.url}/scicat"), ground.spec(), "token")
    elsewhere = ground.jobs(2, api_url=f"{ground.facility.url}/_sandbox/ready?")
    with pytest.raises(ServiceUnavailable, match="not one of the IRI API"):
        submit(elsewhere, ground.spec(), "token")
    with pytest.raises(JobFailed, match="no address"):
        submit(ground.jobs(2, api_url="api.example"), ground.spec(), "token")
    with pytest.raises(ServiceUnavailable, match="does not answer"):
        submit(ground.jobs(2, api_url="http://127.0.0.1:9"), ground.spec(), "token")


def test_an_expired_token_is_renewed_once_from_the_file(
    ground: Ground, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs, spec = ground.jobs(2), ground.spec()
    handle = submit(jobs, spec, ground.token(jobs))
    ground.control.turn(token="next")
    with pytest.raises(ConfigError, match="does not accept") as refused:
        jobs.poll(spec, handle)
    assert "IRI_API_TOKEN" in refused.value.next_step
    assert TOKEN not in str(refused.value)
    (tmp_path / ".env").write_text("IRI_API_TOKEN=next\n")
    assert isinstance(ended(jobs, spec, handle), Succeeded)
    (tmp_path / ".env").write_text("IRI_API_TOKEN=wrong\n")
    ground.control.turn(token="another")
    with pytest.raises(ConfigError):
        jobs.poll(spec, handle)


def test_a_missing_token_is_named(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs, spec = ground.jobs(2), ground.spec()
    handle = submit(jobs, spec, ground.token(jobs))
    monkeypatch.delenv("IRI_API_TOKEN")
    with pytest.raises(JobFailed, match="IRI_API_TOKEN"):
        submit(jobs, spec, "token")
    with pytest.raises(ConfigError, match="IRI_API_TOKEN"):  # of the question, and nothing about the job
        jobs.poll(spec, handle)
    monkeypatch.setenv("OTHER_TOKEN", TOKEN)
    assert EnvironmentToken("OTHER_TOKEN").token() == TOKEN


def test_a_token_of_globus_is_fetched_and_renewed(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in ground.facility.environment().items():
        monkeypatch.setenv(name, value)
    scope = "https://auth.globus.org/scopes/iri/all"
    jobs, spec = ground.jobs(2, globus_scope=scope), ground.spec()
    handle = submit(jobs, spec, ground.token(jobs))
    ground.facility.client.expire_tokens()
    assert isinstance(ended(jobs, spec, handle), Succeeded)
    monkeypatch.setenv("GLOBUS_CLIENT_SECRET", "wrong")
    with pytest.raises(ConfigError, match="gives this service no token"):
        GlobusToken(scope).token()
    with pytest.raises(ConfigError, match="GLOBUS_CLIENT_ID"):
        GlobusToken(scope, Credentials()).token()


def test_secrets_are_in_no_text_of_the_client(ground: Ground) -> None:
    client = IriClient.of(ground.site(2))
    assert TOKEN not in repr(client)
    assert TOKEN not in repr(IriJobs(ground.site(2), patience=QUICK))
    client.close()
