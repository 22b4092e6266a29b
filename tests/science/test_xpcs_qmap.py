"""Each rule that boost_corr relies on and does not check: broken, it gives wrong numbers without a sign."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from xpcs_bench import Bench, make

from orchestration.science.errors import QmapInvalid
from orchestration.science.xpcs.movie import MovieDescription
from orchestration.science.xpcs.qmap import read_qmap


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    description = MovieDescription(rows=24, columns=20, frames=30, photons=0.5)
    return make(tmp_path, description, rings=2, sectors=2, static_per_ring=2, blemishes=0.0)


def change(bench: Bench, name: str, value: Any) -> None:
    with h5py.File(bench.qmap, "r+") as file:
        if value is None:
            del file[f"qmap/{name}"]
        elif callable(value):
            changed = value(file[f"qmap/{name}"][()].astype(np.int64))
            del file[f"qmap/{name}"]
            file[f"qmap/{name}"] = changed
        else:
            del file[f"qmap/{name}"]
            file[f"qmap/{name}"] = value


def refused(bench: Bench, match: str) -> None:
    with pytest.raises(QmapInvalid, match=match) as caught:
        bench.correlate()
    assert str(bench.qmap) in str(caught.value)
    assert not (bench.folder / "out").exists()


def put(row: int, column: int, value: int) -> Any:
    def changed(values: Any) -> Any:
        values[row, column] = value
        return values

    return changed


def test_a_good_one_is_read_whole(bench: Bench) -> None:
    found = read_qmap(bench.qmap)
    maps = bench.maps()
    assert found.shape == (24, 20)
    assert found.dynamic_bins == maps.dynamic.max() == 4
    assert found.static_bins.tolist() == list(range(1, maps.static.max() + 1))
    assert len(found.hash) == len(found.digest) == 64
    assert found.valid_fraction == pytest.approx(maps.mask.mean())


@pytest.mark.parametrize("name", ["dynamic_roi_map", "static_roi_map"])
def test_no_bin_reaches_outside_the_mask(bench: Bench, name: str) -> None:
    maps = bench.maps()
    inside = int(np.flatnonzero(maps.dynamic)[7])
    change(bench, "mask", put(*divmod(inside, 20), 0))
    if name == "static_roi_map":
        change(bench, "dynamic_roi_map", put(*divmod(inside, 20), 0))
    refused(bench, f"row {inside // 20}, column {inside % 20}.* {name.partition('_')[0]} bin, and outside the mask")


def test_each_pixel_of_a_dynamic_bin_is_in_a_static_one(bench: Bench) -> None:
    inside = int(np.flatnonzero(bench.maps().dynamic)[7])
    change(bench, "static_roi_map", put(*divmod(inside, 20), 0))
    refused(bench, "in a dynamic bin, and in no static one")


def test_a_static_bin_is_in_one_dynamic_bin_only(bench: Bench) -> None:
    maps = bench.maps()
    first, second = (np.flatnonzero(maps.dynamic == number)[0] for number in (1, 2))
    change(bench, "static_roi_map", put(*divmod(int(second), 20), int(maps.static[first])))
    refused(bench, f"static bin {maps.static[first]} lies in more than one dynamic bin, 1 and 2")


def test_a_static_bin_is_in_a_dynamic_bin(bench: Bench) -> None:
    change(bench, "dynamic_roi_map", lambda values: np.where(values == 4, 0, values))
    refused(bench, "lies in no dynamic bin")


def test_no_number_of_a_dynamic_bin_is_left_out(bench: Bench) -> None:
    change(bench, "dynamic_roi_map", lambda values: np.where(values == 2, 9, values))
    refused(bench, "dynamic bin 2 of 9 holds no pixel")


def test_numbers_of_static_bins_may_be_left_out(bench: Bench) -> None:
    right = bench.correlate()
    change(bench, "static_roi_map", lambda values: values * 3)
    found = bench.correlate()
    np.testing.assert_array_equal(found["multitau/normalized_g2"], right["multitau/normalized_g2"])
    np.testing.assert_array_equal(found["temporal_mean/scattering_1d"], right["temporal_mean/scattering_1d"])


def test_it_is_of_the_detector(bench: Bench) -> None:
    for name in ("mask", "blemish", "dynamic_roi_map", "static_roi_map"):
        change(bench, name, lambda values: np.pad(values, ((0, 3), (0, 0))))
    refused(bench, "27 x 20 pixels, the frames have 24 x 20")


def test_its_maps_have_one_shape(bench: Bench) -> None:
    change(bench, "static_roi_map", lambda values: values[:-1])
    refused(bench, r"static map has shape \(23, 20\), the mask \(24, 20\)")


@pytest.mark.parametrize("name", ["mask", "dynamic_roi_map", "static_roi_map"])
def test_all_maps_are_there(bench: Bench, name: str) -> None:
    change(bench, name, None)
    refused(bench, f"no /qmap/{name}")


def test_without_a_blemish_the_mask_takes_its_place(bench: Bench) -> None:
    change(bench, "blemish", None)
    np.testing.assert_array_equal(read_qmap(bench.qmap).blemish, read_qmap(bench.qmap).mask)


@pytest.mark.parametrize("name", ["mask", "blemish"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_pixel_is_good_or_bad(bench: Bench, name: str, value: float) -> None:
    """What is not a number would count as good, and spoil the mean scattering."""
    change(bench, name, lambda values: np.where(np.arange(values.size).reshape(values.shape) == 0, value, values))
    refused(bench, f"/qmap/{name} holds values that are not finite")


@pytest.mark.parametrize(
    ("value", "match"),
    [
        (lambda values: values * 0, "dynamic map has no bin"),
        (lambda values: values.astype(np.float32), "float32, not whole numbers"),
        (lambda values: values - 1, "bins from -1"),
        (lambda values: values * 100_000, "bins from 0 to 400000"),
        (lambda values: values[None], r"shape \(1, 24, 20\)"),
        (b"text", "not .rows, columns. of numbers"),
    ],
)
def test_maps_are_of_whole_numbers(bench: Bench, value: Any, match: str) -> None:
    change(bench, "dynamic_roi_map", value)
    refused(bench, match)


def test_what_is_no_qmap_is_refused(bench: Bench) -> None:
    bench.qmap.write_bytes(bench.raw.read_bytes())
    refused(bench, "no group /qmap")
    bench.qmap.write_bytes(b"none at all")
    refused(bench, "cannot be read")
    bench.qmap.unlink()
    refused(bench, "cannot be read")
