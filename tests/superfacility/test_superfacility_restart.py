"""Jobs belong to the batch system: a facility that was stopped or killed finds them again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from superfacility_lab import HEAD, alive, asked, new_client, running_lab, signed, until

from orchestration import config
from orchestration.errors import ConfigError
from orchestration.sandbox import blueprint, settings
from orchestration.sandbox.layout import Layout


def wait_for(folder: Path, name: str) -> str:
    return f"until test -e {folder}/{name}; do sleep 0.02; done"


def test_jobs_go_on_without_the_facility_and_are_found_again(tmp_path: Path) -> None:
    with running_lab(tmp_path, slots=2) as lab:
        folder = lab.folder
        during = lab.submit(f"touch {folder}/a; {wait_for(folder, 'go')}; echo done > {folder}/result; exit 3")
        after = lab.submit(f"touch {folder}/b; {wait_for(folder, 'go2')}")
        waiting = lab.submit("true")
        until(lambda: (folder / "a").exists() and (folder / "b").exists())
        submitted = lab.facility.client.effects("job")
    (folder / "go").touch()
    until((folder / "result").exists)
    with running_lab(tmp_path, slots=2) as lab:
        assert (lab.ended(during).state, lab.ended(during).exit) == ("FAILED", "3:0")
        assert lab.ended(waiting).state == "COMPLETED"
        assert lab.state(after) == "RUNNING"
        (folder / "go2").touch()
        assert lab.ended(after).state == "COMPLETED"
        assert lab.facility.client.effects("job") == submitted
        assert sorted(one.id for one in lab.facility.client.effects("job-start")) == sorted([during, after, waiting])


def test_a_job_of_before_can_still_be_cancelled(tmp_path: Path) -> None:
    with running_lab(tmp_path) as lab:
        job = lab.submit(f"touch {lab.folder}/a; sleep 60")
        until((lab.folder / "a").exists)
    with running_lab(tmp_path) as lab:
        lab.client.delete(f"compute/jobs/perlmutter/{job}")
        assert lab.ended(job).state.startswith("CANCELLED by")


def test_a_job_whose_supervisor_was_killed_has_lost_its_node(tmp_path: Path) -> None:
    with running_lab(tmp_path) as lab:
        job = lab.submit(f"echo $$ > {lab.folder}/pid; sleep 60")
        until(lambda: (lab.folder / "pid").exists() and (lab.folder / "pid").read_text())
        started = tmp_path / "superfacility" / "jobs" / job / "started.json"
        os.kill(json.loads(started.read_text())["pid"], signal.SIGKILL)
        assert lab.ended(job).state == "NODE_FAIL"
        script = int((lab.folder / "pid").read_text())
        until(lambda: not alive(script))


def test_tokens_knobs_statuses_and_outages_outlive_a_restart_and_open_tasks_fail(tmp_path: Path) -> None:
    with running_lab(tmp_path) as lab:
        lab.control.turn(submit_delay=3600, held=True, hours_left={"als": 3})
        lab.control.set_status("degraded")
        task = lab.client.post("compute/jobs/perlmutter", {"job": f"{HEAD}true\n", "isPath": False}).json()["task_id"]
        token = lab.client.token
    with running_lab(tmp_path) as lab:
        with lab.new_client(client_id=None, secret=None, access_token=token) as old:
            found = old.get(f"tasks/{task}").json()
            assert (found["status"], "restarted" in found["result"]) == ("failed", True)
        assert lab.client.user().projects()[0].hours_used == 9997
        assert lab.client.compute("perlmutter").status == "degraded"
        lab.control.turn(submit_delay=0)
        job = lab.submit("true")
        assert lab.state(job) == "PENDING"
        lab.facility.client.reset()


def test_a_reset_ends_all_jobs_and_keeps_who_is_registered(tmp_path: Path) -> None:
    with running_lab(tmp_path) as lab:
        first = lab.submit(f"echo $$ > {lab.folder}/pid; sleep 60")
        until(lambda: (lab.folder / "pid").exists() and (lab.folder / "pid").read_text())
        lab.control.turn(held=True)
        lab.facility.client.reset()
        assert lab.control.jobs() == []
        until(lambda: not alive(int((lab.folder / "pid").read_text())))
        with lab.new_client() as client:
            second = client.compute("perlmutter").submit_job(f"{HEAD}true\n").jobid
        assert int(second) > int(first)
        assert lab.ended(second).state == "COMPLETED"


def test_a_sandbox_has_a_client_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = Layout.at(tmp_path / "sandbox")
    layout.create()
    blueprint.write(layout)
    variables = blueprint.environment(layout, facility_url="http://127.0.0.1:1", prefect_port=2)
    assert variables["SFAPI_TOKEN_URL"] == "http://127.0.0.1:1/nersc/oidc/c2id/token"
    key = Path(variables["PATH_NERSC_PRI_KEY"])
    assert key.stat().st_mode & 0o777 == 0o600
    before = key.read_text()
    blueprint.write(layout)
    assert key.read_text() == before
    chosen = settings.load(layout.facility_file, state=layout.facility).superfacility
    (client,) = chosen.clients
    assert (client.id, client.user) == ("sandboxclient", "alsdev")
    assert "d" not in client.jwk
    assert [project.name for project in chosen.projects] == ["als"]
    blueprint.write_environment(layout, variables)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    (site, *_) = [one for one in config.load().compute_sites.values() if isinstance(one, config.NerscSite)]
    assert site.api_url == variables["SFAPI_API_URL"]
    assert Path(site.job_folder).is_relative_to(layout.endpoints)


def test_a_facility_killed_and_started_again_by_its_settings_goes_on(tmp_path: Path) -> None:
    layout = Layout.at(tmp_path / "sandbox")
    layout.create()
    blueprint.write(layout)
    folder = layout.endpoints
    with served(layout, signal.SIGKILL) as client:
        job = client.submit_job(f"{HEAD}touch {folder}/on; {wait_for(folder, 'go')}\n").jobid
        until((folder / "on").exists)
    with served(layout, signal.SIGTERM) as client:
        (folder / "go").touch()
        until(lambda: client.job(job).state == "COMPLETED")


@contextmanager
def served(layout: Layout, end: signal.Signals) -> Iterator[Any]:
    """A facility as a process of its own; its machine."""
    command = [sys.executable, "-m", "orchestration.sandbox.server", "--state", str(layout.facility)]
    process = subprocess.Popen([*command, "--config", str(layout.facility_file)], stdout=subprocess.DEVNULL)
    ready = layout.facility / "ready.json"
    try:
        url = until(lambda: json.loads(ready.read_text()) if ready.exists() else None, seconds=60)["url"]
        variables = blueprint.environment(layout, facility_url=url, prefect_port=1)
        with new_client(variables) as client:
            yield client.compute("perlmutter")
    finally:
        process.send_signal(end)
        process.wait()
        ready.unlink(missing_ok=True)


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"clients": [{"id": "short", "jwk": {"kty": "RSA"}}]}, "13 characters"),
        ({"clients": [{"id": "abcdefghijklm"}]}, "jwk"),
        ({"scheduler": "pbs"}, "no scheduler 'pbs'"),
    ],
)
def test_wrong_settings_are_told(tmp_path: Path, row: dict[str, object], why: str) -> None:
    file = tmp_path / "facility.yml"
    file.write_text(json.dumps({"superfacility": row}))
    with pytest.raises(ConfigError, match=why):
        settings.load(file, state=tmp_path)


def test_the_token_url_is_the_one_that_was_called(tmp_path: Path) -> None:
    with running_lab(tmp_path) as lab:
        lab.variables["SFAPI_TOKEN_URL"] = lab.variables["SFAPI_TOKEN_URL"].replace("127.0.0.1", "localhost")
        assert asked(lab, signed(lab)).status_code == 200
