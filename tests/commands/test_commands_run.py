"""`beamline run` starts every flow that is started for a path, and says of the others how they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from command_line import CommandLine, data_exchange

from orchestration.errors import InvalidInput
from orchestration.flows import catalogue
from orchestration.flows.intake import Intake
from orchestration.flows.main import use_environment


@pytest.mark.slow
def test_many_new_files_are_carried_one_by_one_as_well(command: CommandLine, tmp_path: Path) -> None:
    file = data_exchange(tmp_path / "one_of_many.h5", seed=3)
    page = command.json("run", "bl832", str(file), "--proposal", "ALS-9", "--flow", "new_files_flow")
    assert page["failed"] is None
    assert page["path"] == "raw/ALS-9/one_of_many.h5"
    assert {copy["endpoint"] for copy in page["copies"]} == {"spot832", "data832", "nersc832"}


@pytest.mark.slow
def test_a_deletion_that_a_person_starts_only_tells_what_it_would_do(
    summary: dict[str, Any], command: CommandLine
) -> None:
    before = command.json("show", summary["scan"])
    told = command("run", "bl832", before["path"], "--flow", "prune_spot832")
    assert "has completed" in told
    refused = command.result("run", "bl832", before["path"], "--flow", "prune_globus_endpoint")
    assert refused.exit_code == 1
    assert "Next: give --set source_endpoint=VALUE" in refused.stderr
    place = ("--set", "source_endpoint=data832")
    assert "has completed" in command("run", "bl832", before["path"], "--flow", "prune_globus_endpoint", *place)
    assert command.json("show", summary["scan"])["copies"] == before["copies"]


@pytest.mark.parametrize("flow", ["sweep_deletions", "reconcile", "nersc_streaming_flow"])
def test_a_flow_that_is_not_started_for_a_path_is_refused_with_how_it_is(command: CommandLine, flow: str) -> None:
    refused = command.result("run", "bl832", "raw/a.h5", "--flow", flow)
    assert refused.exit_code == 1
    assert "is not started for a path" in refused.stderr
    assert "`python -m orchestration.flows.bl832." in refused.stderr


def test_what_a_flow_does_not_take_is_refused_before_a_file_is_brought_in(command: CommandLine, tmp_path: Path) -> None:
    file = data_exchange(tmp_path / "not_brought_in.h5")
    refused = command.result("run", "bl832", str(file), "--flow", "new_files_flow", "--set", "colour=blue")
    assert "it has no parameter 'colour'" in refused.stderr
    refused = command.result("run", "bl832", str(file), "--flow", "test_832_transfers", "--export-control")
    assert "it has no parameter 'is_export_control'" in refused.stderr
    assert "there is no file" in command.result("run", "bl832", "raw/dropped/not_brought_in.h5").stderr


def test_every_flow_takes_a_path_or_is_refused(command: CommandLine) -> None:
    refused: set[str] = set()
    with patch.dict("os.environ", dict(command.environment)):
        use_environment()
        for flow in {spec.flow_name for spec in catalogue.of_beamline("bl832").deployments}:
            intake = Intake.of("bl832", flow)
            chosen = {name: "x" for name in intake.required if name != "file_paths"}
            chosen = {name: value for name, value in chosen.items() if name not in {"file_path", "relative_path"}}
            try:
                assert "raw/a.h5" in str(intake.parameters("raw/a.h5", chosen, export_controlled=False))
            except InvalidInput:
                refused.add(flow)
    assert refused == {
        "archive_832_projects_from_previous_cycle_dispatcher",
        "archive_all_832_raw_projects_dispatcher",
        "nersc_streaming_flow",
        "reconcile",
        "sweep_deletions",
        "watch_copies",
    }
