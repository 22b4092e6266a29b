from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from xpcs_result import Sample, write_result

from orchestration.science import errors
from orchestration.science.running.outputs import CONTENT_LIMIT
from orchestration.science.xpcs import manifest
from orchestration.science.xpcs.documents import dump, packed
from orchestration.science.xpcs.extra import Extra, Tool
from orchestration.science.xpcs.metadata import describe, describe_fits
from orchestration.science.xpcs.results import open_result
from orchestration.science.xpcs.show_cli import analyse, plot

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone(timedelta(hours=-6)))
SMALL = Sample(rows=32, columns=32, q_bins=3, phi_bins=2, frames=500)
EXTRA = {
    "source_files": {"raw": ["/data/raw.h5"], "qmap": ["/data/qmap.h5"]},
    "organization": "Argonne National Laboratory",
    "facility": "Advanced Photon Source",
    "experiment": "foster202401",
    "cycle": "2024-2",
    "time_zone": "America/Chicago",
    "tools": [{"name": "boost_corr", "tool_version": "0.1.6", "execution_time_seconds": 12, "device": "gpu"}],
}


def described(path: Path, extra: Extra | None = None) -> dict[str, Any]:
    """Through JSON and back, as an index gets it."""
    result = open_result(path)
    fits, law = analyse(result, "single")
    document = describe(result, fits, law, extra or Extra(), seconds=1.0, now=NOW)
    assert list(document) == ["project_metadata"]

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    found: dict[str, Any] = json.loads(dump(document), parse_constant=refuse)["project_metadata"]
    return found


def types(value: object, where: str = "") -> dict[str, set[type]]:
    """The types at each place as a search index sees them: items of lists share theirs, and null has none."""
    found: dict[str, set[type]] = {where: set()}
    if isinstance(value, dict):
        parts = [types(item, f"{where}.{key}") for key, item in value.items()]
    elif isinstance(value, list):
        parts = [types(item, where) for item in value]
    else:
        return {where: set() if value is None else {type(value)}}
    for part in parts:
        for key, kinds in part.items():
            found.setdefault(key, set()).update(kinds)
    return found


def extra_file(folder: Path, **changes: object) -> Path:
    path = folder / "extra.json"
    path.write_text(json.dumps(EXTRA | changes))
    return path


def test_metadata_tell_what_was_measured_and_found(tmp_path: Path) -> None:
    found = described(
        write_result(tmp_path / "A001_results.hdf", Sample(frames=20000)), Extra.read(extra_file(tmp_path))
    )
    assert found["name"] == "A001"
    assert found["analysis_type"] == "Multitau"
    assert found["start_time"] == "2024-07-17T21:01:36+00:00"
    assert found["start_time_recorded"] == "2024-07-17 16:01:36"
    assert found["plot_time"] == "2026-01-02T09:04:05+00:00"
    assert found["source_files"] == {"raw": ["/data/raw.h5"], "qmap": ["/data/qmap.h5"]}
    assert (found["cycle"], found["experiment"]) == ("2024-2", "foster202401")
    assert found["beam"] == {"energy_kev": 10.0}
    assert found["detector"]["name"] == "Eiger4M"
    assert found["acquisition"]["proposal_id"] == "12345"
    assert found["acquisition"]["duration_s"] == pytest.approx(20.0)
    assert found["acquisition"]["incident_monitor"] is None
    assert found["q_bins"]["dynamic_grid"] == [9, 3]
    assert found["q_bins"]["qmap_hash"] == "0" * 64
    fits = found["fits"]
    assert (fits["model"], fits["good"], len(fits["bins"])) == ("single", 27, 27)
    assert fits["bins"][0]["quality"] == "good"
    assert fits["bins"][0]["tau_s"] == pytest.approx(1 / (6e4 * 0.004**2), rel=0.1)
    assert fits["bins"][0]["contrast"] == pytest.approx(0.25, abs=0.02)
    assert fits["power_law"]["diffusion"] == pytest.approx(6e4, rel=0.02)
    other, ours = found["tools"]
    assert (other["name"], other["execution_time_seconds"], other["source"]) == ("boost_corr", 12.0, None)
    assert other.keys() == ours.keys() == {"name", "tool_version", "execution_time_seconds", "device", "source"}
    assert ours["execution_time_seconds"] == 1.0


