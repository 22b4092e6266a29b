"""Jobs on this machine: real processes, really killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from orchestration.config import LocalSite, Settings
from orchestration.errors import Cancelled, InvalidInput, JobFailed, JobLost, JobNotStarted, JobTimedOut, OutputMissing
from orchestration.flows.services import Services
from orchestration.jobs import JobSpec, Output, OutputKind, Resources
from orchestration.ledger.service import CancelAnswer, Failed, Running, Status, Succeeded
from orchestration.local.jobs import LocalJobs
from orchestration.sandbox.testing import submit


@pytest.fixture
def jobs(tmp_path: Path) -> LocalJobs:
    return LocalJobs(folder=tmp_path / "jobs", slots=4, grace=0.5)


def python(
    code: str,
    tmp_path: Path,
    *arguments: str,
    duration: float = 30.0,
    outputs: tuple[Output, ...] = (),
    environment: dict[str, str] | None = None,
    cores: int = 1,
) -> JobSpec:
    return JobSpec(
        executable=sys.executable,
        arguments=("-S", "-c", textwrap.dedent(code), *arguments),
        directory=str(tmp_path / "work"),
        duration=duration,
        outputs=outputs,
        environment=environment or {},
        resources=Resources(cores=cores),
        name="reconstruct",
    )


def wait(jobs: LocalJobs, spec: JobSpec, token: str = "t1", *, seconds: float = 60.0) -> Status:
    end = time.monotonic() + seconds
    while isinstance(status := jobs.poll(spec, token), Running):
        assert time.monotonic() < end, status
        time.sleep(0.02)
    return status


def failure(status: Status) -> Exception:
    assert isinstance(status, Failed), status
    return status.error


def until(true: Callable[[], object], *, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_job_succeeds_with_its_exit_code_and_outputs_as_evidence(jobs: LocalJobs, tmp_path: Path) -> None:
    code = """
        import json, pathlib
        pathlib.Path("out.bin").write_bytes(b"x" * 10)
        pathlib.Path("slices/deep").mkdir(parents=True)
        for n in range(3):
            pathlib.Path(f"slices/deep/{n}.tif").write_bytes(b"tif")
        pathlib.Path("summary.json").write_text(json.dumps({"ok": 1}))
        print("done")
    """
    outputs = (
        Output(path="out.bin"),
        Output(path="slices", kind=OutputKind.DIRECTORY, pattern="**/*.tif", at_least=3),
        Output(path=str(tmp_path / "work" / "summary.json"), kind=OutputKind.JSON),
    )
    spec = python(code, tmp_path, outputs=outputs)

    handle = submit(jobs, spec, jobs.reserve("t1"))
    status = wait(jobs, spec, handle)

    assert isinstance(status, Succeeded), status
    assert status.evidence["code"] == 0
    assert status.evidence["stdout"] == "done\n"
    found = status.evidence["outputs"]
    assert isinstance(found, list)
    first, second, third = found
    assert isinstance(first, dict)
    assert isinstance(second, dict)
    assert isinstance(third, dict)
    assert (first["size"], len(str(first["sha256"]))) == (10, 64)
    assert (second["files"], second["size"]) == (3, 9)
    assert third["problem"] == ""


@pytest.mark.parametrize(
    ("output", "said"),
    [
        (Output(path="absent"), "was not written"),
        (Output(path="empty"), "is empty"),
        (Output(path="some", kind=OutputKind.DIRECTORY, at_least=3), "and has 1"),
        (Output(path="empty", kind=OutputKind.DIRECTORY), "was not written"),
        (Output(path="bad.json", kind=OutputKind.JSON), "not valid JSON"),
        (Output(path="old"), "was not written by this job"),
    ],
)
def test_exit_code_0_without_its_outputs_is_a_failure(
    jobs: LocalJobs, tmp_path: Path, output: Output, said: str
) -> None:
    code = """
        import pathlib
        pathlib.Path("empty").touch()
        pathlib.Path("bad.json").write_text("{")
        pathlib.Path("some").mkdir()
        pathlib.Path("some/a").write_text("a")
        pathlib.Path("some/b").touch()
    """
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "old").write_text("of an earlier job")
    spec = python(code, tmp_path, outputs=(output,))
    submit(jobs, spec, "t1")

    error = failure(wait(jobs, spec))

    assert isinstance(error, OutputMissing)
    assert said in str(error)


def test_a_failure_tells_exit_code_and_last_words(jobs: LocalJobs, tmp_path: Path) -> None:
    spec = python("raise SystemExit('no flat fields in this scan')", tmp_path)
    submit(jobs, spec, "t1")

    status = wait(jobs, spec)
    error = failure(status)

    assert isinstance(error, JobFailed)
    assert "reconstruct failed with exit code 1: no flat fields in this scan" in str(error)
    assert isinstance(status, Failed)
    assert "no flat fields" in str(status.evidence["stderr"])


def test_a_failure_tells_the_programs_own_error(jobs: LocalJobs, tmp_path: Path) -> None:
    code = """
        import json, os, sys
        told = {"type": "ScanUnreadable", "what": "no angles", "where": "scan.h5", "next_step": "scan again"}
        open(os.environ["ORCHESTRATION_ERROR_FILE"], "w").write(json.dumps(told))
        sys.exit(3)
    """
    spec = python(code, tmp_path)
    submit(jobs, spec, "t1")

    error = failure(wait(jobs, spec))

    assert isinstance(error, JobFailed)
    assert error.cause == "ScanUnreadable"
    assert "exit code 3: no angles (scan.h5). Next: scan again." in str(error)


def test_a_killed_program_is_told_by_its_signal(jobs: LocalJobs, tmp_path: Path) -> None:
    spec = python("import os; os.kill(os.getpid(), 11)", tmp_path)
    submit(jobs, spec, "t1")
    assert "signal SIGSEGV" in str(failure(wait(jobs, spec)))


def test_a_program_that_does_not_exist_is_told(jobs: LocalJobs, tmp_path: Path) -> None:
    spec = JobSpec(executable="/no/such program", directory=str(tmp_path), duration=5)
    submit(jobs, spec, "t1")
    error = failure(wait(jobs, spec))
    assert isinstance(error, JobFailed)
    assert "No such file or directory: /no/such program" in str(error)


def test_a_job_is_stopped_at_its_limit_with_all_its_processes(jobs: LocalJobs, tmp_path: Path) -> None:
    program = "trap '' TERM; echo slice 3; sleep 600 & echo $! > child; wait"
    spec = JobSpec(executable="/bin/sh", arguments=("-c", program), directory=str(tmp_path / "work"), duration=1.0)
    submit(jobs, spec, "t1")

    error = failure(wait(jobs, spec))

    assert isinstance(error, JobTimedOut)
    assert "its last words: slice 3" in str(error)
    assert not alive(int((tmp_path / "work" / "child").read_text()))


def test_cancel_reaches_the_job_and_its_children_and_is_confirmed(jobs: LocalJobs, tmp_path: Path) -> None:
    code = """
        import pathlib, subprocess, time
        pathlib.Path("child.tmp").write_text(str(subprocess.Popen(["sleep", "60"]).pid))
        pathlib.Path("child.tmp").rename("child")
        time.sleep(60)
    """
    spec = python(code, tmp_path)
    submit(jobs, spec, "t1")
    until((tmp_path / "work" / "child").exists)

    until(lambda: jobs.cancel("t1") is CancelAnswer.CANCELLED)

    assert isinstance(failure(wait(jobs, spec)), Cancelled)
    assert not alive(int((tmp_path / "work" / "child").read_text()))
    until(lambda: jobs.cancel("t1") is CancelAnswer.CANCELLED)
    assert jobs.cancel("never heard of") is CancelAnswer.UNKNOWN


def test_cancel_after_the_end_says_so(jobs: LocalJobs, tmp_path: Path) -> None:
    spec = python("pass", tmp_path)
    submit(jobs, spec, "t1")
    wait(jobs, spec)
    assert jobs.cancel("t1") is CancelAnswer.ALREADY_FINISHED


def test_two_submissions_and_many_supervisors_run_it_once(jobs: LocalJobs, tmp_path: Path) -> None:
    spec = python("open('runs', 'a').write('x'); import time; time.sleep(0.3)", tmp_path)
    assert jobs.find(spec, "t1") is None
    assert submit(jobs, spec, "t1") == submit(jobs, spec, "t1")
    assert jobs.find(spec, "t1") == "t1"
    command = [sys.executable, "-m", "orchestration.local.supervise", str(tmp_path / "jobs" / "t1")]
    others = [subprocess.Popen(command) for _ in range(3)]

    assert isinstance(wait(jobs, spec), Succeeded)
    assert [other.wait(timeout=10) for other in others] == [0, 0, 0]
    assert submit(jobs, spec, "t1") == "t1"
    assert isinstance(wait(jobs, spec), Succeeded)

    assert (tmp_path / "work" / "runs").read_text() == "x"


def test_it_goes_on_and_is_found_when_the_submitter_is_killed(jobs: LocalJobs, tmp_path: Path) -> None:
    spec = python("import time; time.sleep(0.5); open('runs', 'a').write('x')", tmp_path)
    run_killed(tmp_path, spec, "submit(jobs, spec, 't1'); kill()")

    assert jobs.find(spec, "t1") == "t1"
    assert isinstance(wait(jobs, spec), Succeeded)
    assert (tmp_path / "work" / "runs").read_text() == "x"


@pytest.mark.parametrize(
    "moment",
    [
        "module._launch = lambda job: kill()",  # the folder is there, nobody to look after it
        "Path.rename = lambda *_: kill()",  # before the folder is there
        "module.JobFolder.write = lambda *_: kill()",  # before its content is there
    ],
)
def test_killed_between_folder_and_start_it_runs_once(jobs: LocalJobs, tmp_path: Path, moment: str) -> None:
    spec = python("open('runs', 'a').write('x')", tmp_path)
    run_killed(tmp_path, spec, f"{moment}; submit(jobs, spec, 't1')")

    handle = jobs.find(spec, "t1") or submit(jobs, spec, "t1")

    assert isinstance(wait(jobs, spec, handle), Succeeded)
    assert (tmp_path / "work" / "runs").read_text() == "x"


def test_a_killed_supervisor_means_a_lost_job_that_does_not_run_on(jobs: LocalJobs, tmp_path: Path) -> None:
    code = """
        import pathlib, subprocess, time
        pathlib.Path("child.tmp").write_text(str(subprocess.Popen(["sleep", "60"]).pid))
        pathlib.Path("child.tmp").rename("child")
        time.sleep(60)
    """
    spec = python(code, tmp_path)
    submit(jobs, spec, "t1")
    until((tmp_path / "work" / "child").exists)
    until((tmp_path / "jobs" / "t1" / "child.json").exists)
    os.kill(json.loads((tmp_path / "jobs" / "t1" / "started.json").read_text())["pid"], signal.SIGKILL)

    assert isinstance(failure(wait(jobs, spec)), JobLost)
    assert isinstance(failure(jobs.poll(spec, "t1")), JobLost)
    assert not alive(int((tmp_path / "work" / "child").read_text()))


def test_a_program_that_tidies_up_when_the_machine_goes_down_did_not_end_by_itself(
    jobs: LocalJobs, tmp_path: Path
) -> None:
    code = """
        import os, signal, sys, time
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        with open("part", "w") as file: file.write(str(os.getpid()))
        os.rename("part", "pid")
        time.sleep(600)
    """
    spec = python(code, tmp_path)
    submit(jobs, spec, "t1")
    until((tmp_path / "work" / "pid").exists)
    os.kill(json.loads((tmp_path / "jobs" / "t1" / "started.json").read_text())["pid"], signal.SIGTERM)
    os.kill(int((tmp_path / "work" / "pid").read_text()), signal.SIGTERM)

    assert isinstance(failure(wait(jobs, spec)), JobLost)


def test_a_supervisor_that_fails_itself_leaves_a_lost_job_and_a_log(jobs: LocalJobs, tmp_path: Path) -> None:
    spec = python("import os, time; os.mkdir('began')\nwhile not os.path.exists('go'): time.sleep(0.02)", tmp_path)
    submit(jobs, spec, "t1")
    until((tmp_path / "work" / "began").exists)
    job = tmp_path / "jobs" / "t1"
    supervisor = json.loads((job / "started.json").read_text())["pid"]
    (job / f".exit.json.{supervisor}").mkdir()  # where it will want to write how the job ended
    (tmp_path / "work" / "go").touch()

    assert isinstance(failure(wait(jobs, spec)), JobLost)
    assert "IsADirectoryError" in (job / "supervisor.log").read_text()


def test_a_supervisor_killed_while_queued_is_replaced(jobs: LocalJobs, tmp_path: Path) -> None:
    blocker = python("import time; time.sleep(60)", tmp_path, cores=4)
    submit(jobs, blocker, "blocker")
    until((tmp_path / "jobs" / "blocker" / "started.json").exists)
    spec = python("open('runs', 'a').write('x')", tmp_path)
    submit(jobs, spec, "t1")
    status = jobs.poll(spec, "t1")
    assert isinstance(status, Running)
    assert status.progress.note == "queued"
    until(lambda: supervisors(tmp_path / "jobs" / "t1"))
    for pid in supervisors(tmp_path / "jobs" / "t1"):
        os.kill(pid, signal.SIGKILL)
    until(lambda: jobs.cancel("blocker") is CancelAnswer.CANCELLED)

    assert isinstance(wait(jobs, spec), Succeeded)
    assert (tmp_path / "work" / "runs").read_text() == "x"


def test_a_queued_job_can_be_cancelled_and_never_runs(jobs: LocalJobs, tmp_path: Path) -> None:
    blocker = python("import time; time.sleep(60)", tmp_path, cores=99)
    submit(jobs, blocker, "blocker")
    until((tmp_path / "jobs" / "blocker" / "started.json").exists)
    spec = python("open('ran', 'w')", tmp_path)
    submit(jobs, spec, "t1")

    until(lambda: jobs.cancel("t1") is CancelAnswer.CANCELLED)
    assert isinstance(failure(wait(jobs, spec)), Cancelled)
    until(lambda: jobs.cancel("blocker") is CancelAnswer.CANCELLED)
    assert not (tmp_path / "work" / "ran").exists()


def test_no_more_jobs_than_places_run_at_once_and_each_on_processors_of_its_own(tmp_path: Path) -> None:
    jobs = LocalJobs(folder=tmp_path / "jobs", slots=2)
    code = """
        import json, os, time
        with open("part" + str(os.getpid()), "w") as file:
            json.dump(sorted(os.sched_getaffinity(0)), file)
        os.rename(file.name, f"running-{os.getpid()}")
        while not os.path.exists("go"): time.sleep(0.02)
    """
    spec = python(code, tmp_path)
    for number in range(3):
        submit(jobs, spec, f"t{number}")
    until(lambda: len(list((tmp_path / "work").glob("running-*"))) == 2)
    until(lambda: all(supervisors(tmp_path / "jobs" / f"t{number}") for number in range(3)))
    assert sorted(queued(jobs, spec, f"t{number}") for number in range(3)) == [False, False, True]

    used = [json.loads(file.read_text()) for file in (tmp_path / "work").glob("running-*")]
    assert [len(processors) for processors in used] == [1, 1]
    assert (used[0] == used[1]) is (len(os.sched_getaffinity(0)) == 1)

    (tmp_path / "work" / "go").touch()
    for number in range(3):
        assert isinstance(wait(jobs, spec, f"t{number}"), Succeeded)


def test_a_job_has_its_share_of_the_memory_and_takes_the_places_that_go_with_it(tmp_path: Path) -> None:
    jobs = LocalJobs(folder=tmp_path / "jobs", slots=4, memory=4 * 2**30)
    code = """
        import os, resource, time
        print(resource.getrlimit(resource.RLIMIT_DATA)[0] / 2**30, flush=True)
        while not os.path.exists("go"): time.sleep(0.02)
        try:
            bytes(3 * 2**30)
        except MemoryError:
            print("no more")
    """
    small = python(code, tmp_path)
    large = replace(small, resources=Resources(memory=5 * 2**29))  # 2.5 GiB: three of four places
    submit(jobs, large, "large")
    submit(jobs, small, "small")
    until(lambda: all((tmp_path / "jobs" / name / "started.json").exists() for name in ("large", "small")))
    submit(jobs, small, "another")
    until(lambda: supervisors(tmp_path / "jobs" / "another"))
    assert queued(jobs, small, "another")
    (tmp_path / "work" / "go").touch()
    for name, limit in (("large", "2.5"), ("small", "1.0"), ("another", "1.0")):
        status = wait(jobs, small, name)
        assert isinstance(status, Succeeded)
        assert status.evidence["stdout"] == f"{limit}\nno more\n"


def test_a_job_that_gets_no_place_in_time_never_begins(jobs: LocalJobs, tmp_path: Path) -> None:
    submit(jobs, python("import time; time.sleep(600)", tmp_path, cores=4), "blocker")
    until((tmp_path / "jobs" / "blocker" / "started.json").exists)
    spec = replace(python("open('ran', 'w')", tmp_path), start_within=0.1)
    submit(jobs, spec, "t1")
    error = failure(wait(jobs, spec))
    assert isinstance(error, JobNotStarted)
    until(lambda: jobs.cancel("blocker") is CancelAnswer.CANCELLED)
    assert not (tmp_path / "work" / "ran").exists()


def test_the_settings_of_a_site_are_the_limits_of_its_jobs() -> None:
    words = {"name": "here", "kind": "local", "raw_endpoint": "raw", "scratch_endpoint": "scratch"}
    found = Services(Settings()).jobs(LocalSite.model_validate({**words, "cores": 3, "memory": "6GiB"}))
    assert isinstance(found, LocalJobs)
    assert (found.slots, found.memory) == (3, 6 * 2**30)
    assert found.folder == Services(Settings()).local_jobs.folder


def test_progress_is_what_the_program_last_said(jobs: LocalJobs, tmp_path: Path) -> None:
    code = """
        import os, pathlib, time
        with open(os.environ["ORCHESTRATION_PROGRESS_FILE"], "a") as file:
            file.write('{"done": 1, "total": 9, "note": "slices"}\\n{"done": 4, "total": 9, "note": "slices"}\\n{"do')
        pathlib.Path("told").touch()
        time.sleep(60)
    """
    spec = python(code, tmp_path)
    submit(jobs, spec, "t1")
    until((tmp_path / "work" / "told").exists)

    status = jobs.poll(spec, "t1")

    assert isinstance(status, Running)
    assert (status.progress.files_done, status.progress.files_total, status.progress.note) == (4, 9, "slices")
    until(lambda: jobs.cancel("t1") is CancelAnswer.CANCELLED)


def test_arguments_arrive_as_they_are_and_credentials_do_not(
    jobs: LocalJobs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GLOBUS_CLIENT_SECRET", "s3cret")
    hostile = ("$(touch hacked)", "-x", "a 'b\" c", "ü\nnewline", ";true", "")
    code = """
        import json, os, sys
        json.dump({"arguments": sys.argv[1:], "environment": dict(os.environ)}, open("out.json", "w"))
    """
    spec = python(
        code,
        tmp_path,
        *hostile,
        environment={"SCAN": "1 'x'"},
        outputs=(Output(path="out.json", kind=OutputKind.JSON),),
    )
    submit(jobs, spec, "t1")
    assert isinstance(wait(jobs, spec), Succeeded)

    told = json.loads((tmp_path / "work" / "out.json").read_text())

    assert tuple(told["arguments"]) == hostile
    assert told["environment"]["SCAN"] == "1 'x'"
    assert "GLOBUS_CLIENT_SECRET" not in told["environment"]
    assert not (tmp_path / "work" / "hacked").exists()


def test_a_background_process_does_not_outlive_its_job(jobs: LocalJobs, tmp_path: Path) -> None:
    code = "import subprocess; open('child', 'w').write(str(subprocess.Popen(['sleep', '60']).pid))"
    spec = python(code, tmp_path)
    submit(jobs, spec, "t1")
    assert isinstance(wait(jobs, spec), Succeeded)
    assert not alive(int((tmp_path / "work" / "child").read_text()))


def test_a_job_that_the_machine_forgot_is_lost(jobs: LocalJobs, tmp_path: Path) -> None:
    spec = python("pass", tmp_path)
    assert isinstance(failure(jobs.poll(spec, "t1")), JobLost)
    submit(jobs, spec, "t1")
    wait(jobs, spec)
    assert jobs.clean(older_than=60) == 0
    assert jobs.clean(older_than=-1) == 1
    assert isinstance(failure(jobs.poll(spec, "t1")), JobLost)


def test_what_is_cleaned_is_neither_wanted_nor_going_on(jobs: LocalJobs, tmp_path: Path) -> None:
    """Also what never ended: its supervisor was killed, and nobody asked about it again."""
    over, long = python("pass", tmp_path), python("import time; time.sleep(600)", tmp_path)
    submit(jobs, over, "over")
    submit(jobs, over, "wanted")
    for token in ("over", "wanted"):
        wait(jobs, over, token)
    submit(jobs, long, "goes on")
    submit(jobs, long, "lost")
    folder = jobs._job("lost").path
    until((folder / "child.json").exists)
    os.kill(json.loads((folder / "started.json").read_text())["pid"], signal.SIGKILL)
    until(lambda: not jobs._job("lost").attended())
    (tmp_path / "jobs" / ".new-abandoned").mkdir()
    until((jobs._job("goes on").path / "started.json").exists)

    assert jobs.clean(older_than=3600, keep=["wanted"]) == 0
    assert jobs.clean(older_than=-1, keep=["wanted"]) == 3
    assert isinstance(jobs.poll(long, "goes on"), Running)
    assert isinstance(jobs.poll(over, "wanted"), Succeeded)
    until(lambda: jobs.cancel("goes on") is CancelAnswer.CANCELLED)
    assert {path.name for path in (tmp_path / "jobs").iterdir()} == {".slots", "wanted", jobs._job("goes on").path.name}


def test_two_that_clean_at_once_are_not_in_each_others_way(jobs: LocalJobs, tmp_path: Path) -> None:
    for number in range(100):
        (tmp_path / "jobs" / f"t{number}" / "deep").mkdir(parents=True)
        (tmp_path / "jobs" / f"t{number}" / "exit.json").write_text("{}")
    with ThreadPoolExecutor(4) as pool:
        removed = list(pool.map(lambda _: jobs.clean(older_than=-1.0), range(4)))
    assert sum(removed) == 100
    assert [path.name for path in (tmp_path / "jobs").iterdir()] == [".slots"]


def test_any_token_names_a_folder_below_the_root(jobs: LocalJobs, tmp_path: Path) -> None:
    spec = python("pass", tmp_path)
    for token in ("../../outside", "a/b", "", "x" * 300, ".slots"):
        assert isinstance(wait(jobs, spec, submit(jobs, spec, token)), Succeeded)
    assert {path.name for path in tmp_path.iterdir()} == {"jobs", "work"}


def test_containers_and_impossible_jobs_are_refused(jobs: LocalJobs, tmp_path: Path) -> None:
    spec = JobSpec(executable="true", directory=str(tmp_path), duration=1, container="tomo:1")
    with pytest.raises(InvalidInput, match="does not run"):
        submit(jobs, spec, "t1")
    for wrong in ({"directory": "relative"}, {"executable": ""}, {"duration": 0.0}, {"arguments": ("a\0b",)}):
        whole: dict[str, object] = {"executable": "true", "directory": "/tmp", "duration": 1.0} | wrong
        with pytest.raises(InvalidInput):
            JobSpec(**whole)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput):
        Resources(cores=0)


def test_equal_jobs_have_equal_documents_whatever_they_are_called(tmp_path: Path) -> None:
    one = JobSpec(executable="x", directory="/w", duration=1, environment={"A": "1", "B": "2"}, name="one")
    two = JobSpec(executable="x", directory="/w", duration=1, environment={"B": "2", "A": "1"}, name="two")
    assert json.dumps(one.document()) == json.dumps(two.document())


def queued(jobs: LocalJobs, spec: JobSpec, token: str) -> bool:
    status = jobs.poll(spec, token)
    assert isinstance(status, Running)
    return status.queued


def supervisors(job: Path) -> list[int]:
    """The processes that look after a job; not one that is only about to be."""
    found = []
    for process in Path("/proc").iterdir():
        with suppress(OSError):
            if (process / "cmdline").read_bytes().endswith(f"supervise\0{job}\0".encode()):
                found.append(int(process.name))
    return found


def alive(pid: int) -> bool:
    """Whether the process runs; one that is dead but not yet reaped does not."""
    end = time.monotonic() + 2.0
    while time.monotonic() < end:
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            return False
        if state in "ZX":
            return False
        time.sleep(0.02)
    return True


def run_killed(tmp_path: Path, spec: JobSpec, action: str) -> None:
    """Do `action` in a process that kills itself without warning."""
    code = f"""
        import os, signal
        from pathlib import Path
        import orchestration.local.jobs as module
        from orchestration.jobs import *
        from orchestration.sandbox.testing import submit
        kill = lambda: os.kill(os.getpid(), signal.SIGKILL)
        jobs = module.LocalJobs(folder=Path({str(tmp_path / "jobs")!r}), slots=4)
        spec = {spec!r}
        {action}
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
