"""Commands on a login node: run as one of its users, without a shell, and ended with all that they started."""

from __future__ import annotations

import contextlib
import grp
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

from orchestration.sandbox.superfacility.scheduler import Output, Person

_NOT_FOUND, _NOT_RUNNABLE, STOPPED = 127, 126, 124
_LOOK = 0.1
"""Seconds between two looks whether a command is to be stopped."""
_FAREWELL = 0.3
"""Seconds for what a killed command left in its pipes."""


class Identity(TypedDict, total=False):
    """Whose process a command becomes, in the words of `subprocess.Popen`; left out: that of whoever runs it."""

    user: int
    group: int
    extra_groups: list[int]


def run(
    command: Sequence[str],
    *,
    environment: Mapping[str, str],
    directory: Path,
    stdin: bytes = b"",
    limit: float,
    stop: threading.Event | None = None,
    identity: Identity | None = None,
) -> Output:
    """Run a command; after `limit` seconds, or once `stop` is set, it is ended with all of its group."""
    try:
        child = _start(command, stdin, env=dict(environment), cwd=directory, **(identity or {}))
    except FileNotFoundError:
        return Output(code=_NOT_FOUND, stderr=f"bash: {command[0]}: command not found\n".encode())
    except (OSError, ValueError) as error:
        return Output(code=_NOT_RUNNABLE, stderr=f"bash: {command[0]}: {error}\n".encode())
    try:
        stdout, stderr = _printed(child, limit=limit, stop=stop)
    except subprocess.TimeoutExpired:
        _kill(child)
        return Output(code=STOPPED, stderr=b"command timed out\n")
    except BaseException:
        _kill(child)
        raise
    code = child.returncode
    return Output(code=code if code >= 0 else 128 - code, stdout=stdout, stderr=stderr)


def login_environment(person: Person, *, path: str, machine: str, extra: Mapping[str, str]) -> dict[str, str]:
    """What programs of a user find at login, and their jobs: nothing of the facility's own environment."""
    return {
        "PATH": path,
        "HOME": str(person.home),
        "USER": person.name,
        "LOGNAME": person.name,
        "SHELL": "/bin/bash",
        "LANG": "C.UTF-8",
        "NERSC_HOST": machine,
        **extra,
    }


def group_name(gid: int) -> str:
    """The number itself where the group has no name."""
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)


def _start(command: Sequence[str], stdin: bytes, **options: Any) -> subprocess.Popen[bytes]:
    """Its input is a file: `communicate` sends nothing more of a long one once it has been interrupted."""
    with tempfile.TemporaryFile() as given:
        given.write(stdin)
        given.seek(0)
        return subprocess.Popen(
            list(command),
            stdin=given,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            **options,
        )


def _printed(child: subprocess.Popen[bytes], *, limit: float, stop: threading.Event | None) -> tuple[bytes, bytes]:
    """All that it prints. Raises: subprocess.TimeoutExpired, where it is to be stopped."""
    end = time.monotonic() + limit
    while True:
        try:
            return child.communicate(timeout=_LOOK)
        except subprocess.TimeoutExpired:
            if time.monotonic() >= end or (stop is not None and stop.is_set()):
                raise


def _kill(child: subprocess.Popen[bytes]) -> None:
    """End its group; returns also if a descendant that left the group still holds its pipes."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    try:
        child.communicate(timeout=_FAREWELL)
    except subprocess.TimeoutExpired:
        for pipe in (child.stdout, child.stderr):
            if pipe is not None:
                pipe.close()
        child.wait()
