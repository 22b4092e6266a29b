"""Two-time functions against the definition in double precision."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from xpcs_bench import Bench, make
from xpcs_reference import two_time

from orchestration.science.errors import ParametersInvalid
from orchestration.science.xpcs import output, twotime
from orchestration.science.xpcs.frames import Selection
from orchestration.science.xpcs.movie import MovieDescription
from orchestration.science.xpcs.parameters import Method, Parameters

BOTH: tuple[Method, Method] = ("dense", "sparse")


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    description = MovieDescription(rows=50, columns=60, frames=203, photons=0.2, contrast=0.3, decay=15.0, seed=4)
    return make(tmp_path_factory.mktemp("bench"), description, rings=3, sectors=2, blemishes=0.3)


@pytest.mark.parametrize("method", BOTH)
@pytest.mark.parametrize("threshold", [0.0, 0.5, 1.0], ids=["not cropped", "as by default", "cropped"])
def test_c2_is_as_the_definition_has_it(bench: Bench, method: Method, threshold: float) -> None:
    """boost_corr fails, or is silently wrong, where it does not crop."""
    parameters = Parameters(type="Twotime", method=method, crop_ratio_threshold=threshold, dq_selection="5,1-2")
    found = bench.correlate(parameters)
    maps, frames = bench.maps(), bench.chosen(Selection())
    assert found["twotime/processed_bins"].tolist() == [1, 2, 5]
    for number, bin_number in enumerate([1, 2, 5], start=1):
        inside = maps.dynamic == bin_number
        right = two_time(frames[:, inside], maps.static[inside])
        stored = found[f"twotime/correlation_map/c2_{number:05d}"]
        np.testing.assert_allclose(stored, np.triu(right), rtol=2e-5, atol=1e-6)
        lags = [np.diagonal(right, lag).mean() for lag in range(len(right))]
        np.testing.assert_allclose(found["twotime/normalized_g2"][:, number - 1], lags, rtol=2e-5, atol=1e-6)
        length = len(right) // 5
        for age in range(5):
            part = right[age * length : (age + 1) * length, age * length : (age + 1) * length]
            lags = [np.diagonal(part, lag).mean() for lag in range(length)]
            stored = found["twotime/normalized_g2_segments"][:, age, number - 1]
            np.testing.assert_allclose(stored, lags, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("method", BOTH)
def test_frames_may_be_selected_averaged_and_smoothed_over_dynamic_bins(bench: Bench, method: Method) -> None:
    selection = Selection(begin=2, end=-1, stride=2, average=3)
    found = bench.correlate(Parameters(type="Both", method=method, frames=selection, smooth="dqmap", dq_selection="4"))
    maps, frames = bench.maps(), bench.chosen(selection)
    inside = maps.dynamic == 4
    right = two_time(frames[:, inside], np.zeros(inside.sum(), dtype=np.int64))
    stored = found["twotime/correlation_map/c2_00001"]
    np.testing.assert_allclose(stored, np.triu(right), rtol=2e-5, atol=1e-6)
    assert "multitau/normalized_g2" in found.values


@pytest.mark.parametrize("method", BOTH)
def test_the_mean_scattering_is_told_of_ten_ages(bench: Bench, method: Method) -> None:
    found = bench.correlate(Parameters(type="Twotime", method=method, dq_selection="1"))
    maps, frames = bench.maps(), bench.chosen(Selection())
    ages = frames[:200].reshape(10, 20, -1).mean(axis=1)
    right = np.stack([ages[:, maps.static == one].mean(axis=1) for one in np.unique(maps.static[maps.static > 0])], 1)
    np.testing.assert_allclose(found["temporal_mean/scattering_1d_segments"], right, rtol=1e-5)


def test_large_functions_are_made_and_stored_in_strips(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = bench.correlate(Parameters(type="Twotime", dq_selection="3"))
    monkeypatch.setattr(output, "LARGEST_CHUNK", 1000)
    monkeypatch.setattr("orchestration.science.xpcs.correlate._STRIP_BYTES", 203 * 4 * 30)
    monkeypatch.setattr(twotime, "_COLUMN_BYTES", 203 * 4 * 17)
    monkeypatch.setattr(twotime, "_PANEL", 13)
    for method in BOTH:
        strips = bench.correlate(Parameters(type="Twotime", dq_selection="3", method=method))
        for name in ("correlation_map/c2_00001", "normalized_g2", "normalized_g2_segments"):
            np.testing.assert_allclose(strips[f"twotime/{name}"], whole[f"twotime/{name}"], rtol=1e-5, atol=1e-6)


def test_frames_that_do_not_fit_the_memory_are_kept_on_disk(bench: Bench) -> None:
    whole = bench.correlate(Parameters(type="Twotime", method="dense", dq_selection="2"))
    disk = bench.correlate(Parameters(type="Twotime", method="dense", dq_selection="2", memory=1e-5))
    np.testing.assert_array_equal(disk["twotime/normalized_g2"], whole["twotime/normalized_g2"])
    assert [path.name for path in (bench.folder / "out").iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("method", BOTH)
def test_dark_frames_leave_numbers(method: Method, tmp_path: Path) -> None:
    bench = make(tmp_path, MovieDescription(rows=30, columns=30, frames=40, photons=0.002), rings=2, blemishes=0.0)
    found = bench.correlate(Parameters(type="Twotime", method=method))
    maps, frames = bench.maps(), bench.chosen(Selection())
    right = two_time(frames[:, maps.dynamic == 1], maps.static[maps.dynamic == 1])
    assert (right.diagonal() == 0).any()
    np.testing.assert_allclose(found["twotime/correlation_map/c2_00001"], np.triu(right), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("method", BOTH)
def test_all_pixels_may_be_valid(method: Method, tmp_path: Path) -> None:
    """boost_corr then takes pixels of other bins, without a sign."""
    description = MovieDescription(rows=20, columns=24, frames=60, photons=0.5)
    bench = make(tmp_path, description, rings=3, blemishes=0.0, beamstop=0.0)
    maps, frames = bench.maps(), bench.chosen(Selection())
    assert maps.mask.all()
    found = bench.correlate(Parameters(type="Twotime", method=method))
    for number in (1, 2, 3):
        inside = maps.dynamic == number
        right = two_time(frames[:, inside], maps.static[inside])
        np.testing.assert_allclose(found[f"twotime/correlation_map/c2_{number:05d}"], np.triu(right), rtol=2e-5)


@pytest.mark.parametrize("selection", ["0", "7", "2-9", "x", "3-1", "1,,2", "-1", "1-99999999999"])
def test_bins_that_are_not_there_are_refused(bench: Bench, selection: str) -> None:
    with pytest.raises(ParametersInvalid, match="dq_selection"):
        bench.correlate(Parameters(type="Twotime", dq_selection=selection))
