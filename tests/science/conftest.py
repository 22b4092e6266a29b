from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from orchestration.science.cli import main
from orchestration.science.tomography.simulate import ScanDescription, write_scan

ROOT = Path(__file__).parents[2]

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def description() -> ScanDescription:
    """A small, noise-free scan with its axis off the middle."""
    return ScanDescription(width=128, height=12, angles=200, center_offset=3.3)


@pytest.fixture(scope="session")
def scan(tmp_path_factory: pytest.TempPathFactory, description: ScanDescription) -> Path:
    path = tmp_path_factory.mktemp("scan") / "scan.h5"
    write_scan(path, description)
    return path


@pytest.fixture
def scan_copy(scan: Path, tmp_path: Path) -> Path:
    """A scan to spoil."""
    path = tmp_path / "spoilt.h5"
    path.write_bytes(scan.read_bytes())
    return path


@pytest.fixture
def tiny_scan(tmp_path: Path) -> Callable[..., Path]:
    """Makes a Data Exchange file without any metadata."""

    def make(name: str = "tiny.h5", *, dtype: str = "f4", omit: str = "") -> Path:
        path = tmp_path / name
        with h5py.File(path, "w") as file:
            arrays = {
                "data": np.full((8, 2, 16), 50),
                "data_white": np.full((2, 2, 16), 100),
                "data_dark": np.zeros((2, 2, 16)),
                "theta": np.arange(8) * 22.5,
            }
            for key, values in arrays.items():
                if key != omit:
                    file[f"exchange/{key}"] = values.astype(dtype)
        return path

    return make


@pytest.fixture
def command(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the command line in this process: to import all that it needs takes longer than most commands do."""

    def run(*arguments: str | Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        for name, value in (env or {}).items():
            monkeypatch.setenv(name, value)
        words = ["tomography", *map(str, arguments)]
        capfd.readouterr()
        code = main(words)
        printed = capfd.readouterr()
        return subprocess.CompletedProcess(words, code, printed.out, printed.err)

    return run


@pytest.fixture
def program() -> Run:
    """Runs the command line in a process of its own."""

    def run(*arguments: str | Path, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        line = [sys.executable, "-m", "orchestration.science", "tomography", *map(str, arguments)]
        return subprocess.run(
            line, cwd=ROOT, env=os.environ | (env or {}), capture_output=True, text=True, timeout=240, check=False
        )

    return run
