"""Jobs by Globus Compute: real requests, real processes, really killed."""

from __future__ import annotations

import os
import signal
import sys
import time
import uuid
from pathlib import Path

import pytest
from compute_ground import Ground, eventually
from compute_jobs import Yard, alive, failure, wait

from orchestration.config import Container
from orchestration.errors import (
    Cancelled,
    InvalidInput,
    JobFailed,
    JobLost,
    JobNotStarted,
    JobTimedOut,
    OutputMissing,
    ServiceUnavailable,
)
from orchestration.jobs import Output, OutputKind
from orchestration.ledger.service import CancelAnswer, Running, Status, Succeeded
from orchestration.sandbox.testing import submit


@pytest.fixture
def yard(ground: Ground, tmp_path: Path) -> Yard:
    return Yard(ground, tmp_path)


def running(status: Status) -> bool:
    return isinstance(status, Running) and status.progress.note == "running"


def test_a_job_succeeds_with_its_outputs_checked_and_tells_where_it_was(yard: Yard) -> None:
    service = yard.service()
    spec = yard.job(
        """
        import os, sys
        open("out.json", "w").write('{"center": 8}')
        print(sys.argv[1], os.environ["WORD"])
        """,
        "two words; $(touch no)",
        outputs=(Output(path="out.json", kind=OutputKind.JSON),),
        environment={"WORD": "it's"},
    )
    token = service.reserve("key")
    handle = submit(service, spec, token)
    status = wait(service, spec, handle)
    assert isinstance(status, Succeeded), status
    assert status.evidence["stdout"] == "two words; $(touch no) it's\n"
    assert status.evidence["task_group"] == token
    assert status.evidence["endpoint"] == Ground.compute
    outputs = status.evidence["outputs"]
    assert isinstance(outputs, list)
    assert isinstance(outputs[0], dict)
    assert outputs[0]["content"] == {"center": 8}
    queued = status.evidence["queue_seconds"]
    assert isinstance(queued, float)
    assert 0 <= queued < 20


def test_the_first_question_after_the_end_of_a_job_tells_it(yard: Yard) -> None:
    service, spec = yard.service(), yard.job("pass")
    handle = submit(service, spec, service.reserve("key"))
    eventually(lambda: yard.ground.over(handle))
    yard.ground.control.faults.add("/compute/", "latency", times=0)
    assert isinstance(service.poll(spec, handle), Succeeded)
    (rule,) = yard.ground.control.faults.every()
    assert rule.hits == 1


def test_what_jobs_left_is_removed_and_nothing_beside_it(yard: Yard) -> None:
    service, spec = yard.service(), yard.job("print('x')")
    tokens = [service.reserve("key") for _ in range(3)]
    for token in tokens:
        assert isinstance(wait(service, spec, submit(service, spec, token)), Succeeded)
    service.clear(tokens[:2])
    assert [path.name for path in (yard.folder / "jobs").iterdir()] == tokens[2:]
    service.clear([])
    service.clear(tokens[:2])  # what is not there is no error
    with pytest.raises(InvalidInput, match="no token"):
        service.clear([f"../jobs/{tokens[2]}"])
    assert [path.name for path in (yard.folder / "jobs").iterdir()] == tokens[2:]


def test_what_a_job_made_outside_its_folder_is_removed_by_its_name(yard: Yard) -> None:
    made, kept = yard.folder / "made", yard.folder / "kept"
    for folder in (made, kept):
        folder.mkdir()
        for name in ("a.json", "b.json"):
            (folder / name).write_text("{}")
    service = yard.service()
    for _ in range(2):  # what is not there is no error
        service.clear([], folders=[str(made)], files=[str(kept / "a.json")])
    assert not made.exists()
    assert [path.name for path in kept.iterdir()] == ["b.json"]
    with pytest.raises(InvalidInput, match="no path below"):
        service.clear([], files=[f"{kept}/../jobs"])


def test_what_cannot_be_removed_is_told(yard: Yard) -> None:
    service = yard.service()
    (yard.folder / "jobs").mkdir()
    (yard.folder / "jobs" / "stuck").write_text("no folder")
    with pytest.raises(ServiceUnavailable, match=r"not all removed.*stuck"):
        service.clear(["stuck"])


