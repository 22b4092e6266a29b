"""The simulated detector writes as a real one does: slowly, readable meanwhile, whole at the end."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import h5py
import pytest
from sandbox_lab import until

from orchestration.errors import InvalidInput
from orchestration.sandbox.detector import Detector
from orchestration.science.tomography.simulate import ScanDescription

SMALL = ScanDescription(width=32, height=4, angles=20, flats=2, darks=1)
COMMAND = [sys.executable, "-m", "orchestration.sandbox.detector", "--size", "32", "--height", "4", "--flats", "2"]


def frames(path: Path) -> int:
    """Projections that a reader sees while the detector writes."""
    with h5py.File(path, "r", swmr=True) as file:
        return int(file["exchange/data"].shape[0])


def test_a_scan_is_whole_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "new" / "scan.h5"
    exposure = Detector().record(path, SMALL)
    assert (exposure.frames, exposure.complete, exposure.size) == (23, True, path.stat().st_size)
    with h5py.File(path) as file:
        assert file["exchange/data"].shape == (20, 4, 32)
        assert file["exchange/data"][-1].any()


def test_the_rate_is_kept(tmp_path: Path) -> None:
    exposure = Detector(rate=100).record(tmp_path / "scan.h5", SMALL)
    assert exposure.seconds >= 0.2


def test_no_scan_is_written_over(tmp_path: Path) -> None:
    path = tmp_path / "scan.h5"
    path.write_bytes(b"precious")
    with pytest.raises(InvalidInput):
        Detector().record(path, SMALL)
    assert path.read_bytes() == b"precious"


def test_an_aborted_scan_lacks_frames(tmp_path: Path) -> None:
    path = tmp_path / "scan.h5"
    exposure = Detector().record(path, SMALL, stop_after=10)
    assert (exposure.frames, exposure.complete) == (10, False)
    assert frames(path) == 7


def test_the_file_grows_while_others_read_it_and_a_signal_closes_it(tmp_path: Path) -> None:
    path = tmp_path / "scan.h5"
    command = [*COMMAND, "--out", str(path), "--angles", "100000", "--rate", "50"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            until(path.exists, seconds=60)
            until(lambda: readable(path) and frames(path) > 0, seconds=60)
            seen = frames(path)
            until(lambda: frames(path) > seen)
            process.send_signal(signal.SIGTERM)
            output, _ = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 0
    assert "stopped early" in output
    with h5py.File(path) as file:
        assert file["exchange/data"].shape[0] > seen


def readable(path: Path) -> bool:
    """Not in the first moment of a file, before the detector has let readers in."""
    try:
        frames(path)
    except OSError:
        return False
    return True


def test_a_wrong_description_is_refused_in_one_sentence(tmp_path: Path) -> None:
    command = [*COMMAND, "--out", str(tmp_path / "scan.h5"), "--angles", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "angles is 1" in done.stderr
    assert "Traceback" not in done.stderr
