"""The command line: what boost_corr accepts, what is left behind, and what becomes of each of its known defects."""

from __future__ import annotations

import json
import os
import shutil
import threading
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray
from xpcs_bench import Bench, Outcome, correlating, left, make
from xpcs_reference import g2_of, multitau

from orchestration.science.cli import ERROR_FILE, main
from orchestration.science.errors import MetadataMissing, ParametersInvalid, ResultInvalid
from orchestration.science.xpcs.frames import Selection
from orchestration.science.xpcs.movie import MovieDescription
from orchestration.science.xpcs.naming import Names
from orchestration.science.xpcs.parameters import Parameters
from orchestration.science.xpcs.read import open_raw
from orchestration.science.xpcs.validate import demand_valid

Answer = tuple[int, str, str]
Command = Callable[..., Answer]

DESCRIPTION = MovieDescription(rows=40, columns=50, frames=120, photons=0.3, seed=2)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return make(tmp_path_factory.mktemp("bench"), DESCRIPTION, rings=2, sectors=2)


@pytest.fixture
def bench(made: Bench, tmp_path: Path) -> Bench:
    """A measurement to spoil."""
    for path in (made.raw, made.qmap, made.folder / "a_metadata.hdf"):
        shutil.copy(path, tmp_path / path.name)
    return Bench(tmp_path, tmp_path / "a.h5", made.frames)


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str]) -> Command:
    def run(*arguments: str | Path) -> Answer:
        capfd.readouterr()
        code = main(["xpcs", *map(str, arguments)])
        printed = capfd.readouterr()
        return code, printed.out, printed.err

    return run


def test_the_path_of_the_result_is_printed_last(bench: Bench, command: Command) -> None:
    code, out, err = command(*correlating(bench))
    assert (code, err) == (0, "")
    assert Path(out.splitlines()[-1]) == bench.folder / "out" / "a_results.hdf"
    assert left(bench) == ["a_results.hdf", "a_results.json"]


def test_the_options_are_those_of_boost_corr(bench: Bench, command: Command) -> None:
    options = [
        "-s",
        "dqmap",
        "-i",
        "-1",
        "-nf",
        "1",
        "-b",
        "2",
        "-e",
        "-1",
        "-f",
        "2",
        "-a",
        "2",
        "-t",
        "Both",
        "-d",
        "1,3-4",
        "-v",
        "-w",
        "-G",
        "-np",
        "2",
    ]
    code, out, _err = command(*correlating(bench, *options, "--crop-ratio-threshold", "0.7", "-p", "pre", "-u", "suf"))
    assert code == 0
    found = Outcome.of(Path(out.splitlines()[-1]))
    assert found.path.name == "pre_a_suf_results.hdf"
    config = {name.rpartition("/")[2]: value for name, value in found.values.items() if "multitau/config" in name}
    expected = {
        "avg_frame": 2,
        "stride_frame": 2,
        "begin_frame": 2,
        "end_frame": -1,
        "normalize_frame": 1,
        "smooth": b"dqmap",
        "dq_selection": b"1,3-4",
        "type": b"Both",
        "analysis_type": b"multitau",
        "save_G2": True,
        "num_partial_g2": 2,
        "crop_ratio_threshold": 0.7,
        "prefix": b"pre",
        "suffix": b"suf",
        "overwrite": True,
    }
    assert {name: config[name] for name in expected} == expected
    assert found["twotime/config/analysis_type"] == b"twotime"
    assert found["rawdata_path"] == str(bench.raw).encode()


def test_the_file_is_laid_out_as_boost_corr_does_it(bench: Bench, command: Command) -> None:
    _code, out, _err = command(*correlating(bench, "-t", "Both", "-G", "-d", "1,2"))
    with h5py.File(out.strip(), "r") as file:
        assert "/entry/schema_version" in file
        assert "/entry/instrument/detector_1/frame_time" in file
        for name in ("mask", "dynamic_roi_map", "static_roi_map", "dynamic_v_list_dim0", "beam_center_x"):
            assert f"/xpcs/qmap/{name}" in file
        assert file["/xpcs/qmap"].attrs["hash"]
        lags, shape = 22, (40, 50)
        for name, size, kind in (
            ("multitau/delay_list", (lags,), "int64"),
            ("multitau/normalized_g2", (lags, 4), "float32"),
            ("multitau/normalized_g2_err", (lags, 4), "float32"),
            ("multitau/unnormalized_G2", (lags, 3, *shape), "float32"),
            ("temporal_mean/scattering_2d", (1, *shape), "float32"),
            ("spatial_mean/intensity_vs_time", (2, 120), "float32"),
            ("twotime/correlation_map/c2_00002", (120, 120), "float32"),
            ("twotime/normalized_g2", (120, 2), "float32"),
            ("twotime/normalized_g2_segments", (24, 5, 2), "float32"),
            ("twotime/processed_bins", (2,), "int32"),
        ):
            dataset = file[f"/xpcs/{name}"]
            assert (dataset.shape, dataset.dtype) == (size, np.dtype(kind)), name
        assert file["/xpcs/multitau/unnormalized_G2"].chunks == (1, 1, *shape)
        assert file["/xpcs/twotime/correlation_map/c2_00001"].chunks == (120, 120)
        assert file["/xpcs/twotime/correlation_map/c2_00001"].compression == "lzf"
        assert file["/xpcs/multitau/normalized_g2"].compression is None