def test_a_job_fails_with_the_programs_own_words(yard: Yard) -> None:
    service = yard.service()
    spec = yard.job("raise SystemExit('the disk is made of cheese')")
    error = failure(wait(service, spec, submit(service, spec, service.reserve("key"))))
    assert isinstance(error, JobFailed)
    assert "exit code 1: the disk is made of cheese" in str(error)


def test_a_job_without_its_output_has_failed(yard: Yard) -> None:
    service = yard.service()
    spec = yard.job("pass", outputs=(Output(path="rec.tiff"),))
    assert isinstance(failure(wait(service, spec, submit(service, spec, service.reserve("key")))), OutputMissing)


def test_a_job_is_stopped_at_the_end_of_its_time_by_the_runner(yard: Yard) -> None:
    service = yard.service()
    spec = yard.job("import time; time.sleep(60)", duration=0.3)
    assert isinstance(failure(wait(service, spec, submit(service, spec, service.reserve("key")))), JobTimedOut)


def test_a_job_that_could_not_begin_in_time_never_begins(yard: Yard) -> None:
    service = yard.service()
    spec = yard.job("open('ran', 'w')", start_within=0.2)
    yard.ground.control.compute.switch(Ground.compute, held=True)
    handle = submit(service, spec, service.reserve("key"))
    time.sleep(0.3)
    yard.ground.control.compute.switch(Ground.compute, held=False)
    assert isinstance(failure(wait(service, spec, handle)), JobNotStarted)
    assert not (yard.folder / "work" / "ran").exists()


def test_another_process_finds_a_job_by_its_token_alone(yard: Yard) -> None:
    spec = yard.counting(seconds=0.5)
    first = yard.service()
    token = first.reserve("key")
    assert first.find(spec, token) is None
    handle = submit(first, spec, token)
    second = yard.service()
    assert second.find(spec, token) == handle
    assert isinstance(wait(second, spec, handle), Succeeded)
    assert second.find(spec, token) == handle
    assert len(yard.runs()) == 1


@pytest.mark.parametrize("kind", ["lost_answer", "drop"])
def test_a_submission_without_an_answer_is_made_once_and_then_found(yard: Yard, kind: str) -> None:
    spec, service = yard.counting(), yard.service()
    token = service.reserve("key")
    yard.ground.control.faults.add(r"POST .*/submit$", kind, times=0)
    with pytest.raises(ServiceUnavailable):
        submit(service, spec, token)
    assert len([one for one in yard.ground.control.faults.every() if one.hits == 1]) == 1
    yard.ground.control.faults.clear()
    found = service.find(spec, token)
    assert (found is not None) == (kind == "lost_answer")
    assert isinstance(wait(service, spec, found or submit(service, spec, token)), Succeeded)
    assert len(yard.runs()) == yard.ground.starts(token) == 1


def test_two_submissions_of_one_token_run_the_job_once(yard: Yard) -> None:
    spec, service = yard.counting(seconds=0.5), yard.service()
    token = service.reserve("key")
    handles = [submit(service, spec, token) for _ in range(2)]
    assert handles[0] != handles[1]
    assert all(isinstance(wait(service, spec, handle), Succeeded) for handle in handles)
    assert yard.ground.starts(token) == 2
    assert len(yard.runs()) == 1


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_not_now_is_no_answer(yard: Yard, status: int) -> None:
    service, spec = yard.service(), yard.counting()
    handle = submit(service, spec, service.reserve("key"))
    yard.ground.control.faults.add("POST .*/batch_status", status=status, retry_after=7 if status == 429 else None)
    with pytest.raises(ServiceUnavailable) as caught:
        service.poll(spec, handle)
    assert caught.value.retry_after == (7.0 if status == 429 else None)
    assert isinstance(wait(service, spec, handle), Succeeded)


def test_an_expired_token_is_renewed(yard: Yard) -> None:
    service, spec = yard.service(), yard.counting()
    handle = submit(service, spec, service.reserve("key"))
    yard.ground.control.expire_tokens()
    assert isinstance(wait(service, spec, handle), Succeeded)


