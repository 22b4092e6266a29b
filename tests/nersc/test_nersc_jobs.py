"""Jobs at a facility that behaves: from their submission to what is known of them at the end."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from late_proxy import late_proxy
from nersc_ground import UNTIL_GO, Ground, ended, failed, until

from orchestration.config import Container
from orchestration.errors import (
    Cancelled,
    InvalidInput,
    JobFailed,
    JobLost,
    JobNotStarted,
    JobPreempted,
    JobTimedOut,
    NodeFailed,
    OperationFailed,
    OutOfMemory,
    OutputMissing,
    ServiceUnavailable,
)
from orchestration.jobs import JobSpec
from orchestration.ledger.service import (
    BulkService,
    CancelAnswer,
    Document,
    Failed,
    Json,
    Running,
    Service,
    Succeeded,
)
from orchestration.nersc.handle import Handle
from orchestration.nersc.jobs import NerscJobs
from orchestration.sandbox.testing import submit


def started(ground: Ground, jobs: NerscJobs, spec: JobSpec, token: str = "key1-1") -> str:
    """Submitted, and its program runs."""
    handle = submit(jobs, spec, jobs.reserve(token))
    until(ground.work("begun").exists)
    return handle


def counted(ground: Ground, match: str) -> Callable[[], int]:
    """How many requests like this have come since."""
    rule = ground.facility.client.faults.add(match, "latency", times=0)
    return lambda: next(each.hits for each in ground.facility.client.faults.every() if each.id == rule.id)


def running(directory: Path) -> list[str]:
    """The processes that work in a directory."""
    found = []
    for process in Path("/proc").iterdir():
        with suppress(OSError):
            if (process / "cwd").resolve() == directory.resolve() and (process / "cmdline").read_bytes():
                found.append(process.name)
    return found


def test_a_job_is_believed_to_its_report_and_its_waiting_is_told_apart(ground: Ground) -> None:
    jobs = ground.jobs()
    spec = ground.shell("echo rec > rec.tif; echo done", outputs=("rec.tif",))
    token = jobs.reserve("key1-1")
    handle = submit(jobs, spec, token)
    assert handle.endswith(f" {token}")
    assert token.startswith("key1-1-")
    status = ended(jobs, spec, handle)
    assert isinstance(status, Succeeded)
    assert status.evidence["job"] == handle.partition(" ")[0]
    assert status.evidence["state"] == "COMPLETED"
    assert status.evidence["stdout"] == "done\n"
    assert isinstance(status.evidence["queue_seconds"], float)
    assert isinstance(status.evidence["run_seconds"], float)
    assert (ground.folder / "jobs" / f"{token}.log").is_file()
    assert ground.asked() == 1


def test_it_is_the_service_that_the_ledger_asks_for(ground: Ground) -> None:
    jobs: Service[JobSpec] = ground.jobs()
    assert isinstance(jobs, BulkService)
    assert jobs.name == "nersc.jobs@perlmutter"


def test_the_end_of_a_job_is_known_at_once(ground: Ground) -> None:
    jobs = ground.jobs()
    spec = ground.shell("echo x > rec.tif", outputs=("rec.tif",))
    handle = submit(jobs, spec, jobs.reserve("key1-1"))
    until(lambda: all(job.over for job in ground.real("key1-1")))
    asked = counted(ground, "nersc/api")
    assert isinstance(jobs.poll(spec, handle), Succeeded)
    assert asked() == 3  # squeue, sacct, the report


def test_a_running_job_costs_one_question(ground: Ground) -> None:
    jobs = ground.jobs()
    spec = ground.shell("touch begun; sleep 600")
    handle = started(ground, jobs, spec)
    asked = counted(ground, "nersc/api")
    assert jobs.poll(spec, handle) == jobs.poll(spec, handle)
    assert asked() == 2


def test_a_waiting_job_says_that_it_waits(ground: Ground) -> None:
    ground.control.turn(held=True)
    jobs = ground.jobs()
    spec = ground.shell("true")
    handle = submit(jobs, spec, jobs.reserve("key1-1"))
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
        (
            ground.shell("echo slice 3; sleep 600", duration=1.0),
            JobTimedOut,
            "limit of 1 s; its last words: slice 3",
        ),
    ]
    handles = [submit(jobs, spec, jobs.reserve(f"key{number}-1")) for number, (spec, _, _) in enumerate(wrong)]
    for (spec, error, said), handle in zip(wrong, handles, strict=True):
        status = failed(jobs, spec, handle)
        assert type(status.error) is error
        assert said in status.error.what


def test_a_job_that_the_shell_could_not_even_start_shows_slurms_log(ground: Ground) -> None:
    """Slurm calls it FAILED or COMPLETED; a job that left no report did not do its work."""
    container = Container(engine="podman-hpc", image="registry/als:1", volumes={"/data": "/no/such/directory"})
    jobs = replace(ground.jobs(), site=ground.site.model_copy(update={"container": container}))
    spec = ground.shell("true")
    status = failed(jobs, spec, submit(jobs, spec, jobs.reserve("key1-1")))
    assert type(status.error) is JobFailed
    assert "exit code 125" in status.error.what
    assert "/no/such/directory" in status.error.what
    assert "/no/such/directory" in str(status.evidence["log"])


ENDS: dict[str, type[OperationFailed]] = {
    "TIMEOUT": JobTimedOut,
    "OUT_OF_MEMORY": OutOfMemory,
    "NODE_FAIL": NodeFailed,
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
        spec = ground.shell(f"echo reading; echo slow disk >&2; touch {state}; sleep 600")
        handles[state] = spec, submit(jobs, spec, jobs.reserve(f"{state}-1"))
    until(lambda: all(ground.work(state).exists() for state in ENDS))
    for state, (_, handle) in handles.items():
        ground.control.end_job(handle.partition(" ")[0], state)
    for state, (spec, handle) in handles.items():
        status = failed(jobs, spec, handle)
        assert isinstance(status.error, ENDS[state]), status.error
        assert "perlmutter" in status.error.where
        assert "its last words: slow disk" in status.error.what
        assert (status.evidence["stdout"], status.evidence["stderr"]) == ("reading\n", "slow disk\n")
    assert ground.asked() == len(ENDS)


def test_a_job_that_never_began_is_not_waited_for(ground: Ground) -> None:
    ends: dict[str, type[OperationFailed]] = {"DEADLINE": JobNotStarted, "BOOT_FAIL": NodeFailed}
    ground.control.turn(held=True)
    jobs = ground.jobs(report=3600.0)
    spec = ground.shell("true")
    for state, error in ends.items():
        handle = submit(jobs, spec, jobs.reserve(f"{state}-1"))
        ground.control.end_job(handle.partition(" ")[0], state)
        status = jobs.poll(spec, handle)
        assert isinstance(status, Failed)
        assert type(status.error) is error


def test_a_waiting_job_is_cancelled_and_never_runs(ground: Ground) -> None:
    ground.control.turn(held=True)
    jobs = ground.jobs()
    spec = ground.shell("touch begun")
    handle = submit(jobs, spec, jobs.reserve("key1-1"))
    assert jobs.cancel(handle) is CancelAnswer.CANCELLED
    ground.control.turn(held=False)
    assert type(failed(jobs, spec, handle).error) is Cancelled
    assert not (ground.folder / "work" / "begun").exists()


def test_a_running_job_is_cancelled_with_what_it_started(ground: Ground) -> None:
    jobs = ground.jobs()
    spec = ground.shell("touch begun; trap '' TERM; while :; do date +%s%N > pulse; sleep 0.05; done")
    handle = started(ground, jobs, spec)
    assert jobs.cancel(handle) is CancelAnswer.CANCELLED
    assert not running(ground.work("pulse").parent)
    assert jobs.cancel(handle) is CancelAnswer.CANCELLED


def test_a_job_that_is_over_cannot_be_cancelled(ground: Ground) -> None:
    jobs = ground.jobs()
    spec = ground.shell("true")
    handle = submit(jobs, spec, jobs.reserve("key1-1"))
    ended(jobs, spec, handle)
    assert jobs.cancel(handle) is CancelAnswer.ALREADY_FINISHED


def test_many_jobs_are_asked_about_at_once(ground: Ground) -> None:
    jobs = ground.jobs()
    ground.control.turn(held=True)
    spec = ground.shell("true")
    waiting = [(spec, submit(jobs, spec, jobs.reserve(f"key{number}-1"))) for number in range(5)]
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
    waiting = [(spec, submit(jobs, spec, jobs.reserve(f"key{number}-1"))) for number in range(3)]
    jobs.poll_many(waiting)
    rule = ground.facility.client.faults.add("compute/jobs", "latency", times=0)
    assert set(jobs.poll_many(waiting)) == {handle for _, handle in waiting}
    assert {each.id: each.hits for each in ground.facility.client.faults.every()}[rule.id] == 1


def test_nothing_is_said_of_a_job_that_nobody_lists_until_it_is_lost(ground: Ground) -> None:
    spec = ground.shell("touch begun")
    jobs = ground.jobs(unknown=3600.0)
    token = jobs.reserve("key9-1")
    handle = f"99999 {token}"
    assert jobs.poll_many([(spec, handle)]) == {}
    assert isinstance(jobs.poll(spec, handle), Running)
    impatient = ground.jobs(unknown=0.0)
    assert set(impatient.poll_many([(spec, handle)])) == {handle}
    status = failed(impatient, spec, handle)
    assert type(status.error) is JobLost
    assert "neither to squeue nor to sacct" in status.error.what
    late = failed(jobs, spec, submit(jobs, spec, token))
    assert not ground.work("begun").exists(), "what was given up began all the same"
    assert type(late.error) is JobLost


def test_a_job_that_only_squeue_does_not_list_is_waited_for_to_the_end_of_its_walltime(ground: Ground) -> None:
    """An empty list is what is answered, too, where nobody could be asked."""
    nothing: Document = {"status": "OK", "output": [], "error": None}
    with late_proxy(ground.facility.url, "compute/jobs/.*sacct=false", instead=nothing) as (url, _):
        site = ground.site.model_copy(update={"api_url": ground.site.api_url.replace(ground.facility.url, url)})
        jobs = replace(ground.jobs(unknown=0.0), site=site)
        spec = ground.shell(UNTIL_GO, duration=3600.0)
        handle = started(ground, jobs, spec)
        for _ in range(2):
            status = jobs.poll(spec, handle)
            assert isinstance(status, Running)
            assert "sacct says RUNNING" in status.progress.note
        assert jobs.poll_many([(spec, handle)]) == {}
        ground.go()
        assert isinstance(ended(jobs, spec, handle), Succeeded)


def test_a_job_that_is_thought_lost_is_stopped_and_has_the_time_to_report(ground: Ground) -> None:
    """It may run all the same: nobody does its work again before its runner has noticed."""
    jobs = ground.jobs(unknown=0.0, report=60.0)
    spec = ground.shell("touch begun; echo slice 3; sleep 600")
    handle = started(ground, jobs, spec)
    ground.control.forget_job(handle.partition(" ")[0])
    cancelled = counted(ground, "DELETE .*/compute/jobs/")
    status = failed(jobs, spec, handle)
    assert type(status.error) is JobLost
    assert status.evidence["stdout"] == "slice 3\n"
    assert cancelled() == 1
    assert not running(ground.work("begun").parent)


OUT_OF_REACH = """#!/bin/sh
env -i PATH="$PATH" setsid {python} "$@" &
sleep 600
"""
"""An interpreter that Slurm can end, and with it nothing."""


@pytest.mark.parametrize("state", ["NODE_FAIL", "COMPLETED"])
def test_a_job_that_goes_on_where_slurm_lost_it_is_stopped_before_it_is_said_to_be_over(
    ground: Ground, state: str
) -> None:
    program = ground.folder / "python"
    program.write_text(OUT_OF_REACH.format(python=sys.executable))
    program.chmod(0o755)
    jobs = replace(ground.jobs(report=60.0), site=ground.site.model_copy(update={"python": str(program)}))
    spec = ground.shell("touch begun; sleep 600")
    handle = started(ground, jobs, spec)
    ground.control.end_job(handle.partition(" ")[0], state)
    status = failed(jobs, spec, handle)
    assert type(status.error) is (JobLost if state == "COMPLETED" else ENDS[state])
    assert json.loads(ground.left(handle, "report.json").read_text())["reason"] == "cancelled"
    assert not running(ground.work("begun").parent)


def test_threads_share_it(ground: Ground) -> None:
    jobs = ground.jobs()
    spec = ground.shell("true")
    found: dict[int, object] = {}

    def run(number: int) -> None:
        found[number] = ended(jobs, spec, submit(jobs, spec, jobs.reserve(f"key{number}-1")))

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
    token = jobs.reserve("key1-1")
    with pytest.raises(JobFailed, match="Invalid qos specification"):
        submit(jobs, spec, token)
    assert (ground.folder / "jobs" / token / "cancel").exists()


@pytest.mark.parametrize(
    "result",
    [
        {"status": "error", "error": "sbatch: error: Batch job submission failed: Message receive failure"},
        "not json",
    ],
)
def test_a_job_that_slurm_took_although_its_submission_failed_is_found(ground: Ground, result: Json) -> None:
    """Only what says for certain that Slurm has no job is a refusal; everything else is looked up."""
    (ground.folder / "jobs").mkdir()  # so that the submission is the only task
    text = result if isinstance(result, str) else json.dumps(result)
    told: Document = {"id": "1", "status": "completed", "result": text}
    with late_proxy(ground.facility.url, "GET .*/tasks/.", instead=told) as (url, _):
        site = ground.site.model_copy(update={"api_url": ground.site.api_url.replace(ground.facility.url, url)})
        jobs = replace(ground.jobs(settle=60.0), site=site)
        spec = ground.shell("true")
        token = jobs.reserve("key1-1")
        with pytest.raises(ServiceUnavailable, match="whether Slurm has the job is not known"):
            submit(jobs, spec, token)
        until(lambda: len(ground.real(token)) == 1)
        handle = submit(jobs, spec, token)
        assert isinstance(ended(jobs, spec, handle), Succeeded)
        assert ground.asked() == 1


def test_no_secret_is_in_a_text_form_or_a_script(ground: Ground) -> None:
    jobs = ground.jobs()
    spec = ground.shell("true")
    handle = submit(jobs, spec, jobs.reserve("key1-1"))
    ended(jobs, spec, handle)
    key = (ground.credentials.path_nersc_pri_key or ground.folder).read_text().splitlines()[1]
    assert key not in repr(jobs)
    assert all(key not in repr(value) for value in vars(jobs).values())


def test_what_a_job_left_is_removed_and_nothing_beside_it(ground: Ground) -> None:
    jobs = ground.jobs()
    spec = ground.shell("echo x > rec.tif", outputs=("rec.tif",))
    gone, kept = (submit(jobs, spec, jobs.reserve(key)) for key in ("gone-1", "kept-1"))
    assert all(isinstance(ended(jobs, spec, handle), Succeeded) for handle in (gone, kept))
    jobs.clear([Handle.parse(gone).token])
    left = sorted(path.name for path in (ground.folder / "jobs").iterdir())
    token = Handle.parse(kept).token
    assert left == [token, f"{token}.log"]
    jobs.clear([Handle.parse(gone).token])  # what is not there is no error
    with pytest.raises(InvalidInput, match="no token"):
        jobs.clear([f"../{token}"])
    assert sorted(path.name for path in (ground.folder / "jobs").iterdir()) == left


def test_what_a_job_made_outside_its_folder_is_removed_by_its_name(ground: Ground) -> None:
    made, kept = ground.folder / "made", ground.folder / "kept"
    for folder in (made, kept):
        folder.mkdir()
        for name in ("a b.json", "$(touch pwned).json"):
            (folder / name).write_text("{}")
    jobs = ground.jobs()
    for _ in range(2):  # what is not there is no error
        jobs.clear([], folders=[str(made)], files=[str(kept / "a b.json")])
    assert not made.exists()
    assert [path.name for path in kept.iterdir()] == ["$(touch pwned).json"]
    for path in ("/", "/tmp", "kept", f"{kept}/../jobs", f"{kept}/"):
        with pytest.raises(InvalidInput, match="no path below"):
            jobs.clear([], folders=[path])
    assert kept.exists()
