"""Jobs at a facility that behaves: from their submission to what is known of them at the end."""

from __future__ import annotations

import threading
import time
from dataclasses import replace

import pytest
from nersc_ground import Ground, ended, until

from orchestration.config import Container
from orchestration.errors import (
    Cancelled,
    JobFailed,
    JobLost,
    JobNotStarted,
    JobPreempted,
    JobTimedOut,
    NodeFailed,
    OperationFailed,
    OutOfMemory,
    OutputMissing,
)
from orchestration.jobs import JobSpec
from orchestration.ledger.service import BulkService, CancelAnswer, Failed, Running, Service, Succeeded
from orchestration.nersc.jobs import NerscJobs


def started(ground: Ground, jobs: NerscJobs, spec: JobSpec, token: str = "key-1") -> str:
    """Submitted, and its program runs."""
    handle = jobs.submit(spec, jobs.reserve(token))
    until(lambda: (ground.folder / "work" / "begun").exists())
    return handle


def test_a_job_is_believed_to_its_report_and_its_waiting_is_told_apart(ground: Ground) -> None:
    jobs = ground.jobs()
    spec = ground.shell("echo rec > rec.tif; echo done", outputs=("rec.tif",))
    token = jobs.reserve("key-1")
    handle = jobs.submit(spec, token)
    assert handle.endswith(" key-1")
    status = ended(jobs, spec, handle)
    assert isinstance(status, Succeeded)
    assert status.evidence["job"] == handle.partition(" ")[0]
    assert status.evidence["state"] == "COMPLETED"
    assert status.evidence["stdout"] == "done\n"
    assert isinstance(status.evidence["queue_seconds"], float)
    assert isinstance(status.evidence["run_seconds"], float)
    assert (ground.folder / "jobs" / "key-1.log").is_file()
    assert ground.asked() == 1


def test_it_is_the_service_that_the_ledger_asks_for(ground: Ground) -> None:
    jobs: Service[JobSpec] = ground.jobs()
    assert isinstance(jobs, BulkService)
    assert jobs.name == "nersc.jobs@perlmutter"


def test_the_end_of_a_job_is_known_at_once(ground: Ground) -> None:
    jobs = ground.jobs()
    spec = ground.shell("echo x > rec.tif", outputs=("rec.tif",))
    handle = jobs.submit(spec, jobs.reserve("key-1"))
    until(lambda: all(job.over for job in ground.real("key-1")))
    took = []
    for _ in range(3):  # the best of three: other work of this machine is no part of it
        began = time.perf_counter()
        assert isinstance(jobs.poll(spec, handle), Succeeded)
        took.append(time.perf_counter() - began)
    assert min(took) < 0.3


def test_a_running_job_costs_one_question(ground: Ground) -> None:
    jobs = ground.jobs()
    spec = ground.shell("touch begun; sleep 20")
    handle = started(ground, jobs, spec)
    rule = ground.facility.client.faults.add("compute/jobs|download", "latency", times=0)
    assert jobs.poll(spec, handle) == jobs.poll(spec, handle)
    hits = {each.id: each.hits for each in ground.facility.client.faults.every()}
    assert hits[rule.id] == 2


def test_a_waiting_job_says_that_it_waits(ground: Ground) -> None:
    ground.control.turn(held=True)
    jobs = ground.jobs()
    spec = ground.shell("true")
    handle = jobs.submit(spec, jobs.reserve("key-1"))
    status = jobs.poll(spec, handle)
    assert isinstance(status, Running)
    assert status.progress.note.startswith("waiting in the queue")
    ground.control.turn(held=False)
    assert isinstance(ended(jobs, spec, handle), Succeeded)


def test_what_a_program_does_wrong_is_told(ground: Ground) -> None:
    jobs = ground.jobs()
    wrong: list[tuple[JobSpec, type[JobFailed], str]] = [
        (ground.shell("echo no rings >&2; exit 3"), JobFailed, "exit code 3: no rings"),
        (ground.shell("true", outputs=("rec.tif",)), OutputMissing, "rec.tif was not written"),
        (ground.shell("kill -SEGV $$"), JobFailed, "signal SIGSEGV"),
        (ground.shell("sleep 30", duration=1.0), JobTimedOut, "limit of 1 s"),
    ]
    handles = [jobs.submit(spec, jobs.reserve(f"key-{number}")) for number, (spec, _, _) in enumerate(wrong)]
    for (spec, error, said), handle in zip(wrong, handles, strict=True):
        status = ended(jobs, spec, handle)
        assert isinstance(status, Failed)
        assert type(status.error) is error
        assert said in status.error.what


