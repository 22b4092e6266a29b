"""The queue: which job begins when, and what becomes of it."""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from orchestration.sandbox.superfacility.local import supervise
from orchestration.sandbox.superfacility.local.dependencies import Dependencies, Wait
from orchestration.sandbox.superfacility.local.job import Job, Jobs, State
from orchestration.sandbox.superfacility.local.running import Running, launch


class Queue:
    """Begins jobs as places get free, the most urgent first, and notes how they end. Safe from any thread.

    `started` hears of each job that begins.
    """

    def __init__(self, jobs: Jobs, *, folder: Path, slots: int, started: Callable[[Job], None]) -> None:
        self._jobs = jobs
        self._folder = folder
        self._slots = slots
        self._started = started
        self._lock = threading.RLock()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._closing = False
        self._held = False
        self._supervisors: dict[int, subprocess.Popen[bytes]] = {}

    def open(self) -> None:
        """Go on with the jobs of before."""
        with self._lock:
            for job in self._jobs.present():
                if job.state is State.RUNNING:
                    self._launch(job)
        self._thread = threading.Thread(target=self._serve, name="batch queue", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Look after them no longer; they live on."""
        with self._lock:
            self._closing = True
        self._wake.set()
        if self._thread:
            self._thread.join()

    def add(self, make: Callable[[int], Job], *, orders: Callable[[Job, Path], supervise.Orders]) -> Job:
        """Take a job, made for the id that it gets; `orders` are what to do in which folder."""
        with self._lock:
            job = make(self._jobs.next_id())
            folder = self.folder(job)
            if folder.exists():  # of a job of before a reset, which ended too late to be removed with it
                shutil.rmtree(folder)
            folder.mkdir(parents=True)
            supervise.write(str(folder), supervise.ORDERS, orders(job, folder)._asdict())
            self._jobs.keep(job)
        self._wake.set()
        return job

    def hold(self, held: bool) -> None:
        with self._lock:
            self._held = held
        self._wake.set()

    def end(self, job_id: int, state: State, *, by: int | None = None) -> None:
        """Make a job end so; what is over stays as it is."""
        with self._lock:
            job = self._jobs.get(job_id)
            if job is None or job.over:
                return
            if job.state is State.PENDING:
                code, number = supervise.CODES.get(state, (0, 0))
                self._keep_end(job, state, code=code, number=number, by=by, at=time.time())
            else:
                Running(self.folder(job)).stop(state.value, by=by)
        self._wake.set()

    def reset(self) -> None:
        """End all and forget them."""
        with self._lock:
            running = [job for job in self._jobs.present() if job.state is State.RUNNING]
            self._jobs.forget_all()
            self._held = False
            for job in running:
                supervisor = self._supervisors.get(job.id)
                alive = supervisor is not None and supervisor.returncode is None
                Running(self.folder(job)).kill(supervisor.pid if supervisor and alive else None)

    def folder(self, job: Job) -> Path:
        return self._folder / str(job.id)

    # ----- the thread of the queue ----------------------------------------------------------------------------------

    def _serve(self) -> None:
        while not self._closing:
            self._wake.clear()
            with self._lock:
                patience = self._advance()
            self._wake.wait(patience)

    def _advance(self) -> float | None:
        """Begin what can begin; after how many seconds to look again without being woken."""
        present = self._jobs.present()
        free = self._slots - sum(job.state is State.RUNNING for job in present)
        waiting = sorted((job for job in present if job.state is State.PENDING), key=lambda job: -job.priority)
        patience: list[float] = []
        for job in waiting:
            wait = self._wait(job, free=free)
            if wait.state is not None:
                self._keep_end(job, wait.state, at=time.time(), reason=wait.reason)
            elif wait.reason:
                patience += [wait.seconds] if wait.seconds is not None else []
                if wait.reason != job.reason:
                    self._jobs.note(replace(job, reason=wait.reason))
            else:
                free -= 1
                self._begin(job)
        return min(patience, default=None)

    def _wait(self, job: Job, *, free: int) -> Wait:
        """Why a job does not begin now, if it does not."""
        now = time.time()
        doomed = job.deadline - job.limit - now if job.deadline else None
        if doomed is not None and doomed < 0:
            return Wait(reason="Deadline", state=State.DEADLINE)
        if self._held or job.user_hold:
            return Wait(reason="JobHeldUser" if job.user_hold else "JobHeldAdmin", seconds=doomed)
        if job.begin > now:
            return Wait(reason="BeginTime", seconds=job.begin - now)
        wait = Dependencies(self._jobs).wait(job)
        if wait.reason:
            return replace(wait, seconds=doomed)
        return Wait() if free > 0 else Wait(reason="Resources", seconds=doomed)

    def _begin(self, job: Job) -> None:
        begun = self._jobs.keep(replace(job, state=State.RUNNING, reason="None", started=time.time()))
        self._started(begun)
        self._launch(begun)

    # ----- what runs ------------------------------------------------------------------------------------------------

    def _launch(self, job: Job) -> None:
        """Start a supervisor. Where one of before lives, the new one only waits for its end."""
        try:
            child = launch(self.folder(job))
        except OSError:
            self._keep_end(job, State.BOOT_FAIL, at=time.time())
            return
        self._supervisors[job.id] = child
        threading.Thread(target=self._attend, args=(job.id, child), name=f"job {job.id}", daemon=True).start()

    def _attend(self, job_id: int, supervisor: subprocess.Popen[bytes]) -> None:
        """Wait for the end of a supervisor, and note what it left."""
        supervisor.wait()
        with self._lock:
            self._supervisors.pop(job_id, None)
            job = self._jobs.get(job_id)
            if self._closing or job is None or job.over:
                return
            found = supervise.read(str(self.folder(job)), supervise.ENDING)
            if found is None:  # it was killed: what it looked after may still be there
                supervise.kill_marked(str(self.folder(job)))
                self._keep_end(job, State.NODE_FAIL, at=time.time())
            else:
                state = State(found["state"])
                order = supervise.read(str(self.folder(job)), supervise.END) or {}
                by = order.get("by") if state is State.CANCELLED else None
                self._keep_end(job, state, code=found["code"], number=found["signal"], by=by, at=float(found["time"]))
        self._wake.set()

    def _keep_end(
        self,
        job: Job,
        state: State,
        *,
        at: float,
        code: int = 0,
        number: int = 0,
        by: int | None = None,
        reason: str = "None",
    ) -> None:
        self._jobs.keep(replace(job, state=state, ended=at, code=code, signal=number, ended_by=by, reason=reason))
