"""g2 against the definition in double precision, against the truth of simulated movies, and against itself."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from xpcs_bench import Bench, make
from xpcs_reference import g2_of, lag_list, multitau, segments

from orchestration.science.errors import NotPhotons, ParametersInvalid, ScanStillOpen
from orchestration.science.xpcs import blocks, sparse
from orchestration.science.xpcs.dense import Series
from orchestration.science.xpcs.frames import Selection, TimedEvents
from orchestration.science.xpcs.lags import Lags
from orchestration.science.xpcs.movie import MovieDescription
from orchestration.science.xpcs.panels import Panels
from orchestration.science.xpcs.parameters import Method, Parameters
from orchestration.science.xpcs.qmap import read_qmap
from orchestration.science.xpcs.simulate import expected_g2

BOTH: tuple[Method, Method] = ("dense", "sparse")

TOLERANCE = 1e-5
"""Of single precision against double, relative."""


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    description = MovieDescription(rows=60, columns=70, frames=501, photons=0.3, contrast=0.3, decay=15.0, seed=4)
    return make(tmp_path_factory.mktemp("bench"), description, rings=3, sectors=2, blemishes=0.05)


@pytest.mark.parametrize(
    ("frames", "lags", "last"),
    [(9, 8, 8), (16, 11, 14), (32, 15, 28), (100, 21, 80), (1000, 34, 768), (10_000, 48, 8192), (100_000, 61, 81_920)],
)
def test_the_lags_are_those_of_the_definition(frames: int, lags: int, last: int) -> None:
    found = Lags.of(frames)
    assert (len(found), found.delay[-1]) == (lags, last)
    assert list(zip(found.level.tolist(), found.distance.tolist(), strict=True)) == lag_list(frames)
    assert (found.terms > 0).all()


@pytest.mark.parametrize("frames", range(2, 80))
def test_no_lag_is_without_a_pair_of_frames(frames: int) -> None:
    """boost_corr lists a fourth lag of four frames, and computes 0/0 there."""
    found = Lags.of(frames)
    assert (found.terms > 0).all()
    assert found.delay.tolist() == [distance << level for level, distance in lag_list(frames)]


def test_one_frame_has_no_lag() -> None:
    with pytest.raises(ParametersInvalid, match="1 frame"):
        Lags.of(1)


@pytest.mark.parametrize("method", BOTH)
@pytest.mark.parametrize(
    "selection",
    [
        Selection(),
        Selection(begin=3, end=-1, stride=2, average=3),
        Selection(begin=-300, end=490),
        Selection(end=16),
        Selection(end=2),
        Selection(end=5, average=2),
    ],
    ids=str,
)
def test_all_of_a_result_is_as_the_definition_has_it(bench: Bench, method: Method, selection: Selection) -> None:
    found = bench.correlate(Parameters(method=method, frames=selection, save_G2=True))
    maps = bench.maps()
    every = np.ones_like(maps.mask)
    frames, raw = bench.chosen(selection, normalised=every), bench.chosen(selection)
    right = multitau(frames)
    bins = g2_of(right.g2, maps.dynamic, maps.static)
    assert found["multitau/delay_list"].tolist() == right.delays.tolist()
    np.testing.assert_allclose(found["multitau/normalized_g2"], bins.g2, rtol=TOLERANCE)
    np.testing.assert_allclose(found["multitau/normalized_g2_weighted"], bins.weighted, rtol=TOLERANCE)
    np.testing.assert_allclose(found["multitau/normalized_g2_err"], bins.err, rtol=TOLERANCE, atol=1e-6)
    scale = right.g2.max(axis=2, keepdims=True)
    stored = found["multitau/unnormalized_G2"].reshape(right.g2.shape)
    np.testing.assert_allclose(stored / scale, right.g2 / scale, atol=TOLERANCE)
    shape = bench.frames.shape[1:]
    np.testing.assert_allclose(
        found["temporal_mean/scattering_2d"][0], (raw.mean(0) * maps.blemish).reshape(shape), rtol=1e-6
    )
    one = [raw.mean(0)[maps.static == number].mean() for number in np.unique(maps.static[maps.static > 0])]
    np.testing.assert_allclose(found["temporal_mean/scattering_1d"][0], one, rtol=1e-6)
    np.testing.assert_allclose(
        found["temporal_mean/scattering_1d_segments"], segments(frames, maps.static), rtol=TOLERANCE
    )
    brightness = found["spatial_mean/intensity_vs_time"]
    np.testing.assert_allclose(brightness, [np.arange(len(raw)), raw.mean(axis=1)], rtol=1e-6)


@pytest.mark.parametrize("method", BOTH)
def test_frames_are_normalised_over_the_mask_where_it_is_small(bench: Bench, method: Method) -> None:
    """And what lies outside is not in the mean scattering."""
    found = bench.correlate(Parameters(method=method, crop_ratio_threshold=1.0))
    maps = bench.maps()
    assert not maps.mask.all()
    bins = g2_of(multitau(bench.chosen(Selection(), normalised=maps.mask)).g2, maps.dynamic, maps.static)
    np.testing.assert_allclose(found["multitau/normalized_g2"], bins.g2, rtol=TOLERANCE)
    mean = bench.chosen(Selection()).mean(0) * maps.mask * maps.blemish
    np.testing.assert_allclose(found["temporal_mean/scattering_2d"].ravel(), mean, rtol=1e-6)
    brightness = bench.chosen(Selection())[:, maps.mask].mean(axis=1)
    np.testing.assert_allclose(found["spatial_mean/intensity_vs_time"][1], brightness, rtol=1e-6)


@pytest.mark.parametrize("method", BOTH)
def test_frames_that_are_not_normalised_keep_their_counts(bench: Bench, method: Method) -> None:
    found = bench.correlate(Parameters(method=method, normalize_frame=False))
    maps = bench.maps()
    bins = g2_of(multitau(bench.chosen(Selection())).g2, maps.dynamic, maps.static)
    np.testing.assert_allclose(found["multitau/normalized_g2"], bins.g2, rtol=TOLERANCE)


@pytest.mark.parametrize("method", BOTH)
def test_what_does_not_fit_the_memory_is_correlated_band_by_band(bench: Bench, method: Method) -> None:
    whole = bench.correlate(Parameters(method=method, save_G2=True))
    bands = bench.correlate(Parameters(method=method, save_G2=True, memory=5e-4))
    for name in ("normalized_g2", "normalized_g2_err", "normalized_g2_jackknife_err", "unnormalized_G2"):
        np.testing.assert_allclose(bands[f"multitau/{name}"], whole[f"multitau/{name}"], rtol=1e-6, atol=1e-7)
    name = "temporal_mean/scattering_1d_segments"
    np.testing.assert_allclose(bands[name], whole[name], rtol=1e-6)


def test_frames_are_averaged_although_they_do_not_fit_a_block(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    parameters = Parameters(type="Both", method="dense", frames=Selection(begin=1, average=50))
    whole = bench.correlate(parameters)
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 7 * bench.frames[0].nbytes)
    summed = bench.correlate(parameters)
    for name, values in whole.values.items():
        if np.asarray(values).dtype.kind == "f":
            np.testing.assert_allclose(summed[name], values, rtol=1e-5, atol=1e-6, err_msg=name)


def test_the_result_does_not_depend_on_how_frames_come_in_blocks() -> None:
    rng = np.random.default_rng(0)
    frames = rng.poisson(1.0, (400, 300)).astype(np.uint16)
    scale = rng.uniform(0.5, 2.0, 400).astype(np.float32)
    unit = np.repeat([0, 1, -1], 100)
    found = []
    for edges in ([0, 400], [0, 1, 2, 33, 97, 360, 399, 400], list(range(0, 401, 16))):
        series = Series.of(Panels.of(np.arange(300), pixels=300), Lags.of(400), segment_level=5)
        for low, high in pairwise(edges):
            series.add(frames[low:high], scale[low:high])
        found.append((series.sums(unit, 2)[..., :3], series.segment_sums()))
    for sums, parts in found[1:]:
        np.testing.assert_allclose(sums, found[0][0], rtol=1e-6)
        np.testing.assert_allclose(parts, found[0][1], rtol=1e-6)


@settings(deadline=None, max_examples=20)
@given(
    frames=st.integers(2, 150),
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=3),
    rate=st.sampled_from([0.0, 0.02, 0.3, 3.0]),
    seed=st.integers(0, 2**32 - 1),
)
def test_both_ways_to_correlate_agree_with_the_definition(
    frames: int, sizes: list[int], rate: float, seed: int
) -> None:
    """Of units of so many pixels each, which are fewer or more than what is correlated side by side."""
    pixels, units = sum(sizes), len(sizes)
    counts = np.random.default_rng(seed).poisson(rate, (frames, pixels)).astype(np.uint16)
    lags, place = Lags.of(frames), np.arange(pixels)
    right = multitau(counts.astype(np.float64)).g2
    series = Series.of(Panels.of(place, pixels=pixels), lags, segment_level=0)
    series.add(counts, np.ones(frames, dtype=np.float32))
    by_frames = np.stack([series.pixels(lag) for lag in range(len(lags))])
    start = np.concatenate([[0], np.cumsum(sizes)])
    by_events = _by_events(counts, start)
    assert by_events.pixels is not None
    np.testing.assert_allclose(by_frames, right, rtol=TOLERANCE, atol=1e-6)
    np.testing.assert_allclose(by_events.pixels, right, rtol=TOLERANCE, atol=1e-6)
    sums = series.sums(np.repeat(np.arange(units), sizes), units)
    np.testing.assert_allclose(by_events.sums, sums, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(by_events.segments, np.add.reduceat(counts, start[:-1], axis=1), rtol=1e-6)


def _by_events(counts: NDArray[np.uint16], start: NDArray[np.int64]) -> sparse.Correlated:
    frames, pixels = counts.shape
    time, pixel = np.nonzero(counts)
    train = sparse.Train.of(np.bincount(pixel, minlength=pixels))
    events = TimedEvents(time.astype(np.int32), pixel.astype(np.uint32), counts[time, pixel], frames)
    train.add([events], np.arange(pixels, dtype=np.int32))
    scale = np.ones(frames, dtype=np.float32)
    return sparse.correlate(train, scale, start, Lags.of(frames), segment_level=0, keep_pixels=True)


def test_a_series_that_is_too_long_to_be_written_out_stays_a_list_of_events() -> None:
    """With many events, and with few beside them; from some level on it is short enough."""
    rates = np.array([0.3, 0.3, 0.001, 0.0])
    counts = np.random.default_rng(3).poisson(rates, (70_001, 4)).astype(np.uint16)
    found = _by_events(counts, np.array([0, 4]))
    assert found.pixels is not None
    np.testing.assert_allclose(found.pixels, multitau(counts.astype(np.float64)).g2, rtol=TOLERANCE, atol=1e-9)
    np.testing.assert_array_equal(found.segments[:, 0], counts.sum(axis=1))


def test_events_that_nobody_counted_are_noticed() -> None:
    """A file that grows between two looks at it must not write beyond what there is room for."""
    train = sparse.Train.of(np.array([1, 1]))
    time, pixel = np.array([0, 0, 1], np.int32), np.array([0, 1, 1], np.uint32)
    with pytest.raises(ScanStillOpen, match="1 more events"):
        train.add([TimedEvents(time, pixel, np.ones(3, np.uint16), 2)], np.array([0, 1], np.int32))


def test_pixels_of_a_bin_may_change_places(bench: Bench, tmp_path: Path) -> None:
    """In all frames alike; the order of pixels is nobody's business."""
    maps = bench.maps()
    changed = bench.frames.reshape(len(bench.frames), -1).copy()
    rng = np.random.default_rng(1)
    for number in np.unique(maps.static[maps.static > 0]):
        inside = np.flatnonzero(maps.static == number)
        changed[:, inside] = changed[:, rng.permutation(inside)]
    other = _copy(bench, tmp_path, changed.reshape(bench.frames.shape))
    for method in BOTH:
        first, second = (each.correlate(Parameters(method=method)) for each in (bench, other))
        for name in ("normalized_g2", "normalized_g2_err"):
            np.testing.assert_allclose(second[f"multitau/{name}"], first[f"multitau/{name}"], rtol=1e-6, atol=1e-7)


