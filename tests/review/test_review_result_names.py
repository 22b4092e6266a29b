"""No two reconstructions have results of one name, whatever their scans are called."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from orchestration.flows.tomography import Reconstruction
from orchestration.paths import RelativePath
from orchestration.science.tomography.outputs import Names

SITES = ("local", "nersc", "nersc_streaming", "alcf")


def made(name: str, site: str = "local", **others: object) -> Reconstruction:
    return Reconstruction(raw=RelativePath(f"ALS-1/{name}"), site=site, sites=SITES, **others)  # type: ignore[arg-type]


def test_usual_names_are_as_they_always_were() -> None:
    assert made("a.h5").base.text == "ALS-1/reca"
    assert made("20240101_tooth.h5").base.text == "ALS-1/rec20240101_tooth"
    assert made("a.h5", "nersc").base.text == "ALS-1/reca_nersc"
    assert made("a.hdf5", "alcf").base.text == "ALS-1/reca_hdf5_alcf"


def test_scans_that_are_called_like_results_of_others_do_not_share_a_place() -> None:
    plain = ["a.h5", "a.hdf5", "a", "a.H5", "a.nersc", "a.zarr", "a.json"]
    stems = ["a_nersc", "a_alcf", "a_hdf5", "a_hdf5_nersc", "a.zarr", "a.preview", "a.json", "a_nersc_alcf"]
    names = [*plain, *(f"{stem}{suffix}" for stem in stems for suffix in (".h5", ".hdf5"))]
    taken: dict[str, str] = {}
    for name, site, parameters in itertools.product(names, SITES, ({}, {"ring_sigma": 3.0})):
        reconstruction = made(name, site, parameters=parameters)
        for part in reconstruction.datasets:
            other = taken.setdefault(part.path.text, f"{name} at {site}, {parameters}")
            assert other == f"{name} at {site}, {parameters}", part.path


@pytest.mark.parametrize("site", SITES)
@pytest.mark.parametrize("options", [{"request": "again"}, {"parameters": {"center": 10.0}}])
def test_a_scan_that_is_called_after_a_variant_of_another_is_kept_apart(site: str, options: dict[str, object]) -> None:
    variant = made("a.h5", site, **options).base.name
    for other in SITES:
        assert made(f"{variant.removeprefix('rec')}.h5", other).base.name != variant
    kept_apart = made("a_nersc.h5", site).base.name
    assert made(f"{kept_apart.removeprefix('rec')}.h5", site).base.name != kept_apart


def test_a_date_at_the_end_of_a_name_is_left_as_it_is() -> None:
    assert made("tooth_20240101.h5").base.text == "ALS-1/rectooth_20240101"


def test_no_results_lie_among_those_of_another_scan() -> None:
    outer, inner = made("b.h5"), made("recb/x.h5")
    assert inner.base.pure.parent != outer.tiff.pure
    assert made("_recb/x.h5").base != inner.base


@pytest.mark.parametrize("letter", ["x", "ü", "漢"])
@pytest.mark.parametrize("site", SITES)
def test_results_of_a_scan_with_the_longest_name_have_names_that_fit(letter: str, site: str) -> None:
    stem = (letter * 252).encode()[:251].decode(errors="ignore")
    one, other = (made(f"{stem}{end}.h5", site, request="again") for end in "12")
    for part in one.datasets:
        assert len(part.path.name.encode()) <= 255
    assert Names.of(Path(one.raw.name), out=Path("out"), name=one.base.name).name == one.base.name
    assert one.base != other.base
