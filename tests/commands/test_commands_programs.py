"""Other ways to start runs: the notebook, and each flow as a program of its own."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from command_line import PROJECT, CommandLine, data_exchange
from prefect import Flow

from orchestration import config
from orchestration.flows.bl832.move import process_new_832_file_flow
from orchestration.flows.main import command as flow_command
from orchestration.sandbox.supervisor import Supervisor

NOTEBOOK = PROJECT / "docs" / "examples" / "submit_flow_run.ipynb"
FLOWS = {
    "dispatcher": "dispatcher",
    "local": "local_recon_flow",
    "move": "process_new_832_file_flow",
    "prune": "prune_globus_endpoint",
    "reconcile": "reconcile",
}


@pytest.mark.slow
def test_the_notebook_takes_a_scan_that_says_nothing_of_itself_to_its_pictures(
    sandbox: Supervisor, command: CommandLine, tmp_path: Path
) -> None:
    acquisition = config.load(sandbox.layout.config_file).endpoint("spot832").mount
    assert acquisition is not None
    (acquisition / "raw" / "ALS-7").mkdir(parents=True, exist_ok=True)
    data_exchange(acquisition / "raw" / "ALS-7" / "submitted_disc.h5")
    notebook = tmp_path / NOTEBOOK.name
    notebook.write_bytes(NOTEBOOK.read_bytes())
    variables = {"SCAN": "/global/raw/ALS-7/submitted_disc.h5", "JUPYTER_DATA_DIR": str(tmp_path / "jupyter")}
    reader = CommandLine(command.directory, {**command.environment, **variables})
    with reader.start(str(notebook), program="from nbclient.cli import main; main()") as process:
        _, errors = process.communicate(timeout=200)
    assert process.returncode == 0, errors
    page = command.json("show", "submitted_disc")
    assert page["state"] == "completed"
    assert page["pictures"]


@pytest.mark.slow
def test_each_flow_runs_as_a_program(summary: dict[str, Any], command: CommandLine) -> None:
    path = f"/global/{command.json('show', summary['scan'])['path']}"
    arguments = {
        "move": [path, "--no-is-export-control"],
        "local": [path],
        "prune": ["raw/nothing.h5", "--source-endpoint", "data832"],
        "reconcile": [],
    }
    programs = {
        name: command.start(*words, module=f"orchestration.flows.bl832.{name}") for name, words in arguments.items()
    }
    errors = {name: program.communicate(timeout=120)[1] for name, program in programs.items()}
    assert {name: program.returncode for name, program in programs.items()} == {
        "move": 0,
        "local": 0,
        "prune": 1,
        "reconcile": 0,
    }, errors
    assert "DeletionUnproven: the ledger knows no copy there (data832:raw/nothing.h5)" in errors["prune"]
    assert "Traceback" not in errors["prune"]


def test_a_flow_program_calls_itself_by_the_name_that_was_typed() -> None:
    module = "orchestration.flows.bl832.prune"
    ended = subprocess.run([sys.executable, "-m", module], cwd=PROJECT, capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert ended.stderr.startswith("Usage: python -m orchestration.flows.bl832.prune [OPTIONS] RELATIVE_PATH")


@pytest.mark.parametrize("module", sorted(FLOWS))
def test_each_flow_explains_itself(module: str, capsys: pytest.CaptureFixture[str]) -> None:
    found = getattr(import_module(f"orchestration.flows.bl832.{module}"), FLOWS[module])
    assert isinstance(found, Flow)
    with pytest.raises(SystemExit) as ended:
        flow_command(found, ["--help"])
    assert ended.value.code == 0
    assert str(found.description).splitlines()[0] in " ".join(capsys.readouterr().out.split())


def test_a_flow_that_is_called_wrongly_says_how_it_is_called(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        flow_command(process_new_832_file_flow, [])
    assert ended.value.code == 2
    assert "Missing argument 'FILE_PATH'" in capsys.readouterr().err


def test_a_deletion_by_hand_says_how_it_is_meant(capsys: pytest.CaptureFixture[str]) -> None:
    prune = import_module("orchestration.flows.bl832.prune")
    with pytest.raises(SystemExit) as ended:
        prune.main(["--help"])
    assert ended.value.code == 0
    assert "--dry-run / --delete" in capsys.readouterr().out
