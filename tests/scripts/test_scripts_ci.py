"""What CI runs leaves nothing behind when it fails, and takes nothing for passed that has not run."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from orchestration.sandbox import processes

PROJECT = Path(__file__).parents[2]

SUITE = """
trap 'if [ -d "$1" ]; then touch ended; fi; exit 1' TERM
mkdir -p "$1"
sh -c 'echo $$ >part; mv part child; exec sleep 600' &
wait
"""
"""In the place of the long suite: with a child, and a folder that it needs until it has ended."""

MAKE = """
case $* in *slow*) until [ -e child ]; do sleep 0.05; done; exit 7 ;; esac
"""
"""Fails in the long tests, once the suite beside them has begun."""


def program(path: Path, text: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def project(folder: Path) -> Path:
    """One in which everything passes at once, but the long tests."""
    program(folder / "bin" / "make", MAKE)
    program(folder / "bin" / "zsh")
    for name in ("ruff", "mypy", "lint-imports"):
        program(folder / ".venv" / "bin" / name)
    for name in ("install_slurm", "install_compute_endpoint", "install_postgresql", "install_packages"):
        program(folder / "scripts" / f"{name}.sh")
    program(folder / "scripts" / "run_sfapi_client_tests.sh", SUITE)
    (folder / "tests" / "area").mkdir(parents=True)
    (folder / "tmp").mkdir()
    (folder / ".ci").mkdir()
    shutil.copy(PROJECT / ".ci" / "run", folder / ".ci" / "run")
    return folder


def test_a_failure_ends_the_suite_that_runs_beside_with_all_that_it_started(tmp_path: Path) -> None:
    here = project(tmp_path)
    variables = os.environ | {"PATH": f"{here / 'bin'}:{os.environ['PATH']}", "TMPDIR": str(here / "tmp")}
    done = subprocess.run([here / ".ci" / "run"], env=variables, capture_output=True, text=True, check=False)
    assert done.returncode == 7, done
    assert processes.start_time(int((here / "child").read_text())) is None
    assert (here / "ended").exists(), "its folder was removed before it had ended"
    assert list((here / "tmp").iterdir()) == []


def judged(folder: Path, **counts: int) -> subprocess.CompletedProcess[str]:
    words = " ".join(f'{name}="{count}"' for name, count in counts.items())
    (folder / "result.xml").write_text(f'<testsuites name="pytest tests"><testsuite {words}/></testsuites>')
    command = [str(PROJECT / "scripts" / "run_sfapi_client_tests.sh"), "--whole", str(folder / "result.xml")]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ({"tests": 137, "skipped": 0, "failures": 0, "errors": 0}, ""),
        ({"tests": 137, "skipped": 2, "failures": 0, "errors": 0}, "137 tests ran, 2 of them did not pass"),
        ({"tests": 130, "skipped": 0, "failures": 0, "errors": 0}, "130 tests ran, 0 of them did not pass"),
    ],
)
def test_a_suite_of_which_a_part_did_not_run_has_not_passed(tmp_path: Path, counts: dict[str, int], said: str) -> None:
    done = judged(tmp_path, **counts)
    assert (done.returncode == 0) is (said == "")
    assert said in done.stderr