def _copy(bench: Bench, folder: Path, frames: NDArray[np.generic]) -> Bench:
    for name in ("a_metadata.hdf", "qmap.hdf"):
        (folder / name).write_bytes((bench.folder / name).read_bytes())
    with h5py.File(folder / "a.h5", "w") as file:
        file["entry/data/data"] = frames
    return Bench(folder, folder / "a.h5", frames)


@pytest.mark.parametrize("method", BOTH)
def test_constant_light_does_not_fluctuate(method: Method, tmp_path: Path) -> None:
    description = MovieDescription(rows=30, columns=30, frames=100, photons=5.0, contrast=0.0, noise=False)
    found = make(tmp_path, description).correlate(Parameters(method=method))
    np.testing.assert_allclose(found["multitau/normalized_g2"], 1.0, atol=1e-6)
    np.testing.assert_allclose(found["multitau/normalized_g2_err"], 0.0, atol=1e-6)
    np.testing.assert_allclose(found["multitau/normalized_g2_jackknife_err"], 0.0, atol=1e-6)


@pytest.mark.parametrize("method", BOTH)
@pytest.mark.parametrize("dtype", ["uint8", "int32", "float32"])
def test_frames_of_any_type_are_correlated(bench: Bench, tmp_path: Path, method: Method, dtype: str) -> None:
    found = _copy(bench, tmp_path, bench.frames.astype(dtype)).correlate(Parameters(method=method))
    right = bench.correlate(Parameters(method="dense"))
    np.testing.assert_allclose(found["multitau/normalized_g2"], right["multitau/normalized_g2"], rtol=1e-6)


