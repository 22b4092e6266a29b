from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
import yaml
from click.testing import CliRunner, Result

from orchestration import config
from orchestration.commands.sandbox import sandbox_group
from orchestration.errors import ConfigError, OperationFailed
from orchestration.sandbox import blueprint, processes
from orchestration.sandbox.layout import Layout, Record
from orchestration.sandbox.processes import Process
from orchestration.sandbox.supervisor import Supervisor

HERE = Path(__file__).parent
PROJECT = HERE.parents[1]


def until_true(condition: Callable[[], bool], *, seconds: float = 60.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


def sleeper(directory: Path, *, environment: dict[str, str] | None = None, program: str = "") -> Process:
    program = program or "import time; time.sleep(300)"
    return processes.start(
        [sys.executable, "-c", program],
        environment={**os.environ, **(environment or {})},
        directory=directory,
        log=directory / "sleeper.log",
    )


def beamline(*arguments: str) -> Result:
    return CliRunner().invoke(sandbox_group, list(arguments), catch_exceptions=False)


def test_starting_again_leaves_all_as_it_is(prefect_sandbox: Supervisor) -> None:
    before = prefect_sandbox.layout.record_file.read_text()
    heard: dict[str, float] = {}

    assert prefect_sandbox.up(heard.__setitem__) == prefect_sandbox.environment

    assert set(heard.values()) == {0.0}
    assert prefect_sandbox.layout.record_file.read_text() == before


def test_its_environment_leads_to_servers_that_answer(prefect_sandbox: Supervisor) -> None:
    environment = prefect_sandbox.environment
    assert httpx.get(f"{environment['PREFECT_API_URL']}/health", trust_env=False).json() is True
    assert httpx.get(environment["BEAMLINE_SANDBOX_URL"], trust_env=False).status_code < 500
    written = prefect_sandbox.layout.environment_file.read_text()
    assert f"PREFECT_API_URL={environment['PREFECT_API_URL']}" in written


def test_a_shell_reads_its_environment_file(prefect_sandbox: Supervisor) -> None:
    script = f"set -a; . '{prefect_sandbox.layout.environment_file}'; env"
    shown = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=True).stdout.splitlines()
    assert {f"{name}={value}" for name, value in prefect_sandbox.environment.items()} <= set(shown)


def test_its_status_is_a_tree_for_people_and_json_for_programs(prefect_sandbox: Supervisor) -> None:
    state = ("--state", str(prefect_sandbox.layout.root))
    shown = beamline("status", *state)
    assert shown.exit_code == 0
    assert shown.output.count("running") == 4
    report = json.loads(beamline("status", "--json", *state).output)
    assert report["running"] is True
    assert [component["name"] for component in report["components"]] == ["facility", "prefect", "worker", "watcher"]


@pytest.mark.slow
def test_a_whole_life(tmp_path: Path) -> None:
    """One sandbox is killed in every way, since each start takes seconds."""
    supervisor = Supervisor(tmp_path / "sandbox", deployments=[HERE / "tiny.yaml"], search=[HERE])
    supervisor.up()
    first = supervisor.layout.read()

    # A worker that was killed is started again, and nothing else is.
    os.kill(first.processes["worker"].pid, signal.SIGKILL)
    until_true(lambda: not first.processes["worker"].alive)
    assert [component.alive for component in supervisor.status()] == [True, True, False, True]
    supervisor.up()
    second = supervisor.layout.read()
    assert second.processes["prefect"] == first.processes["prefect"]
    assert second.processes["watcher"] == first.processes["watcher"]
    assert second.processes["worker"].alive

    # The machine dies, and its numbers are given to others: all starts again, at the same addresses.
    marked = sleeper(tmp_path, environment={processes.MARK: str(supervisor.layout.root)})
    for process in second.processes.values():
        os.killpg(process.pid, signal.SIGKILL)
    until_true(lambda: not any(process.alive for process in second.processes.values()))
    stranger = sleeper(tmp_path)
    taken = {name: Process(pid=stranger.pid, started="another time") for name in second.processes}
    supervisor.layout.write(Record(processes=taken, ports=second.ports))
    supervisor.up()
    assert supervisor.layout.read().ports == first.ports
    assert stranger.alive
    until_true(lambda: not marked.alive)

    # Stopped, nothing of it is left, and its data is.
    escaped = sleeper(tmp_path, environment={processes.MARK: str(supervisor.layout.root)})
    third = supervisor.layout.read()
    assert set(supervisor.down()) == {"facility", "prefect", "worker", "watcher"}
    until_true(lambda: not any(process.alive for process in third.processes.values()))
    until_true(lambda: not escaped.alive)
    assert stranger.alive
    assert supervisor.down() == ()
    assert (supervisor.layout.prefect / "prefect.db").is_file()
    assert beamline("status", "--state", str(supervisor.layout.root)).exit_code == 1

    supervisor.reset()
    assert not supervisor.layout.root.exists()
    processes.stop([stranger], patience=1.0)


