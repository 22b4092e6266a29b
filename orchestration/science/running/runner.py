"""Runs the program of a job under its orders."""

from __future__ import annotations

import json
import os
import platform
import resource
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import FrameType
from typing import Any

from orchestration.science.running import outputs, report
from orchestration.science.running.processes import die_with_parent, ended, kill_group
from orchestration.science.running.report import DUPLICATE, OUTPUT_MISSING, Reason, Report

DISTRIBUTION = "beamline-orchestration"
PROGRESS_FILE = "ORCHESTRATION_PROGRESS_FILE"
ERROR_FILE = "ORCHESTRATION_ERROR_FILE"
CANCEL = "cancel"
"""A file of this name in a job's folder stops it, or keeps it from beginning."""
STARTED = "started.json"
_LOOK_SECONDS = 0.5
_BATCH_JOB = ("SLURM_JOB_ID", "PBS_JOBID")


@dataclass(frozen=True, kw_only=True)
class Orders:
    """What to run. Times are in seconds; `start_by` is since the epoch, 0 for no limit.

    `version` is that of the science programs that must be installed here; empty if any will do.
    """

    folder: str
    executable: str
    arguments: list[str]
    directory: str
    duration: float
    environment: dict[str, str]
    outputs: list[dict[str, Any]]
    start_by: float = 0.0
    version: str = ""
    grace: float = 10.0

    @classmethod
    def parse(cls, text: str) -> Orders:
        """Raises ValueError or TypeError if this is not what `vars` of one looks like as JSON."""
        found = json.loads(text)
        if not isinstance(found, dict):
            raise TypeError("orders must be one JSON object")
        return cls(**found)


