"""The watcher: waits for all suspended runs at once, and lets each go on when what it waits for has ended.

It changes nothing at a facility but what a person has cancelled, and closes no operation but those: the run that is
resumed polls for itself and writes down the outcome. So a watcher can be killed at any time, and several may live.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from functools import partial
from types import TracebackType
from typing import Self

from orchestration.errors import LedgerError, ServiceUnavailable
from orchestration.flows.looking import Watch
from orchestration.flows.polling import PACE, Subject, poll
from orchestration.flows.services import Services
from orchestration.flows.standing import close_cancelled, look_at_runs
from orchestration.flows.suspending import SuspendedRuns
from orchestration.ledger import Ledger
from orchestration.ledger.operation import OperationRecord
from orchestration.ledger.owner import Owner
from orchestration.ledger.runs import RunRecord
from orchestration.ledger.service import Document
from orchestration.ledger.watchers import LEASE_SECONDS

logger = logging.getLogger(__name__)

TURN_SECONDS = 0.5
"""Between two looks at the ledger."""

LOOK_SECONDS = 5.0
"""Between two looks at how Prefect has the suspended runs: somebody may have cancelled one there."""

LOOK_WELL_SECONDS = 120.0
"""Between two looks that see what was deleted, too."""

TAKE_UP_SECONDS = 60.0
"""In which a worker should have taken up a run that was resumed; after that it is asked again."""

PROGRESS_SECONDS = 10.0
"""The ledger is told how far operations are no more often than this."""

THREADS = 4
"""Of each kind."""

RUNS = "prefect: suspended runs"
"""What watchers share is the services; this is the part that looks after the runs themselves."""


@dataclass(frozen=True)
class Picture:
    """Runs that wait, and what they wait for, as the ledger has it."""

    runs: Sequence[RunRecord]
    operations: Mapping[str, OperationRecord]
    at: float
    """Seconds since the epoch."""

    @classmethod
    def take(cls, ledger: Ledger) -> Picture:
        runs = ledger.runs.waiting()
        keys = {key for run in runs for key in run.waiting_for or ()}
        return cls(runs, {record.key: record for record in ledger.operations.among(keys)}, ledger.now())

    def by_service(self, *, without: Iterable[str]) -> dict[str, list[OperationRecord]]:
        """What goes on and nobody knows better about, by the service to be asked."""
        known = set(without)
        found: dict[str, list[OperationRecord]] = {}
        for key, record in self.operations.items():
            if record.state.open and key not in known:
                found.setdefault(record.service, []).append(record)
        return found

    def told_by_service(self, ended: Iterable[str]) -> list[RunRecord]:
        """Runs of which a service says that something they wait for has ended."""
        known = set(ended)
        return [run for run in self.runs if not known.isdisjoint(run.waiting_for or ())]

    def told_by_ledger(self) -> list[RunRecord]:
        """Runs of which the ledger says so, or that something is late, or is to be cancelled."""
        return [run for run in self.runs if not self._waits(run)]

    def _waits(self, run: RunRecord) -> bool:
        return bool(run.waiting_for) and all(
            (record := self.operations.get(key)) is not None
            and record.state.open
            and not record.cancel_requested
            and self.at < ends_at
            for key, ends_at in (run.waiting_for or {}).items()
        )


@dataclass
class Watcher:
    """One process that waits. `began` is called once it is known to live, `notice` with each run that it resumes."""

    ledger: Ledger
    services: Services
    prefect: SuspendedRuns = field(default_factory=SuspendedRuns)
    notice: Callable[[str], None] = lambda run_id: None
    began: Callable[[], None] = lambda: None
    owner: Owner = field(default_factory=Owner.here)
    resumed: int = 0
    """How many runs it has let go on."""
    _subjects: dict[str, Subject] = field(default_factory=dict)
    _sites: dict[str, Watch] = field(default_factory=dict)
    _ended: set[str] = field(default_factory=set)
    _begun: set[str] = field(default_factory=set)
    _progress: dict[str, Document] = field(default_factory=dict)
    _written: dict[str, Document] = field(default_factory=dict)
    _written_at: float = float("-inf")
    _resumed_at: dict[str, float] = field(default_factory=dict)
    _cancelled: Sequence[RunRecord] = ()
    _looked_at: float = float("-inf")
    _looked_well_at: float = float("-inf")
    _beat_at: float = float("-inf")
    _mine: frozenset[str] = frozenset()
    _shared: frozenset[str] = frozenset()
    _busy: dict[str, Future[None]] = field(default_factory=dict)

    def run(self, stop: threading.Event) -> None:
        """Watch until told to stop. The ledger, Prefect and any service may be away meanwhile."""
        with _Pools() as pools:
            try:
                self._share({RUNS})
                self.began()
                while not stop.is_set():
                    try:
                        self._turn(pools)
                    except LedgerError as error:
                        logger.warning("%s", error)
                    stop.wait(TURN_SECONDS)
            finally:
                self.ledger.watchers.leave(self.owner)

    def once(self) -> None:
        """Look at everything one time, without becoming one of those that live: for when none does."""
        with _Pools() as pools:
            self._mine = frozenset({RUNS, *Picture.take(self.ledger).by_service(without=())})
            self._shared, self._beat_at = self._mine, time.monotonic()
            for _ in ("ask", "act on the answers"):
                self._turn(pools)
                wait(self._busy.values())

    # ----- one turn -------------------------------------------------------------------------------------------------

    def _turn(self, pools: _Pools) -> None:
        picture = Picture.take(self.ledger)
        questions = picture.by_service(without=self._ended)
        self._share({RUNS, *questions})
        self._forget(picture)
        for name, records in questions.items():
            if name in self._mine:
                self._ask(name, records, picture, pools.asking)
        runs = {run.id: run for run in picture.told_by_service(self._ended)}
        if RUNS in self._mine:
            runs |= {run.id: run for run in picture.told_by_ledger()}
            self._look(picture, pools)
        self._resume(runs, pools.acting)
        self._write_progress()

    def _share(self, subjects: set[str]) -> None:
        """Tell that this watcher lives, and which of the services are its own for the next lease."""
        if time.monotonic() - self._beat_at < LEASE_SECONDS / 3 and subjects <= self._shared:
            return
        self.ledger.watchers.beat(self.owner)
        self._mine = self.ledger.watchers.take(subjects, self.owner)
        self._shared, self._beat_at = frozenset(subjects), time.monotonic()

    def _forget(self, picture: Picture) -> None:
        """What nobody waits for any more."""
        self._busy = {name: future for name, future in self._busy.items() if not future.done()}
        self._ended &= picture.operations.keys()
        self._begun &= picture.operations.keys()
        runs = {run.id for run in picture.runs}
        self._resumed_at = {run: at for run, at in self._resumed_at.items() if run in runs}
        for known in (self._progress, self._written):
            for key in known.keys() - picture.operations.keys():
                known.pop(key, None)

    def _do(self, pool: ThreadPoolExecutor, name: str, work: Callable[[], None], subject: Subject) -> bool:
        """In a thread, unless the last such work is still going on."""
        last = self._busy.get(name)
        if last is not None and not last.done():
            return False
        self._busy[name] = pool.submit(_guarded, name, work, subject)
        return True

    def _subject(self, name: str) -> Subject:
        if name not in self._subjects:
            least = max(PACE.first, 0.0 if name == RUNS else self.services.poll_seconds(name))
            pace = replace(PACE, first=least, ceiling=max(PACE.ceiling, least))
            self._subjects[name] = Subject(name, pace)
        return self._subjects[name]

    # ----- services -------------------------------------------------------------------------------------------------

    def _ask(self, name: str, records: Sequence[OperationRecord], picture: Picture, pool: ThreadPoolExecutor) -> None:
        subject = self._subject(name)
        due = subject.due(records, picture.at)
        if due and self._do(pool, name, partial(self._poll, name, due), subject):
            subject.asked(due)

    def _poll(self, name: str, records: Sequence[OperationRecord]) -> None:
        site = self._site(name)
        try:
            polled = poll(self.services, name, records)
        except ServiceUnavailable:
            site.unanswered()
            raise
        else:
            logger.debug("asked %s about %d operations: %d ended", name, len(records), len(polled.ended))
            site.answered()
            self._progress.update(polled.progress)
            self._ended.update(polled.ended)
            self._begun.update(polled.begun)
        finally:
            # What has not begun at a site in trouble may have to go elsewhere: its run decides that.
            waiting = {record.key for record in records} - self._begun
            if waiting and (trouble := site.trouble()):
                logger.warning("%s: %d runs look for themselves", trouble, len(waiting - self._ended))
                self.ledger.operations.observed(dict.fromkeys(waiting, site.finding(trouble)))
                self._ended.update(waiting)

    def _site(self, name: str) -> Watch:
        if name not in self._sites:
            ask = partial(self.services.condition, name)
            known = name.partition("@")[2] or name
            self._sites[name] = Watch(site=known, policy=self.services.siting, ask=ask, clock=self.ledger.now)
        return self._sites[name]

    def _write_progress(self) -> None:
        if time.monotonic() - self._written_at < PROGRESS_SECONDS:
            return
        news = {key: document for key, document in dict(self._progress).items() if self._written.get(key) != document}
        if news:
            self.ledger.operations.observed(news)
            self._written |= news
        self._written_at = time.monotonic()

    # ----- runs -----------------------------------------------------------------------------------------------------

    def _resume(self, runs: Mapping[str, RunRecord], pool: ThreadPoolExecutor) -> None:
        prefect = self._subject(RUNS)
        cancelled = {run.id for run in self._cancelled}
        for run_id in runs.keys() - cancelled:
            again = time.monotonic() - self._resumed_at.get(run_id, float("-inf")) >= TAKE_UP_SECONDS
            if again and prefect.open():
                self._do(pool, f"run {run_id}", partial(self._resume_one, run_id, prefect), prefect)

    def _resume_one(self, run_id: str, prefect: Subject) -> None:
        if not prefect.open():
            return  # it has fallen silent since this was queued
        resumed = self.prefect.resume(run_id)
        self._resumed_at[run_id] = time.monotonic()
        if resumed:
            self.resumed += 1
            logger.info("run %s goes on", run_id)
            self.notice(run_id)

    def _look(self, picture: Picture, pools: _Pools) -> None:
        """How Prefect has the runs, and what is to be done about those that were cancelled there."""
        prefect = self._subject(RUNS)
        for run in self._cancelled:
            self._do(pools.acting, f"run {run.id}", partial(self._close, run), prefect)
        now = time.monotonic()
        if picture.runs and now - self._looked_at >= LOOK_SECONDS and prefect.open():
            self._looked_at = now
            self._do(pools.asking, RUNS, partial(self._look_now, picture), prefect)

    def _look_now(self, picture: Picture) -> None:
        thorough = time.monotonic() - self._looked_well_at >= LOOK_WELL_SECONDS
        self._cancelled = look_at_runs(self.ledger, self.prefect, picture.runs, thorough=thorough)
        if thorough:
            self._looked_well_at = time.monotonic()

    def _close(self, run: RunRecord) -> None:
        if close_cancelled(self.ledger, self.services, run):
            self._cancelled = [other for other in self._cancelled if other.id != run.id]
            logger.info("run %s was cancelled, and all that it waited for", run.id)


class _Pools:
    """Threads that ask, and threads that act: a thousand runs to resume must not keep a service from being asked."""

    def __init__(self) -> None:
        self.asking = ThreadPoolExecutor(THREADS, thread_name_prefix="ask")
        self.acting = ThreadPoolExecutor(THREADS, thread_name_prefix="act")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for pool in (self.asking, self.acting):
            pool.shutdown(cancel_futures=True)


def _guarded(name: str, work: Callable[[], None], subject: Subject) -> None:
    try:
        work()
        subject.answered()
    except ServiceUnavailable as doubt:
        logger.warning("%s: %s", name, doubt)
        subject.silent(doubt)
    except Exception:
        # One service, or its adapter, must not keep the runs that wait for others from going on.
        logger.exception("%s: an error nobody planned for; it is tried again later", name)
        subject.failed()