@pytest.mark.slow
def test_a_component_that_dies_is_named_with_the_end_of_its_log(tmp_path: Path) -> None:
    broken = tmp_path / "prefect.yaml"
    broken.write_text("name: broken\ndeployments: [{name: a}]\n")
    supervisor = Supervisor(tmp_path / "sandbox", deployments=[broken])
    try:
        with pytest.raises(OperationFailed, match="the deployments were not made") as caught:
            supervisor.up()
        assert "deployments.0.flow_name" in str(caught.value)
        assert "deploy.log" in str(caught.value)
        assert not any(component.alive for component in supervisor.status())
    finally:
        supervisor.reset()


def test_a_directory_that_is_no_sandbox_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    supervisor = Supervisor(tmp_path)
    for act in (supervisor.up, supervisor.reset):
        with pytest.raises(ConfigError, match="will not be touched"):
            act()
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_a_process_is_not_confused_with_a_later_one_of_its_number(tmp_path: Path) -> None:
    process = sleeper(tmp_path)
    assert process.alive
    assert not Process(pid=process.pid, started="0").alive
    processes.stop([process], patience=5.0)
    assert not process.alive


def test_what_ignores_a_request_to_end_is_killed_with_its_children(tmp_path: Path) -> None:
    program = (
        "import pathlib, signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(300)'])\n"
        f"pathlib.Path({str(tmp_path / 'child')!r}).write_text(str(child.pid))\n"
        "time.sleep(300)\n"
    )
    process = sleeper(tmp_path, program=program)
    until_true(lambda: (tmp_path / "child").exists() and (tmp_path / "child").read_text() != "")
    child = Process.of(int((tmp_path / "child").read_text()))

    processes.stop([process], patience=0.2)

    assert not process.alive
    assert child is not None
    until_true(lambda: not child.alive)


def test_endpoints_of_one_collection_stay_on_one(tmp_path: Path) -> None:
    layout = Layout.at(tmp_path / "sandbox")
    layout.create()
    blueprint.write(layout, PROJECT / "config.yml")

    settings = config.load(layout.config_file)
    server, raw = settings.endpoint("data832"), settings.endpoint("data832_raw")
    assert server.mount is not None
    assert raw.mount == server.mount / "raw"
    assert raw.mount.is_dir()
    assert settings.endpoint("local832_raw").mount == layout.endpoints / "local832_raw"
    rows = yaml.safe_load(layout.facility_file.read_text())["collections"]
    assert len({row["id"] for row in rows}) == len(rows)
    (row,) = [row for row in rows if row["id"] == str(server.uuid)]
    assert Path(row["root"]) / "data" == server.mount


def test_nothing_of_the_callers_credentials_goes_into_a_sandbox(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("GLOBUS_CLIENT_SECRET", "PREFECT_API_KEY", "SCICAT_INGEST_PASSWORD", "PATH_NERSC_PRI_KEY"):
        monkeypatch.setenv(name, "real")
    assert "real" not in blueprint.clean_environment(Layout.at(tmp_path)).values()


def test_a_port_that_is_taken_is_passed_over(tmp_path: Path) -> None:
    supervisor = Supervisor(tmp_path / "sandbox")
    supervisor.layout.create()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        supervisor.layout.write(Record(ports={"facility": port, "prefect": port}))
        supervisor._choose_ports()
    assert port not in supervisor.layout.read().ports.values()
