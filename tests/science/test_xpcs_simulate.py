from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numba
import numpy as np
import pytest
from numpy.typing import NDArray

from orchestration.science import errors
from orchestration.science.xpcs import movie
from orchestration.science.xpcs.frames import DenseRaw, SparseRaw
from orchestration.science.xpcs.qmap import Qmap, read_qmap
from orchestration.science.xpcs.read import open_raw
from orchestration.science.xpcs.simulate import (
    MovieDescription,
    RawFormat,
    expected_g2,
    write_metadata,
    write_qmap,
    write_raw,
)

Counts = NDArray[Any]


def whole(description: MovieDescription) -> Counts:
    """The movie, (frames, pixels)."""
    pixels = np.flatnonzero(description.active)
    frames = np.zeros((description.frames, description.active.size), dtype=np.uint16)
    place = 0
    for counts in movie.blocks(description, pixels=pixels):
        frames[place : place + len(counts), pixels] = counts
        place += len(counts)
    return frames


def read(path: Path) -> Counts:
    with open_raw(path) as raw:
        frames = np.zeros((raw.frames, raw.rows * raw.columns), dtype=np.float64)
        if isinstance(raw, SparseRaw):
            for events in raw.events(0, raw.frames, size=10_000):
                frames[events.frame, events.pixel] = events.count
            return frames
        assert isinstance(raw, DenseRaw)
        dense = np.empty((raw.frames, raw.rows, raw.columns), dtype=raw.dtype)
        raw.read(slice(0, raw.frames, 1), dense)
        return dense.reshape(raw.frames, -1)


@pytest.mark.parametrize(
    ("raw_format", "name", "shape"),
    [
        ("rigaku500k", "a.bin", (512, 1024)),
        ("rigaku3m", "a.bin.000", (1676, 2100)),
        ("imm", "a.imm", (40, 61)),
        ("imm-sparse", "a.imm", (40, 61)),
        ("nexus", "a.h5", (40, 61)),
    ],
)
def test_every_format_holds_the_same_movie(
    tmp_path: Path, raw_format: RawFormat, name: str, shape: tuple[int, int]
) -> None:
    description = MovieDescription(rows=shape[0], columns=shape[1], frames=5, photons=0.2, contrast=0.5, seed=3)
    write_raw(tmp_path / name, description, raw_format)
    frames = whole(description)
    assert np.array_equal(read(tmp_path / name), frames)
    assert frames.mean() == pytest.approx(0.2 * description.active.mean(), rel=0.05)
    assert len(list(tmp_path.iterdir())) == (6 if raw_format == "rigaku3m" else 1)


def test_gaps_of_the_3m_see_nothing() -> None:
    description = MovieDescription(rows=1676, columns=2100, frames=1, photons=5.0)
    assert description.active.mean() == pytest.approx(6 * 512 * 1024 / (1676 * 2100))
    frame = whole(description).reshape(1676, 2100)
    assert not frame[512:582].any()
    assert not frame[:, 1024:1076].any()
    assert frame[:512, :1024].mean() == pytest.approx(5.0, rel=0.01)


@pytest.mark.parametrize("dtype", ["u1", "i4", "f4"])
def test_nexus_in_other_types_and_compressed(tmp_path: Path, dtype: str) -> None:
    description = MovieDescription(rows=30, columns=20, frames=9, photons=1.5, dtype=dtype)
    write_raw(tmp_path / "a.h5", description, "nexus", compressed=True)
    with h5py.File(tmp_path / "a.h5") as file:
        data = file["entry/data/data"]
        assert data.dtype == dtype
        assert data.id.get_create_plist().get_nfilters() == 1
    assert np.array_equal(read(tmp_path / "a.h5"), whole(description))


def test_movie_depends_on_its_seed_and_not_on_threads_or_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    description = MovieDescription(rows=50, columns=37, frames=64, photons=0.4)
    first = whole(description)
    monkeypatch.setattr(movie, "_BLOCK_BYTES", 2 * 50 * 37 * 7)
    threads = numba.get_num_threads()
    numba.set_num_threads(1)
    try:
        assert np.array_equal(whole(description), first)
    finally:
        numba.set_num_threads(threads)
    assert not np.array_equal(whole(MovieDescription(rows=50, columns=37, frames=64, photons=0.4, seed=1)), first)


def test_a_pixel_draws_the_same_in_any_company() -> None:
    description = MovieDescription(rows=20, columns=20, frames=100, photons=0.4)
    some = np.array([3, 77, 399])
    (alone,) = movie.blocks(description, pixels=some)
    assert np.array_equal(alone, whole(description)[:, some])


def correlated(frames: Counts, delay: int) -> float:
    """g2 - 1 over all pixels, with the symmetric normalisation."""
    earlier, later = frames[:-delay], frames[delay:]
    return float((earlier * later).mean() / (earlier.mean() * later.mean()) - 1)


