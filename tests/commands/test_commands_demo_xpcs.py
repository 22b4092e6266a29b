"""The demo of photon correlation: what it says is what was found, and it says when it did not get there."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from command_line import PROJECT, CommandLine

from orchestration.cli import beamline
from orchestration.commands.demo.records import Fitted, Record
from orchestration.commands.demo.series import COARSE, Experiment, Movie, cycle
from orchestration.commands.demo.xpcs import correlation
from orchestration.config import Settings, load
from orchestration.sandbox import blueprint
from orchestration.sandbox.layout import Layout
from orchestration.sandbox.supervisor import Supervisor

MOVIE = Movie(frames=600, size=64, photons=0.5)


def fitted_bin(tau: float, *, contrast: float = 0.3, baseline: float = 1.0, quality: str = "good") -> dict[str, Any]:
    return {"quality": quality, "tau_s": tau, "contrast": contrast, "baseline": baseline}


def record(fitted: Fitted | None, *, picture: str = "g2.png") -> Record:
    return Record(
        title="movie",
        scan="1",
        subject="globus://there",
        state="final",
        complete=fitted is not None,
        results_back=1.0,
        final=2.0,
        overhead=0.5,
        fitted=fitted,
        pictures=(Path(picture),),
    )


def complaints(summary: dict[str, Any]) -> list[str]:
    spec = importlib.util.spec_from_file_location("check_demo", PROJECT / "scripts" / "check_demo.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: list[str] = module.complaints(summary)
    return found


def test_fits_are_compared_with_what_was_put_in_and_bad_ones_left_out() -> None:
    bins = [
        fitted_bin(404e-6, contrast=0.33, baseline=1.001),
        fitted_bin(392e-6),
        fitted_bin(440e-6),
        fitted_bin(1.0, quality="misfit"),
    ]
    found = Fitted.of(bins, MOVIE)
    assert found is not None
    assert (found.good, found.bins) == (3, 4)
    assert found.tau_seconds == pytest.approx(404e-6)
    assert found.tau_error_percent == pytest.approx(2.0)
    assert found.worst_tau_error_percent == pytest.approx(10.0)
    assert found.contrast_error_percent == pytest.approx(0.0)
    assert Fitted.of(bins[-1:], MOVIE) is None


def test_the_worst_record_is_what_the_demo_is_judged_by() -> None:
    near = Fitted.of([fitted_bin(404e-6)], MOVIE)
    far = Fitted.of([fitted_bin(480e-6)], MOVIE)
    both = correlation([record(near), record(far, picture="other.png")])
    assert both["tau_error_percent"] == pytest.approx(20.0)
    assert both["pictures"] == ["g2.png", "other.png"]
    assert correlation([record(near), record(None)])["tau_error_percent"] is None


def test_the_check_complains_of_a_record_that_is_not_final_and_of_a_decay_that_is_off() -> None:
    near, far = (Fitted.of([fitted_bin(tau)], MOVIE) for tau in (404e-6, 480e-6))
    good = [record(near), replace(record(near), subject="globus://beside")]
    assert complaints(summary_of(good)) == []
    (said,) = complaints(summary_of([good[0], replace(good[1], state="placeholder")]))
    assert "placeholder" in said
    (said,) = complaints(summary_of([good[0], replace(good[1], fitted=far)]))
    assert "tau_error_percent" in said
    (said,) = complaints(summary_of([good[0], good[0]]))
    assert "two records" in said


def summary_of(records: list[Record]) -> dict[str, Any]:
    documents = [each.document() for each in records]
    return {"state": "completed", "correlation": correlation(records), "records": documents}


@pytest.mark.parametrize(("month", "name"), [(1, "2026-1"), (4, "2026-1"), (5, "2026-2"), (12, "2026-3")])
def test_a_year_has_three_cycles(month: int, name: str) -> None:
    assert cycle(datetime(2026, month, 1, tzinfo=UTC)) == name


def test_options_of_another_demo_are_refused() -> None:
    result = CliRunner().invoke(beamline, ["demo", "--angles", "90", "xpcs"])
    assert result.exit_code == 2
    assert "--angles" in result.output


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    layout = Layout.at(tmp_path / "sandbox")
    layout.create()
    blueprint.write(layout, PROJECT / "config.yml")
    return load(layout.config_file)


def test_a_dataset_is_taken_with_nothing_else_in_its_folder_and_its_qmap_where_qmaps_are(settings: Settings) -> None:
    experiment = Experiment(settings, datetime(2026, 5, 1, tzinfo=UTC))
    root = settings.endpoint("aps8idi").mount
    assert root is not None
    assert settings.xpcs.settle_seconds <= 1.0
    raw, qmap = experiment.take("a", replace(MOVIE, frames=16), COARSE, seed=1)
    assert raw == "/gdata/dm/8IDI/2026-2/demo/data/a/a.h5"
    assert qmap == "/gdata/dm/8IDI/2026-2/demo/qmaps/64px_6x1_qmap.hdf"
    there = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
    folder = "2026-2/demo/data/a"
    assert there == {f"{folder}/a.h5", f"{folder}/a_metadata.hdf", "2026-2/demo/qmaps/64px_6x1_qmap.hdf"}
    assert [path.name for path in (root / "2026-2/demo").iterdir() if path.name.startswith(".")] == []


@pytest.fixture
def ended(once: Callable[..., Any], sandbox: Supervisor) -> dict[str, Any]:
    """The JSON object that ends a small demo."""
    found: dict[str, Any] = once("xpcs", lambda: nullcontext(_ended(sandbox)))
    return found


def _ended(sandbox: Supervisor) -> dict[str, Any]:
    line = CommandLine(sandbox.layout.root.parent, {})
    size = (f"--frames={MOVIE.frames}", f"--size={MOVIE.size}", f"--photons={MOVIE.photons}")
    process = line.start("demo", "xpcs", *size, "--json", f"--state={sandbox.layout.root}")
    output, errors = process.communicate(timeout=400)
    assert process.returncode == 0, errors
    assert "results are back" in errors
    found: dict[str, Any] = json.loads(output)
    return found


@pytest.mark.slow
def test_the_demo_correlates_publishes_and_does_it_again(ended: dict[str, Any], command: CommandLine) -> None:
    assert set(ended) == {"state", "stages", "overhead_seconds", "truth", "correlation", "records", "urls"}
    assert ended["state"] == "completed"
    assert ended["truth"]["tau_seconds"] == pytest.approx(400e-6)
    # A small movie is a noisy one; how far a large one is off, `.ci/run` asks.
    assert ended["correlation"]["tau_error_percent"] < 25
    assert ended["correlation"]["contrast_error_percent"] < 25
    assert all(Path(path).stat().st_size > 1000 for path in ended["correlation"]["pictures"])
    first, second = ended["records"]
    assert second["title"] == first["title"] + "_fine"
    assert first["scan"] == second["scan"]
    assert first["subject"] != second["subject"]
    assert [(each["state"], each["fits"]["bins"]) for each in ended["records"]] == [("final", 6), ("final", 18)]
    assert all(0 < each["results_back_seconds"] < each["record_seconds"] for each in ended["records"])
    shown = command.json("show", first["title"])
    assert (shown["scan"], shown["state"], shown["beamline"]) == (first["scan"], "completed", "aps8idi")