def test_every_key_is_always_there_and_has_one_type(tmp_path: Path) -> None:
    whole = write_result(tmp_path / "a_results.hdf", SMALL)
    twotime = write_result(tmp_path / "b_results.hdf", replace(SMALL, multitau=False, twotime=1, twotime_frames=10))
    bare = write_result(tmp_path / "c_results.hdf", SMALL)
    with h5py.File(bare, "a") as file:
        for where in ("/entry/start_time", "/entry/sample", "/entry/instrument/bluesky", "/xpcs/qmap/beam_center_x"):
            del file[where]
        del file["/xpcs/qmap/energy"], file["/entry/instrument/incident_beam"]
    odd = write_result(tmp_path / "d_results.hdf", SMALL)
    with h5py.File(odd, "a") as file:
        for where, value in (
            ("/entry/instrument/bluesky/metadata/proposal_id", 77),
            ("/entry/instrument/bluesky/metadata/I0", 5),
            ("/entry/instrument/detector_1/count_time", 1),
            ("/entry/instrument/detector_1/description", np.array([b"Lambda"])),
            ("/entry/instrument/incident_beam/incident_energy", 11),
            ("/xpcs/qmap/energy", 11),
            ("/xpcs/qmap/beam_center_x", 40),
        ):
            del file[where]
            file[where] = value
        file["/xpcs/multitau/normalized_g2_err"][...] = np.nan
    documents = [described(whole, Extra.read(extra_file(tmp_path)))]
    documents += [described(path) for path in (twotime, bare, odd)]
    assert documents[3]["acquisition"]["proposal_id"] == "77"
    assert documents[3]["detector"]["name"] == "Lambda"
    assert documents[3]["fits"]["bins"][0]["quality"] == "too_few_lags"
    assert all(document.keys() == documents[0].keys() for document in documents)
    for section in ("acquisition", "detector", "geometry", "q_bins", "beam", "sample", "fits", "source_files"):
        assert all(document[section].keys() == documents[0][section].keys() for document in documents)
    merged = types(documents)
    assert {where: kinds for where, kinds in merged.items() if len(kinds) > 1} == {}
    assert merged[".acquisition.count_time_s"] == {float}
    assert merged[".geometry.center_x"] == {float}


@pytest.mark.parametrize(
    ("recorded", "zone", "utc"),
    [
        ("2024-07-17T16:01:36.5-05:00", None, "2024-07-17T21:01:36+00:00"),
        ("2024-07-17T21:01:36Z", "Asia/Tokyo", "2024-07-17T21:01:36+00:00"),
        ("2024-01-17 16:01:36", "America/Chicago", "2024-01-17T22:01:36+00:00"),
        ("2024-01-17 16:01:36", None, None),
        ("yesterday", "UTC", None),
    ],
)
def test_times_are_in_utc_or_not_there(tmp_path: Path, recorded: str, zone: str | None, utc: str | None) -> None:
    path = write_result(tmp_path / "s_results.hdf", SMALL)
    with h5py.File(path, "a") as file:
        del file["/entry/start_time"]
        file["/entry/start_time"] = recorded
    found = described(path, Extra(time_zone=zone))
    assert found["start_time"] == utc
    assert found["start_time_recorded"] == recorded
    assert datetime.fromisoformat(found["plot_time"]).tzinfo == UTC


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"cycle": 2024}, "cycle is not a text"),
        ({"colour": "blue"}, "unknown keys"),
        ({"source_files": {"raw": "/data"}}, "source_files.raw is not a list"),
        ({"source_files": {"raw": [1]}}, "source_files.raw is not a text"),
        ({"source_files": {"log": []}}, "unknown keys"),
        ({"source_files": []}, "must be one JSON object"),
        ({"time_zone": "Mars/Olympus"}, "no time zone"),
        ({"tools": {}}, "tools is not a list"),
        ({"tools": [{"tool_version": "1"}]}, "needs a name"),
        ({"tools": [{"name": "x", "execution_time_seconds": "1"}]}, "is not a number"),
    ],
)
def test_extra_metadata_of_another_type_are_refused(tmp_path: Path, changes: dict[str, object], words: str) -> None:
    with pytest.raises(errors.ParametersInvalid, match=words):
        Extra.read(extra_file(tmp_path, **changes))


