"""scripts/cancel_sfapi_job.py, as somebody runs it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from nersc_ground import Ground

ROOT = Path(__file__).parents[2]

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(ground: Ground) -> Run:
    def start(*words: str, answer: str = "") -> subprocess.CompletedProcess[str]:
        found = ground.facility.nersc_environment() | {
            "PATH": "/usr/bin:/bin",
            "SFAPI_API_URL": ground.site.api_url,
            "SFAPI_TOKEN_URL": ground.site.token_url,
            "BEAMLINE_ENV_FILE": "",
        }
        return subprocess.run(
            [sys.executable, ROOT / "scripts/cancel_sfapi_job.py", "--config", ROOT / "config.yml", *words],
            env=found,
            cwd=ground.folder,
            input=answer,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return start


def waiting(ground: Ground, token: str) -> str:
    ground.control.turn(held=True)
    jobs = ground.jobs()
    return jobs.submit(ground.shell("true"), jobs.reserve(token)).partition(" ")[0]


def states(ground: Ground) -> dict[str, bool]:
    """By number: whether it is over."""
    return {job.id: job.over for job in ground.control.jobs()}


def somebody_elses_script(ground: Ground) -> str:
    """A job of the same account that is not one of this service."""
    calls = ground.jobs()._calls
    calls.submit("#!/bin/bash\n#SBATCH --constraint=cpu --qos=realtime --job-name=notebook\nsleep 30\n")
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
