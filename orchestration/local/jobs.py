"""Programs on this machine, each run exactly once, whatever is killed meanwhile."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import re
import shutil
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import orchestration
from orchestration import remote
from orchestration.errors import InvalidInput
from orchestration.jobs import ERROR_FILE, PROGRESS_FILE, JobSpec, Resources
from orchestration.ledger.service import CancelAnswer, Failed, Progress, Running, Status
from orchestration.local import jobfolder
from orchestration.local.jobfolder import JobFolder
from orchestration.local.processes import ProcessIdentity, kill_orphans
from orchestration.local.records import Ending, Orders, Reason
from orchestration.local.verdict import place, verdict
from orchestration.policy import Permitted, Place, Zone, opened

_KEPT = ("PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "LC_CTYPE", "TMPDIR", "TZ", "LD_LIBRARY_PATH")
"""All that a job sees of this process's environment: never a credential."""

_SLOTS = ".slots"
_TAIL = 64 * 1024

_ELSEWHERE = Place("this machine", Zone.EXTERNAL)


@dataclass(frozen=True, kw_only=True)
class LocalJobs:
    """Runs jobs below `folder`, together on at most `slots` cores and `memory` bytes of this machine.

    A job takes as many slots as it wants cores, or more where it wants more than their share of the memory. It runs on
    the processors of its slots, and each of its processes has at most its memory. `grace` is in seconds.
    `place` is where data goes by them: the site says whether this machine is one of the beamline.

    A job's folder keeps its output streams (``stdout.txt``, ``stderr.txt``) until `clean` removes it. `folder` must be
    on a disk of this machine, which must run Linux: locks and process numbers mean nothing elsewhere.
    """

    folder: Path
    place: Place = _ELSEWHERE
    slots: int = field(default_factory=lambda: len(os.sched_getaffinity(0)))
    memory: int | None = None
    grace: float = 5.0

    @property
    def name(self) -> str:
        return "local.jobs"

    def reserve(self, key: str) -> str:
        return key

    def find(self, request: JobSpec, token: str) -> str | None:
        return token if self._job(token).path.exists() else None

    def submit(self, permitted: Permitted[JobSpec], token: str) -> str:
        request = opened(permitted, JobSpec, at=self.place)
        if request.container:
            raise InvalidInput(
                f"job {_title(request)!r} wants container {request.container}, which this machine does not run",
                next_step="name an executable of this machine, or run it at a facility with containers",
            )
        job = self._job(token)
        self._create(request, job)
        if not job.has(jobfolder.EXIT) and not job.has(jobfolder.STARTED):
            _launch(job)
        return token

    def poll(self, request: JobSpec, handle: str) -> Status:
        job = self._job(handle)
        if not job.path.exists():
            return Failed(error=remote.lost(_title(request), place(job)))
        # In this order: started, then nobody there, and still no result, is a job that was lost.
        started = job.has(jobfolder.STARTED)
        attended = job.attended()
        ended = Ending.read(job)
        if ended is not None:
            with _launching:
                _reap()
            return verdict(_title(request), job, ended)
        if attended:
            return Running(progress=_progress(job) if started else Progress(note="queued"), queued=not started)
        if not started:
            _launch(job)
            return Running(progress=Progress(note="queued"), queued=True)
        _settle(job)
        return verdict(_title(request), job, Ending.read(job) or Ending(reason=Reason.LOST))

    def cancel(self, handle: str) -> CancelAnswer:
        job = self._job(handle)
        if not job.path.exists():
            return CancelAnswer.UNKNOWN
        if job.has(jobfolder.EXIT):
            return _answer(job)
        (job.path / jobfolder.CANCEL).touch()
        end = time.monotonic() + self.grace + 2.0
        while not job.has(jobfolder.EXIT):
            _settle(job)
            if time.monotonic() > end:
                return CancelAnswer.UNKNOWN
            time.sleep(0.02)
        return _answer(job)

    def clean(self, *, older_than: float, keep: Collection[str] = ()) -> int:
        """Remove the folders of jobs in which nothing happened for `older_than` seconds; returns how many.

        Not of those that are waiting or running, and not of the tokens in `keep`, about which somebody may yet ask.
        """
        places = JobFolder(self.folder / _SLOTS)
        places.path.mkdir(parents=True, exist_ok=True)
        with places.held() as alone:
            if not alone:
                return 0  # another process is at it
            limit = time.time() - older_than
            kept = {places.path, *(self._job(token).path for token in keep)}
            idle = [path for path in self.folder.glob("*") if path not in kept and _idle(path, limit)]
            return sum(self._remove(JobFolder(path)) for path in idle)

    def _remove(self, job: JobFolder) -> bool:
        """In one step, as others see it; False if somebody looks after it."""
        if not job.has(jobfolder.EXIT):
            if job.attended():
                return False
            _settle(job)  # what is left of it does not outlive its folder
        gone = self.folder / f".gone-{uuid.uuid4().hex}"
        job.path.rename(gone)
        shutil.rmtree(gone)
        return True

    def _job(self, token: str) -> JobFolder:
        plain = re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}", token)
        return JobFolder(self.folder / (token if plain else hashlib.sha256(token.encode()).hexdigest()))

    def _create(self, request: JobSpec, job: JobFolder) -> None:
        """Make the job's folder appear whole: if it is there, so is what to run."""
        if job.path.exists():
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".new-", dir=self.folder, ignore_cleanup_errors=True) as temporary:
            new = JobFolder(Path(temporary) / "job")
            new.path.mkdir(mode=0o700)
            self._orders(request, job).write(new)
            with contextlib.suppress(OSError):  # another submission of the same token was first
                new.path.rename(job.path)
        if not job.path.exists():
            raise FileNotFoundError(job.path)
        jobfolder.fsync_directory(self.folder)

    def _orders(self, request: JobSpec, job: JobFolder) -> Orders:
        files = {PROGRESS_FILE: jobfolder.PROGRESS, ERROR_FILE: jobfolder.ERROR}
        environment = _base() | {name: str(job.path / file) for name, file in files.items()}
        slots, memory = self._share(request.resources)
        return Orders(
            executable=request.executable,
            arguments=request.arguments,
            directory=request.directory,
            duration=request.duration,
            environment=environment | dict(request.environment),
            outputs=request.outputs,
            cores=slots,
            slots=self.slots,
            slots_folder=str(self.folder / _SLOTS),
            grace=self.grace,
            start_by=0.0 if request.start_within is None else time.time() + request.start_within,
            memory=memory,
        )

    def _share(self, wanted: Resources) -> tuple[int, int | None]:
        """How many slots a job takes, and how much memory it has."""
        slots = min(wanted.cores, self.slots)
        if self.memory is None:
            return slots, wanted.memory
        memory = min(wanted.memory or self.memory * slots // self.slots, self.memory)
        return max(slots, math.ceil(memory * self.slots / self.memory)), memory


_launched: dict[Path, int] = {}
"""Process ids of the supervisors that this process started, until they are reaped."""
_launching = threading.Lock()


def _launch(job: JobFolder) -> None:
    """Start a supervisor, unless one that this process started is still there. One too many does no harm."""
    command = [sys.executable, "-S", "-s", "-P", "-m", "orchestration.local.supervise", str(job.path)]
    environment = _base() | {"PYTHONPATH": str(Path(orchestration.__file__).parent.parent)}
    streams = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, str(job.path / jobfolder.LOG), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    with _launching:
        _reap()
        if job.path not in _launched:
            _launched[job.path] = os.posix_spawn(
                sys.executable, command, environment, file_actions=streams, setsid=True
            )


def _reap() -> None:
    for path, pid in list(_launched.items()):
        try:
            ended = os.waitpid(pid, os.WNOHANG)[0] == pid
        except ChildProcessError:  # somebody else waited for it
            ended = True
        if ended:
            del _launched[path]


def _settle(job: JobFolder) -> None:
    """Write down how an unattended job ended, if it cannot be run (again) any more."""
    with job.held() as alone:
        if not alone or job.has(jobfolder.EXIT):
            return
        if job.has(jobfolder.STARTED):
            child = job.read(jobfolder.CHILD)
            if child:
                kill_orphans(ProcessIdentity(**child))
            Ending(reason=Reason.LOST).write(job)
        elif job.has(jobfolder.CANCEL):
            Ending(reason=Reason.CANCELLED).write(job)


def _idle(path: Path, limit: float) -> bool:
    """Whether this is a folder in which nothing came or went since then, and that was not renamed."""
    try:
        return path.is_dir() and path.stat().st_ctime < limit
    except FileNotFoundError:
        return False


def _answer(job: JobFolder) -> CancelAnswer:
    ended = Ending.read(job)
    cancelled = ended is not None and ended.reason is Reason.CANCELLED
    return CancelAnswer.CANCELLED if cancelled else CancelAnswer.ALREADY_FINISHED


def _progress(job: JobFolder) -> Progress:
    """From the last whole line that the program wrote; a line that is not as agreed tells nothing."""
    try:
        with (job.path / jobfolder.PROGRESS).open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
            whole = file.read().rpartition(b"\n")[0]
        found = json.loads(whole.rpartition(b"\n")[2])
    except (FileNotFoundError, ValueError):
        return Progress(note="running")
    if not isinstance(found, dict):
        return Progress(note="running")
    return Progress(
        files_done=_count(found.get("done")), files_total=_count(found.get("total")), note=str(found.get("note") or "")
    )


def _count(found: object) -> int | None:
    return int(found) if isinstance(found, int | float) else None


def _base() -> dict[str, str]:
    found: Mapping[str, str] = os.environ
    kept = {name: found[name] for name in _KEPT if name in found}
    return {"PATH": os.defpath, "HOME": "/", "LANG": "C.UTF-8"} | kept


def _title(request: JobSpec) -> str:
    return request.name or Path(request.executable).name
