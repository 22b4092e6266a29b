"""What the control can make the facility do, and what it makes of the unmodified client."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
import tenacity
from superfacility_lab import HEAD, Lab, SfApiError, sign_in, until

from orchestration.sandbox.superfacility.knobs import Maintenance

NOW = datetime.now(UTC).replace(microsecond=0)


def rows(lab: Lab, job: str, *, sacct: bool) -> list[dict[str, Any]]:
    asked = {"sacct": sacct, "cached": False, "kwargs": [f"jobid={job}"]}
    found: list[dict[str, Any]] = lab.client.get("compute/jobs/perlmutter", asked).json()["output"]
    return found


def submission(lab: Lab) -> str:
    """The task of a submission, not waited for."""
    return str(lab.client.post("compute/jobs/perlmutter", {"job": f"{HEAD}true\n", "isPath": False}).json()["task_id"])


def test_a_machine_can_be_degraded_and_say_why(lab: Lab) -> None:
    lab.control.set_status("degraded", description="Slow today", notes=["Some nodes are down."])
    machine = lab.client.compute("perlmutter")
    assert (machine.status, machine.description) == ("degraded", "Slow today")
    assert lab.client.resources.notes("perlmutter")[0].notes == "Some nodes are down."
    assert lab.client.resources.notes()["perlmutter"][0].active
    assert lab.client.resources.status()["dtns"].status == "active"
    with pytest.raises(ValueError, match="no such status"):
        lab.control.set_status("asleep")


def test_outages_are_announced(lab: Lab) -> None:
    lab.control.add_outage(NOW + timedelta(hours=1), NOW + timedelta(hours=9))
    lab.control.add_outage(NOW - timedelta(days=9), NOW - timedelta(days=8), status="Completed")
    (planned,) = lab.machine.planned_outages()
    assert (planned.start_at, planned.status, planned.swo) == (NOW + timedelta(hours=1), "Planned", "Scheduled")
    assert [one.status for one in lab.machine.outages()] == ["Completed", "Planned", "Completed"]
    assert list(lab.client.resources.planned_outages()) == ["perlmutter"]
    lab.control.clear_outages()
    assert lab.machine.planned_outages() == []
    assert lab.client.resources.outages("dtns") == []


def test_a_machine_that_is_only_said_to_be_unavailable_still_takes_jobs(lab: Lab) -> None:
    lab.control.set_status("unavailable")
    machine = lab.client.compute("perlmutter")
    assert machine.status == "unavailable"
    assert machine.submit_job(f"{HEAD}true\n").jobid  # the client's own check looks elsewhere


def test_maintenance_may_answer_503_which_the_client_asks_again(lab: Lab) -> None:
    lab.control.begin_maintenance()
    assert lab.client.compute("perlmutter").notes == ["perlmutter is down for maintenance"]
    url = f"{lab.variables['SFAPI_API_URL']}/compute/jobs/perlmutter"
    answer = httpx.get(url, headers={"Authorization": f"Bearer {lab.token}"}, verify=False)
    assert (answer.status_code, answer.json()) == (503, {"detail": "perlmutter is down for maintenance"})
    hasty = lab.machine.client.post.retry_with(stop=tenacity.stop_after_attempt(1))
    with pytest.raises(tenacity.RetryError):
        hasty(lab.client, "compute/jobs/perlmutter", {"job": HEAD, "isPath": False})
    lab.control.end_maintenance()
    assert lab.client.compute("perlmutter").status == "active"
    assert lab.submit("true")


def test_maintenance_may_answer_with_an_error_that_the_client_takes_for_an_empty_queue(lab: Lab) -> None:
    job = lab.submit("true")
    lab.control.begin_maintenance("error", "Perlmutter is down")
    with pytest.raises(SfApiError, match="Perlmutter is down"):
        lab.submit("true")
    with pytest.raises(SfApiError, match="Job not found"):
        lab.machine.job(job)
    lab.control.begin_maintenance(Maintenance.NULL)
    with pytest.raises(TypeError, match="NoneType"):
        lab.machine.job(job)
    lab.control.end_maintenance()
    assert lab.machine.job(job).jobid == job


def test_a_job_can_be_unknown_for_a_while_after_its_submission(lab: Lab) -> None:
    lab.control.turn(hidden=3600)
    job = lab.submit("sleep 60")
    lab.running(job)
    assert rows(lab, job, sacct=False) == rows(lab, job, sacct=True) == []
    lab.control.turn(hidden=0)
    assert rows(lab, job, sacct=False)[0]["state"] == rows(lab, job, sacct=True)[0]["state"] == "RUNNING"


def test_a_job_can_be_in_no_list_for_a_while_after_its_end(lab: Lab) -> None:
    lab.control.turn(sacct_lag=3600)
    job = lab.machine.submit_job(f"{HEAD}#SBATCH -o /dev/null\ntrue\n")
    lab.ended(job.jobid)
    with pytest.raises(SfApiError, match="Job not found"):
        job.complete(timeout=60)
    lab.control.turn(sacct_lag=0)
    assert job.complete(timeout=60) == "COMPLETED"


def test_accounting_can_be_behind(lab: Lab) -> None:
    lab.control.turn(sacct_lag=3600.0, sacct_stale=True)
    job = lab.submit("true")
    lab.ended(job)
    row = rows(lab, job, sacct=True)[0]
    assert (row["state"], row["start"], row["end"]) == ("PENDING", "Unknown", "Unknown")
    lab.control.turn(sacct_lag=0.0)
    assert rows(lab, job, sacct=True)[0]["state"] == "COMPLETED"


def test_a_job_can_be_forgotten_though_it_runs(lab: Lab) -> None:
    job, other = lab.submit("sleep 60"), lab.submit("sleep 60")
    lab.running(job)
    lab.control.forget_job(job)
    assert rows(lab, job, sacct=False) == rows(lab, job, sacct=True) == []
    assert rows(lab, other, sacct=True)[0]["jobid"] == other
    assert lab.state(job) == "RUNNING"


@pytest.mark.parametrize("state", ["NODE_FAIL", "DEADLINE", "BOOT_FAIL"])
def test_the_client_waits_for_ever_for_states_that_it_does_not_take_for_an_end(lab: Lab, state: str) -> None:
    job = lab.machine.submit_job(f"{HEAD}sleep 60\n")
    job.running(timeout=60)
    lab.control.end_job(job.jobid, state)
    lab.ended(job.jobid)
    with pytest.raises(TimeoutError):
        job.complete(timeout=0.2)
    assert job.state == state


def test_submission_can_take_its_time(lab: Lab) -> None:
    lab.control.turn(submit_delay=3600)
    task = submission(lab)
    assert lab.client.get(f"tasks/{task}").json() == {"id": task, "status": "new", "result": None}
    assert lab.facility.client.effects("job") == []
    lab.control.turn(submit_delay=0)
    assert until(lambda: lab.client.get(f"tasks/{task}").json()["result"])
    assert len(lab.facility.client.effects("job")) == 1


def test_a_submission_that_is_cancelled_before_its_time_never_becomes_a_job(lab: Lab) -> None:
    lab.control.turn(submit_delay=3600)
    task, other = submission(lab), submission(lab)
    assert lab.client.delete(f"tasks/{task}").json()["status"] == "cancelled"
    lab.control.turn(submit_delay=0)
    until(lambda: lab.client.get(f"tasks/{other}").json()["result"])
    assert lab.client.get(f"tasks/{task}").json() == {"id": task, "status": "cancelled", "result": None}
    assert len(lab.facility.client.effects("job")) == len(lab.control.jobs()) == 1
    assert lab.client.delete(f"tasks/{other}").json()["status"] == "completed"  # too late


def test_a_submission_that_waits_does_not_outlive_a_reset(lab: Lab) -> None:
    lab.control.turn(submit_delay=3600)
    submission(lab)
    lab.facility.client.reset()
    sign_in(lab)
    assert lab.submit("true", "-J second")
    assert [job.name for job in lab.control.jobs()] == ["second"]
    assert lab.client.get("tasks").json()["tasks"][0]["status"] == "completed"


def test_a_task_can_fail_before_or_after_it_has_done_its_work(lab: Lab) -> None:
    lab.control.fail_tasks(error="ssh: connect timed out")
    with pytest.raises(SfApiError, match="ssh"):
        lab.submit("true")
    assert lab.facility.client.effects("job") == []
    lab.control.fail_tasks(late=True)
    with pytest.raises(SfApiError):
        lab.submit("true")
    assert len(lab.facility.client.effects("job")) == 1
    assert lab.submit("true")


def test_a_submission_whose_answer_is_lost_was_made(lab: Lab) -> None:
    lab.facility.client.faults.add("POST .*/compute/jobs/", "lost_answer")
    with pytest.raises(httpx.RemoteProtocolError):
        lab.submit("true")
    until(lambda: len(lab.facility.client.effects("job")) == 1)


def test_a_submission_that_is_dropped_was_not_made(lab: Lab) -> None:
    lab.facility.client.faults.add("POST .*/compute/jobs/", "drop")
    with pytest.raises(httpx.RemoteProtocolError):
        lab.submit("true")
    assert lab.submit("true", "-J second")
    assert [effect.key for effect in lab.facility.client.effects("job")] == ["second"]


def test_a_submission_whose_answer_is_late_is_made_twice_by_the_client(lab: Lab) -> None:
    lab.facility.client.faults.add("POST .*/compute/jobs/", "latency", delay=3600)
    lab.client._http_client().timeout = 0.5  # instead of ten seconds
    lab.submit("true", "-J double")
    lab.facility.client.faults.clear()
    until(lambda: len(lab.facility.client.effects("job")) >= 2)
    assert {effect.key for effect in lab.facility.client.effects("job")} == {"double"}


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_the_client_asks_again_after_a_passing_fault(lab: Lab, status: int) -> None:
    lab.facility.client.faults.add("GET .*/account", status=status, retry_after=30)
    quick = lab.client.get.retry_with(wait=tenacity.wait_none())
    assert quick(lab.client, "account/").json()["name"] == "alsdev"


@pytest.mark.parametrize("status", [401, 403, 404, 500])
def test_the_client_gives_up_at_once_after_any_other(lab: Lab, status: int) -> None:
    lab.facility.client.faults.add("GET .*/account", status=status)
    with pytest.raises(httpx.HTTPStatusError, match=str(status)):
        lab.client.user()


def test_a_poll_of_a_task_can_be_lost(lab: Lab) -> None:
    lab.facility.client.faults.add("GET .*/tasks/", status=404)
    with pytest.raises(httpx.HTTPStatusError, match="404"):
        lab.submit("true")
    assert len(lab.facility.client.effects("job")) == 1


def test_a_knob_that_does_not_exist_is_told(lab: Lab) -> None:
    with pytest.raises(ValueError, match="no such knob: speed"):
        lab.control._sent("knobs", {"speed": 1})


def test_what_is_asked_in_other_words_is_not_answered_with_everything(lab: Lab) -> None:
    lab.submit("true")
    with pytest.raises(httpx.HTTPStatusError, match="422"):
        lab.client.get("compute/jobs/perlmutter", {"sacct": True, "kwargs": ["name=x"]})
    with pytest.raises(httpx.HTTPStatusError, match="404"):
        lab.client.get("compute/jobs/cori", {"sacct": True})
    with pytest.raises(httpx.HTTPStatusError, match="422"):
        lab.client.post("compute/jobs/perlmutter", {"job": "x"})