def test_a_function_that_the_service_forgot_is_registered_again(yard: Yard) -> None:
    service, spec = yard.service(), yard.counting()
    service._tasks._functions["run_job"] = str(uuid.uuid4())
    assert isinstance(wait(service, spec, submit(service, spec, service.reserve("key"))), Succeeded)


@pytest.mark.parametrize("entirely", [False, True])
def test_a_result_that_the_service_forgot_is_read_at_the_site(yard: Yard, *, entirely: bool) -> None:
    spec, service = yard.counting(), yard.service()
    handle = submit(service, spec, service.reserve("key"))
    eventually(lambda: yard.ground.over(handle))
    yard.ground.control.compute.forget(handle.partition("/")[2], entirely=entirely)
    status = wait(yard.service(), spec, handle)
    assert isinstance(status, Succeeded), status
    assert status.evidence["exit_code"] == 0
    assert len(yard.runs()) == 1


def test_a_task_that_nobody_knows_is_waited_for_and_then_given_up_for_good(yard: Yard) -> None:
    spec, service = yard.counting(), yard.service(unknown=0.4)
    yard.ground.control.compute.switch(Ground.compute, held=True)
    token = service.reserve("key")
    handle = f"{token}/{uuid.uuid4()}"
    assert isinstance(service.poll(spec, handle), Running)
    assert isinstance(failure(wait(service, spec, handle)), JobLost)
    yard.ground.control.compute.switch(Ground.compute, held=False)
    assert isinstance(failure(wait(service, spec, submit(service, spec, token))), JobLost)
    assert yard.runs() == []


def test_an_unread_result_costs_other_operations_nothing_when_the_login_endpoint_is_away(yard: Yard) -> None:
    spec, service = yard.counting(), yard.service()
    handle = submit(service, spec, service.reserve("key"))
    eventually(lambda: yard.ground.over(handle))
    yard.ground.control.compute.forget(handle.partition("/")[2])
    yard.ground.control.compute.switch(Ground.login, online=False)
    with pytest.raises(ServiceUnavailable, match="for light work is offline"):
        service.poll(spec, handle)
    yard.ground.control.compute.switch(Ground.login, online=True)
    assert isinstance(wait(service, spec, handle), Succeeded)


def test_an_offline_endpoint_is_given_nothing_and_says_what_to_do(yard: Yard) -> None:
    spec, service = yard.counting(), yard.service()
    token = service.reserve("key")
    yard.ground.control.compute.switch(Ground.compute, online=False)
    with pytest.raises(ServiceUnavailable, match=r"offline .*Next: start it at the facility"):
        submit(service, spec, token)
    assert service.find(spec, token) is None
    assert service.condition().state.value == "down"
    yard.ground.control.compute.switch(Ground.compute, online=True)
    assert service.condition().state.value == "up"
    assert isinstance(wait(service, spec, submit(service, spec, token)), Succeeded)


def test_a_lost_worker_is_a_lost_job_and_leaves_nothing_running(yard: Yard) -> None:
    spec, service = yard.counting(seconds=60), yard.service(dead=1.0)
    handle = submit(service, spec, service.reserve("key"))
    (program,) = eventually(yard.runs)
    assert yard.ground.control.compute.kill(handle.partition("/")[2])
    error = failure(wait(service, spec, handle))
    assert isinstance(error, JobLost)
    assert "worker" in str(error)
    eventually(lambda: not alive(program))
    assert type(failure(wait(yard.service(dead=1.0), spec, handle))) is JobLost


def test_a_worker_that_dies_takes_its_job_with_it(yard: Yard) -> None:
    spec, service = yard.counting(seconds=60), yard.service()
    handle = submit(service, spec, service.reserve("key"))
    (program,) = eventually(yard.runs)
    os.kill(yard.ground.worker_of(handle), signal.SIGKILL)
    assert type(failure(wait(service, spec, handle))) is JobLost
    eventually(lambda: not alive(program))
    assert type(failure(wait(yard.service(), spec, handle))) is JobLost


