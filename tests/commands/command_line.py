"""`beamline` as a person uses it, and files that a person might have."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import h5py
import numpy as np
from click.testing import CliRunner, Result

from orchestration.cli import beamline

PROJECT = Path(__file__).parents[2]


@dataclass(frozen=True)
class CommandLine:
    """`beamline` as it is used in the directory of a sandbox, in this process."""

    directory: Path
    environment: Mapping[str, str]

    def __call__(self, *arguments: str, code: int = 0) -> str:
        result = self.result(*arguments)
        assert result.exit_code == code, result.output
        return result.stdout

    def json(self, *arguments: str, code: int = 0) -> Any:
        return json.loads(self(*arguments, "--json", code=code))

    def result(self, *arguments: str) -> Result:
        with patch.dict(os.environ, dict(self.environment)):
            before = Path.cwd()
            os.chdir(self.directory)
            try:
                return CliRunner().invoke(beamline, list(arguments), catch_exceptions=False)
            finally:
                os.chdir(before)

    def start(self, *arguments: str, module: str = "orchestration.cli", program: str = "") -> subprocess.Popen[str]:
        """As a process of its own; another module or program instead, if one is given."""
        what = ["-c", program] if program else ["-m", module]
        variables = {**os.environ, **self.environment, "PYTHONPATH": str(PROJECT), "COLUMNS": "80"}
        return subprocess.Popen(
            [sys.executable, *what, *arguments],
            cwd=self.directory,
            env=variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


def data_exchange(path: Path, *, seed: int = 0) -> Path:
    """The least that a Data Exchange file holds: counts of a disc, and nothing about itself."""
    size, angles = 48, 60
    columns = np.abs(np.arange(size) - size / 2 + 0.5 + seed / 10)
    disc = 2 * np.sqrt(np.maximum(15.0**2 - columns**2, 0.0))
    frame = 10_000 * np.exp(-0.02 * np.tile(disc, (8, 1)))
    with h5py.File(path, "w") as file:
        file["exchange/data"] = np.tile(frame, (angles, 1, 1)).astype(np.uint16)
        file["exchange/data_white"] = np.full((2, 8, size), 10_000, np.uint16)
        file["exchange/data_dark"] = np.zeros((2, 8, size), np.uint16)
        file["exchange/theta"] = np.linspace(0, 180, angles, endpoint=False)
    return path
