"""Jobs by the IRI API, in both versions: how they end, and how they are stopped."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest
from iri_ground import QUICK, Ground, ended, failure, until

from orchestration.errors import (
    Cancelled,
    InvalidInput,
    JobFailed,
    JobLost,
    JobNotStarted,
    JobTimedOut,
    OrchestrationError,
    OutOfMemory,
    OutputMissing,
)
from orchestration.iri.jobs import IriJobs
from orchestration.jobs import JobSpec, Output, OutputKind, Resources
from orchestration.ledger.service import BulkService, CancelAnswer, Failed, Running, Service, Succeeded
from orchestration.sandbox.testing import submit


def begun(ground: Ground, jobs: IriJobs, spec: JobSpec) -> str:
    """The handle of a job whose program runs."""
    handle = submit(jobs, spec, ground.token(jobs))
    until(lambda: ground.runs == 1)
    return handle


def test_it_is_a_service_that_may_be_waited_for_elsewhere(ground: Ground, version: int) -> None:
    jobs: Service[JobSpec] = ground.jobs(version)
    assert isinstance(jobs, BulkService)
    assert jobs.name == "iri.jobs@iri"


def test_a_job_runs_once_and_is_proved_by_its_report(ground: Ground, version: int) -> None:
    jobs, spec = ground.jobs(version), ground.spec(resources=Resources(cores=4, processes_per_node=2, memory=10**9))
    token = ground.token(jobs)
    ground.control.hold()
    handle = submit(jobs, spec, token)
    waiting = jobs.poll(spec, handle)
    assert isinstance(waiting, Running)
    assert "queue" in waiting.progress.note
    time.sleep(0.2)
    ground.control.hold(held=False)
    done = ended(jobs, spec, handle)
    assert isinstance(done, Succeeded)
    assert (done.evidence["exit_code"], done.evidence["facility_state"]) == (0, "completed")
    queued, ran = done.evidence["queue_seconds"], done.evidence["run_seconds"]
    assert isinstance(queued, float)
    assert isinstance(ran, float)
    assert queued >= 0.2
    assert ran > 0.0
    assert jobs.find(spec, token) == handle
    assert ground.jobs(version).find(spec, token) == handle
    assert (ground.runs, ground.submitted()) == (1, 1)


def test_hostile_words_reach_the_program_as_they_are(ground: Ground) -> None:
    words = ["$(touch pwned)", "; touch pwned #", "it's", '"', "a\nb", "µ", "-n", ""]
    code = "import sys, json; json.dump(sys.argv[1:], open('words.json', 'w'))"
    spec = ground.spec(
        arguments=("-S", "-c", code, *words),
        directory=str(ground.folder / "it's a $(folder)"),
        environment={"WORD": "$(touch pwned)"},
        outputs=(Output(path="words.json", kind=OutputKind.JSON),),
    )
    jobs = ground.jobs(2)
    done = ended(jobs, spec, submit(jobs, spec, ground.token(jobs)))
    assert isinstance(done, Succeeded)
    assert done.evidence["outputs"][0]["content"] == words  # type: ignore[index, call-overload]
    assert not list(ground.folder.rglob("pwned"))


@pytest.mark.parametrize(
    ("code", "changes", "error", "words"),
    [
        ("import sys; sys.stderr.write('no beam'); sys.exit(3)", {}, JobFailed, "exit code 3: no beam"),
        ("", {}, OutputMissing, "was not written"),
        ("import time; time.sleep(30)", {"duration": 0.3}, JobTimedOut, "stopped after its limit"),
        ("", {"executable": "/no/such/program"}, JobFailed, "could not be started"),
        ("import os; os.kill(os.getpid(), 9)", {}, JobFailed, "SIGKILL"),
    ],
    ids=["exit code", "no output", "too long", "no program", "killed"],
)
def test_what_the_runner_tells_of_a_failure(
    ground: Ground, code: str, changes: dict[str, Any], error: type[OrchestrationError], words: str
) -> None:
    jobs, spec = ground.jobs(2), ground.spec(code, **changes)
    failed = failure(ended(jobs, spec, submit(jobs, spec, ground.token(jobs))))
    assert type(failed.error) is error
    assert words in failed.error.sentence


def test_a_job_that_begins_too_late_does_not_begin(ground: Ground) -> None:
    jobs, spec = ground.jobs(2), ground.spec(start_within=0.1)
    ground.control.hold()
    handle = submit(jobs, spec, ground.token(jobs))
    time.sleep(0.2)
    ground.control.hold(held=False)
    assert isinstance(failure(ended(jobs, spec, handle)).error, JobNotStarted)
    assert ground.runs == 0


def test_programs_of_another_version_are_not_run(ground: Ground) -> None:
    jobs, spec = ground.jobs(2, science_version="0.0.9"), ground.spec()
    error = failure(ended(jobs, spec, submit(jobs, spec, ground.token(jobs)))).error
    assert isinstance(error, JobFailed)
    assert (error.cause, ground.runs) == ("VersionMismatch", 0)


@pytest.mark.parametrize(
    ("state", "error"),
    [
        ("TIMEOUT", JobTimedOut),
        ("OUT_OF_MEMORY", OutOfMemory),
        ("FAILED", JobFailed),
    ],
)
def test_why_a_running_job_was_stopped(ground: Ground, state: str, error: type[OrchestrationError]) -> None:
    jobs, spec = ground.jobs(2), ground.spec("import time; time.sleep(30)")
    handle = begun(ground, jobs, spec)
    ground.control.end(handle.partition("@")[0], state)
    failed = failure(ended(jobs, spec, handle))
    assert isinstance(failed.error, error)
    assert "test" in failed.error.what
    assert ground.alive() == []


@pytest.mark.parametrize(("state", "error"), [("CANCELLED", Cancelled), ("DEADLINE", JobNotStarted)])
def test_why_a_waiting_job_never_began(ground: Ground, state: str, error: type[OrchestrationError]) -> None:
    jobs, spec = ground.jobs(2), ground.spec()
    ground.control.hold()
    handle = submit(jobs, spec, ground.token(jobs))
    ground.control.end(handle.partition("@")[0], state)
    assert isinstance(failure(ended(jobs, spec, handle)).error, error)
    assert ground.runs == 0


def test_a_job_that_is_over_without_a_report_has_not_succeeded(ground: Ground) -> None:
    jobs, spec = ground.jobs(2, python="/bin/true"), ground.spec()
    failed = failure(ended(jobs, spec, submit(jobs, spec, ground.token(jobs))))
    assert isinstance(failed.error, OutputMissing)
    assert "left no report" in failed.error.what


def test_what_jobs_left_is_removed_and_nothing_beside_it(ground: Ground, version: int) -> None:
    jobs, spec = ground.jobs(version), ground.spec()
    tokens = [jobs.reserve(f"{ground.folder.name}-{number}") for number in range(2)]
    for token in tokens:
        assert isinstance(ended(jobs, spec, submit(jobs, spec, token)), Succeeded)
    jobs.clear(tokens[:1])
    kept = sorted(path.name for path in (ground.folder / "jobs").iterdir())
    assert kept == [tokens[1], f"{tokens[1]}.err", f"{tokens[1]}.out"]
    jobs.clear(tokens[:1])  # what is not there is no error
    with pytest.raises(InvalidInput, match="no token"):
        jobs.clear([f"../jobs/{tokens[1]}"])
    assert sorted(path.name for path in (ground.folder / "jobs").iterdir()) == kept


def test_what_a_job_made_outside_its_folder_is_removed_by_its_name(ground: Ground, version: int) -> None:
    jobs = ground.jobs(version)
    made, kept = ground.folder / "made", ground.folder / "kept"
    for folder in (made, kept):
        folder.mkdir()
        for name in ("a.json", "b.json"):
            (folder / name).write_text("{}")
    for _ in range(2):  # what is not there is no error
        jobs.clear([], folders=[str(made)], files=[str(kept / "a.json")])
    assert not made.exists()
    assert [path.name for path in kept.iterdir()] == ["b.json"]
    with pytest.raises(InvalidInput, match="no path below"):
        jobs.clear([], files=[f"{kept}/../jobs"])


def test_what_the_facility_refuses_is_told_in_its_words(ground: Ground, version: int) -> None:
    jobs = ground.jobs(version, account="them")
    with pytest.raises(JobFailed, match="Invalid account 'them'"):
        submit(jobs, ground.spec(), ground.token(jobs))
    with pytest.raises(JobFailed, match="no resource 'aurora'; it has cluster, scratch"):
        submit(ground.jobs(version, resource="aurora"), ground.spec(), "token")
    assert ground.submitted() == 0


def test_the_resource_may_be_named_by_its_identifier(ground: Ground) -> None:
    jobs = ground.jobs(2)
    by_id = ground.jobs(2, resource=jobs.client.resource("cluster"), storage="scratch")
    assert isinstance(ended(by_id, ground.spec(), submit(by_id, ground.spec(), ground.token(by_id))), Succeeded)


def test_a_job_is_cancelled_while_it_waits(ground: Ground) -> None:
    jobs, spec = ground.jobs(1), ground.spec()
    ground.control.hold()
    handle = submit(jobs, spec, ground.token(jobs))
    answers = [jobs.cancel(handle)]
    while answers[-1] is CancelAnswer.UNKNOWN and len(answers) < 50:
        answers.append(jobs.cancel(handle))
    assert answers[-1] is CancelAnswer.CANCELLED
    ground.control.hold(held=False)
    assert isinstance(failure(ended(jobs, spec, handle)).error, Cancelled)
    assert (ground.alive(), ground.runs) == ([], 0)


def test_a_job_is_cancelled_while_it_runs(ground: Ground) -> None:
    jobs, spec = ground.jobs(2), ground.spec("import time; time.sleep(30)")
    handle = begun(ground, jobs, spec)
    until(lambda: jobs.cancel(handle) is CancelAnswer.CANCELLED)
    assert isinstance(failure(ended(jobs, spec, handle)).error, Cancelled)
    assert ground.alive() == []


def test_a_job_that_is_over_cannot_be_cancelled(ground: Ground) -> None:
    jobs, spec = ground.jobs(2), ground.spec()
    handle = submit(jobs, spec, ground.token(jobs))
    assert isinstance(ended(jobs, spec, handle), Succeeded)
    assert jobs.cancel(handle) is CancelAnswer.ALREADY_FINISHED
    assert jobs.cancel("12345@token") is CancelAnswer.UNKNOWN
    assert isinstance(jobs.poll(spec, handle), Succeeded)


def test_in_the_first_version_all_jobs_of_a_name_are_cancelled(ground: Ground) -> None:
    jobs, spec = ground.jobs(1), ground.spec("import time; time.sleep(30)")
    token = ground.token(jobs)
    ground.control.hold()
    handles = [submit(jobs, spec, token), submit(jobs, spec, token)]
    until(lambda: jobs.cancel(handles[0]) is CancelAnswer.CANCELLED)
    until(lambda: ground.alive() == [])


def test_of_two_jobs_of_one_name_one_does_the_work(ground: Ground) -> None:
    jobs, spec = ground.jobs(1), ground.spec("import time; time.sleep(0.5); open('out', 'w').write('x')")
    token = ground.token(jobs)
    handles = [submit(jobs, spec, token), submit(jobs, spec, token)]
    assert all(isinstance(ended(jobs, spec, handle), Succeeded) for handle in handles)
    assert (ground.runs, ground.submitted()) == (1, 2)


def test_many_jobs_are_asked_about_in_one_request(ground: Ground, version: int) -> None:
    jobs = ground.jobs(version)
    ground.control.hold()
    specs = [ground.spec(directory=str(ground.folder / f"work{number}")) for number in range(3)]
    items = [(spec, submit(jobs, spec, ground.token(jobs) + str(number))) for number, spec in enumerate(specs)]
    asked: list[str] = []
    jobs.client._http.event_hooks["request"].append(lambda request: asked.append(request.url.path))
    assert all(isinstance(each, Running) for each in jobs.poll_many(items).values())
    assert len(asked) == 1
    ground.control.hold(held=False)
    until(lambda: all(isinstance(each, Succeeded) for each in jobs.poll_many(items).values()))
    assert jobs.poll_many([]) == {}


def test_where_there_is_no_such_list_they_are_asked_about_one_by_one(ground: Ground, version: int) -> None:
    ground.control.turn(filters=False)
    jobs, spec = ground.jobs(version), ground.spec()
    token = ground.token(jobs)
    handle = submit(jobs, spec, token)
    until(lambda: isinstance(jobs.poll_many([(spec, handle)])[handle], Succeeded))
    assert jobs.find(spec, token) == handle


def test_of_a_job_that_nobody_knows_it_is_said_after_a_while(ground: Ground) -> None:
    jobs, spec = ground.jobs(2, patience=replace(QUICK, unknown=3600.0)), ground.spec()
    handle = f"4711@{ground.token(jobs)}"
    assert jobs.poll_many([(spec, handle)]) == {}
    assert isinstance(jobs.poll(spec, handle), Running)
    jobs._memory.clock = lambda: time.monotonic() + 4000.0
    assert isinstance(jobs.poll_many([(spec, handle)])[handle], Failed)
    assert isinstance(failure(jobs.poll(spec, handle)).error, JobLost)
    with pytest.raises(InvalidInput):
        jobs.poll(spec, "no handle")
