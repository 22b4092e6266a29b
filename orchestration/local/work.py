"""Work on files that goes on in threads of this process, and is known to other processes of this machine by its token.

If the process dies, so does the work: whoever asks for it next begins it again, and it must be written so that this
is safe. A locked file tells other processes that somebody is at it; a second file tells that somebody to stop. A third
is there before the work first begins: what was never submitted is not begun by a question about it.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from orchestration.errors import Cancelled, OperationFailed, OrchestrationError
from orchestration.ledger.service import CancelAnswer, Document, Failed, Progress, Running, Status, Succeeded
from orchestration.local.errors import writing
from orchestration.local.jobfolder import fsync_directory, lock

logger = logging.getLogger(__name__)

_AT_ONCE = threading.BoundedSemaphore(4)
_CANCEL_PATIENCE = 5.0
_REMEMBERED = 1000
_LOOK_SECONDS = 0.1
"""No more often is it looked whether another process wants the work to end, however small the files are."""

_LONG = 10_000
"""Evidence with a list of more files than this is told once: who asks again has it made again, as after a death."""

_KEPT_SECONDS = 60 * 24 * 3600.0
"""As long it is known what was submitted: far longer than anybody carries on with it."""


def default_state() -> Path:
    """Where this user's processes on this machine meet."""
    return Path(tempfile.gettempdir()) / f"orchestration-{os.getuid()}"


def digest(token: str) -> str:
    """A short name for a token that fits everywhere."""
    return hashlib.sha256(token.encode()).hexdigest()[:16]


class Meter:
    """How far a piece of work is, and whether it should stop. Used from several threads."""

    def __init__(self, title: str, cancel_file: Path) -> None:
        self.title = title
        self._cancel_file = cancel_file
        self._stop = threading.Event()
        self._look_again = 0.0
        self._lock = threading.Lock()
        self._began = time.monotonic()
        self._bytes = self._files = 0
        self._bytes_total: int | None = None
        self._files_total: int | None = None
        self._note = "queued"

    def stop(self) -> None:
        self._stop.set()

    def check(self) -> None:
        """Raise Cancelled if somebody wants the work to end."""
        now = time.monotonic()
        if now >= self._look_again:
            self._look_again = now + _LOOK_SECONDS
            if self._cancel_file.exists():
                self._stop.set()
        if self._stop.is_set():
            raise Cancelled(f"{self.title} was cancelled", where="this machine")

    def pause(self, seconds: float) -> None:
        self._stop.wait(seconds)
        self.check()

    def expect(self, *, files: int, size: int) -> None:
        with self._lock:
            self._files_total = (self._files_total or 0) + files
            self._bytes_total = (self._bytes_total or 0) + size

    def say(self, note: str) -> None:
        self._note = note

    def add(self, *, size: int = 0, files: int = 0) -> None:
        with self._lock:
            self._bytes += size
            self._files += files

    def progress(self) -> Progress:
        with self._lock:
            return Progress(
                bytes_done=self._bytes,
                bytes_total=self._bytes_total,
                files_done=self._files,
                files_total=self._files_total,
                bytes_per_second=self._bytes / max(time.monotonic() - self._began, 1e-3),
                note=self._note,
            )


Action: TypeAlias = "Callable[[Meter], Document | Failed]"
"""Does the work and returns the evidence, or how it failed if there is evidence of that. It may be repeated after the
death of a process at any line of it.
"""