@pytest.mark.parametrize("method", BOTH)
@pytest.mark.parametrize(("dtype", "mark"), [("uint32", 2**32 - 1), ("uint16", 65535), ("int32", -1)])
def test_pixels_that_the_detector_marks_as_blind_do_not_count(
    bench: Bench, tmp_path: Path, method: Method, dtype: str, mark: int
) -> None:
    """As an EIGER marks the gaps between its modules: one of them is brighter than all photons of a frame."""
    mask = bench.maps().mask
    frames = bench.frames.astype(dtype)
    frames.reshape(len(frames), -1)[:, ~mask] = mark
    found = _copy(bench, tmp_path, frames).correlate(Parameters(method=method))
    right = multitau(bench.chosen(Selection(), normalised=mask))
    maps = bench.maps()
    bins = g2_of(right.g2, maps.dynamic, maps.static)
    np.testing.assert_allclose(found["multitau/normalized_g2"], bins.g2, rtol=TOLERANCE)
    brightness = bench.chosen(Selection())[:, mask].mean(axis=1)
    np.testing.assert_allclose(found["spatial_mean/intensity_vs_time"][1], brightness, rtol=1e-6)
    assert (found["temporal_mean/scattering_2d"].ravel()[~mask] == 0.0).all()


def test_fractions_are_no_photons(bench: Bench, tmp_path: Path) -> None:
    with pytest.raises(NotPhotons, match=r"counts such as 0\.5 are not"):
        _copy(bench, tmp_path, bench.frames.astype(np.float32) / 2).correlate(Parameters(method="sparse"))


