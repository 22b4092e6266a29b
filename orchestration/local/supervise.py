"""Looks after one job of this machine: ``python -m orchestration.local.supervise FOLDER``.

A process of its own, in a session of its own, so that the job does not depend on the flow that asked for it. It may be
started any number of times for one folder; the lock and `STARTED` see to it that the command runs at most once.
Imports only the standard library and its like here, to be up in some tens of milliseconds.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from types import FrameType

from orchestration.local import jobfolder
from orchestration.local.jobfolder import JobFolder
from orchestration.local.processes import ProcessIdentity
from orchestration.local.records import Ending, Orders, Reason
from orchestration.local.slots import places
from orchestration.science.running.outputs import Declared, check, found
from orchestration.science.running.processes import die_with_parent, ended, kill_group

_LOOK = 0.1
"""Seconds between two looks for a request to cancel."""

_LOCK_PATIENCE = 2.0
"""Others hold the lock for a moment, only to see whether it is free."""


class Supervisor:
    def __init__(self, folder: JobFolder, orders: Orders) -> None:
        self._folder = folder
        self._orders = orders
        self._terminated = False
        self._processors: set[int] = set()
        signal.signal(signal.SIGTERM, self._on_terminate)

    def run(self) -> None:
        """Wait for a place, run the command, and leave `EXIT` behind."""
        slots = Path(self._orders.slots_folder)
        with places(slots, total=self._orders.slots, wanted=self._orders.cores, stop=self._unwanted) as taken:
            # A supervisor that is told to end before the command ran leaves no trace: the next one begins again.
            if self._folder.has(jobfolder.CANCEL):
                Ending(reason=Reason.CANCELLED).write(self._folder)
            elif taken and not self._terminated:
                self._processors = _processors(taken)
                self._folder.write(jobfolder.STARTED, {"pid": os.getpid(), "time": time.time()})
                self._execute().write(self._folder)
            elif self._late() and not self._terminated:
                text = "other jobs of this machine had its cores for longer than it may wait"
                Ending(reason=Reason.LATE, error=text).write(self._folder)

    def _execute(self) -> Ending:
        directory = Path(self._orders.directory)
        declared = [Declared.parse(output.document()) for output in self._orders.outputs]
        began = time.monotonic()
        try:
            before = [found(directory, each) for each in declared]
            reason, code = self._command()
        except OSError as error:
            return Ending(reason=Reason.UNSTARTABLE, error=f"{error.strerror}: {error.filename}")
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        ending = Ending(
            reason=reason,
            code=code,
            seconds=round(time.monotonic() - began, 3),
            cpu_seconds=round(usage.ru_utime + usage.ru_stime, 3),
            max_rss_bytes=usage.ru_maxrss * 1024,
        )
        if not ending.good:
            return ending
        checked = (check(directory, *each) for each in zip(declared, before, strict=True))
        return replace(ending, outputs=tuple(checked))

    def _command(self) -> tuple[Reason, int]:
        Path(self._orders.directory).mkdir(parents=True, exist_ok=True)
        with self._child() as child:
            identity = ProcessIdentity.of(child.pid)
            if identity:
                self._folder.write(jobfolder.CHILD, asdict(identity))
            reason = self._watch(child)
        if reason is Reason.EXITED and self._terminated and child.returncode != 0:
            # Both were told to end, as when the machine is shut down, and the command was the quicker.
            reason = Reason.TERMINATED
        return reason, child.returncode

    @contextlib.contextmanager
    def _child(self) -> Iterator[subprocess.Popen[bytes]]:
        with (
            (self._folder.path / jobfolder.STDOUT).open("wb") as out,
            (self._folder.path / jobfolder.STDERR).open("wb") as err,
        ):
            child = subprocess.Popen(
                [self._orders.executable, *self._orders.arguments],
                cwd=self._orders.directory,
                env=self._orders.environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
                preexec_fn=self._confine,  # this process has one thread
            )
            try:
                yield child
            finally:
                # Also what the command left running in the background: nothing may write once outputs are checked.
                # Not yet waited for, the command still holds its number, so that no stranger is killed.
                kill_group(child.pid, signal.SIGKILL)
                child.wait()

    def _confine(self) -> None:
        """For the command, between fork and exec: it has the processors of its places, and its share of the memory."""
        die_with_parent()
        os.sched_setaffinity(0, self._processors)
        if self._orders.memory is not None:
            most = resource.getrlimit(resource.RLIMIT_DATA)[1]
            limit = self._orders.memory if most == resource.RLIM_INFINITY else min(self._orders.memory, most)
            resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))

    def _watch(self, child: subprocess.Popen[bytes]) -> Reason:
        end = time.monotonic() + self._orders.duration
        while True:
            if ended(child.pid, timeout=min(_LOOK, max(0.0, end - time.monotonic()))):
                return Reason.EXITED
            if time.monotonic() >= end:
                return self._stop(child, Reason.TIMEOUT)
            if self._folder.has(jobfolder.CANCEL):
                return self._stop(child, Reason.CANCELLED)
            if self._terminated:
                return self._stop(child, Reason.TERMINATED)

    def _stop(self, child: subprocess.Popen[bytes], reason: Reason) -> Reason:
        kill_group(child.pid, signal.SIGTERM)
        ended(child.pid, timeout=self._orders.grace)
        return reason

    def _unwanted(self) -> bool:
        return self._terminated or self._folder.has(jobfolder.CANCEL) or self._late()

    def _late(self) -> bool:
        return 0 < self._orders.start_by < time.time()

    def _on_terminate(self, _number: int, _frame: FrameType | None) -> None:
        self._terminated = True


def _processors(places: list[int]) -> set[int]:
    """One for each place; where there are fewer of them, they are shared."""
    usable = sorted(os.sched_getaffinity(0))
    return {usable[place % len(usable)] for place in places}


def main(arguments: list[str]) -> int:
    os.chdir("/")  # not to keep the submitter's file system busy
    folder = JobFolder(Path(arguments[0]))
    with folder.held(patience=_LOCK_PATIENCE) as alone:
        orders = Orders.read(folder)
        if alone and orders and not folder.has(jobfolder.STARTED) and not folder.has(jobfolder.EXIT):
            Supervisor(folder, orders).run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
