from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import hdf5plugin
import numpy as np
import pytest

from orchestration.science import errors
from orchestration.science.arrays import CPU
from orchestration.science.tomography.correct import Normaliser, remove_zingers
from orchestration.science.tomography.read import Fallbacks, open_scan
from orchestration.science.tomography.rings import DB5, RingRemoval, smooth
from orchestration.science.tomography.simulate import ScanDescription, create_file, frames, read_description

TOOTH = Path(__file__).parents[3] / "shared/data/tomography/tooth.h5"


def opened(path: Path, **fallbacks: float) -> None:
    with open_scan(path, fallbacks=Fallbacks(**fallbacks)) as scan:
        scan.read(slice(0, scan.rows))
        scan.field("flats", method="mean")
        scan.field("darks", method="mean")


def test_empty_file_is_named_as_such(tmp_path: Path) -> None:
    path = tmp_path / "empty.h5"
    path.touch()
    with pytest.raises(errors.ScanEmpty, match=r"zero bytes .*empty\.h5.* Next: copy the file again"):
        opened(path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(errors.ScanMissing, match="No such file"):
        opened(tmp_path / "absent.h5")


def test_folder_instead_of_a_file(tmp_path: Path) -> None:
    with pytest.raises(errors.ScanMissing):
        opened(tmp_path)


def test_other_formats_are_not_hdf5(tmp_path: Path) -> None:
    path = tmp_path / "scan.h5"
    path.write_text("not a scan at all")
    with pytest.raises(errors.NotHdf5):
        opened(path)


@pytest.mark.parametrize("part", ["data", "data_white", "theta"])
def test_what_lies_in_another_file_is_not_read_as_part_of_the_scan(scan_copy: Path, part: str) -> None:
    secret = scan_copy.with_name("secret.h5")
    secret.write_bytes(scan_copy.read_bytes())
    with h5py.File(scan_copy, "a") as file:
        del file[f"/exchange/{part}"]
        file[f"/exchange/{part}"] = h5py.ExternalLink(str(secret), f"/exchange/{part}")
    with pytest.raises(errors.ScanUnreadable, match=f"/exchange/{part} of the scan lies in another file"):
        opened(scan_copy)


@pytest.mark.parametrize("share", [0.3, 0.7, 0.99])
def test_truncated_file(scan_copy: Path, share: float) -> None:
    content = scan_copy.read_bytes()
    scan_copy.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(errors.ScanTruncated):
        opened(scan_copy)


def test_scan_that_is_still_written(tmp_path: Path) -> None:
    path = tmp_path / "open.h5"
    description = ScanDescription(width=16, height=2, angles=4)
    with create_file(path, description, swmr=True) as writer:
        for frame in frames(description):
            writer.append(frame)
        with pytest.raises(errors.ScanStillOpen):
            opened(path)
    opened(path)


def test_scan_whose_writer_died(tmp_path: Path) -> None:
    path = tmp_path / "died.h5"
    program = (
        "import os, sys; from pathlib import Path; from orchestration.science.tomography.simulate import *\n"
        "d = ScanDescription(width=16, height=2, angles=4)\n"
        "w = create_file(Path(sys.argv[1]), d)\n"
        "[w.append(f) for f in frames(d)]; os._exit(1)"
    )
    subprocess.run([sys.executable, "-c", program, str(path)], check=False, cwd=Path(__file__).parents[2])
    with pytest.raises(errors.ScanStillOpen, match="h5clear"):
        opened(path)


@pytest.mark.parametrize(
    ("omit", "kind"),
    [
        ("data", errors.ProjectionsMissing),
        ("data_white", errors.FlatsMissing),
        ("data_dark", errors.FlatsMissing),
        ("theta", errors.AnglesMissing),
    ],
)
def test_missing_dataset(tiny_scan: Callable[..., Path], omit: str, kind: type[errors.ScanUnreadable]) -> None:
    with pytest.raises(kind):
        opened(tiny_scan(omit=omit))


def test_constants_stand_for_missing_fields_and_angles(tiny_scan: Callable[..., Path]) -> None:
    opened(tiny_scan(omit="data_white"), flat_value=100.0)
    opened(tiny_scan(omit="data_dark"), dark_value=0.0)
    with open_scan(tiny_scan(omit="theta"), fallbacks=Fallbacks(angle_range=157.5)) as scan:
        assert np.allclose(np.rad2deg(scan.angles), np.arange(8) * 22.5)
    path = tiny_scan(omit="data_white")
    with h5py.File(path, "a") as file:
        file["process/acquisition/flat_fields/flat_field_value"] = 80.0
    with open_scan(path) as scan:
        assert scan.field("flats", method="median") == pytest.approx(80.0)


def test_angles_from_the_rotation_settings(tiny_scan: Callable[..., Path]) -> None:
    path = tiny_scan(omit="theta")
    with h5py.File(path, "a") as file:
        file["process/acquisition/rotation/range"] = np.array([180.0])
        file["process/acquisition/rotation/rotation_start"] = 10.0
    with open_scan(path) as scan:
        assert np.rad2deg(scan.angles[[0, -1]]) == pytest.approx([10, 190])
    with h5py.File(path, "a") as file:
        file["process/acquisition/rotation/rotation_step"] = 22.5
    with open_scan(path) as scan:
        assert np.rad2deg(scan.angles[[0, -1]]) == pytest.approx([10, 167.5])


@pytest.mark.parametrize(
    ("name", "shape"), [("data", (8, 2)), ("data_white", (2, 3, 16)), ("theta", (7,)), ("data_dark", (2, 2, 15))]
)
def test_shapes_that_do_not_fit(tiny_scan: Callable[..., Path], name: str, shape: tuple[int, ...]) -> None:
    path = tiny_scan(omit=name)
    with h5py.File(path, "a") as file:
        file[f"exchange/{name}"] = np.ones(shape)
    with pytest.raises(errors.ShapeMismatch):
        opened(path)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["data", "data_white"])