def test_what_turns_out_late_not_to_be_photons_is_correlated_as_frames(bench: Bench, tmp_path: Path) -> None:
    """A hot pixel outside the mask counts in the mean of its frame, if only now and then."""
    frames = np.where(np.random.default_rng(5).random(bench.frames.shape) < 0.02, bench.frames, 0).astype(np.uint32)
    frames[7].reshape(-1)[np.flatnonzero(~bench.maps().mask)[0]] = 1 << 20
    data = _copy(bench, tmp_path, frames)
    with pytest.raises(NotPhotons, match="1048576"):
        data.correlate(Parameters(method="sparse"))
    found = data.correlate(Parameters())
    right = data.correlate(Parameters(method="dense"))
    np.testing.assert_array_equal(found["multitau/normalized_g2"], right["multitau/normalized_g2"])


def test_frames_below_zero_are_correlated(bench: Bench, tmp_path: Path) -> None:
    """More may be taken off them than their dark current."""
    found = _copy(bench, tmp_path, bench.frames.astype(np.int16) - np.int16(9)).correlate()
    np.testing.assert_allclose(found["multitau/normalized_g2"], 1.0, atol=0.01)


def test_the_way_to_correlate_is_chosen_by_the_occupancy(tmp_path: Path) -> None:
    for photons, method in ((0.002, "sparse"), (0.3, "dense")):
        folder = tmp_path / method
        folder.mkdir()
        found = make(folder, MovieDescription(rows=64, columns=64, frames=200, photons=photons)).correlate()
        assert found.receipt["method"] == method
        assert found.receipt["occupancy"] == pytest.approx(photons, rel=0.3)


