"""`beamline doctor`, and the scripts that look at one thing or register it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from command_line import PROJECT, CommandLine
from dotenv import dotenv_values

from orchestration.doctor.endpoint import PREFIX
from orchestration.sandbox.client import SandboxClient
from orchestration.sandbox.supervisor import Supervisor


@pytest.fixture
def facility(sandbox: Supervisor) -> Iterator[SandboxClient]:
    with SandboxClient(sandbox.environment["BEAMLINE_SANDBOX_URL"]) as client:
        yield client
        client.faults.clear()


def script(sandbox: Supervisor, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(PROJECT / "scripts" / name), *arguments],
        env={**os.environ, **sandbox.environment, "PYTHONPATH": str(PROJECT)},
        cwd=sandbox.layout.root,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def part(found: Any, what: str) -> Any:
    return next(check for check in found["checks"] if check["what"] == what)


def test_in_a_sandbox_nothing_is_broken(command: CommandLine) -> None:
    found = command.json("doctor")
    assert found["ok"] is True
    bad = [check for check in found["checks"] if check["worst"] == "broken"]
    assert bad == []
    prefect = part(found, "Prefect")
    assert [each["health"] for each in prefect["parts"]] == ["works", "works", "works"]
    names = {each["what"] for each in part(found, "Globus")["parts"]}
    assert {"spot832", "data832", "nersc832", "alcf832_raw"} <= names
    assert part(found, "site nersc")["parts"][0]["note"].startswith("up")
    assert part(found, "site alcf")["worst"] == "works"


def test_a_service_that_fails_is_broken_and_the_remedy_is_named(command: CommandLine, facility: SandboxClient) -> None:
    facility.faults.add("/scicat/", "status", status=503, times=0)
    text = command("doctor", "--only", "SciCat", code=1)
    assert text.startswith("!! SciCat")
    assert "next: " in text


def test_an_endpoint_that_is_away_is_named(command: CommandLine, facility: SandboxClient, sandbox: Supervisor) -> None:
    away = next(one for one in facility.collections.every() if one["name"] == "alcf832_raw")
    facility.collections.set(str(away["id"]), connected=False)
    try:
        found = command.json("doctor", "--only", "globus", code=1)
    finally:
        facility.collections.set(str(away["id"]), connected=True)
    broken = [each["what"] for each in part(found, "Globus")["parts"] if each["health"] == "broken"]
    assert broken == ["alcf832_raw", "alcf832_scratch"]


def test_a_part_that_does_not_exist_is_refused_with_those_that_do(command: CommandLine) -> None:
    result = command.result("doctor", "--only", "moon")
    assert result.exit_code == 2
    assert "there is no part moon" in result.output
    assert "site nersc" in result.output


def test_a_site_that_is_not_set_up_is_no_trouble(alone: CommandLine) -> None:
    found = alone.json("doctor", "--only", "site alcf", "--only", "site nersc")
    assert (part(found, "site alcf")["worst"], part(found, "site nersc")["worst"]) == ("not set up", "not set up")


def test_without_anything_set_up_the_doctor_still_answers(alone: CommandLine) -> None:
    found = alone.json("doctor", "--only", "settings", "--only", "ledger", "--only", "disks", "--only", "SciCat")
    assert part(found, "SciCat")["worst"] == "not set up"
    assert part(found, "ledger")["worst"] == "not set up"


def test_a_trial_writes_deletes_and_computes(command: CommandLine, sandbox: Supervisor) -> None:
    found = command.json("doctor", "--write", "--only", "site nersc", "--only", "site alcf", "--only", "Globus")
    for site in ("site nersc", "site alcf"):
        status, job, cancelling = part(found, site)["parts"]
        assert (status["worst"], job["worst"], cancelling["worst"]) == ("works", "works", "works")
        assert job["note"].startswith("a job ran, version ")
    assert list(sandbox.layout.endpoints.rglob(f"{PREFIX}*")) == []


def test_the_transfer_check_reads_writes_and_deletes(sandbox: Supervisor) -> None:
    done = script(sandbox, "check_globus_transfer.py", "data832", "alcf832_raw")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "2 of 2 endpoints can be used"
    assert "a folder was made and deleted" in done.stdout


def test_the_transfer_check_tells_of_an_endpoint_that_cannot_be_written(
    sandbox: Supervisor, facility: SandboxClient
) -> None:
    one = next(one for one in facility.collections.every() if one["name"] == "alcf832_raw")
    facility.collections.set(str(one["id"]), writable=False)
    try:
        done = script(sandbox, "check_globus_transfer.py", "alcf832_raw")
    finally:
        facility.collections.set(str(one["id"]), writable=True)
    assert done.returncode == 1
    assert "!! alcf832_raw: " in done.stdout


@pytest.mark.slow
def test_the_compute_check_runs_a_job(sandbox: Supervisor) -> None:
    done = script(sandbox, "check_globus_compute.py", "alcf")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "a job ran" in done.stdout
    assert script(sandbox, "check_globus_compute.py", "nersc").returncode == 1


@pytest.mark.slow
def test_a_globus_flow_is_registered_once(sandbox: Supervisor, facility: SandboxClient) -> None:
    first = script(sandbox, "init_reconstruction_globus_flow.py")
    assert first.returncode == 0, first.stderr
    assert "created" in first.stdout
    second = script(sandbox, "init_reconstruction_globus_flow.py")
    assert second.stdout.count("unchanged") == 2, second.stdout + second.stderr
    assert first.stdout.split()[1] == second.stdout.split()[1]
    assert len([effect for effect in facility.effects() if effect.kind == "flow"]) == 1


LOGIN = PROJECT / "scripts" / "login_to_globus_and_prefect.sh"


def shell(command: str, directory: Path, program: str = "bash") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [program, "-c", command],
        cwd=directory,
        env={"PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
    )


def test_sourced_the_login_gives_a_shell_its_credentials_and_runs_nothing(tmp_path: Path) -> None:
    secret = "p$(touch pwned)`touch pwned` 'x\"#y"
    (tmp_path / ".env").write_text(
        f"# a comment\nGLOBUS_CLIENT_ID=me\nGLOBUS_CLIENT_SECRET={secret}\nEMPTY=\nPREFECT_API_URL=http://p/api\n"
    )
    names = ("GLOBUS_CLIENT_SECRET", "GLOBUS_CLI_CLIENT_SECRET", "GLOBUS_COMPUTE_CLIENT_ID", "EMPTY")
    show = f"{sys.executable} -c 'import json, os; print(json.dumps(dict(os.environ)))'"
    done = shell(f"source {LOGIN} && {show}", tmp_path)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert [found.get(name) for name in names] == [secret, secret, "me", None]
    assert secret not in done.stderr
    assert not (tmp_path / "pwned").exists()


@pytest.mark.parametrize(
    ("program", "options"), [("bash", "set -eu"), ("zsh", "set -eu"), ("zsh", "setopt extended_glob ksh_arrays")]
)
def test_a_shell_is_given_the_values_that_the_service_takes(tmp_path: Path, program: str, options: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"there is no {program}")
    lines = ["GLOBUS_CLIENT_ID='me # too'", 'export GLOBUS_CLIENT_SECRET="a b" # of 2026', "  # nothing"]
    lines += ["PREFECT_API_URL = http://p/api  # here ", "ODD=x#y", " LAST=a'b'c"]
    (tmp_path / ".env").write_text("\r\n".join(lines))
    expected = {name: value for name, value in dotenv_values(tmp_path / ".env", interpolate=False).items() if value}
    show = f"{sys.executable} -c 'import json, os; print(json.dumps(dict(os.environ)))'"
    done = shell(f"{options}; source {LOGIN}; {show}", tmp_path, program)
    found = json.loads(done.stdout)
    assert {name: found.get(name) for name in expected} == expected


@pytest.mark.parametrize("program", ["bash", "zsh"])
def test_a_script_that_sources_the_login_has_arguments_of_its_own(tmp_path: Path, program: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"there is no {program}")
    (tmp_path / ".env").write_text("GLOBUS_CLIENT_ID=me\nGLOBUS_CLIENT_SECRET=s\nPREFECT_API_URL=http://p/api\n")
    (tmp_path / "other.env").write_text("GLOBUS_CLIENT_ID=you\n")
    (tmp_path / "script").write_text(f'source {LOGIN}\necho "$1 $GLOBUS_CLIENT_ID"\n')
    assert shell(f"{program} script other.env", tmp_path).stdout == "other.env me\n"
    assert shell(f"BEAMLINE_ENV_FILE=other.env {program} script scan.h5", tmp_path).stdout == "scan.h5 you\n"


def test_a_login_that_fails_leaves_the_shell_alive(tmp_path: Path) -> None:
    done = shell(f"source {LOGIN}; echo still here", tmp_path)
    assert done.stdout == "still here\n"
    assert "copy .env.example to .env" in done.stderr


@pytest.mark.parametrize("program", ["bash", "zsh"])
def test_a_login_that_is_run_says_that_it_must_be_sourced(tmp_path: Path, program: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"there is no {program}")
    done = shell(f"{program} {LOGIN}", tmp_path)
    assert done.returncode == 2
    assert "must be sourced" in done.stderr
