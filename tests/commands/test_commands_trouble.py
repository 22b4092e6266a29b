"""The command line when something is wrong: it says what, where and what next."""

from __future__ import annotations

import json
import signal
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import CommandLine, data_exchange
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.settings import PREFECT_API_URL, temporary_settings

from orchestration.flows.runs import RunRequest
from orchestration.flows.starting import unattended
from orchestration.jobs import JobSpec
from orchestration.ledger import Ledger
from orchestration.ledger.operation import Operation
from orchestration.ledger.owner import Owner
from orchestration.paths import RelativePath
from orchestration.policy import Place, Zone
from orchestration.sandbox.supervisor import Supervisor


def until_true(condition: Callable[[], object], *, seconds: float = 120.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        threading.Event().wait(0.2)


def test_a_new_ledger_has_no_scans(alone: CommandLine) -> None:
    assert alone("scans").startswith("No scans yet. Start one with")
    assert alone.json("scans") == []


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("show", "nobody"), "UnknownName: no scan 'nobody' in the ledger. Next: look it up with `beamline scans`."),
        (("cancel", "nobody"), "UnknownName: no scan 'nobody' in the ledger."),
        (("rerun", "nobody"), "UnknownName: no scan 'nobody' in the ledger."),
        (("scans", "--beamline", "bl999"), "UnknownName: "),
        (("run", "bl832", "/global/raw/a.h5"), "ConfigError: no Prefect server is set (PREFECT_API_URL)."),
        (("reconcile",), "ConfigError: no Prefect server is set (PREFECT_API_URL)."),
        (("sandbox", "fault", "nersc832", "--full"), "InvalidInput: the sandbox does not run"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(alone: CommandLine, arguments: tuple[str, ...], sentence: str) -> None:
    result = alone.result(*arguments)
    assert result.exit_code == 1
    assert result.stderr.startswith(sentence)
    assert result.stderr.count("\n") == 1


def test_what_nobody_confirms_can_be_given_up(alone: CommandLine) -> None:
    """A run died between its submission and the answer, and the service will never say what became of it."""
    beamline = Place("data832", Zone.BEAMLINE)
    spec = JobSpec(executable="/bin/true", directory="/", duration=1.0)
    with Ledger(alone.environment["BEAMLINE_LEDGER_URL"]) as ledger:
        scan = ledger.scans.register(beamline="bl832", path=RelativePath("raw/p/lost.h5"))
        operation = Operation(scan=scan, step="reconstruct", request=spec, destination=beamline, deadline=60.0)
        ledger.operations.take(operation, dead := Owner.here(), service="prefect.schedule", redo=True)
        ledger.operations.permitted(operation, dead, token="a token that the service lost", site=beamline)
        ledger.operations.release(operation.key, dead)
    (answer,) = alone.json("cancel", "lost", code=1)["answers"]
    assert (answer["step"], answer["answer"]) == ("reconstruct", "unknown")
    assert alone("cancel", "lost", "--give-up", "the machine was scrapped") == "reconstruct: given up\n"
    (stage,) = alone.json("show", "lost")["stages"]
    assert (stage["state"], stage["error"]["what"]) == ("failed", "given up by a person: the machine was scrapped")


def test_what_is_for_other_scans_as_well_is_named_and_cancelled_only_with_them(alone: CommandLine) -> None:
    here, run_id = Owner.here(), str(uuid.uuid4())
    names = ("raw/p/first.h5", "raw/p/second.h5")
    with Ledger(alone.environment["BEAMLINE_LEDGER_URL"]) as ledger:
        scans = {each: ledger.scans.register(beamline="bl832", path=RelativePath(each)).id for each in names}
        dead = Owner(here.host, here.pid, "another time", "x")
        ledger.runs.begin(run_id=run_id, flow="new_files_flow", parameters={}, owner=dead)
        about = {"flow": "new_files_flow", "beamline": "bl832", "name": "first.h5 and 1 more"}
        ledger.batches.begin(id="ba7c4", **about, parameters={}, run_id=run_id, items={each: {} for each in names})
        ledger.batches.take_all("ba7c4", scans)
    others = "1 other as well (raw/p/second.h5)"
    said = alone("cancel", "first", code=1)
    assert said.startswith(f"run of new_files_flow: goes on: it is for {others}. `")
    assert said.endswith("cancel first --whole-batch` stops it for all\n")
    (answer,) = alone.json("cancel", "first", code=1)["answers"]
    assert (answer["key"], answer["others"], answer["spared"]) == (run_id, ["raw/p/second.h5"], True)
    whole = alone("cancel", "first", "--whole-batch")
    assert whole == f"run of new_files_flow: cancelled: it was for {others}\n"
    assert alone.json("show", "second")["state"] == "cancelled"
    assert alone("cancel", "first") == "Nothing is going on with raw/p/first.h5.\n"


def test_a_server_that_is_away_is_named_with_what_starts_it(alone: CommandLine) -> None:
    away = CommandLine(alone.directory, {**alone.environment, "PREFECT_API_URL": "http://127.0.0.1:9/api"})
    result = away.result("run", "bl832", "/global/raw/a.h5")
    assert result.exit_code == 1
    assert "does not answer" in result.stderr
    assert "Next: start it with `prefect server start`, or correct PREFECT_API_URL." in result.stderr


def test_a_path_that_leads_nowhere_is_told_at_once(command: CommandLine) -> None:
    result = command.result("run", "bl832", "/global/raw/ALS-1/typo.h5")
    assert result.stderr.startswith("SourceMissing: there is no file /global/raw/ALS-1/typo.h5")


def test_an_unknown_flow_is_answered_with_those_that_there_are(command: CommandLine, tmp_path: Path) -> None:
    file = data_exchange(tmp_path / "flowless.h5")
    result = command.result("run", "bl832", str(file), "--flow", "magic")
    assert "has no flow 'magic'" in result.stderr
    assert "new_832_file_flow" in result.stderr


def test_a_fault_must_be_named(command: CommandLine) -> None:
    assert "no fault was named" in command.result("sandbox", "fault", "nersc832").stderr
    assert "no endpoint was named" in command.result("sandbox", "fault", "--full").stderr


@pytest.mark.slow
def test_a_run_that_fails_says_why_and_carries_on_once_it_is_mended(command: CommandLine, tmp_path: Path) -> None:
    file = data_exchange(tmp_path / "refused.h5")
    assert command("sandbox", "fault", "nersc832", "--read-only") == "nersc832 is read-only\n"
    try:
        failed = command.json("run", "bl832", str(file), "--flow", "new_832_file_flow", code=1)
    finally:
        command("sandbox", "fault", "nersc832", "--clear")
    assert failed["state"] == "failed"
    assert failed["error"]["type"] == "AccessDenied"
    assert "Next: " in failed["failed"]
    page = command("show", "refused")
    assert "AccessDenied: " in page
    assert "\n  where  " in page
    assert "\n  next   " in page

    mended = command.json("run", "bl832", "/global/" + failed["path"], "--flow", "new_832_file_flow")
    assert mended["failed"] is None
    done = {stage["name"]: stage["attempt"] for stage in mended["stages"] if stage["name"].startswith("copy raw")}
    assert done == {"copy raw from spot832 to data832": 1, "copy raw from data832 to nersc832": 2}


def test_ctrl_c_leaves_the_run_alone_and_cancel_ends_it(command: CommandLine, tmp_path: Path) -> None:
    file = data_exchange(tmp_path / "slow.h5")
    copying = "copy raw from spot832 to data832"

    def moving() -> bool:
        shown = command.result("show", "slow", "--json")
        stages = json.loads(shown.stdout)["stages"] if shown.exit_code == 0 else []
        return any(stage["name"] == copying and stage["handle"] for stage in stages)

    command("sandbox", "fault", "spot832", "--slow", "10")
    with command.start("run", "bl832", str(file), "--flow", "new_832_file_flow") as watching:
        try:
            until_true(moving)
        finally:
            watching.send_signal(signal.SIGINT)
            _, errors = watching.communicate(timeout=120)
        answers = {each["step"]: each["answer"] for each in command.json("cancel", "slow")["answers"]}
    command("sandbox", "fault", "spot832", "--clear")
    assert watching.returncode == 130
    assert "The run goes on without this terminal." in errors
    assert " show slow.h5`" in errors
    assert answers[copying] == "cancelled"
    until_true(lambda: command.json("show", "slow")["state"] in {"failed", "cancelled"})
    assert command.json("show", "slow")["error"]["type"] == "Cancelled"


def test_a_pool_without_a_worker_is_noticed(sandbox: Supervisor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BEAMLINE_SANDBOX", raising=False)
    with (
        temporary_settings({PREFECT_API_URL: sandbox.environment["PREFECT_API_URL"]}),
        get_client(sync_client=True) as client,
    ):
        client.create_work_pool(WorkPoolCreate(name="deaf_pool", type="process"))
        flow = client.create_flow_from_name("deaf")
        client.create_deployment(flow, "deaf", work_pool_name="deaf_pool")
        assert unattended(RunRequest(deployment="deaf/deaf")) == (
            "no worker serves the pool deaf_pool: nobody picks this run up. "
            "Start one with `prefect worker start --pool deaf_pool`"
        )
        assert unattended(RunRequest(deployment="dispatcher/run_832_dispatcher")) == ""