def test_extra_metadata_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(errors.ParametersInvalid, match="cannot be read"):
        Extra.read(tmp_path / "absent.json")
    path = tmp_path / "extra.json"
    path.write_text("[1]")
    with pytest.raises(errors.ParametersInvalid, match="must be one JSON object"):
        Extra.read(path)
    path.write_text('{"tools": [{"name": "x", "execution_time_seconds": NaN}]}')
    assert Extra.read(path) == Extra(tools=(Tool(name="x"),))


def test_fits_are_written_in_full(tmp_path: Path) -> None:
    path = write_result(tmp_path / "s_results.hdf", replace(SMALL, ours=True))
    result = open_result(path)
    fits, law = analyse(result, "stretched")
    assert fits is not None
    found: Any = json.loads(dump(describe_fits(result, fits, law)))
    assert (found["model"], found["version"]) == ("stretched", 1)
    assert [each["errors_of_g2"] for each in found["bins"]] == ["spread over pixels"] + ["jackknife"] * 5
    assert [each["bin"] for each in found["bins"]] == [1, 2, 3, 4, 5, 6]
    assert sum(each["pixels"] for each in found["bins"]) == result.mask.sum()
    assert found["bins"][0]["label"] == "q = 0.00400 Å⁻¹, φ = −90°"
    assert found["bins"][0]["gamma_error"] > 0


def test_command_takes_extra_metadata_as_text_and_lists_all_files(tmp_path: Path) -> None:
    path = write_result(tmp_path / "s_results.hdf", replace(SMALL, q_bins=1, phi_bins=1))
    path.with_suffix(".json").write_text("{}")
    out, files = tmp_path / "web", tmp_path / "lists" / "files.json"
    words = [str(path), "--out", str(out), "--extra", json.dumps(EXTRA), "--files", str(files)]
    plot.main(args=words, standalone_mode=False)
    found = json.loads((out / "metadata.json").read_text())["project_metadata"]
    assert found["facility"] == "Advanced Photon Source"
    assert json.loads((out / "s_fits.json").read_text())["bins"] == found["fits"]["bins"]
    assert found["tools"][-1]["execution_time_seconds"] > 0
    told = json.loads(files.read_text())
    names = [each["name"] for each in told["files"]]
    assert told["version"] == 1
    assert told["metadata"]["project_metadata"] == found
    assert names == sorted(["s_results.hdf", "s_results.json", *(f"web/{each.name}" for each in out.iterdir())])
    for each in told["files"]:
        content = (tmp_path / each["name"]).read_bytes()
        assert (each["size"], each["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())


def test_command_refuses_what_cannot_be_meant_before_anything_is_replaced(tmp_path: Path) -> None:
    path = write_result(tmp_path / "s_results.hdf", replace(SMALL, q_bins=1, phi_bins=1))
    words, files = [str(path), "--out", str(tmp_path / "web")], tmp_path / "files.json"
    files.write_text("{}")
    given = ["--extra", "{}", "--extra-metadata", str(extra_file(tmp_path))]
    for more, match in (
        (given, "both --extra and --extra-metadata"),
        (["--extra", "{"], "extra metadata cannot be read"),
        (["--extra-metadata", str(path)], "extra metadata cannot be read"),
        (["--files", str(path)], "name of one of them"),
    ):
        with pytest.raises(errors.ParametersInvalid, match=match):
            plot.main(args=[*words, *more], standalone_mode=False)
    path.unlink()
    with pytest.raises(errors.ScanMissing):
        plot.main(args=[*words, "--files", str(files)], standalone_mode=False)
    assert files.is_file()
    assert not (tmp_path / "web" / "metadata.json").exists()


def test_files_elsewhere_are_listed_by_their_folder_and_sixty_fit_into_a_report(tmp_path: Path) -> None:
    result = tmp_path / "results" / "A001_a_long_name_of_a_measurement_results.hdf"
    result.parent.mkdir()
    result.write_bytes(b"x")
    (tmp_path / "web").mkdir()
    written = [tmp_path / "web" / f"A001_a_long_name_of_a_measurement_twotime_{number:03}.png" for number in range(60)]
    for path in written:
        path.write_bytes(b"y")
    found = manifest.files(result, reversed(written))
    assert [each["name"] for each in found] == [result.name, *(f"web/{path.name}" for path in written)]  # type: ignore[index, call-overload]
    assert len(packed(manifest.document(found))) < CONTENT_LIMIT / 4