def test_a_job_whose_worker_was_lost_after_it_ended_has_succeeded(yard: Yard) -> None:
    spec, service = yard.job("open('ran', 'w')"), yard.service()
    token = service.reserve("key")
    handle = submit(service, spec, token)
    assert isinstance(wait(service, spec, handle), Succeeded)
    again = submit(service, spec, token)  # finds the report, and runs nothing
    assert isinstance(wait(service, spec, again), Succeeded)


def test_a_large_job_is_refused_before_it_is_sent(yard: Yard) -> None:
    service = yard.service()
    token = service.reserve("key")
    spec = yard.job("pass", "x" * 10_000_000)
    with pytest.raises(InvalidInput, match=r"10\.\d MB was asked for"):
        submit(service, spec, token)
    assert service.find(spec, token) is None


def test_a_job_that_the_endpoint_would_cut_off_is_refused(yard: Yard) -> None:
    site = yard.site().model_copy(update={"options": {"walltime": "01:00:00", "task_seconds": 3300}})
    service = yard.service(site)
    with pytest.raises(InvalidInput, match=r"reconstruct would be cut off: 3300 s and 60 s .* 3300 s"):
        submit(service, yard.job("pass", duration=3300.0), service.reserve("key"))


def test_a_command_too_long_for_a_container_engine_is_refused(yard: Yard) -> None:
    service = yard.service(yard.site(container=Container(engine="apptainer", image="x.sif")))
    with pytest.raises(InvalidInput, match="bytes long"):
        submit(service, yard.job("pass", "x" * 130_000), service.reserve("key"))


def test_cancelling_a_running_job_stops_it(yard: Yard) -> None:
    spec, service = yard.counting(seconds=60), yard.service(cancel=60.0)
    handle = submit(service, spec, service.reserve("key"))
    (program,) = eventually(yard.runs)
    assert service.cancel(handle) is CancelAnswer.CANCELLED
    eventually(lambda: not alive(program))
    assert isinstance(failure(wait(service, spec, handle)), Cancelled)
    assert yard.service(cancel=60.0).cancel(handle) is CancelAnswer.CANCELLED


@pytest.mark.parametrize("entirely", [False, True])
def test_a_job_that_died_unseen_can_be_cancelled(yard: Yard, *, entirely: bool) -> None:
    """Its node is lost, and the service has forgotten it: nobody says that it is over."""
    spec, service = yard.counting(seconds=60), yard.service(dead=0.3, cancel=60.0)
    handle = submit(service, spec, service.reserve("key"))
    eventually(yard.runs)
    yard.ground.control.compute.kill(handle.partition("/")[2])
    eventually(lambda: yard.ground.over(handle))
    yard.ground.control.compute.forget(handle.partition("/")[2], entirely=entirely)
    assert isinstance(service.poll(spec, handle), Running)
    assert service.cancel(handle) is CancelAnswer.CANCELLED
    assert isinstance(failure(wait(service, spec, handle)), Cancelled)


def test_cancelling_a_queued_job_keeps_it_from_ever_beginning(yard: Yard) -> None:
    spec, service = yard.counting(), yard.service(cancel=60.0)
    yard.ground.control.compute.switch(Ground.compute, held=True)
    handle = submit(service, spec, service.reserve("key"))
    assert service.cancel(handle) is CancelAnswer.CANCELLED
    yard.ground.control.compute.switch(Ground.compute, held=False)
    assert isinstance(failure(wait(service, spec, handle)), Cancelled)
    assert yard.runs() == []


def test_whether_a_job_has_begun_is_looked_up_in_its_folder(yard: Yard) -> None:
    """Here the service tells it truly; the real one may say of a task that runs that it waits."""
    spec, service = yard.counting(seconds=60), yard.service(look=0.2)
    yard.ground.control.compute.switch(Ground.compute, held=True)
    handle = submit(service, spec, service.reserve("key"))
    first = service.poll(spec, handle)
    assert isinstance(first, Running)
    assert (first.queued, first.needs_care) == (False, True)
    waits = wait(service, spec, handle, until=lambda status: isinstance(status, Running) and status.queued)
    assert isinstance(waits, Running)
    assert not waits.needs_care  # so that its run need not stay
    yard.ground.control.compute.switch(Ground.compute, held=False)
    eventually(yard.runs)
    begun = service.poll(spec, handle)
    assert isinstance(begun, Running)
    assert (begun.queued, begun.needs_care, begun.progress.note) == (False, False, "running")