def test_a_job_that_the_shell_could_not_even_start_shows_slurms_log(ground: Ground) -> None:
    """Slurm calls it FAILED or COMPLETED; a job that left no report did not do its work."""
    container = Container(engine="podman-hpc", image="registry/als:1", volumes={"/data": "/no/such/directory"})
    jobs = replace(ground.jobs(), site=ground.site.model_copy(update={"container": container}))
    spec = ground.shell("true")
    status = ended(jobs, spec, jobs.submit(spec, jobs.reserve("key-1")))
    assert isinstance(status, Failed)
    assert type(status.error) is JobFailed
    assert "exit code 125" in status.error.what
    assert "/no/such/directory" in status.error.what
    assert "/no/such/directory" in str(status.evidence["log"])


ENDS: dict[str, type[OperationFailed]] = {
    "TIMEOUT": JobTimedOut,
    "OUT_OF_MEMORY": OutOfMemory,
    "NODE_FAIL": NodeFailed,
    "CANCELLED": Cancelled,
    "PREEMPTED": JobPreempted,
    "DEADLINE": JobTimedOut,
    "BOOT_FAIL": NodeFailed,
    "FAILED": JobFailed,
    "COMPLETED": JobLost,
}


def test_every_end_that_slurm_makes_has_its_error(ground: Ground) -> None:
    jobs = ground.jobs()
    handles = {}
    for state in ENDS:
        spec = ground.shell(f"touch {state}; sleep 20")
        handles[state] = spec, jobs.submit(spec, jobs.reserve(state))
    until(lambda: all((ground.folder / "work" / state).exists() for state in ENDS))
    for state, (_, handle) in handles.items():
        ground.control.end_job(handle.partition(" ")[0], state)
    for state, (spec, handle) in handles.items():
        status = ended(jobs, spec, handle)
        assert isinstance(status, Failed)
        assert isinstance(status.error, ENDS[state]), status.error
        assert "perlmutter" in status.error.where
    assert ground.asked() == len(ENDS)


def test_a_job_that_never_began_is_not_waited_for(ground: Ground) -> None:
    ends: dict[str, type[OperationFailed]] = {
        "DEADLINE": JobNotStarted,
        "CANCELLED": Cancelled,
        "BOOT_FAIL": NodeFailed,
    }
    ground.control.turn(held=True)
    jobs = replace(ground.jobs(), patience=replace(ground.patience, report=60.0))
    spec = ground.shell("true")
    for state, error in ends.items():
        handle = jobs.submit(spec, jobs.reserve(state))
        ground.control.end_job(handle.partition(" ")[0], state)
        status = ended(jobs, spec, handle, within=5.0)
        assert isinstance(status, Failed)
        assert type(status.error) is error


def test_a_waiting_job_is_cancelled_and_never_runs(ground: Ground) -> None:
    ground.control.turn(held=True)
    jobs = ground.jobs()
    spec = ground.shell("touch begun")
    handle = jobs.submit(spec, jobs.reserve("key-1"))
    assert jobs.cancel(handle) is CancelAnswer.CANCELLED
    ground.control.turn(held=False)
    status = ended(jobs, spec, handle)
    assert isinstance(status, Failed)
    assert type(status.error) is Cancelled
    assert not (ground.folder / "work" / "begun").exists()


def test_a_running_job_is_cancelled_with_what_it_started(ground: Ground) -> None:
    jobs = ground.jobs()
    spec = ground.shell("touch begun; trap '' TERM; while :; do date +%s%N > pulse; sleep 0.05; done")
    handle = started(ground, jobs, spec)
    until(lambda: jobs.cancel(handle) is CancelAnswer.CANCELLED)
    pulse = (ground.folder / "work" / "pulse").read_text()
    time.sleep(0.2)
    assert (ground.folder / "work" / "pulse").read_text() == pulse
    assert jobs.cancel(handle) is CancelAnswer.CANCELLED