class Runner:
    def __init__(self, orders: Orders) -> None:
        self._orders = orders
        self._folder = Path(orders.folder)
        self._terminated = False

    def run(self) -> int:
        """The exit code; a report is left in the folder, unless another start of the same job has that to do."""
        self._folder.mkdir(parents=True, exist_ok=True)
        try:
            known = report.read(self._folder)
        except ValueError as error:
            sys.stderr.write(f"{self._folder}: this job is over, and its report is damaged: {error}\n")
            return OUTPUT_MISSING
        if known is not None:
            return int(known["exit_code"])
        if not self._claim():
            sys.stderr.write(f"{self._folder}: this job was started before; this start does nothing\n")
            return DUPLICATE
        signal.signal(signal.SIGTERM, self._on_terminate)
        done = self._refusal() or self._execute()
        done = replace(done, **self._surroundings())
        done.write(self._folder)
        sys.stdout.write(json.dumps({"reason": done.reason.value, "exit_code": done.exit_code}) + "\n")
        return done.exit_code

    def _claim(self) -> bool:
        """Whether this process is the one that runs the job: of two submissions of it, the second does nothing.

        A batch job that its scheduler starts again, after a computer failed, is still the same one.
        """
        mine = {"host": socket.gethostname(), "pid": os.getpid(), "time": time.time(), **_batch_job()}
        path = self._folder / STARTED
        part = self._folder / f".{STARTED}.{socket.gethostname()}.{os.getpid()}"
        part.write_text(json.dumps(mine), encoding="utf-8")
        try:
            os.link(part, path)  # atomic on every shared file system, and whole when it appears
        except FileExistsError:
            if not _starts_again(json.loads(path.read_text(encoding="utf-8")), mine):
                part.unlink()
                return False
            part.replace(path)
            return True
        part.unlink()
        return True

    def _refusal(self) -> Report | None:
        """Why it does not begin; None if nothing is against it."""
        if (self._folder / CANCEL).exists():
            return Report(reason=Reason.CANCELLED)
        if 0 < self._orders.start_by < time.time():
            late = time.time() - self._orders.start_by
            return Report(reason=Reason.LATE, error=f"it could begin {late:.0f} s after the time by which it had to")
        installed = _installed()
        if self._orders.version and installed != self._orders.version:
            text = f"version {installed or 'unknown'} is installed here, and {self._orders.version} was asked for"
            return Report(reason=Reason.OUTDATED, error=text)
        return None

    def _execute(self) -> Report:
        directory = Path(self._orders.directory)
        declared = [outputs.Declared.parse(each) for each in self._orders.outputs]
        started_at, began = time.time(), time.monotonic()
        try:
            before = [outputs.found(directory, each) for each in declared]
            reason, code = self._command()
        except OSError as error:
            return Report(reason=Reason.UNSTARTABLE, error=f"{error.strerror}: {error.filename}", started_at=started_at)
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        ended = Report(
            reason=reason,
            code=code,
            started_at=started_at,
            seconds=round(time.monotonic() - began, 3),
            cpu_seconds=round(usage.ru_utime + usage.ru_stime, 3),
            max_rss_bytes=usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
            stdout=report.tail(self._folder / "stdout.txt"),
            stderr=report.tail(self._folder / "stderr.txt"),
            reported=self._reported(),
        )
        if reason is not Reason.EXITED or code != 0:
            return ended
        checked = [outputs.check(directory, *each) for each in zip(declared, before, strict=True)]
        return replace(ended, outputs=[each.document() for each in checked])

    def _command(self) -> tuple[Reason, int]:
        Path(self._orders.directory).mkdir(parents=True, exist_ok=True)
        files = {PROGRESS_FILE: "progress.jsonl", ERROR_FILE: "error.json"}
        environment = {**os.environ, **{name: str(self._folder / file) for name, file in files.items()}}
        with (
            (self._folder / "stdout.txt").open("wb") as out,
            (self._folder / "stderr.txt").open("wb") as err,
        ):
            child = subprocess.Popen(
                [self._orders.executable, *self._orders.arguments],
                cwd=self._orders.directory,
                env=environment | self._orders.environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
                preexec_fn=die_with_parent,  # this process has one thread
            )
            try:
                reason = self._watch(child)
            finally:
                # Also what it left running in the background: nothing may write once outputs are checked.
                # Not yet waited for, the program still holds its number, so that no stranger is killed.
                kill_group(child.pid, signal.SIGKILL)
                child.wait()
        if reason is Reason.EXITED and self._terminated and child.returncode != 0:
            # The scheduler told both to end, and the program, which tidies up and exits by itself, was the quicker.
            reason = Reason.TERMINATED
        return reason, child.returncode

    def _watch(self, child: subprocess.Popen[bytes]) -> Reason:
        end = time.monotonic() + self._orders.duration
        while True:
            left = end - time.monotonic()
            if ended(child.pid, timeout=max(0.0, min(_LOOK_SECONDS, left))):
                return Reason.EXITED
            if left <= 0:
                return self._stop(child, Reason.TIMEOUT)
            if (self._folder / CANCEL).exists():
                return self._stop(child, Reason.CANCELLED)
            if self._terminated:
                return self._stop(child, Reason.TERMINATED)

    def _stop(self, child: subprocess.Popen[bytes], reason: Reason) -> Reason:
        kill_group(child.pid, signal.SIGTERM)
        ended(child.pid, timeout=self._orders.grace)
        return reason

    def _on_terminate(self, _number: int, _frame: FrameType | None) -> None:
        self._terminated = True

    def _reported(self) -> dict[str, Any] | None:
        """The program's own account of its error, if it left one that can be read."""
        try:
            found = json.loads((self._folder / "error.json").read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return None
        return found if isinstance(found, dict) else None

    @staticmethod
    def _surroundings() -> dict[str, Any]:
        return {
            "host": socket.gethostname(),
            "python": platform.python_version(),
            "science_version": _installed(),
        }


def _batch_job() -> dict[str, str]:
    number = next((os.environ[name] for name in _BATCH_JOB if name in os.environ), "")
    return {"job": number, "restart": os.environ.get("SLURM_RESTART_COUNT", "0")}


def _starts_again(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    return bool(now["job"]) and before.get("job") == now["job"] and int(before["restart"]) < int(now["restart"])


def _installed() -> str:
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return ""


def main(arguments: list[str]) -> int:
    """``run ORDERS``: the orders are one JSON object, or ``-`` for standard input."""
    try:
        text = sys.stdin.read() if arguments == ["-"] else arguments[0]
        orders = Orders.parse(text)
    except (IndexError, ValueError, TypeError) as error:
        sys.stderr.write(f"these are no orders for a job: {error}. Next: report this defect with the log.\n")
        return 2
    return Runner(orders).run()
