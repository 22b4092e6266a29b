"""The command line around scans, in a facility that works."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from command_line import CommandLine, data_exchange

from orchestration.commands.page import clock

KEYS = {
    "scan",
    "state",
    "stages",
    "overhead_seconds",
    "reconstruction",
    "catalogue",
    "prunes_scheduled",
    "urls",
}


def test_the_demo_ends_with_one_object(summary: dict[str, Any]) -> None:
    assert set(summary) == KEYS
    assert summary["state"] == "completed"
    assert all(set(stage) == {"name", "seconds"} for stage in summary["stages"])
    assert summary["stages"][0]["name"] == "start the sandbox"
    assert "reconstruct at local" in [stage["name"] for stage in summary["stages"]]
    reconstruction = summary["reconstruction"]
    assert set(reconstruction) == {"relative_l2", "center_error_px", "slices", "seconds", "pictures"}
    assert abs(reconstruction["center_error_px"]) < 0.25
    assert reconstruction["relative_l2"] < 0.5
    assert all(Path(path).is_file() for path in reconstruction["pictures"])
    assert summary["catalogue"] == {"raw": 1, "derived": 2}
    assert summary["prunes_scheduled"] >= 7
    assert set(summary["urls"]) == {"prefect", "catalogue"}


def test_a_scan_is_listed_and_found_by_a_part_of_its_name(summary: dict[str, Any], command: CommandLine) -> None:
    listed = {row["scan"]: row for row in command.json("scans")}
    assert listed[summary["scan"]]["state"] == "completed"
    assert command.json("show", "demo")["scan"] == summary["scan"]
    assert "completed" in command("scans", "--beamline", "bl832")


def test_a_page_about_a_scan_cuts_nothing_and_has_no_colours_in_a_pipe(
    summary: dict[str, Any], command: CommandLine
) -> None:
    page = command("show", "demo")
    assert "\x1b" not in page
    pictures = [line.strip() for line in page.splitlines() if line.endswith(".png")]
    assert len(pictures) == len(summary["reconstruction"]["pictures"])
    assert all(Path(each).is_file() for each in pictures)
    assert "reconstruct at local" in page
    assert "until " in page


def test_when_each_copy_may_go_is_explained_and_a_hold_keeps_them_all(
    summary: dict[str, Any], command: CommandLine
) -> None:
    found = command.json("retention", "explain", "demo")
    places = {(copy["dataset"], copy["endpoint"]): copy for copy in found["copies"]}
    raw = places["raw", "spot832"]
    assert raw["due"] > raw["verified_at"]
    assert (raw["missing"], [place.split(":")[0] for place in raw["witnesses"]]) == ("", ["data832"])
    assert "no retention rule" in places["raw", "nersc832"]["missing"]
    assert places["raw", "nersc832"]["due"] is None

    placed = command.json("hold", "demo", "--why", "paper under review", "--until", "2099-01-01")
    assert placed["until"] > raw["due"]
    held = command.json("retention", "explain", "demo")
    assert [each["why"] for each in held["holds"]] == ["paper under review"]
    assert all("paper under review" in copy["missing"] for copy in held["copies"] if copy["due"])
    page = command("retention", "explain", "demo")
    assert "may not be deleted now: the scan is held by" in page
    assert f"is kept until {clock(datetime.fromisoformat(raw['due']).timestamp())} at least" in page
    assert "is not deleted by itself" in page
    assert command("release", "demo").count("paper under review") == 1
    assert "No hold stands" in command("release", "demo")
    assert command.json("retention", "explain", "demo")["copies"] == found["copies"]
    assert f"kept elsewhere, and found whole just now: {raw['witnesses'][0]}" in command("retention", "explain", "demo")


@pytest.mark.slow
def test_what_nobody_can_tell_of_a_deletion_is_said_to_be_unknown(
    summary: dict[str, Any], command: CommandLine
) -> None:
    known = command.json("retention", "explain", "demo")["copies"]
    deaf = replace(command, environment={**command.environment, "PREFECT_API_URL": "http://127.0.0.1:9/api"})
    with deaf.start("retention", "explain", "demo", "--json") as process:
        printed, _ = process.communicate(timeout=100)
    assert process.returncode == 0
    found = json.loads(printed)["copies"]
    assert [copy["due"] for copy in found] == [copy["due"] for copy in known]
    assert all(copy["missing"].startswith("no answer") for copy in found if copy["due"])
    assert not any(copy["witnesses"] for copy in found)


def test_a_hold_that_would_be_over_is_refused(summary: dict[str, Any], command: CommandLine) -> None:
    result = command.result("hold", "demo", "--why", "too late", "--until", "2001-01-01")
    assert (result.exit_code, result.stderr.split(":")[0]) == (1, "InvalidInput")


@pytest.mark.slow
def test_a_rerun_gives_another_result_and_does_not_move_the_file_again(
    summary: dict[str, Any], command: CommandLine
) -> None:
    before = command.json("show", summary["scan"])
    after = command.json("rerun", "demo", "--set", "center=30", "--set", "filter=hann")
    assert after["failed"] is None
    assert after["state"] == "completed"
    assert after["results"][-1]["receipt"]["quality"]["center"]["column"] == 30.0
    assert after["results"][-1]["receipt"]["parameters"]["filter"] == "hann"
    assert len(after["results"]) == len(before["results"]) + 1

    def moved(page: dict[str, Any]) -> list[tuple[str, int, str]]:
        return [
            (stage["name"], stage["attempt"], stage["handle"]) for stage in page["stages"] if "raw" in stage["name"]
        ]

    assert moved(after) == moved(before)

    # The first result was replaced on disk: asked for again it is made again, with records of its own.
    again = command.json("run", "bl832", f"/global/{before['path']}", "--flow", "local_recon_flow")
    assert again["failed"] is None
    assert {result["receipt"]["parameters"]["filter"] for result in again["results"]} == {"ramp", "hann"}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ("centre=30", "no parameter 'centre'"),
        ("center=left", "center is 'left', not float or nothing"),
        ("rings=wavelet", "not one of none, median, fw, sorting"),
        ("filter-cutoff=99", "from 0.001 to 10"),
        ("tiff=no", "tiff is always written"),
    ],
)
def test_a_wrong_parameter_is_refused_before_anything_starts(
    change: str, complaint: str, summary: dict[str, Any], command: CommandLine
) -> None:
    runs = len(command.json("show", "demo")["runs"])
    result = command.result("rerun", "demo", "--set", change)
    assert result.exit_code == 1
    assert result.stderr.startswith("InvalidInput: ")
    assert complaint in result.stderr
    assert "Next: " in result.stderr
    assert len(command.json("show", "demo")["runs"]) == runs


def test_what_is_no_assignment_is_a_usage_error(summary: dict[str, Any], command: CommandLine) -> None:
    assert "is not NAME=VALUE" in command.result("rerun", "demo", "--set", "center").stderr


@pytest.mark.slow
def test_a_file_from_elsewhere_goes_the_same_way(command: CommandLine, tmp_path: Path) -> None:
    file = data_exchange(tmp_path / "dropped_disc.h5")
    page = command.json("run", "bl832", str(file), "--proposal", "ALS-9", "--flow", "new_832_file_flow")
    assert page["state"] == "completed"
    assert page["path"] == "raw/ALS-9/dropped_disc.h5"
    assert {copy["endpoint"] for copy in page["copies"]} == {"spot832", "data832", "nersc832"}
    assert file.is_file()

    with file.open("ab") as more:
        more.write(os.urandom(10))
    refused = command.result("run", "bl832", str(file), "--proposal", "ALS-9")
    assert "another file is already at" in refused.stderr


def test_nothing_is_going_on_with_a_scan_that_is_done(summary: dict[str, Any], command: CommandLine) -> None:
    assert command("cancel", "demo").startswith("Nothing is going on")
    assert command.json("cancel", "demo")["answers"] == []


def test_no_run_has_died(command: CommandLine) -> None:
    deletions = ("planned_deletions", "renewed_deletions")
    lists = ("dead_runs", "told_to_prefect", "resumed_runs", "orphans", *deletions, "taken_back", "swept_jobs")
    assert command.json("reconcile") == {**{name: [] for name in lists}, "cleared_jobs": {}}
    assert command("reconcile") == "No run has died.\n"


def test_settings_ledger_and_sandbox_are_right(command: CommandLine, summary: dict[str, Any]) -> None:
    assert command.json("config", "check")["ok"] is True
    assert command.json("ledger", "check")["ok"] is True
    assert command.json("ledger", "migrate")["after"]
    assert command.json("sandbox", "status")["running"] is True