def test_the_receipt_tells_where_a_result_comes_from(bench: Bench, command: Command) -> None:
    _code, out, _err = command(*correlating(bench))
    found = Outcome.of(Path(out.strip())).receipt
    assert found["inputs"][0]["path"] == str(bench.raw)
    assert len(found["inputs"][0]["sha256"]) == 64
    assert len(found["qmap"]["sha256"]) == len(found["qmap"]["hash"]) == 64
    assert found["frames"]["count"] == 120
    assert found["versions"]["numpy"] == np.__version__
    assert found["seconds"].keys() >= {"prepare", "read", "multitau", "write"}


def test_a_second_result_gets_a_number_unless_it_is_to_replace_the_first(bench: Bench, command: Command) -> None:
    for name in ("a_results.hdf", "a_results_1.hdf", "a_results_2.hdf"):
        _code, out, _err = command(*correlating(bench))
        assert Path(out.strip()).name == name
        assert Outcome.of(Path(out.strip())).receipt["output"] == name
    _code, out, _err = command(*correlating(bench, "-w", "-e", "60"))
    assert Path(out.strip()).name == "a_results.hdf"
    assert Outcome.of(bench.folder / "out" / "a_results.hdf")["spatial_mean/intensity_vs_time"].shape == (2, 60)
    assert Outcome.of(bench.folder / "out" / "a_results_1.hdf")["spatial_mean/intensity_vs_time"].shape == (2, 120)


def test_a_result_and_its_receipt_are_of_one_run_where_several_replace_it_at_once(tmp_path: Path) -> None:
    names = Names(folder=tmp_path, name="a_results")

    def put(run: int) -> None:
        staged, paper = tmp_path / f"staged-{run}", tmp_path / f"receipt-{run}"
        for turn in range(200):
            staged.write_text(f"{run} {turn}")
            paper.write_text(f"{run} {turn}")
            names.put(staged, lambda _: paper, overwrite=True)
            together.wait()
            if run == 0:
                found.add(names.result().read_text() == Names.receipt(names.result()).read_text())
            together.wait()

    found: set[bool] = set()
    together = threading.Barrier(4)
    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(put, run) for run in range(4)]:
            done.result()
    assert found == {True}


def test_a_result_that_is_not_valid_names_what_it_was_made_of(bench: Bench, command: Command) -> None:
    with h5py.File(bench.raw, "r+") as file:
        file["entry/data/data"][:, 20, 10:40] = 60_000
    code, _out, err = command(*correlating(bench))
    assert code == 1
    assert "neither near 1" in err
    assert f"({bench.raw}, {bench.qmap})" in err
    assert left(bench) == []


def test_a_dry_run_says_what_would_be_done_and_does_nothing(bench: Bench, command: Command) -> None:
    code, out, _err = command(*correlating(bench, "-n", "-a", "2"))
    assert code == 0
    told = json.loads(out)
    assert told["frames"] == 60
    assert told["dynamic_bins"] == 4
    assert told["result"] == str(bench.folder / "out" / "a_results.hdf")
    assert not (bench.folder / "out").exists()


def test_options_may_come_from_a_file(bench: Bench, command: Command) -> None:
    """As boost_corr's README says that they may."""
    file = bench.folder / "options.json"
    options = {"raw": str(bench.raw), "qmap": str(bench.qmap), "output": str(bench.folder / "out"), "avg_frame": 3}
    file.write_text(json.dumps(options | {"save_G2": True, "end_frame": 60}))
    code, out, err = command("correlate", "-c", file, "-e", "90")
    assert (code, err) == (0, "")
    found = Outcome.of(Path(out.strip()))
    assert found["spatial_mean/intensity_vs_time"].shape == (2, 30)
    assert "multitau/unnormalized_G2" in found.values


