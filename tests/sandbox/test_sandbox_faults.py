"""Every kind of fault, on every service, and what really happened under it."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import globus_sdk
import httpx
import pytest
from sandbox_lab import Lab, until

from orchestration.sandbox.faults import FaultKind

SUBMIT = "POST /transfer/v0.10/transfer"


def test_a_status_fault_is_answered_without_acting(lab: Lab) -> None:
    lab.write("a", b"a")
    lab.facility.client.faults.add(SUBMIT, status=429, retry_after=7)
    data = lab.request(("/a", "/a"))
    with pytest.raises(globus_sdk.TransferAPIError) as caught:
        lab.transfer.submit_transfer(data)
    assert (caught.value.http_status, caught.value.headers["Retry-After"]) == (429, "7")
    assert lab.facility.client.effects("transfer") == []
    assert lab.transfer.submit_transfer(data)["code"] == "Accepted"


def test_a_lost_answer_has_acted(lab: Lab) -> None:
    lab.write("a", b"a")
    lab.facility.client.faults.add(SUBMIT, FaultKind.LOST_ANSWER)
    data = lab.request(("/a", "/a"))
    with pytest.raises(globus_sdk.GlobusConnectionError):
        lab.transfer.submit_transfer(data)
    again = lab.transfer.submit_transfer(data)
    assert again["code"] == "Duplicate"
    assert lab.ended(again["task_id"])["status"] == "SUCCEEDED"
    assert len(lab.facility.client.effects("transfer")) == 1


def test_a_dropped_request_has_not_acted(lab: Lab) -> None:
    lab.write("a", b"a")
    lab.facility.client.faults.add(SUBMIT, FaultKind.DROP)
    data = lab.request(("/a", "/a"))
    with pytest.raises(globus_sdk.GlobusConnectionError):
        lab.transfer.submit_transfer(data)
    assert lab.facility.client.effects() == []
    assert lab.transfer.submit_transfer(data)["code"] == "Accepted"


def test_latency_delays_the_answer_only(lab: Lab) -> None:
    lab.facility.client.faults.add("submission_id", FaultKind.LATENCY, delay=0.2)
    begin = time.monotonic()
    assert lab.transfer.get_submission_id()["value"]
    assert time.monotonic() - begin >= 0.2


def test_a_late_request_goes_on_when_the_faults_are_cleared(lab: Lab) -> None:
    lab.facility.client.faults.add("submission_id", FaultKind.LATENCY, delay=3600)
    with ThreadPoolExecutor() as pool:
        answer = pool.submit(lab.transfer.get_submission_id)
        until(lambda: lab.facility.client.faults.every()[0].hits == 1)
        assert not answer.done()
        lab.facility.client.faults.clear()
        assert answer.result(timeout=60)["value"]


def test_a_fault_can_begin_later_last_for_ever_and_be_cleared(lab: Lab) -> None:
    faults = lab.facility.client.faults
    faults.add("submission_id", status=500, skip=2, times=0)

    def answered() -> bool:
        try:
            return bool(lab.transfer.get_submission_id()["value"])
        except globus_sdk.TransferAPIError:
            return False

    assert [answered() for _ in range(5)] == [True, True, False, False, False]
    assert [rule.hits for rule in faults.every()] == [3]
    faults.clear()
    assert faults.every() == []
    assert answered()


def test_a_repeated_request_acts_twice_and_is_answered_once(lab: Lab) -> None:
    lab.facility.client.faults.add("POST /transfer/v0.10/operation/endpoint/.*/mkdir", FaultKind.REPEAT)
    with pytest.raises(globus_sdk.TransferAPIError) as caught:
        lab.transfer.operation_mkdir(lab.source, "/made")
    assert "Exists" in str(caught.value.code)
    assert (lab.facility.root("beamline") / "made").is_dir()


def test_a_chance_lets_some_requests_pass(lab: Lab) -> None:
    lab.facility.client.faults.add("nothing_there", status=503, times=0, chance=0.5)
    with httpx.Client(base_url=lab.facility.url, verify=False) as client:
        answers = [client.get("/nothing_there").status_code for _ in range(60)]
    assert 5 < answers.count(503) < 55
    assert set(answers) == {404, 503}


def test_expired_tokens_are_refused_everywhere(lab: Lab) -> None:
    assert lab.facility.client.expire_tokens() == 1
    with pytest.raises(globus_sdk.TransferAPIError) as caught:
        lab.transfer.get_submission_id()
    assert (caught.value.http_status, caught.value.code) == (401, "AuthenticationFailed")


def test_a_reset_forgets_tasks_faults_and_effects_but_no_files(lab: Lab) -> None:
    place = lab.write("a", b"a")
    stuck = lab.submit(("/missing", "/missing"))
    lab.facility.client.faults.add("nothing at all")
    lab.facility.client.collections.set(lab.source, connected=False)
    lab.facility.client.reset()
    assert (lab.facility.client.effects(), lab.facility.client.faults.every()) == ([], [])
    assert [row["connected"] for row in lab.facility.client.collections.every()] == [True, True]
    assert place.exists()
    with pytest.raises(globus_sdk.TransferAPIError):
        lab.task(stuck)


def test_what_is_not_a_fault_is_refused(lab: Lab) -> None:
    for rule in ({"match": "x", "kind": "earthquake"}, {"kind": "drop"}, {"match": "("}):
        answer = httpx.post(f"{lab.facility.url}/_sandbox/faults", json=rule, verify=False)
        assert answer.status_code == 400
    assert httpx.post(f"{lab.facility.url}/_sandbox/faults", content=b"?", verify=False).status_code == 400


def test_an_unknown_route_says_so(lab: Lab) -> None:
    answer = httpx.get(f"{lab.facility.url}/transfer/v0.10/nothing", verify=False)
    assert answer.status_code == 404
    assert "no route" in answer.json()["message"]