def test_frames_that_are_not_finite_are_named(tiny_scan: Callable[..., Path], name: str, value: float) -> None:
    path = tiny_scan()
    with h5py.File(path, "a") as file:
        file[f"exchange/{name}"][1, 0, 3] = value
    with pytest.raises(errors.FramesNotFinite, match=f"frame 1 of /exchange/{name}"):
        opened(path)


def test_compressed_frames_are_read(tiny_scan: Callable[..., Path]) -> None:
    path = tiny_scan(omit="data", dtype="u2")
    values = np.random.default_rng(0).integers(0, 1000, (8, 2, 16), dtype=np.uint16)
    with h5py.File(path, "a") as file:
        file.create_dataset("exchange/data", data=values, chunks=(1, 2, 16), **hdf5plugin.Bitshuffle())
    with open_scan(path) as scan:
        assert np.array_equal(scan.read(slice(0, 2)), values)


def test_simulated_file_has_the_metadata_of_the_beamline(scan: Path, description: ScanDescription) -> None:
    with h5py.File(scan) as file:
        assert file["exchange/data"].shape == (200, 12, 128)
        for path in (
            "measurement/sample/experiment/proposal",
            "measurement/sample/experimenter/email",
            "measurement/sample/file_name",
            "measurement/instrument/detector/dimension_x",
            "process/acquisition/rotation/num_angles",
            "process/acquisition/flat_fields/num_flat_fields",
            "process/acquisition/dark_fields/num_dark_fields",
        ):
            assert path in file
    with open_scan(scan) as opened_scan:
        assert opened_scan.pixel_size_mm == description.pixel_size_mm
        assert opened_scan.energy_kev == 25.0
    assert read_description(scan) == description


def test_same_seed_same_counts() -> None:
    description = ScanDescription(width=32, height=2, angles=4, photons=500, rings=True, zingers=True, seed=5)
    for one, other in zip(frames(description), frames(description), strict=True):
        assert np.array_equal(one.counts, other.counts)


def test_line_integrals_of_known_transmission() -> None:
    counts = np.full((4, 2, 8), 10 + 90 * np.exp(-1.5), dtype=np.float32)
    flat, dark = np.full((2, 8), 100, np.float32), np.full((2, 8), 10, np.float32)
    flat[1, 5] = 10
    counts[:, 0, 2] = 10
    fields = Normaliser.of(flat=flat, dark=dark)
    found = fields.line_integrals(counts, first_row=0, device=CPU)
    assert found.shape == (2, 4, 8)
    assert found[0, 0, 0] == pytest.approx(1.5, rel=1e-5)
    assert found[0, 0, 2] == pytest.approx(-np.log(0.01), rel=1e-5)
    assert (found[1, :, 5] == 0).all(), "a pixel without beam reads as empty"


def test_zingers_go_and_edges_stay() -> None:
    values = np.repeat(np.linspace(0, 1, 20, dtype=np.float32)[None, :, None], 5, axis=2)
    clean = values.copy()
    values[0, 7, 2] += 0.8
    values[0, 0, 1] += 0.8
    remove_zingers(values, threshold=0.2, device=CPU)
    assert np.abs(values - clean).max() < 0.11


def test_wavelet_is_orthonormal_and_its_details_hold_no_slow_structure() -> None:
    assert np.sum(DB5**2) == pytest.approx(1)
    assert np.sum(DB5) == pytest.approx(np.sqrt(2))
    assert np.sum(DB5[2:] * DB5[:-2]) == pytest.approx(0, abs=1e-10)
    slow = np.cos(np.linspace(0, 3, 512, dtype=np.float32))[None]
    rest = smooth(slow, level=4, device=CPU) - slow
    assert np.abs(rest[:, 96:-96]).max() < 1e-3


@pytest.mark.parametrize(("method", "left"), [("median", 0.2), ("fw", 0.3), ("sorting", 0.3)])
def test_stripes_are_taken_out(method: str, left: float) -> None:
    rng = np.random.default_rng(2)
    offsets = (rng.random(256) < 0.05) * rng.normal(0, 0.2, 256)
    background = np.exp(-((np.arange(256) - 128) ** 2) / 8000)
    sinogram = np.tile((background + offsets).astype(np.float32), (1, 300, 1))
    sinogram += rng.normal(0, 0.01, sinogram.shape).astype(np.float32)
    RingRemoval(method=method, level=4).apply(sinogram, device=CPU)  # type: ignore[arg-type]
    residual = sinogram[0].mean(axis=0) - background
    assert np.std(residual - residual.mean()) < left * np.std(offsets)


@pytest.mark.skipif(not TOOTH.exists(), reason="the scan of a tooth is not here")
def test_real_scan_without_metadata_is_read() -> None:
    with open_scan(TOOTH) as scan:
        assert (scan.projections, scan.rows, scan.width) == (181, 2, 640)
        assert scan.pixel_size_mm is None
