"""A facility that was stopped or killed knows afterwards what it knew before."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner
from sandbox_lab import CRAWL, Lab, running_lab, transfer_client, until

from orchestration.sandbox.client import SandboxClient
from orchestration.sandbox.server import main
from orchestration.sandbox.settings import CollectionSettings, Settings
from orchestration.sandbox.testing import RunningFacility

MEGABYTE = 1_000_000


def test_tasks_submissions_tokens_switches_and_effects_outlive_a_restart(tmp_path: Path) -> None:
    with running_lab(tmp_path) as lab:
        lab.write("a", b"a")
        data = lab.request(("/a", "/a"), label="before")
        done = lab.ended(str(lab.transfer.submit_transfer(data)["task_id"])).data
        stuck = lab.submit(("/late", "/late"))
        lab.faulted(stuck, "FILE_NOT_FOUND")
        lab.facility.client.collections.set(lab.destination, deny=["/secret"])
        lab.facility.client.faults.add("no such request")
        effects = lab.facility.client.effects()
        old = lab.transfer.authorizer
    with running_lab(tmp_path) as lab:
        lab.transfer.authorizer = old
        assert dict(lab.task(done["task_id"]).data) == done
        assert lab.transfer.submit_transfer(data)["code"] == "Duplicate"
        assert lab.facility.client.effects() == effects
        assert len(lab.facility.client.faults.every()) == 1
        assert lab.facility.client.collections.every()[1]["deny"] == ["/secret"]
        assert next(iter(lab.transfer.task_successful_transfers(done["task_id"])))["source_path"] == "/a"
        lab.write("late", b"late")
        assert lab.ended(stuck)["status"] == "SUCCEEDED"


def test_a_task_goes_on_where_it_was(tmp_path: Path) -> None:
    with running_lab(tmp_path) as lab:
        for number, size in enumerate((1, 100_000, 100_000, 100_000)):
            lab.write(f"scan/{number}", os.urandom(size))
        lab.facility.client.collections.set(lab.source, bandwidth=CRAWL)
        task = lab.submit(("/scan/", "/scan/"))
        until(lambda: len(lab.facility.client.effects("copied")) == 1)
    with running_lab(tmp_path) as lab:
        lab.facility.client.collections.set(lab.source, bandwidth=0)
        document = lab.ended(task)
        assert (document["status"], document["files_transferred"]) == ("SUCCEEDED", 4)
        assert document["bytes_transferred"] == 300_001
        copied = [effect.paths[0] for effect in lab.facility.client.effects("copied")]
        assert sorted(copied) == [f"/scan/{number}" for number in range(4)]
        assert len(lab.facility.client.effects("transfer")) == 1


@contextmanager
def server(state: Path, root: Path) -> Iterator[tuple[subprocess.Popen[bytes], Lab]]:
    """The facility as a process of its own."""
    config = state / "facility.yaml"
    state.mkdir(exist_ok=True)
    rows = [{"name": name, "root": str(root / name)} for name in ("beamline", "facility")]
    config.write_text(json.dumps({"collections": rows, "retry": 0.05}))
    command = [sys.executable, "-m", "orchestration.sandbox.server", "--state", str(state), "--config", str(config)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    ready = state / "ready.json"
    try:
        until(lambda: ready.exists() or process.poll() is not None, seconds=60)
        url = json.loads(ready.read_text())["url"]
        collections = tuple(CollectionSettings(name=str(row["name"]), root=Path(str(row["root"]))) for row in rows)
        with SandboxClient(url) as client:
            settings = Settings(state=state, collections=collections)
            facility = RunningFacility(url=url, settings=settings, client=client)
            with transfer_client(facility) as transfer:
                yield process, Lab(facility, transfer)
    finally:
        process.kill()
        process.wait()


def test_a_killed_facility_comes_back_with_its_tasks(tmp_path: Path) -> None:
    state, root = tmp_path / "state", tmp_path / "disk"
    with server(state, root) as (process, lab):
        lab.write("big", os.urandom(MEGABYTE))
        lab.facility.client.collections.set(lab.source, bandwidth=CRAWL)
        data = lab.request(("/big", "/big"))
        task = str(lab.transfer.submit_transfer(data)["task_id"])
        until(lambda: bool(lab.task(task)["bytes_transferred"] > 0))
        process.kill()
        process.wait()
        (state / "ready.json").unlink()
    with server(state, root) as (process, lab):
        lab.facility.client.collections.set(lab.source, bandwidth=0)
        assert lab.transfer.submit_transfer(data)["task_id"] == task
        document = lab.ended(task)
        assert (document["status"], document["bytes_transferred"]) == ("SUCCEEDED", MEGABYTE)
        assert lab.arrived("big").read_bytes() == (root / "beamline" / "big").read_bytes()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0
        assert not (state / "ready.json").exists()


def test_a_facility_answers_as_soon_as_its_ready_file_is_there(tmp_path: Path) -> None:
    with server(tmp_path / "state", tmp_path / "disk") as (process, lab):
        assert httpx.get(f"{lab.facility.url}/_sandbox/ready", verify=False).json() == {"ready": True}
        assert json.loads((tmp_path / "state" / "ready.json").read_text())["pid"] == process.pid


@pytest.mark.parametrize("text", ["[1]", "collections: [{name: a}]", "{"])
def test_a_wrong_settings_file_is_refused_in_one_sentence(tmp_path: Path, text: str) -> None:
    config = tmp_path / "facility.yaml"
    config.write_text(text)
    done = CliRunner().invoke(main, ["--state", str(tmp_path), "--config", str(config)])
    assert isinstance(done.exception, SystemExit)
    assert done.exit_code != 0
    assert re.fullmatch(r"Error: .*facility\.yaml.*\n", done.stderr)
