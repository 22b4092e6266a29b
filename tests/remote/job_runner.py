"""Starts the runner as a facility's scheduler would, and reads what it leaves."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Site:
    """A folder in which jobs run."""

    root: Path

    def orders(self, token: str, code: str, **changes: Any) -> dict[str, Any]:
        """Those of a job that runs a few lines of Python."""
        plain = {
            "folder": str(self.root / "jobs" / token),
            "executable": sys.executable,
            "arguments": ["-c", code],
            "directory": str(self.root / "work"),
            "duration": 30,
            "environment": {},
            "outputs": [],
        }
        return plain | changes

    def start(self, orders: Mapping[str, Any], **variables: str) -> subprocess.Popen[bytes]:
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "orchestration.science", "run", json.dumps(orders)],
                stdout=log,
                stderr=log,
                env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(Path(__file__).parents[2]), **variables},
            )

    @property
    def log(self) -> Path:
        """What all runners printed."""
        return self.root / "log.txt"

    def run(self, token: str, code: str, **changes: Any) -> tuple[int, dict[str, Any]]:
        """The exit code of the runner, and the report."""
        exit_code = self.start(self.orders(token, code, **changes)).wait(timeout=60)
        return exit_code, self.report(token)

    def report(self, token: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.root / "jobs" / token / "report.json").read_text())
        return found


def alive(pid: int) -> bool:
    """Neither gone nor only waiting for somebody to take notice of its end."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