@pytest.mark.parametrize(
    ("text", "match"),
    [('{"avg": 2}', "'avg' is not an option"), ("[1]", "not a JSON object"), ("{", "cannot be read")],
)
def test_a_file_of_options_is_checked(bench: Bench, command: Command, text: str, match: str) -> None:
    file = bench.folder / "options.json"
    file.write_text(text)
    code, _out, err = command(*correlating(bench, "-c", file))
    assert code == 1
    assert match in err


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (("-t", "twotime"), "twotime"),
        (("-a", "0"), "average is 0"),
        (("-b", "119"), "two are needed"),
        (("-f", "200"), "leave 0 of 120"),
        (("-np", "100"), "parts of two"),
        (("-i", "99"), "GPU"),
        (("--crop-ratio-threshold", "2"), "crop_ratio_threshold"),
        (("--memory", "0"), "memory"),
        (("--memory", "inf"), "memory is inf"),
        (("-p", "../x"), "part of a file's name"),
        (("-u", "\0"), "part of a file's name"),
        (("-u", 250 * "x"), "would have 260 bytes"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_done(
    bench: Bench, command: Command, options: tuple[str, ...], match: str
) -> None:
    code, out, err = command(*correlating(bench, *options))
    assert code != 0
    assert out == ""
    assert match in err
    assert left(bench) == []


@pytest.mark.parametrize("there", [True, False])
def test_names_that_are_no_text_are_refused_in_a_sentence_for_programs_as_well(
    bench: Bench, command: Command, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    raw = os.fsdecode(os.fsencode(bench.folder) + b"/a\xff.h5")
    if there:
        bench.raw.rename(raw)
    report = bench.folder / "error.json"
    monkeypatch.setenv(ERROR_FILE, str(report))
    code, _out, err = command("correlate", "-r", raw, "-q", bench.qmap, "-o", bench.folder / "out")
    assert code == 1
    assert ("is no text of UTF-8" if there else "cannot be read") in err
    assert "\\udcff" in report.read_text()
    assert left(bench) == []


def test_what_is_not_given_is_named(command: Command) -> None:
    code, _out, err = command("correlate")
    assert code == 1
    assert "--raw is not given" in err


# ----- the metadata ---------------------------------------------------------------------------------------------------


def test_missing_metadata_is_found_before_the_frames_are_looked_at(bench: Bench, command: Command) -> None:
    (bench.folder / "a_metadata.hdf").unlink()
    code, _out, err = command(*correlating(bench))
    assert code == 1
    assert "there are none" in err
    assert left(bench) == []


def test_metadata_of_something_else_is_refused(bench: Bench) -> None:
    with h5py.File(bench.folder / "a_metadata.hdf", "w") as file:
        file["x"] = 1
    with pytest.raises(MetadataMissing, match="schema_version"):
        bench.correlate()


def test_of_several_the_metadata_is_that_with_the_name_of_the_raw_file(bench: Bench) -> None:
    for name in ("b", "aa", ""):
        shutil.copy(bench.folder / "a_metadata.hdf", bench.folder / f"{name}_metadata.hdf")
    assert bench.correlate().path.name == "a_results.hdf"
    (bench.folder / "a_metadata.hdf").unlink()
    with pytest.raises(MetadataMissing, match=r"_metadata\.hdf, aa_metadata\.hdf, b_metadata\.hdf"):
        bench.correlate()


def test_a_name_that_ends_like_metadata_keeps_its_letters(bench: Bench) -> None:
    """boost_corr makes sampl_results.hdf of it."""
    (bench.folder / "a_metadata.hdf").rename(bench.folder / "sample_data_metadata.hdf")
    assert bench.correlate().path.name == "sample_data_results.hdf"


# ----- partial g2 -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["dense", "sparse"])
def test_g2_of_parts_of_the_time(bench: Bench, method: str) -> None:
    """boost_corr writes only NaN."""
    selection = Selection(begin=1, average=2)
    found = bench.correlate(Parameters(num_partial_g2=3, frames=selection, method=method))  # type: ignore[arg-type]
    maps = bench.maps()
    frames = bench.chosen(selection, normalised=np.ones_like(maps.mask))
    length = len(frames) // 3
    assert found["multitau/normalized_g2_partial_labels"].tolist() == [9.5, 28.5, 47.5]
    for number in range(3):
        right = g2_of(multitau(frames[number * length :][:length]).g2, maps.dynamic, maps.static)
        stored = found["multitau/normalized_g2_partial"][number]
        np.testing.assert_allclose(stored[: len(right.g2)], right.g2, rtol=1e-5)
        assert np.isnan(stored[len(right.g2) :]).all()
        errors = found["multitau/normalized_g2_partial_err"][number]
        np.testing.assert_allclose(errors[: len(right.g2)], right.err, rtol=1e-5, atol=1e-6)


# ----- what is checked of a result ------------------------------------------------------------------------------------


def test_a_good_result_is_found_valid(bench: Bench, command: Command) -> None:
    found = bench.correlate(Parameters(type="Both"))
    code, out, _err = command("validate", found.path, "-r", bench.raw)
    assert code == 0
    assert "lags to" in out
    assert "added up again" in out


def test_frames_that_are_averaged_need_not_fit_the_memory_to_be_added_up_again(made: Bench) -> None:
    found = made.correlate(Parameters(frames=Selection(average=60)))
    with open_raw(made.raw) as raw:
        tracemalloc.start()
        try:
            demand_valid(found.path, raw=raw)
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert peak < made.frames[:60].nbytes


Change = Callable[[NDArray[Any]], NDArray[Any]]


def _nan(values: NDArray[Any]) -> NDArray[Any]:
    values[0, 0] = np.nan
    return values


def _brighter(values: NDArray[Any]) -> NDArray[Any]:
    values[1, 0] *= 1.001
    return values


@pytest.mark.parametrize(
    ("name", "change", "match"),
    [
        ("multitau/normalized_g2", _nan, "not finite"),
        ("multitau/normalized_g2", lambda values: values[:-1], "not (22, 4)"),
        ("multitau/normalized_g2", lambda values: values.astype(np.float64), "float64"),
        ("multitau/normalized_g2", lambda values: values * np.float32(0.2), "ends at"),
        ("multitau/normalized_g2", lambda values: values + np.float32(8.0), "ends at"),
        ("multitau/delay_list", lambda values: values + 1, "delays are not those of 120"),
        ("temporal_mean/scattering_2d", lambda values: values[:, :-1], "not (1, 40, 50)"),
        ("spatial_mean/intensity_vs_time", _brighter, "in the raw data"),
        ("qmap/static_roi_map", lambda values: values.astype(np.float32), "does not hold whole numbers"),
        ("qmap/static_roi_map", lambda values: values.astype(np.int64) * 2**40, "to at most that of the pixels"),
        ("qmap/dynamic_roi_map", lambda values: values.astype(np.int64) - 1, "from 0 to"),
        ("qmap/static_roi_map", lambda values: values * 0, "not (1, 0)"),
    ],
)
def test_a_bad_result_is_refused(bench: Bench, name: str, change: Change, match: str, command: Command) -> None:
    found = bench.correlate()
    with h5py.File(found.path, "r+") as file:
        values = change(file["xpcs"][name][()])
        del file["xpcs"][name]
        file["xpcs"][name] = values
    code, _out, err = command("validate", found.path, "-r", bench.raw)
    assert code == 1
    assert match in err


def test_what_is_no_result_is_refused(bench: Bench) -> None:
    with pytest.raises(ResultInvalid, match="no /xpcs"):
        demand_valid(bench.raw)
    with pytest.raises(ResultInvalid, match="cannot be read"):
        demand_valid(bench.folder / "none.hdf")


# ----- simulated movies -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("raw_format", ["nexus", "imm", "imm-sparse"])
def test_a_movie_is_simulated_correlated_and_valid(raw_format: str, tmp_path: Path, command: Command) -> None:
    options = ["--rows", "48", "--columns", "40", "--frames", "100", "--photons", "0.2", "--rings", "2"]
    code, out, _err = command("simulate", tmp_path, "--format", raw_format, *options)
    assert code == 0
    raw, metadata, qmap = map(Path, out.split())
    assert metadata.name == "movie_metadata.hdf"
    code, out, err = command("correlate", "-r", raw, "-q", qmap, "-o", tmp_path / "out")
    assert (code, err) == (0, "")
    assert Path(out.strip()).name == "movie_results.hdf"


def test_all_formats_of_one_movie_give_one_result(tmp_path: Path) -> None:
    found = []
    for raw_format, name in (("nexus", "a.h5"), ("imm", "a.imm"), ("imm-sparse", "a.imm")):
        folder = tmp_path / raw_format
        folder.mkdir()
        found.append(make(folder, DESCRIPTION, raw_format=raw_format, name=name).correlate())  # type: ignore[arg-type]
    for other in found[1:]:
        np.testing.assert_allclose(other["multitau/normalized_g2"], found[0]["multitau/normalized_g2"], rtol=1e-6)


def test_a_rigaku_movie_is_correlated(tmp_path: Path) -> None:
    description = MovieDescription(rows=512, columns=1024, frames=40, photons=0.01, contrast=0.5)
    found = make(tmp_path, description, raw_format="rigaku500k", name="a.bin", rings=3).correlate()
    assert found.receipt["method"] == "sparse"
    assert found["temporal_mean/scattering_2d"].sum() == pytest.approx(512 * 1024 * 0.01, rel=0.02)


def test_averaging_too_many_frames_is_refused() -> None:
    with pytest.raises(ParametersInvalid, match="two are needed"):
        Selection(average=80).of(100)
