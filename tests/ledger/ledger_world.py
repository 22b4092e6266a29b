"""An outside service for the tests of `perform`: a folder. What it did stays there, whoever is killed."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from orchestration.errors import Cancelled, JobFailed, ServiceUnavailable
from orchestration.ledger.operation import Operation
from orchestration.ledger.scan import Scan
from orchestration.ledger.service import (
    CancelAnswer,
    Document,
    Failed,
    PollSchedule,
    Progress,
    Running,
    Status,
    Succeeded,
)
from orchestration.policy import Effect, Permitted, Place, Zone, opened

HERE = Place("here", Zone.BEAMLINE)
ELSEWHERE = Place("elsewhere", Zone.EXTERNAL)


class Clock:
    """Of a ledger: time passes when a test says so."""

    def __init__(self) -> None:
        self.seconds = time.time()

    def __call__(self) -> float:
        return self.seconds

    def advance(self, seconds: float) -> None:
        self.seconds += seconds


@dataclass(frozen=True)
class Errand:
    """What is asked of it: a number of polls until it ends, and how."""

    name: str
    polls: int = 0
    fails: str = ""
    place: Place = HERE
    effect: Effect = Effect.COMPUTE
    directory: str = "/"
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()

    def document(self) -> Document:
        return {"name": self.name, "polls": self.polls, "fails": self.fails}


@dataclass
class Books:
    """The service. `idempotent=False` makes a second submission of a token start a second piece of work."""

    root: Path
    name: str = "test.books"
    idempotent: bool = False
    lose_answers: int = 0
    """So many submissions act and then lose their answer."""
    refuse: int = 0
    """So many submissions are answered 'not now' without acting."""
    silent_polls: int = 0
    silent_finds: int = 0
    retry_after: float = 0.05
    confirms_cancel: bool = True
    before: dict[str, Callable[[], object]] = field(default_factory=dict, repr=False)
    """What happens at the moment in which it is asked for something."""
    asked: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.root.mkdir(parents=True, exist_ok=True)

    def reserve(self, key: str) -> str:
        self._asked("reserve")
        return f"token-{key}"

    def find(self, request: Errand, token: str) -> str | None:
        self._asked("find")
        if self.silent_finds > 0:
            self.silent_finds -= 1
            raise ServiceUnavailable("no answer", where=self.name, retry_after=0.02)
        started = self.started(token)
        return started[0] if started else None

    def submit(self, permitted: Permitted[Errand], token: str) -> str:
        self._asked("submit")
        opened(permitted, Errand)
        if self.refuse > 0:
            self.refuse -= 1
            raise ServiceUnavailable("503", where=self.name, retry_after=self.retry_after)
        number = 0 if self.idempotent else len(self.started(token))
        handle = f"{token}.{number}"
        (self.root / handle).write_text("0")
        if self.lose_answers > 0:
            self.lose_answers -= 1
            raise ServiceUnavailable("the answer was lost", where=self.name, retry_after=self.retry_after)
        return handle

    def poll(self, request: Errand, handle: str) -> Status:
        self._asked("poll")
        if self.silent_polls > 0:
            self.silent_polls -= 1
            raise ServiceUnavailable("no answer", where=self.name, retry_after=0.02)
        if (self.root / f"{handle}.cancelled").exists():
            return Failed(error=Cancelled("cancelled at the service"))
        polls = int((self.root / handle).read_text())
        if polls < request.polls:
            (self.root / handle).write_text(str(polls + 1))
            return Running(progress=Progress(files_done=polls, files_total=request.polls))
        if request.fails:
            return Failed(error=JobFailed(request.fails, where=handle, next_step="look", cause="Planted"))
        return Succeeded(evidence={"handle": handle})

    def cancel(self, handle: str) -> CancelAnswer:
        self._asked("cancel")
        if not self.confirms_cancel:
            raise ServiceUnavailable("no answer", where=self.name)
        (self.root / f"{handle}.cancelled").touch()
        return CancelAnswer.CANCELLED

    def _asked(self, what: str) -> None:
        self.asked.append(what)
        if what in self.before:
            self.before[what]()

    def started(self, token: str = "") -> list[str]:
        """All work that was ever begun."""
        return sorted(
            path.name
            for path in self.root.iterdir()
            if path.suffix != ".cancelled" and (not token or path.name.startswith(f"{token}."))
        )


def errand(
    scan: Scan, name: str = "wash", *, polls: int = 0, fails: str = "", place: Place = HERE, deadline: float = 30.0
) -> Operation[Errand]:
    request = Errand(name, polls, fails, place)
    return Operation(scan=scan, step=f"do {name}", request=request, destination=place, deadline=deadline)


QUICK = PollSchedule(first=0.01)


def attempts_of(operation: Operation[Errand], books: Books) -> list[int]:
    """How often the work of each attempt was begun."""
    tokens = sorted({handle.rpartition(".")[0] for handle in books.started() if operation.key in handle})
    return [len(books.started(token)) for token in tokens]


def gone() -> int:
    """A process number that nobody has."""
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, 0)
    return pid
