"""A database that Prefect has migrated already, for tests, which start many servers: half of a start is that."""

from __future__ import annotations

import fcntl
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

from orchestration.errors import OperationFailed

VARIABLE = "BEAMLINE_TEST_PREFECT_DATABASE"
"""The file in which it is kept; it is made when it is first needed."""

_NAME = "prefect.db"


def begin_with(home: Path) -> None:
    """Give a new server, whose PREFECT_HOME this is, a copy; nothing where none is kept, or the server is not new."""
    kept = os.environ.get(VARIABLE)
    if not kept or (home / _NAME).exists():
        return
    template = Path(kept)
    with template.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not template.exists():
            _make(template)
    home.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(template, home / _NAME)


def _make(template: Path) -> None:
    part = template.with_suffix(".part")
    part.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory(prefix="prefect-") as folder:
        environment = {**os.environ, "PREFECT_HOME": folder, "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
        command = [sys.executable, "-m", "prefect", "server", "database", "upgrade", "-y"]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise OperationFailed(f"Prefect's database was not made: {done.stderr[-2000:]}", where=" ".join(command))
        with closing(sqlite3.connect(Path(folder) / _NAME)) as made, closing(sqlite3.connect(part)) as copy:
            made.backup(copy)
    part.replace(template)
