"""Commands run as a user of the facility: permissions are the kernel's business."""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypedDict

from orchestration.sandbox.superfacility.scheduler import Group, Output, Person, UnknownUser

_LOOK = 0.1
"""Seconds between two looks whether a command is to be stopped."""
_NOT_FOUND, _NOT_RUNNABLE, STOPPED = 127, 126, 124


class _Identity(TypedDict, total=False):
    user: int
    group: int
    extra_groups: list[int]


def person(user: str) -> Person:
    """Raises: UnknownUser."""
    try:
        entry = pwd.getpwnam(user)
    except (KeyError, ValueError) as error:
        raise UnknownUser(user) from error
    numbers = [entry.pw_gid, *(one for one in os.getgrouplist(user, entry.pw_gid) if one != entry.pw_gid)]
    return Person(
        name=user,
        uid=entry.pw_uid,
        home=Path(entry.pw_dir),
        groups=tuple(Group(name=_group_name(number), gid=number) for number in numbers),
        full_name=entry.pw_gecos.partition(",")[0],
    )


def run(
    whom: Person,
    command: Sequence[str],
    *,
    environment: Mapping[str, str],
    stdin: bytes = b"",
    limit: float,
    stop: threading.Event | None = None,
) -> Output:
    """Run a command without a shell; all of its group is ended with it, after `limit` seconds or at `stop`."""
    try:
        child = subprocess.Popen(
            list(command),
            env=dict(environment),
            cwd=whom.home if whom.home.is_dir() else Path("/"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
            **_identity(whom),
        )
    except FileNotFoundError:
        return Output(code=_NOT_FOUND, stderr=f"bash: {command[0]}: command not found\n".encode())
    except (OSError, ValueError) as error:
        return Output(code=_NOT_RUNNABLE, stderr=f"bash: {command[0]}: {error}\n".encode())
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
            return Output(code=STOPPED, stderr=b"command timed out\n")
        code = child.returncode
        return Output(code=code if code >= 0 else 128 - code, stdout=stdout, stderr=stderr)


def _identity(whom: Person) -> _Identity:
    """Whose process it becomes; only root can change that."""
    if os.geteuid() != 0:
        return {}
    numbers = [group.gid for group in whom.groups]
    return {"user": whom.uid, "group": numbers[0], "extra_groups": numbers}


def _group_name(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)
