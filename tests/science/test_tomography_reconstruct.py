from __future__ import annotations

import fcntl
import json
import os
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import h5py
import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image

from orchestration.science import errors
from orchestration.science.staging import staging
from orchestration.science.tomography.compare import compare
from orchestration.science.tomography.parameters import Parameters, load
from orchestration.science.tomography.plan import GIB, Workload, make_plan
from orchestration.science.tomography.reconstruct import reconstruct
from orchestration.science.tomography.simulate import ScanDescription, write_scan
from orchestration.science.tomography.volume import VolumeShape, VolumeWriter

ROOT = Path(__file__).parents[2]
TOOTH = ROOT.parent / "shared/data/tomography/tooth.h5"
Run = Callable[..., "subprocess.CompletedProcess[str]"]


def listing(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


RESULTS = {"recscan", "recscan.zarr", "recscan.preview", "recscan.json"}


def test_scan_becomes_slices_volume_pictures_and_report(
    scan: Path, description: ScanDescription, tmp_path: Path
) -> None:
    result = reconstruct(scan, tmp_path, Parameters())
    assert listing(tmp_path) == RESULTS
    found = compare(tmp_path / "recscan", description)
    assert found.relative_l2 < 0.12
    assert found.scale == pytest.approx(1, abs=0.01)
    assert found.center_error_px == pytest.approx(0, abs=0.25)
    assert compare(tmp_path / "recscan.zarr", description) == found
    files = sorted((tmp_path / "recscan").iterdir())
    assert [path.name for path in files] == [f"scan_{index:05d}.tiff" for index in range(12)]
    image = tifffile.imread(files[0])
    assert image.dtype == np.float32
    assert image[0, 0] == 0
    report = json.loads(result.report.read_text())
    assert report["center"]["confidence"] > 0.9
    assert report["parameters"]["rings"] == "median"
    assert report["scan"]["sha256"]
    assert report["result"]["unit"] == "1/cm"
    assert report["outputs"] == ["recscan", "recscan.zarr", "recscan.preview", "recscan.json"]
    for name in ("slice_xy", "slice_xz", "slice_yz", "sinogram", "projection"):
        with Image.open(tmp_path / "recscan.preview" / f"{name}.png") as picture:
            assert picture.width >= 400
            assert np.ptp(np.asarray(picture)) == 255


def test_volume_is_ome_zarr_of_version_0_5(scan: Path, tmp_path: Path) -> None:
    reconstruct(scan, tmp_path, Parameters(pixel_size_mm=0.5, tiff=False, preview=False))
    document = json.loads((tmp_path / "recscan.zarr/zarr.json").read_text())
    assert (document["zarr_format"], document["node_type"]) == (3, "group")
    ome = document["attributes"]["ome"]
    assert ome["version"] == "0.5"
    (multiscale,) = ome["multiscales"]
    assert multiscale["axes"] == [{"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"]
    first = multiscale["datasets"][0]
    assert first["coordinateTransformations"][0] == {"type": "scale", "scale": [500.0] * 3}
    array = json.loads((tmp_path / "recscan.zarr/0/zarr.json").read_text())
    assert array["dimension_names"] == ["z", "y", "x"]
    assert array["codecs"][0]["name"] == "sharding_indexed"


@pytest.mark.parametrize("slab", [1, 4, 16])
def test_coarser_levels_are_means_of_finer_ones(tmp_path: Path, slab: int) -> None:
    shape = (13, 300, 301)
    data = np.random.default_rng(0).random(shape, dtype=np.float32)
    volume = VolumeShape(shape=shape, voxel_um=2.0)
    writer = VolumeWriter(tmp_path / "v.zarr", volume, name="v", slab=slab)
    for start in range(0, 13, 5):
        writer.append(data[start : start + 5])
    writer.close()
    group = zarr.open_group(tmp_path / "v.zarr", mode="r")
    levels = [np.asarray(zarr.open_array(tmp_path / "v.zarr" / str(level), mode="r")) for level in range(3)]
    assert sorted(group.array_keys()) == ["0", "1", "2"]
    assert [level.shape for level in levels] == [(13, 300, 301), (7, 150, 151), (4, 75, 76)]
    assert np.array_equal(levels[0], data)
    expected = data[:12, :, :300].reshape(6, 2, 150, 2, 150, 2).mean(axis=(1, 3, 5))
    assert np.allclose(levels[1][:6, :, :150], expected, atol=1e-6)
    assert np.allclose(levels[1][6, :, 150], data[12, :, 300].reshape(150, 2).mean(axis=1), atol=1e-6)


def test_rerun_replaces_and_never_doubles(scan: Path, tmp_path: Path) -> None:
    reconstruct(scan, tmp_path, Parameters(zarr=False))
    (tmp_path / "recscan/leftover_00099.tiff").touch()
    reconstruct(scan, tmp_path, Parameters(zarr=False, first_row=2, last_row=4))
    assert listing(tmp_path / "recscan") == {f"scan_{index:05d}.tiff" for index in range(3)}
    assert listing(tmp_path) == RESULTS - {"recscan.zarr"}


def test_failure_leaves_earlier_results_and_nothing_else(scan_copy: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    reconstruct(scan_copy, out, Parameters(zarr=False, preview=False))
    before = {path: path.read_bytes() for path in (out / "recspoilt").iterdir()}
    with h5py.File(scan_copy, "a") as file:
        values = file["exchange/data"][()].astype(np.float32)
        values[7] = np.nan
        del file["exchange/data"]
        file["exchange/data"] = values
    with pytest.raises(errors.FramesNotFinite, match="frame 7"):
        reconstruct(scan_copy, out, Parameters(center=65.0))
    assert listing(out) == {"recspoilt", "recspoilt.json"}
    assert {path: path.read_bytes() for path in (out / "recspoilt").iterdir()} == before


def test_blocks_do_not_show(scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parameters = Parameters(threads=1, zarr=False, preview=False)
    reconstruct(scan, tmp_path / "whole", parameters)
    monkeypatch.setattr("orchestration.science.tomography.plan._MOST_SLICES", 4)
    reconstruct(scan, tmp_path / "blocks", parameters)
    for path in (tmp_path / "whole/recscan").iterdir():
        assert np.array_equal(tifffile.imread(path), tifffile.imread(tmp_path / "blocks/recscan" / path.name))


def test_plan_stays_within_its_memory() -> None:
    work = Workload(projections=3000, width=2560, rows=2160, item_size=2, compressed=False, volume=True, threads=4)
    for memory in (4.0, 8.0, 32.0):
        plan = make_plan(work, memory_gib=memory)
        assert plan.block >= 2
        assert plan.bytes <= memory * GIB
    with pytest.raises(errors.ParametersInvalid, match="too little"):
        make_plan(work, memory_gib=0.5)


@pytest.mark.slow
def test_memory_used_stays_within_the_budget(tmp_path: Path, program: Run) -> None:
    used = []
    for rows in (128, 384):
        path = tmp_path / f"{rows}.h5"
        write_scan(path, ScanDescription(width=256, height=rows, angles=90))
        done = program("reconstruct", path, "--out", tmp_path, "--memory", "0.32", "--no-preview", "--center", "127.5")
        assert done.returncode == 0, done.stderr
        report = json.loads((tmp_path / f"rec{rows}.json").read_text())
        assert report["slices_per_block"] < rows
        used.append(report["peak_memory_bytes"])
    assert max(used) < 0.34 * GIB
    assert used[1] - used[0] < 0.08 * GIB


@pytest.mark.parametrize(
    "name", ["-dash.h5", "two words.h5", "quote'\"s.h5", "Zürich-日本.h5", "$(touch x);.h5", "a.b.h5"]
)
def test_hostile_names(scan: Path, tmp_path: Path, command: Run, name: str) -> None:
    path = tmp_path / name
    path.symlink_to(scan)
    out = tmp_path / f"-out {name}"
    done = command("reconstruct", "--out", out, "--no-zarr", "--progress", "json", "--", path)
    assert done.returncode == 0, done.stderr
    assert len(listing(out / f"rec{path.stem}")) == 12
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert lines[-2]["done"] == lines[-2]["total"] == 12
    assert lines[-1]["finished"] is True


def test_name_too_long_is_refused_before_any_work(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 250 + ".h5")
    path.touch()
    with pytest.raises(errors.NameTooLong, match="261 bytes"):
        reconstruct(path, tmp_path / "out", Parameters())
    assert not (tmp_path / "out").exists()


def test_error_is_one_sentence_and_a_file(tmp_path: Path, program: Run) -> None:
    path = tmp_path / "empty.h5"
    path.touch()
    target = tmp_path / "error.json"
    done = program("reconstruct", path, "--out", tmp_path / "out", env={"ORCHESTRATION_ERROR_FILE": str(target)})
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert json.loads(target.read_text()) == {
        "type": "ScanEmpty",
        "what": "the scan has zero bytes",
        "where": str(path),
        "next_step": "copy the file again from the detector",
    }
    assert not (tmp_path / "out").exists()


def test_unknown_option_is_one_sentence_and_a_file(tmp_path: Path, command: Run) -> None:
    target = tmp_path / "error.json"
    done = command("reconstruct", "x.h5", "--nonsense", env={"ORCHESTRATION_ERROR_FILE": str(target)})
    assert done.returncode == 2
    assert json.loads(target.read_text())["type"] == "ParametersInvalid"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("centre: 3", "'centre' is not a parameter"),
        ("filter: boxcar", "filter is 'boxcar', not one of"),
        ("ring_level: high", "ring_level is 'high', not int"),
        ("ring_level: 2.5", "ring_level is 2.5, not int"),
        ("mask: 1", "mask is 1, not bool"),
        ("center: yes", "center is True, not float or nothing"),
        ("center: .nan", "not a finite number"),
        ("transmission_floor: 3", "from 1e-06 to 1"),
        ("- a", "not a list of"),
        ("a: [", "cannot be read"),
    ],
)
def test_wrong_parameter_file(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(text)
    with pytest.raises(errors.ParametersInvalid) as caught:
        load(path, {})
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


def test_options_win_over_the_parameter_file(tmp_path: Path, scan: Path, command: Run) -> None:
    path = tmp_path / "p.yaml"
    path.write_text("center: 64\nfilter: hann\nzarr: false\n")
    done = command("reconstruct", scan, "--out", tmp_path, "--parameters", path, "--center", "66.8", "--no-preview")
    assert done.returncode == 0, done.stderr
    used = json.loads((tmp_path / "recscan.json").read_text())["parameters"]
    assert (used["center"], used["filter"], used["zarr"], used["preview"]) == (66.8, "hann", False, False)


FILLED = 4096 - 100


def narrow_pipe() -> tuple[BinaryIO, BinaryIO]:
    """Both ends of a pipe that takes one line of progress: whoever writes another waits until somebody reads."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    os.write(writing, b" " * FILLED)
    return os.fdopen(reading, "rb"), os.fdopen(writing, "wb")


def waiting(pipe: BinaryIO) -> int:
    """Bytes that were written and not read."""
    (found,) = struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)))
    return int(found)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_killed_in_the_middle_then_run_again(tmp_path: Path, command: Run, number: signal.Signals) -> None:
    path, out = tmp_path / "scan.h5", tmp_path / "out"
    write_scan(path, ScanDescription(width=128, height=96, angles=60))
    line = [sys.executable, "-m", "orchestration.science", "tomography", "reconstruct", str(path), "--out", str(out)]
    printed, narrow = narrow_pipe()
    process = subprocess.Popen(
        [*line, "--memory", "0.3", "--progress", "json"], cwd=ROOT, stdout=narrow, stderr=subprocess.PIPE
    )
    narrow.close()
    end = time.monotonic() + 120
    while waiting(printed) <= FILLED:
        assert time.monotonic() < end
        time.sleep(0.02)
    process.send_signal(number)
    with printed:
        told = printed.read()
    process.communicate(timeout=60)
    assert process.returncode != 0
    assert len(told) < FILLED + 3 * 80, "it went on to the end"
    left = listing(out)
    assert not any(name.startswith("rec") for name in left)
    if number is signal.SIGTERM:
        assert left == set()
    done = command("reconstruct", path, "--out", out, "--no-zarr")
    assert done.returncode == 0, done.stderr
    assert listing(out) == RESULTS - {"recscan.zarr"}


def test_a_live_run_is_not_swept_away(tmp_path: Path, scan: Path) -> None:
    with staging(tmp_path) as folder:
        reconstruct(scan, tmp_path, Parameters(zarr=False, preview=False))
        assert folder.exists()
    assert listing(tmp_path) == {"recscan", "recscan.json"}


def test_output_that_cannot_be_written(scan: Path, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.touch()
    with pytest.raises(errors.OutputFailed):
        reconstruct(scan, blocked / "out", Parameters())


def test_rings_are_reduced_without_bias(tmp_path: Path) -> None:
    errors_found = {}
    for rings_in_scan in (False, True):
        path = tmp_path / f"{rings_in_scan}.h5"
        description = ScanDescription(width=192, height=4, angles=300, rings=rings_in_scan)
        write_scan(path, description)
        for method in ("none", "median"):
            chosen = Parameters(rings=method, zarr=False, preview=False, center=95.5)
            reconstruct(path, tmp_path, chosen)
            errors_found[rings_in_scan, method] = compare(tmp_path / f"rec{rings_in_scan}", description).relative_l2
    assert errors_found[False, "median"] < 1.05 * errors_found[False, "none"]
    added = errors_found[True, "none"] ** 2 - errors_found[False, "none"] ** 2
    remaining = errors_found[True, "median"] ** 2 - errors_found[False, "none"] ** 2
    assert remaining < 0.3 * added


def test_commands_center_preview_and_compare(scan: Path, tmp_path: Path, command: Run) -> None:
    found = json.loads(command("center", scan).stdout)
    assert found["column"] == pytest.approx(66.8, abs=0.1)
    assert command("preview", scan, "--out", tmp_path).returncode == 0
    assert listing(tmp_path) == {"recscan.preview"}
    assert command("reconstruct", scan, "--out", tmp_path, "--no-tiff").returncode == 0
    compared = json.loads(command("compare", tmp_path / "recscan.zarr", "--scan", scan).stdout)
    assert compared["relative_l2"] < 0.12


def test_command_simulate(tmp_path: Path, command: Run) -> None:
    path = tmp_path / "made here.h5"
    done = command("simulate", path, "--width", "64", "--height", "3", "--angles", "20", "--range", "360", "--rings")
    assert done.returncode == 0, done.stderr
    with h5py.File(path) as file:
        assert file["exchange/data"].shape == (20, 3, 64)
    assert listing(tmp_path) == {"made here.h5"}


@pytest.mark.skipif(not TOOTH.exists(), reason="the scan of a tooth is not here")
def test_real_scan_of_a_tooth(tmp_path: Path) -> None:
    result = reconstruct(TOOTH, tmp_path, Parameters())
    assert result.center == pytest.approx(296, abs=0.75)
    image = tifffile.imread(tmp_path / "rectooth/tooth_00000.tiff")
    tooth, air = image[330:350, 400:420], image[60:120, 300:360]
    assert tooth.mean() > 20 * abs(air.mean())
    assert json.loads(result.report.read_text())["result"]["unit"] == "1/px"