@pytest.mark.parametrize(("photons", "contrast"), [(0.05, 1.0), (1.0, 0.25), (80.0, 0.5)])
def test_mean_and_decay_are_what_they_should_be(photons: float, contrast: float) -> None:
    description = MovieDescription(
        rows=100, columns=100, frames=400, photons=photons, contrast=contrast, decay=10.0, seed=5
    )
    frames = whole(description).astype(np.float64)
    # 4 million values, of which speckle leaves some 400 thousand independent: scatter is below these tolerances by 4.
    assert frames.mean() == pytest.approx(photons, rel=0.01)
    for delay in (1, 5, 20, 100):
        expected = contrast * np.exp(-2 * delay / 10.0)
        assert correlated(frames, delay) == pytest.approx(expected, abs=0.02 if photons < 1 else 0.01)
    # Without delay, Poisson noise adds 1 / photons.
    assert frames.var() / photons**2 == pytest.approx(contrast + 1 / photons, rel=0.03)


def test_intensity_has_the_distribution_of_speckle() -> None:
    """Poisson counts of an exponentially distributed intensity are geometric: P(k) = m^k / (1 + m)^(k + 1)."""
    description = MovieDescription(rows=500, columns=500, frames=2, photons=1.0, contrast=1.0, decay=0.5)
    counts = np.bincount(whole(description).ravel()) / 500_000
    expected = 0.5 ** np.arange(1, 9)
    assert np.abs(counts[:8] - expected).max() < 4 * np.sqrt(0.25 / 500_000)


def test_poisson_numbers_of_all_sizes() -> None:
    for photons in (0.01, 3.0, 29.9, 500.0):
        description = MovieDescription(rows=300, columns=300, frames=3, photons=photons, contrast=0.0)
        frames = whole(description)
        scatter = np.sqrt(photons / frames.size)
        assert frames.mean() == pytest.approx(photons, abs=5 * scatter)
        assert frames.var() / photons == pytest.approx(1.0, abs=5 * np.sqrt((2 + 1 / photons) / frames.size))


def test_speckle_that_stands_still() -> None:
    description = MovieDescription(rows=60, columns=60, frames=300, photons=2.0, contrast=0.4, decay=float("inf"))
    frames = whole(description).astype(np.float64)
    # All delays see one pattern of 3600 speckles.
    assert correlated(frames, 1) == pytest.approx(0.4, abs=0.1)
    assert correlated(frames, 250) == pytest.approx(correlated(frames, 1), abs=0.01)


def test_frames_without_noise_are_constant() -> None:
    description = MovieDescription(rows=5, columns=6, frames=7, photons=3.0, contrast=0.0, noise=False)
    assert (whole(description) == 3).all()


@pytest.mark.parametrize(
    "wrong",
    [
        {"rows": 0},
        {"contrast": 1.5},
        {"photons": -1.0},
        {"photons": 1e5},
        {"decay": 0.0},
        {"decay": float("nan")},
        {"noise": False},
        {"noise": False, "contrast": 0.0, "photons": 0.5},
        {"dtype": "S3"},
    ],
)
def test_descriptions_that_make_no_sense(wrong: dict[str, Any]) -> None:
    with pytest.raises(errors.ParametersInvalid, match="simulated movie"):
        MovieDescription(**wrong)


def test_formats_that_do_not_fit(tmp_path: Path) -> None:
    small = MovieDescription(rows=10, columns=10, frames=3)
    with pytest.raises(errors.ParametersInvalid, match="512 x 1024"):
        write_raw(tmp_path / "a.bin", small, "rigaku500k")
    with pytest.raises(errors.ParametersInvalid, match="no compression"):
        write_raw(tmp_path / "a.imm", small, "imm", compressed=True)
    bright = MovieDescription(rows=10, columns=10, frames=3, photons=300.0, dtype="u1")
    with pytest.raises(errors.ResultInvalid, match="more than the 255"):
        write_raw(tmp_path / "a.h5", bright, "nexus")
    assert not list(tmp_path.iterdir())


@pytest.fixture
def made_qmap(tmp_path: Path) -> Callable[..., Qmap]:
    def make(description: MovieDescription, **options: Any) -> Qmap:
        write_qmap(tmp_path / "qmap.h5", description, **options)
        return read_qmap(tmp_path / "qmap.h5")

    return make


