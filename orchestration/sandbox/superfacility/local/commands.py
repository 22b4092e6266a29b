"""Commands of a user on the login node."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from orchestration.sandbox.superfacility.scheduler import Output

_LOOK = 0.1
"""Seconds between two looks whether a command is to be stopped."""
_STOPPED = 124


def run(
    command: Sequence[str],
    *,
    environment: Mapping[str, str],
    directory: Path,
    stdin: bytes = b"",
    limit: float,
    stop: threading.Event | None = None,
) -> Output:
    """Run a command without a shell; all that it started is ended with it, after `limit` seconds or at `stop`."""
    try:
        child = subprocess.Popen(
            list(command),
            env=dict(environment),
            cwd=directory,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except FileNotFoundError:
        return Output(code=127, stderr=f"bash: {command[0]}: command not found\n".encode())
    except (PermissionError, OSError, ValueError) as error:
        return Output(code=126, stderr=f"bash: {command[0]}: {error}\n".encode())
    end = time.monotonic() + limit
    while True:
        try:
            stdout, stderr = child.communicate(stdin, timeout=_LOOK)
        except subprocess.TimeoutExpired:
            if time.monotonic() < end and not (stop and stop.is_set()):
                continue
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.communicate()
            return Output(code=_STOPPED, stderr=b"command timed out\n")
        code = child.returncode
        return Output(code=code if code >= 0 else 128 - code, stdout=stdout, stderr=stderr)
