"""scripts/cancel_sfapi_job.py, as somebody runs it."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
from nersc_ground import Ground, until

from orchestration.sandbox.testing import submit

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Done:
    returncode: int
    stdout: str
    stderr: str


Run = Callable[..., Done]


@pytest.fixture
def run(ground: Ground, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    words = ground.facility.nersc_environment() | {"BEAMLINE_ENV_FILE": ""}
    for name, value in words.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(ground.folder)
    path = ROOT / "scripts" / "cancel_sfapi_job.py"
    found = spec_from_file_location("cancel_sfapi_job", path)
    assert found is not None
    assert found.loader is not None
    module = module_from_spec(found)
    monkeypatch.setattr(sys, "path", list(sys.path))
    found.loader.exec_module(module)

    def start(*asked: str, answer: str = "") -> Done:
        monkeypatch.setattr(sys, "argv", [str(path), "--config", str(ROOT / "config.yml"), *asked])
        monkeypatch.setattr(sys, "stdin", io.StringIO(answer))
        code = module.main()
        said = capsys.readouterr()
        return Done(code, said.out, said.err)

    return start


def waiting(ground: Ground, token: str) -> str:
    ground.control.turn(held=True)
    jobs = ground.jobs()
    return submit(jobs, ground.shell("true"), jobs.reserve(token)).partition(" ")[0]


def states(ground: Ground) -> dict[str, bool]:
    """By number: whether it is over."""
    return {job.id: job.over for job in ground.control.jobs()}


def somebody_elses_script(ground: Ground) -> str:
    """A job of the same account that is not one of this service."""
    calls = ground.jobs()._calls
    calls.submit("#!/bin/bash\n#SBATCH --constraint=cpu --qos=realtime --job-name=notebook\nsleep 30\n")
    until(lambda: any(job.name == "notebook" for job in ground.control.jobs()))  # the API gives it to Slurm by a task
    return next(job.id for job in ground.control.jobs() if job.name == "notebook")


def test_those_of_this_service_are_cancelled_by_how_their_key_begins(ground: Ground, run: Run) -> None:
    first, second = waiting(ground, "aa-1"), waiting(ground, "bb-1")
    notebook = somebody_elses_script(ground)
    listed = run()
    assert (listed.returncode, listed.stdout.splitlines()[-1]) == (0, "2 jobs")
    assert notebook not in listed.stdout
    done = run("--ours=aa", "--yes")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"{first}: cancelled" in done.stdout
    assert states(ground) == {first: True, second: False, notebook: False}
    assert run("--ours", "--yes").returncode == 0
    assert states(ground) == {first: True, second: True, notebook: False}


def test_nothing_is_cancelled_without_a_yes(ground: Ground, run: Run) -> None:
    number = waiting(ground, "aa-1")
    assert run(number, answer="n\n").returncode == 0
    assert "--yes" in run(number).stdout
    assert states(ground) == {number: False}
    assert f"{number}: cancelled" in run(number, answer="y\n").stdout


def test_a_number_that_is_no_job_of_this_account_cancels_nothing(ground: Ground, run: Run) -> None:
    number = waiting(ground, "aa-1")
    done = run(number, "424242", "--yes")
    assert done.returncode == 1
    assert "no job 424242 of this account" in done.stderr
    assert states(ground) == {number: False}