def test_qmap_has_all_that_viewers_read(tmp_path: Path, made_qmap: Callable[..., Qmap]) -> None:
    description = MovieDescription(rows=90, columns=70, beam_x=20.0, beam_y=33.5)
    qmap = made_qmap(
        description, rings=3, sectors=2, static_per_ring=4, static_per_sector=3, beamstop=5.0, blemishes=0.01
    )
    assert qmap.dynamic_bins == 6
    assert 0.9 < qmap.valid_fraction < 0.995
    assert not qmap.mask[33, 20]
    assert qmap.blemish[33, 20]
    assert ((qmap.dynamic > 0) == qmap.mask).all()
    with h5py.File(tmp_path / "qmap.h5") as file:
        group = file["qmap"]
        assert len(group.attrs["hash"]) == 64
        assert group.attrs["version"]
        entries = {name: group[name][()] for name in group}
        assert group["static_v_list_dim0"].attrs["name"] == "q"
        assert group["dynamic_v_list_dim1"].attrs["unit"] == "deg"
        assert group["dynamic_v_list_dim1"].attrs["size"] == 2
        assert group["mask"].compression == "lzf"
    assert entries["dynamic_num_pts"].tolist() == [3, 2]
    assert entries["static_num_pts"].tolist() == [12, 6]
    assert len(entries["static_index_mapping"]) == len(qmap.static_bins) < 72
    assert entries["static_roi_map"].dtype == np.uint8
    assert entries["beam_center_x"] == 20.0
    assert (entries["pixel_size"], entries["energy"], entries["detector_distance"]) == (76e-6, 10.0, 4.0)
    assert [name.decode() for name in entries["map_names"]] == ["q", "phi"]
    # The numbers of a bin lead back to where it is: q of its pixels is near the centre that is listed for it.
    for number, natural in enumerate(entries["dynamic_index_mapping"], start=1):
        ring, sector = divmod(int(natural), 2)
        rows, columns = np.nonzero(qmap.dynamic == number)
        width = np.diff(entries["dynamic_v_list_dim0"])[0]
        q = description.q[rows, columns]
        assert np.abs(q - entries["dynamic_v_list_dim0"][ring]).max() < 0.51 * width
        angle = np.rad2deg(np.arctan2(rows - 33.5, columns - 20.0)) % 360
        assert np.abs(angle - entries["dynamic_v_list_dim1"][sector]).max() <= 90.0


def test_q_of_a_pixel() -> None:
    description = MovieDescription(rows=101, columns=101, energy_kev=12.398419843, distance_m=1.0, pixel_size_m=1e-3)
    assert description.q[50, 50] == 0
    # At 1 Å and tan(2 theta) = 0.05.
    assert description.q[50, 100] == pytest.approx(4 * np.pi * np.sin(np.arctan(0.05) / 2), rel=1e-9)


def test_expected_g2_is_what_the_movie_shows(made_qmap: Callable[..., Qmap]) -> None:
    shape = MovieDescription(rows=120, columns=120)
    description = MovieDescription(
        rows=120,
        columns=120,
        frames=600,
        photons=2.0,
        contrast=0.6,
        decay=20.0,
        decay_power=2.0,
        q_reference=float(shape.q[60, 90]),
        seed=2,
    )
    qmap = made_qmap(description, rings=3, static_per_ring=2)
    frames = whole(description).astype(np.float64)
    cases = ((1, 0), (4, 0), (12, 1), (40, 3))
    delays, levels = np.array(cases).T
    expected = expected_g2(description, qmap, delays, levels=levels)
    assert expected.shape == (4, 3)
    for i, (delay, level) in enumerate(cases):
        size = 1 << level
        summed = frames[: len(frames) // size * size].reshape(-1, size, frames.shape[1]).sum(axis=1)
        earlier, later = summed[: -(delay // size)], summed[delay // size :]
        for number in range(3):
            inside = qmap.dynamic.ravel() == number + 1
            found = []
            for static in np.unique(qmap.static.ravel()[inside]):
                pixel = qmap.static.ravel() == static
                means = earlier[:, pixel].mean() * later[:, pixel].mean()
                found.append((earlier[:, pixel] * later[:, pixel]).mean() / means)
            assert np.mean(found) == pytest.approx(expected[i, number], abs=0.03)


def test_expected_g2_of_sums_is_the_mean_over_their_pairs(made_qmap: Callable[..., Qmap]) -> None:
    description = MovieDescription(rows=40, columns=40, contrast=0.7, decay=30.0)
    qmap = made_qmap(description, rings=2)
    pairs = [40 + j - i for i in range(8) for j in range(8)]
    expected = expected_g2(description, qmap, np.array(pairs)).mean(axis=0)
    assert np.allclose(expected_g2(description, qmap, np.array([40]), levels=np.array([3]))[0], expected, rtol=1e-12)
    still = MovieDescription(rows=40, columns=40, contrast=0.7, decay=float("inf"))
    assert np.allclose(expected_g2(still, qmap, np.array([1, 40]), levels=np.array([0, 3])), 1.7)


def test_metadata_has_what_viewers_read(tmp_path: Path) -> None:
    description = MovieDescription(frame_time_s=1e-3, count_time_s=9e-4)
    write_metadata(tmp_path / "a_metadata.hdf", description)
    with h5py.File(tmp_path / "a_metadata.hdf") as file:
        assert file["entry/schema_version"].asstr()[()]
        assert file["entry/start_time"].asstr()[()].startswith("2026")
        detector = file["entry/instrument/detector_1"]
        assert (detector["frame_time"][()], detector["count_time"][()]) == (1e-3, 9e-4)
        assert detector["x_pixel_size"][()] == detector["y_pixel_size"][()] == 76e-6
        assert file["entry/instrument/incident_beam/incident_energy"][()] == 10.0
        assert isinstance(file["entry/instrument/bluesky/metadata"], h5py.Group)