def test_cancelling_a_finished_job_says_that_it_is_finished(yard: Yard) -> None:
    spec, service = yard.counting(), yard.service(cancel=60.0)
    handle = submit(service, spec, service.reserve("key"))
    wait(service, spec, handle)
    assert service.cancel(handle) is CancelAnswer.ALREADY_FINISHED


def test_cancelling_without_a_login_endpoint_is_not_claimed_to_have_worked(yard: Yard) -> None:
    spec, service = yard.counting(seconds=60), yard.service()
    handle = submit(service, spec, service.reserve("key"))
    yard.ground.control.compute.switch(Ground.login, online=False)
    with pytest.raises(ServiceUnavailable):
        service.cancel(handle)
    yard.ground.control.compute.switch(Ground.login, online=True)
    yard.ground.control.compute.switch(Ground.login, held=True)
    impatient = yard.service(cancel=0.3)
    assert impatient.cancel(handle) is CancelAnswer.UNKNOWN


def test_many_jobs_are_asked_about_in_one_request(yard: Yard) -> None:
    service = yard.service()
    spec = yard.job("pass")
    items = [(spec, submit(service, spec, service.reserve("key"))) for _ in range(6)]
    yard.ground.control.faults.add("POST .*/batch_status", "latency", times=0)
    stands = service.poll_many(items)
    (rule,) = yard.ground.control.faults.every()
    assert rule.hits == 1
    assert set(stands) <= {handle for _, handle in items}  # of the others it is not known whether they have begun

    def done() -> bool:
        found = service.poll_many(items)
        return len(found) == len(items) and all(isinstance(one, Succeeded) for one in found.values())

    eventually(done)


def test_another_version_of_the_programs_is_refused_by_name(yard: Yard) -> None:
    service = yard.service(yard.site(science_version="99.0"))
    spec = yard.job("open('ran', 'w')")
    error = failure(wait(service, spec, submit(service, spec, service.reserve("key"))))
    assert "99.0 was asked for" in str(error)
    assert "scripts/install_science.sh" in str(error)


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("""echo '{"python": "3.9.2", "science": "0.1.0"}'""", r"is Python 3\.9\.2, and the science programs need"),
        (f"""exec {sys.executable} -S -I "$@" """, "are not installed in"),
        ("exit 9", "cannot be run"),
    ],
)
def test_an_interpreter_that_does_not_serve_is_told_by_name(yard: Yard, script: str, said: str) -> None:
    python = yard.folder / "python"
    if "3.9.2" in script:  # as an old interpreter: it knows no -P, and tells its version
        script = f"""[ "$1" = -P ] && exit 2; {script}"""
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    service = yard.service(yard.site(python=str(python)))
    spec = yard.job("open('ran', 'w')")
    error = failure(wait(service, spec, submit(service, spec, service.reserve("key"))))
    assert isinstance(error, JobFailed)
    assert not isinstance(error, JobLost)
    with pytest.raises(JobFailed, match=said):
        raise error


def test_a_job_folder_that_cannot_be_made_is_told_by_name(yard: Yard) -> None:
    (yard.folder / "jobs").write_text("a file")
    service, spec = yard.service(), yard.job("pass")
    error = failure(wait(service, spec, submit(service, spec, service.reserve("key"))))
    assert "could not be run by the endpoint: NotADirectoryError" in str(error)
    assert not isinstance(error, JobLost)


def test_an_interpreter_that_is_not_there_is_told_by_name(yard: Yard) -> None:
    service = yard.service(yard.site(python="/nowhere/python"))
    spec = yard.job("pass")
    error = failure(wait(service, spec, submit(service, spec, service.reserve("key"))))
    assert "/nowhere/python cannot be run" in str(error)
    assert "No such file" in str(error)