def test_a_job_that_is_over_cannot_be_cancelled(ground: Ground) -> None:
    jobs = ground.jobs()
    spec = ground.shell("true")
    handle = jobs.submit(spec, jobs.reserve("key-1"))
    ended(jobs, spec, handle)
    assert jobs.cancel(handle) is CancelAnswer.ALREADY_FINISHED


def test_many_jobs_are_asked_about_at_once(ground: Ground) -> None:
    jobs = ground.jobs()
    ground.control.turn(held=True)
    spec = ground.shell("true")
    waiting = [(spec, jobs.submit(spec, jobs.reserve(f"key-{number}"))) for number in range(5)]
    rule = ground.facility.client.faults.add("compute/jobs", "latency", times=0)
    found = jobs.poll_many(waiting)
    assert set(found) == {handle for _, handle in waiting}
    assert all(isinstance(status, Running) for status in found.values())
    assert {each.id: each.hits for each in ground.facility.client.faults.every()}[rule.id] == 1

    ground.control.turn(held=False)
    until(lambda: all(job.over for job in ground.control.jobs()))
    assert all(isinstance(status, Succeeded) for status in jobs.poll_many(waiting).values())
    stranger = ground.jobs()  # another process, which never saw them in the queue
    assert set(stranger.poll_many(waiting)) == {handle for _, handle in waiting}
    assert stranger.poll_many([]) == {}


def test_more_jobs_than_a_url_holds_are_one_question_too(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestration.nersc.jobs._BY_NUMBER", 2)
    jobs = ground.jobs()
    ground.control.turn(held=True)
    spec = ground.shell("true")
    waiting = [(spec, jobs.submit(spec, jobs.reserve(f"key-{number}"))) for number in range(3)]
    jobs.poll_many(waiting)
    rule = ground.facility.client.faults.add("compute/jobs", "latency", times=0)
    assert set(jobs.poll_many(waiting)) == {handle for _, handle in waiting}
    assert {each.id: each.hits for each in ground.facility.client.faults.every()}[rule.id] == 1


def test_nothing_is_said_of_a_job_that_nobody_lists_until_it_is_lost(ground: Ground) -> None:
    jobs = ground.jobs()
    spec = ground.shell("true")
    assert jobs.poll_many([(spec, "99999 key-9")]) == {}
    assert isinstance(jobs.poll(spec, "99999 key-9"), Running)
    time.sleep(ground.patience.unknown)
    assert set(jobs.poll_many([(spec, "99999 key-9")])) == {"99999 key-9"}
    status = ended(jobs, spec, "99999 key-9")
    assert isinstance(status, Failed)
    assert type(status.error) is JobLost
    late = ended(jobs, spec, jobs.submit(spec, jobs.reserve("key-9")))
    assert isinstance(late, Failed), "what was given up began all the same"
    assert isinstance(late.error, Cancelled)


def test_threads_share_it(ground: Ground) -> None:
    jobs = ground.jobs()
    spec = ground.shell("true")
    found: dict[int, object] = {}

    def run(number: int) -> None:
        found[number] = ended(jobs, spec, jobs.submit(spec, jobs.reserve(f"key-{number}")))

    threads = [threading.Thread(target=run, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(isinstance(status, Succeeded) for status in found.values())
    assert len(found) == ground.asked() == 6


def test_what_slurm_refuses_is_an_answer(ground: Ground) -> None:
    jobs = ground.jobs()
    spec = ground.shell("true", queue="bogus")
    with pytest.raises(JobFailed, match="Invalid qos specification"):
        jobs.submit(spec, jobs.reserve("key-1"))


def test_no_secret_is_in_a_text_form_or_a_script(ground: Ground) -> None:
    jobs = ground.jobs()
    spec = ground.shell("true")
    handle = jobs.submit(spec, jobs.reserve("key-1"))
    ended(jobs, spec, handle)
    key = (ground.credentials.path_nersc_pri_key or ground.folder).read_text().splitlines()[1]
    assert key not in repr(jobs)
    assert all(key not in repr(value) for value in vars(jobs).values())
