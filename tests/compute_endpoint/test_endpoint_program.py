"""The real endpoint program at the sandbox's facility, and tasks through the unmodified SDK."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import orchestration
from orchestration.sandbox.endpoint_program import EndpointProgram, running_endpoint
from orchestration.sandbox.testing import RunningFacility, endpoint_environment, running_facility

pytestmark = pytest.mark.compute_endpoint

PROGRAM = Path(__file__).with_name("compute_sdk_program.py")
ROOT = Path(orchestration.__file__).parent.parent

Submit = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture(scope="module")
def grounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("compute")


@pytest.fixture(scope="module")
def facility(grounds: Path, daemon_venv: Path) -> Iterator[RunningFacility]:
    with running_facility(grounds / "facility") as found:
        yield found


@pytest.fixture(scope="module")
def threads(grounds: Path, facility: RunningFacility, daemon_venv: Path) -> Iterator[EndpointProgram]:
    with running_endpoint(facility, grounds / "light", venv=daemon_venv, kind="non_compute") as program:
        yield program


@pytest.fixture(scope="module")
def workers(grounds: Path, facility: RunningFacility, daemon_venv: Path) -> Iterator[EndpointProgram]:
    values = {"BEAMLINE_SCIENCE": sys.prefix, "BEAMLINE_UMASK": "007", "BEAMLINE_WORKERS": "2"}
    with running_endpoint(facility, grounds / "jobs", venv=daemon_venv, values=values) as program:
        yield program


@pytest.fixture
def submit(grounds: Path, facility: RunningFacility) -> Iterator[Submit]:
    """Start a client that submits one function and waits for its result."""
    started: list[subprocess.Popen[str]] = []

    def submitted(
        endpoint: EndpointProgram, function: str, argument: str, options: dict[str, Any] | None = None
    ) -> subprocess.Popen[str]:
        variables = endpoint_environment(facility.url) | {"GLOBUS_COMPUTE_USER_DIR": str(grounds / "sdk")}
        client = subprocess.Popen(
            [sys.executable, str(PROGRAM), endpoint.id, function, argument, json.dumps(options or {})],
            env={"PATH": os.environ["PATH"], "HOME": str(grounds), **variables},
            stdout=subprocess.PIPE,
            text=True,
        )
        started.append(client)
        return client

    yield submitted
    for client in started:
        client.kill()
        client.communicate()


def told(client: subprocess.Popen[str], seconds: float = 120) -> Any:
    output, _ = client.communicate(timeout=seconds)
    return json.loads(output.splitlines()[-1])


def started(folder: Path, seconds: float = 120) -> None:
    until = time.monotonic() + seconds
    while not list(folder.glob("started-*")):
        assert time.monotonic() < until, "the task did not start"
        time.sleep(0.05)


def accepted(facility: RunningFacility, function: str, seconds: float = 120) -> None:
    """Wait until the program has acknowledged all such tasks: one that it has not would be given out again."""
    until = time.monotonic() + seconds
    while not all(one["accepted"] for one in facility.client.compute.tasks() if one["function"] == function):
        assert time.monotonic() < until, "the task was not acknowledged"
        time.sleep(0.05)


def test_a_task_returns_its_result(threads: EndpointProgram, submit: Submit) -> None:
    assert told(submit(threads, "double", "scan")) == {"result": "scanscan"}


def test_a_function_that_fails_returns_its_traceback(threads: EndpointProgram, submit: Submit) -> None:
    failed = told(submit(threads, "fail", "20260105_x.h5"))
    assert failed["error"] == "TaskExecutionFailed"
    assert "ValueError: no such scan: 20260105_x.h5" in failed["text"]


@pytest.mark.parametrize("kind", ["threads", "workers"])
def test_no_task_sees_what_the_endpoint_is_known_by(kind: str, submit: Submit, request: pytest.FixtureRequest) -> None:
    endpoint: EndpointProgram = request.getfixturevalue(kind)
    seen = told(submit(endpoint, "variables", ""))["result"]
    secret = endpoint_environment("")["GLOBUS_COMPUTE_CLIENT_SECRET"]
    assert secret
    assert secret not in "\n".join(seen.values())


def test_a_task_on_workers_has_the_science_environment(workers: EndpointProgram, submit: Submit) -> None:
    seen = told(submit(workers, "variables", ""))["result"]
    assert seen["PATH"].startswith(f"{sys.prefix}/bin:")
    assert seen["PYTHONNOUSERSITE"] == "1"


def test_a_task_that_kills_its_worker_takes_no_other_with_it(workers: EndpointProgram, submit: Submit) -> None:
    lost = told(submit(workers, "die", "3"))
    assert (lost["error"], "WorkerLost" in lost["text"]) == ("TaskExecutionFailed", True)
    assert told(submit(workers, "double", "ab")) == {"result": "abab"}


def test_options_that_the_endpoint_does_not_allow_fail_the_task_with_the_reason(
    workers: EndpointProgram, threads: EndpointProgram, submit: Submit
) -> None:
    refused = told(submit(workers, "double", "x", {"worker_init": "touch /tmp/owned"}))
    assert "Additional properties are not allowed ('worker_init' was unexpected)" in refused["text"]
    refused = told(submit(threads, "double", "x", {"nodes": 1}))
    assert "Additional properties are not allowed" in refused["text"]


def test_what_was_submitted_while_the_endpoint_was_down_runs_when_it_is_back(
    threads: EndpointProgram, submit: Submit, facility: RunningFacility
) -> None:
    threads.stop()
    before = len(facility.client.compute.tasks())
    client = submit(threads, "double", "late")
    until = time.monotonic() + 120
    while len(facility.client.compute.tasks()) == before:
        assert time.monotonic() < until, "nothing was submitted"
        time.sleep(0.05)
    threads.start()
    assert told(client) == {"result": "latelate"}


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_a_task_in_flight_when_its_endpoint_ends_is_not_answered_and_not_run_again(
    workers: EndpointProgram, submit: Submit, facility: RunningFacility, tmp_path: Path, end: str
) -> None:
    client = submit(workers, "hold", str(tmp_path))
    started(tmp_path)
    accepted(facility, "hold")
    getattr(workers, end)()
    workers.start()
    assert told(submit(workers, "double", "next")) == {"result": "nextnext"}
    assert client.poll() is None
    assert len(list(tmp_path.glob("started-*"))) == 1


def test_the_program_keeps_its_id_and_leaves_nothing_behind(
    facility: RunningFacility, daemon_venv: Path, tmp_path: Path, submit: Submit
) -> None:
    with running_endpoint(facility, tmp_path / "short", venv=daemon_venv, kind="non_compute") as program:
        first = program.id
        assert told(submit(program, "double", "x")) == {"result": "xx"}
        program.stop()
        program.start()
        assert program.id == first
    assert not _processes_below(tmp_path)


def _processes_below(folder: Path) -> list[str]:
    """The commands of processes that work in a folder, or write to a file in it."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            links = [os.readlink(process / "cwd"), *(os.readlink(each) for each in (process / "fd").iterdir())]
            command = (process / "cmdline").read_text()
        except OSError:
            continue
        if process.name != str(os.getpid()) and any(link.startswith(str(folder)) for link in links):
            found.append(command)
    return found
