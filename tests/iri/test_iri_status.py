"""How a facility says that it is, and what its words mean."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from iri_ground import Ground

from orchestration.conditions import SiteState
from orchestration.errors import (
    Cancelled,
    ConfigError,
    JobFailed,
    JobNotStarted,
    JobPreempted,
    JobTimedOut,
    NodeFailed,
    OperationFailed,
    OutOfMemory,
    OutputMissing,
    ServiceUnavailable,
)
from orchestration.iri import errors, request
from orchestration.iri.ending import ending
from orchestration.iri.records import IriJob, JobState
from orchestration.ledger.service import Document
from orchestration.remote import dated, dated_at
from orchestration.sandbox.iri.settings import STORAGE


def moment(hours: float) -> str:
    return (datetime.now(UTC) + timedelta(hours=hours)).isoformat()


@pytest.mark.parametrize("state", ["up", "degraded", "down", "unknown"])
def test_a_site_is_as_its_resource_is(ground: Ground, version: int, state: str) -> None:
    ground.control.switch(state)
    found = ground.jobs(version).status.condition()
    assert (found.state, found.answered) == (SiteState(state), True)
    assert bool(found.note) is (state != "up")
    assert bool(found.outages) is (state == "down"), "a site that is only slow takes work"


def test_outages_ahead_and_going_on_are_told_and_past_ones_are_not(ground: Ground, version: int) -> None:
    ground.control.announce("file system upgrade", start=moment(2), end=moment(8))
    ground.control.announce("power", start=moment(-1), kind="unplanned")
    ground.control.announce("network", start=moment(-1), kind="unplanned", status="degraded")
    ground.control.announce("last year", start=moment(-9000), end=moment(-8999))
    ground.control.announce("a reservation", start=moment(1), end=moment(2), kind="reservation")
    found = ground.jobs(version).status.condition()
    assert {each.what for each in found.outages} == {"file system upgrade", "power"}
    assert found.note == "power, network (degraded)"
    now = datetime.now(UTC).timestamp()
    ahead = found.outage(now + 3600 * 3, now + 3600 * 4)
    assert ahead is not None
    assert {each.end is None for each in found.outages} == {True, False}


def test_a_facility_in_maintenance_is_down_and_says_why(ground: Ground, version: int) -> None:
    ground.control.begin_maintenance("new switches")
    found = ground.jobs(version).status.condition()
    assert (found.state, found.note) == (SiteState.DOWN, "new switches")
    ground.control.end_maintenance()
    after = ground.jobs(version).status.condition()
    assert (after.state, after.note, after.outages) == (SiteState.UP, "", ())


def test_a_site_is_no_better_than_its_file_system(ground: Ground) -> None:
    ground.control.switch("down", resource=STORAGE)
    assert ground.jobs(2).status.condition().state is SiteState.UP
    found = ground.jobs(2, storage=STORAGE).status.condition()
    assert (found.state, found.note) == (SiteState.DOWN, "scratch: scratch is down")
    with pytest.raises(ConfigError, match="no resource 'eagle'"):
        ground.jobs(2, storage="eagle").status.condition()


def test_the_hours_that_are_left_are_those_of_the_account_or_the_project(ground: Ground, version: int) -> None:
    ground.control.turn(node_hours=100.0)
    hours = ground.jobs(version).status.condition().hours_left
    assert hours is not None
    assert 99.0 < hours <= 100.0
    silent = ground.jobs(version, account="").status.condition()
    assert (silent.hours_left, silent.note) == (None, "")
    project = ground.jobs(version).status.projects()[0]
    assert project.name == "als"
    assert [each.node_hours for each in project.allocations] == [True, False]


def test_hours_of_another_project_or_resource_are_not_counted_and_that_is_said(ground: Ground, version: int) -> None:
    for jobs, which in (
        (ground.jobs(version, project="other"), "other on cluster"),
        (ground.jobs(version, resource=STORAGE), "als on scratch"),
    ):
        found = jobs.status.condition()
        assert (found.state, found.hours_left) == (SiteState.UP, None)
        assert found.note.endswith(f"the facility shows no node hours of project {which}")


def test_of_the_hours_of_a_project_somebody_may_use_less(ground: Ground, version: int) -> None:
    ground.control.turn(node_hours=100.0, own_node_hours=5.0)
    hours = ground.jobs(version).status.condition().hours_left
    assert hours is not None
    assert 4.0 < hours <= 5.0
    ground.facility.client.faults.add("user_allocations", status=501)
    hours = ground.jobs(version).status.condition().hours_left
    assert hours is not None
    assert hours > 99.0


def test_a_site_that_does_not_answer_is_unknown(ground: Ground) -> None:
    nobody = ground.jobs(2, api_url="http://127.0.0.1:9").status.condition()
    assert (nobody.state, nobody.answered) == (SiteState.UNKNOWN, False)
    jobs = ground.jobs(2)
    ground.facility.client.faults.add("status/incidents", status=503)
    found = jobs.status.condition()
    assert (found.state, found.answered, found.takes_work) == (SiteState.UNKNOWN, False, False)


def test_what_is_left_may_stay_unknown(ground: Ground) -> None:
    for status in (403, 404, 501, 503):
        ground.facility.client.faults.add("account/projects", status=status)
        found = ground.jobs(2).status.condition()
        assert (found.state, found.hours_left) == (SiteState.UP, None)
        assert "allocation" in found.note
    ground.facility.client.faults.add("account/projects", status=501)
    with pytest.raises(JobFailed):
        ground.jobs(2).status.projects()
    ground.facility.client.faults.add("account/projects", status=403)
    with pytest.raises(ConfigError, match="may not do that"):
        ground.jobs(2).status.projects()


def test_without_a_token_that_is_accepted_no_work_can_be_given(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IRI_API_TOKEN", "wrong")
    with pytest.raises(ConfigError, match="does not accept"):
        ground.jobs(2).status.condition()
    monkeypatch.delenv("IRI_API_TOKEN")
    with pytest.raises(ConfigError, match="is not set"):
        ground.jobs(2).status.condition()


def a_job(state: str, **status: Any) -> IriJob:
    return IriJob.parse({"id": "1", "status": {"state": state} | status}, "here")


@pytest.mark.parametrize(
    ("job", "error"),
    [
        (a_job("completed", exit_code=0), OutputMissing),
        (a_job("canceled"), Cancelled),
        (a_job("cancelled"), Cancelled),
        (a_job("failed", exit_code=1), JobFailed),
        (a_job("failed", message="Job exceeded its walltime"), JobTimedOut),
        (a_job("failed", exit_code=-29), JobTimedOut),
        (a_job("failed", exit_code=-27), OutOfMemory),
        (a_job("failed", meta_data={"slurm_state": "OUT_OF_ME+"}), OutOfMemory),
        (a_job("failed", meta_data={"state": "NODE_FAIL"}), NodeFailed),
        (a_job("failed", meta_data={"state": "BOOT_FAIL"}), NodeFailed),
        (a_job("failed", message="PREEMPTED"), JobPreempted),
        (a_job("failed", message="DEADLINE"), JobNotStarted),
        (a_job("failed", message="CANCELLED by 1000"), Cancelled),
    ],
    ids=str,
)
def test_the_words_of_schedulers_are_understood(job: IriJob, error: type[OperationFailed]) -> None:
    assert ending(job).error is error


def test_jobs_are_read_leniently_and_only_jobs() -> None:
    named = IriJob.parse({"id": 7, "status": {"state": "running-ish", "meta_data": {"job_name": "x"}}}, "here")
    assert (named.id, named.state, named.said, named.name) == ("7", JobState.OTHER, "running-ish", "x")
    assert IriJob.parse({"id": "1"}, "here").state is JobState.OTHER
    answers: list[Document | None] = [None, {}, {"id": None}, {"detail": "x"}]
    for answer in answers:
        with pytest.raises(ServiceUnavailable):
            IriJob.parse(answer, "here")


def answer(status: int, **options: Any) -> httpx.Response:
    return httpx.Response(status, request=httpx.Request("POST", "https://api.example/api/v2/x?y=1"), **options)


def test_problem_documents_are_told_by_title_and_detail() -> None:
    refused = errors.refusal(answer(400, json={"title": "Bad Request", "detail": "Invalid\naccount", "status": 400}))
    assert isinstance(refused, errors.Refused)
    assert refused.said == "Bad Request: Invalid account (HTTP 400)"
    assert refused.where == "POST https://api.example/api/v2/x"
    page = errors.refusal(answer(404, text="<html>no\n such page</html>"))
    assert isinstance(page, errors.Refused)
    assert page.said == "<html>no such page</html> (HTTP 404)"
    assert isinstance(errors.refusal(answer(301, headers={"location": "https://other"})), ConfigError)


@pytest.mark.parametrize(("text", "seconds"), [("7", 7.0), ("0.5", 0.5), ("soon", None), ("", None)])
def test_how_long_to_wait_is_read_strictly(text: str, seconds: float | None) -> None:
    assert errors.retry_after(answer(503, headers={"retry-after": text})) == seconds


def test_a_time_to_come_back_at_is_seconds_too() -> None:
    at = (datetime.now(UTC) + timedelta(seconds=60)).strftime("%a, %d %b %Y %H:%M:%S GMT")
    assert errors.retry_after(answer(503, headers={"retry-after": at})) == pytest.approx(60.0, abs=3.0)


@pytest.mark.parametrize(
    ("status", "detail", "unknown"),
    [(404, "Not Found", True), (410, "", True), (400, "Job 7 not found.", True), (400, "bad", False), (422, "", False)],
)
def test_facilities_say_in_different_ways_that_they_know_no_job(status: int, detail: str, unknown: bool) -> None:
    refused = errors.refusal(answer(status, json={"detail": detail}))
    assert isinstance(refused, errors.Refused)
    assert refused.unknown is unknown


def _attributes(body: Document) -> Document:
    found = body["attributes"]
    assert isinstance(found, dict)
    return found


def test_the_same_token_always_makes_the_same_request(ground: Ground) -> None:
    site = ground.site(2, options={"filesystems": "eagle"})
    spec = ground.spec(start_within=60.0, queue="debug", reservation="beam", constraint="gpu")
    token = dated("key-1")
    first, second = (request.document(site, request.launch_of(site, spec, token)) for _ in range(2))
    assert first == second
    assert first["name"] == token
    at_most = ground.site(2, walltime={"maximum_seconds": 30.0})
    assert _attributes(request.document(at_most, request.launch_of(at_most, spec, token)))["duration"] == 30
    assert first["attributes"] == {
        "duration": 80,
        "queue_name": "debug",
        "account": "als",
        "reservation_id": "beam",
        "custom_attributes": {"filesystems": "eagle", "constraint": "gpu"},
    }
    asked = dated_at(token)
    assert asked is not None
    assert request.launch_of(site, spec, token).start_by == asked + 60.0
    assert dated_at("another") is None