def test_dead_pixels_and_dark_frames_leave_numbers(tmp_path: Path) -> None:
    bench = make(tmp_path, MovieDescription(rows=40, columns=40, frames=64, photons=1.0))
    frames = bench.frames.copy()
    frames[:, 5:20, 5:20] = 0
    frames[10:14] = 0
    folder = tmp_path / "dead"
    folder.mkdir()
    spoilt = _copy(bench, folder, frames)
    found = {method: spoilt.correlate(Parameters(method=method)) for method in BOTH}
    for name in ("normalized_g2", "normalized_g2_err"):
        assert np.isfinite(found["dense"][f"multitau/{name}"]).all()
        np.testing.assert_allclose(
            found["dense"][f"multitau/{name}"], found["sparse"][f"multitau/{name}"], rtol=1e-5, atol=1e-6
        )


def test_a_bin_of_one_pixel_has_no_spread(tmp_path: Path) -> None:
    bench = make(tmp_path, MovieDescription(rows=20, columns=20, frames=50, photons=2.0))
    with h5py.File(bench.qmap, "r+") as file:
        for name in ("dynamic_roi_map", "static_roi_map"):
            values = np.zeros((20, 20), dtype=np.uint8)
            values[2, 3], values[10, 4:9] = 1, 2
            file[f"qmap/{name}"][...] = values
        file["qmap/mask"][...] = 1
    found = bench.correlate()
    assert np.isnan(found["multitau/normalized_g2_err"][:, 0]).all()
    assert np.isfinite(found["multitau/normalized_g2"]).all()
    assert np.isfinite(found["multitau/normalized_g2_err"][:, 1]).all()


# ----- against what is known of the sample ----------------------------------------------------------------------------


def test_the_dynamics_of_a_movie_are_recovered(tmp_path: Path) -> None:
    """Decay time within 2 %, contrast within 3 %, baseline within 0.002: 8000 pixels, 6000 frames, 0.5 photons."""
    description = MovieDescription(rows=96, columns=96, frames=6000, photons=0.5, contrast=0.4, decay=20.0, seed=11)
    found = make(tmp_path, description, rings=1, sectors=1, static_per_ring=1).correlate()
    delay, g2 = found["multitau/delay_list"], found["multitau/normalized_g2"][:, 0]
    late = (delay > 200) & (delay < 2000)
    assert g2[late].mean() == pytest.approx(1.0, abs=0.002)
    early = delay < 40
    slope, level = np.polyfit(delay[early], np.log(g2[early] - 1.0), 1, w=np.exp(-2 * delay[early] / 20.0))
    assert -2.0 / slope == pytest.approx(20.0, rel=0.02)
    assert np.exp(level) == pytest.approx(0.4, rel=0.03)


def test_g2_lies_within_its_errors_of_the_truth(tmp_path: Path) -> None:
    """The jackknife's error is that of the plotted quantity: of many independent bins about 68 % lie within one."""
    description = MovieDescription(rows=80, columns=80, frames=1500, photons=0.1, contrast=0.3, decay=10.0, seed=5)
    bench = make(tmp_path, description, rings=6, sectors=6, static_per_ring=1)
    found = bench.correlate(Parameters(crop_ratio_threshold=1.0))
    delay = found["multitau/delay_list"]
    short = delay <= 8
    right = expected_g2(description, read_qmap(bench.qmap), delay[short])
    pulls = (found["multitau/normalized_g2"][short] - right) / found["multitau/normalized_g2_jackknife_err"][short]
    assert np.abs(pulls).mean() == pytest.approx(0.8, abs=0.12)
    assert (np.abs(pulls) < 2.0).mean() > 0.9