class Work:
    """One piece of work in its thread."""

    def __init__(self, token: str, action: Action, *, title: str, state: Path) -> None:
        self.lock_file, cancel_file = _files(state, token)
        self.meter = Meter(title, cancel_file)
        self._action = action
        self.told = False
        """Its evidence is kept no more."""
        self._outcome: Succeeded | Failed | Exception | None = None
        self.thread = threading.Thread(target=self._run, name=f"{title} {token}", daemon=True)
        self.thread.start()

    def status(self) -> Status:
        outcome = self._outcome
        if outcome is None:
            return Running(progress=self.meter.progress())
        if isinstance(outcome, Exception):
            raise outcome
        if isinstance(outcome, Succeeded) and _is_long(outcome.evidence):
            self.told, self._outcome = True, None
        return outcome

    def cancel(self) -> CancelAnswer:
        self.meter.stop()
        self.thread.join(_CANCEL_PATIENCE)
        if self.thread.is_alive():
            return CancelAnswer.UNKNOWN
        cancelled = isinstance(self._outcome, Failed) and isinstance(self._outcome.error, Cancelled)
        return CancelAnswer.CANCELLED if cancelled else CancelAnswer.ALREADY_FINISHED

    def _run(self) -> None:
        try:
            self._outcome = self._alone()
        except OrchestrationError as error:
            self._outcome = Failed(error=error)
        except Exception as error:
            logger.exception("%s failed unexpectedly", self.meter.title)
            self._outcome = error  # raised again by `status`, where somebody sees it

    def _alone(self) -> Succeeded | Failed:
        self.lock_file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self.lock_file, os.O_CREAT | os.O_RDWR, 0o600)
        try:
            while not lock(descriptor):
                self.meter.say("another process of this machine is at it")
                self.meter.pause(0.1)
            while not _AT_ONCE.acquire(timeout=0.1):
                self.meter.check()
            try:
                self.meter.check()
                done = self._action(self.meter)
                return done if isinstance(done, Failed) else Succeeded(evidence=done)
            finally:
                _AT_ONCE.release()
                self.lock_file.unlink(missing_ok=True)
        finally:
            os.close(descriptor)


_works: dict[tuple[Path, str], Work] = {}
_swept: set[Path] = set()
_starting = threading.Lock()


def submitted(token: str, *, state: Path) -> None:
    """Write down that the work of this token may be begun, now and after the death of this process.

    Raises:
        TransferFailed: (one of its subclasses) if that cannot be written down.
    """
    with writing(state):
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _starting:
            if state not in _swept:
                _swept.add(state)
                _sweep(state)
        _note(state, token).touch(mode=0o600)
        fsync_directory(state)


def lost(token: str, *, title: str, state: Path) -> Failed | None:
    """How work ended that was never submitted here, as far as this machine knows; None if it was."""
    if (state, token) in _works or _note(state, token).exists():
        return None
    return Failed(
        error=OperationFailed(
            f"this machine knows nothing of the {title} that it is asked about",
            where=str(state),
            next_step="start the flow again: it is begun anew",
        )
    )


def begin(token: str, action: Action, *, title: str, state: Path) -> Work:
    """The work under this token in this process: begun now, or long ago."""
    with _starting:
        work = _works.get((state, token))
        if work is None or work.told:
            _forget_oldest()
            work = _works[state, token] = Work(token, action, title=title, state=state)
        return work


def known(token: str, *, state: Path) -> bool:
    return (state, token) in _works


def cancel(token: str, *, state: Path) -> CancelAnswer:
    """Stop it in whatever process it is."""
    work = _works.get((state, token))
    if work is not None:
        return work.cancel()
    lock_file, cancel_file = _files(state, token)
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    cancel_file.touch()
    if not lock_file.exists():
        return CancelAnswer.CANCELLED
    descriptor = os.open(lock_file, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        return CancelAnswer.CANCELLED if lock(descriptor, patience=_CANCEL_PATIENCE) else CancelAnswer.UNKNOWN
    finally:
        os.close(descriptor)


def _is_long(evidence: Document) -> bool:
    listed = evidence.get("manifest")
    return isinstance(listed, list) and len(listed) > _LONG


def _note(state: Path, token: str) -> Path:
    return state / f"{digest(token)}.submitted"


def _sweep(state: Path) -> None:
    limit = time.time() - _KEPT_SECONDS
    for note in state.glob("*.submitted"):
        with contextlib.suppress(FileNotFoundError):  # another process sweeps as well
            if note.stat().st_mtime < limit:
                note.unlink()


def _files(state: Path, token: str) -> tuple[Path, Path]:
    name = digest(token)
    return state / f"{name}.lock", state / f"{name}.cancel"


def _forget_oldest() -> None:
    over = len(_works) - _REMEMBERED
    for key in [key for key, work in _works.items() if not work.thread.is_alive()][: max(0, over)]:
        del _works[key]
