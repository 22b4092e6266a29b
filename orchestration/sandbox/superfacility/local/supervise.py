"""Looks after one running job: run as a file of its own, ``python -I -S supervise.py FOLDER``.

A process and a session of its own, so that the job does not depend on the facility that started it. It may be started
any number of times for one folder; the lock and `STARTED` see to it that the script runs at most once. Imports only a
little of the standard library, and nothing of this project, to be up in some twenty milliseconds.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import sys
import time
from datetime import datetime
from typing import Any, NamedTuple

ORDERS = "orders.json"
"""Of the facility: what to run."""
END = "end.json"
"""Of the facility: how to end it; whoever writes it wakes the supervisor by SIGUSR1 once `STARTED` is there."""
STARTED = "started.json"
"""Of the supervisor: its process, before the script is run. From then on nobody may run it again."""
ENDING = "ending.json"
"""Of the supervisor: how it ended. The last that it writes."""
LOCK = "lock"
SCRIPT = "slurm_script"

MARK = "BEAMLINE_SANDBOX_JOB"
"""Environment variable of all processes of a job, with its folder: what to end, wherever it has gone."""

_WAKING = {signal.SIGCHLD, signal.SIGUSR1, signal.SIGTERM}
_UNWRITABLE = 53
"""The signal that Slurm gives as the end of a job whose output cannot be written."""
_SAID = {
    "TIMEOUT": "CANCELLED AT {time} DUE TO TIME LIMIT",
    "CANCELLED": "CANCELLED AT {time}",
    "PREEMPTED": "CANCELLED AT {time} DUE TO PREEMPTION",
    "NODE_FAIL": "CANCELLED AT {time} DUE TO NODE FAILURE, SEE SLURMCTLD LOG FOR DETAILS",
    "DEADLINE": "CANCELLED AT {time} DUE TO DEADLINE",
}
CODES = {"FAILED": (1, 0), "OUT_OF_MEMORY": (0, 125)}
"""Exit code and signal of a job that is made to end so; else both are 0."""
_ABRUPT = {"NODE_FAIL", "OUT_OF_MEMORY"}
"""Ends without being asked to."""


class Orders(NamedTuple):
    """What to run, and how. `limit` and `grace` are in seconds; `grace` lies between asking to end and killing."""

    job: str
    node: str
    script: str
    arguments: list[str]
    environment: dict[str, str]
    directory: str
    output: str
    error: str
    input: str
    append: bool
    limit: float
    grace: float


def read(folder: str, name: str) -> dict[str, Any] | None:
    """A file written by `write`; None if there is none."""
    try:
        with open(os.path.join(folder, name), encoding="utf-8") as file:
            found = json.load(file)
    except FileNotFoundError:
        return None
    return dict(found)


def write(folder: str, name: str, document: dict[str, Any]) -> None:
    """In one step: who reads it reads all of it."""
    part = os.path.join(folder, f".{name}.{os.getpid()}")
    with open(part, "w", encoding="utf-8") as file:
        json.dump(document, file)
    os.replace(part, os.path.join(folder, name))


def kill_marked(folder: str) -> int:
    """End all processes of the job in this folder, but not the one that asks; how many there were."""
    mark = f"{MARK}={folder}".encode()
    killed = 0
    for pid in [int(name) for name in os.listdir("/proc") if name.isdecimal()]:
        if pid == os.getpid():
            continue
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                marked = mark in file.read().split(b"\0")
        except OSError:
            continue
        if marked:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
                killed += 1
    return killed


class Supervisor:
    def __init__(self, folder: str, orders: Orders) -> None:
        self._folder = folder
        self._orders = orders
        self._log = -1

    def run(self) -> None:
        """Run the script, and leave `ENDING` behind."""
        signal.pthread_sigmask(signal.SIG_BLOCK, _WAKING)
        write(self._folder, STARTED, {"pid": os.getpid(), "time": time.time()})
        try:
            out, err = self._logs()
        except OSError:
            self._leave("FAILED", 0, _UNWRITABLE)
            return
        self._log = err
        # Both ends close when the script is run: before, the child has neither its own group nor its mark.
        become, becoming = os.pipe()
        pid = os.fork()
        if pid == 0:
            self._become(out, err)
        os.close(becoming)
        os.read(become, 1)
        state, code, number = self._watch(pid)
        self._leave(state, code, number)

    def _logs(self) -> tuple[int, int]:
        """Standard output and standard error of the job, which may be one file."""
        with contextlib.suppress(OSError):
            os.chdir(self._orders.directory)
        flags = os.O_WRONLY | os.O_CREAT | (os.O_APPEND if self._orders.append else os.O_TRUNC)
        out = os.open(self._orders.output, flags, 0o644)
        same = self._orders.error == self._orders.output
        return out, out if same else os.open(self._orders.error, flags, 0o644)

    def _become(self, out: int, err: int) -> None:
        """In the child: turn into the script."""
        code = 1
        try:
            os.setsid()
            os.dup2(os.open(self._orders.input, os.O_RDONLY), 0)
            os.dup2(out, 1)
            os.dup2(err, 2)
            try:
                os.chdir(self._orders.directory)
            except OSError as error:
                where = self._orders.directory
                _say(2, f"couldn't chdir to `{where}': {error.strerror}: going to /tmp instead")
                os.chdir("/tmp")  # noqa: S108 -- as Slurm does
            script = os.path.join(self._folder, SCRIPT)
            descriptor = os.open(script, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o700)
            os.write(descriptor, self._orders.script.encode())
            os.close(descriptor)
            signal.pthread_sigmask(signal.SIG_SETMASK, [])
            os.execve(script, [script, *self._orders.arguments], self._environment())  # noqa: S606
        except OSError as error:
            _say(2, f"execve(): {error.filename}: {error.strerror}")
            code = error.errno or 1
        finally:
            os._exit(code)

    def _environment(self) -> dict[str, str]:
        now = time.time()
        times = {"SLURM_JOB_START_TIME": str(int(now)), "SLURM_JOB_END_TIME": str(int(now + self._orders.limit))}
        return self._orders.environment | times

    def _watch(self, pid: int) -> tuple[str, int, int]:
        """Until the script is over: state, exit code and signal of the job."""
        end = time.monotonic() + self._orders.limit
        while True:
            if _over(pid):
                return self._judged(pid, "")
            if order := read(self._folder, END):
                return self._stopped(pid, str(order["state"]))
            left = end - time.monotonic()
            if left <= 0:
                return self._stopped(pid, "TIMEOUT")
            if _wait(min(left, 3600.0)) == signal.SIGTERM:
                return self._stopped(pid, "NODE_FAIL")

    def _stopped(self, pid: int, state: str) -> tuple[str, int, int]:
        if state in _SAID:
            said = _SAID[state].format(time=datetime.now().strftime("%Y-%m-%dT%H:%M:%S"))  # noqa: DTZ005 -- local
            _say(self._log, f"*** JOB {self._orders.job} ON {self._orders.node} {said} ***")
        if state not in _ABRUPT:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGTERM)
            end = time.monotonic() + self._orders.grace
            while not _over(pid) and (left := end - time.monotonic()) > 0:
                _wait(left)
        if state == "OUT_OF_MEMORY":
            _say(self._log, f"Detected 1 oom_kill event in StepId={self._orders.job}.batch.")
        return self._judged(pid, state)

    def _judged(self, pid: int, state: str) -> tuple[str, int, int]:
        """End what is left of the job; what is said of it where `state` does not say it."""
        # Not yet waited for, the script still holds its number, so that no stranger is killed.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
        kill_marked(self._folder)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        if state:
            return (state, *CODES.get(state, (0, 0)))
        if code == 0:
            return "COMPLETED", 0, 0
        return ("FAILED", code, 0) if code > 0 else ("FAILED", 0, -code)

    def _leave(self, state: str, code: int, number: int) -> None:
        write(self._folder, ENDING, {"state": state, "code": code, "signal": number, "time": time.time()})


def _over(pid: int) -> bool:
    """Whether it has ended; it is not yet waited for."""
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _wait(seconds: float) -> int:
    """Until a signal comes; its number, or 0."""
    found = signal.sigtimedwait(_WAKING, seconds)
    return found.si_signo if found else 0


def _say(descriptor: int, text: str) -> None:
    with contextlib.suppress(OSError):
        os.write(descriptor, f"slurmstepd: error: {text}\n".encode())


def main(folder: str) -> int:
    lock = os.open(os.path.join(folder, LOCK), os.O_CREAT | os.O_RDWR, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX)  # others hold it for a moment, or until the job is over
    orders = read(folder, ORDERS)
    if orders and not read(folder, STARTED) and not read(folder, ENDING):
        Supervisor(folder, Orders(**orders)).run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
