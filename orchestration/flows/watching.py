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

from orchestration.errors import OrchestrationError, ServiceUnavailable
from orchestration.flows.cancelling import bury
from orchestration.flows.looking import Watch
from orchestration.flows.picture import Picture
from orchestration.flows.polling import PACE, Subject, poll
from orchestration.flows.services import Services
from orchestration.flows.standing import RECONCILE, free_reconcile, hear_cancelled, look_at_runs
from orchestration.flows.suspending import SuspendedRuns
from orchestration.flows.threads import Pools, guarded
from orchestration.ledger import Ledger
from orchestration.ledger.operation import OperationRecord
from orchestration.ledger.owner import Owner
from orchestration.ledger.runs import RunRecord, RunState
from orchestration.ledger.service import Document
from orchestration.ledger.watchers import LEASE_SECONDS

logger = logging.getLogger(__name__)

TURN_SECONDS = 0.5
"""Between two looks at the ledger."""

LOOK_SECONDS = 5.0
"""Between two looks at how Prefect has the runs: somebody may have cancelled one there."""

LOOK_WELL_SECONDS = 120.0
"""Between two looks that see what was deleted, too."""

ONCE_SECONDS = 60.0
"""For so long who looks only once asks again where there is no answer."""

FREE_SECONDS = 60.0
"""Between two looks for runs of `reconcile` that have died."""

CONFIRM_SECONDS = 15.0
"""Between two cancellations of what a service has not confirmed."""

ALARM_SECONDS = 600.0
"""Between two times that a run is let go on for one trouble of its site: it may have found nothing to do about it."""

TAKE_UP_SECONDS = 600.0
"""In which a worker should have taken up a run that was resumed, which may have to wait for its turn in the queue."""

NOT_RESUMED_SECONDS = 60.0
"""After which it is tried again with a run that Prefect did not resume."""

PROGRESS_SECONDS = 10.0
"""The ledger is told how far operations are no more often than this."""

RUNS = "prefect: suspended runs"
"""What watchers share is the services; this is the part that looks after the runs themselves."""


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
    _alarms: set[str] = field(default_factory=set)
    """Operations that have not begun at a site in trouble."""
    _alarmed_at: dict[str, float] = field(default_factory=dict)
    """When there was an alarm for a trouble that is not over, by operation."""
    _progress: dict[str, Document] = field(default_factory=dict)
    _written: dict[str, Document] = field(default_factory=dict)
    _written_at: float = float("-inf")
    _resume_at: dict[str, float] = field(default_factory=dict)
    """When it is tried again with a run, at the earliest."""
    _cancelled_at: dict[str, float] = field(default_factory=dict)
    _looked_at: float = float("-inf")
    _looked_well_at: float = float("-inf")
    _freed_at: float = float("-inf")
    _beat_at: float = float("-inf")
    _mine: frozenset[str] = frozenset()
    _shared: frozenset[str] = frozenset()
    _alone: bool = False
    """Whether it looks once, and is not one of those that live."""
    _busy: dict[str, Future[None]] = field(default_factory=dict)

    def run(self, stop: threading.Event) -> None:
        """Watch until told to stop. The ledger, Prefect and any service may be away meanwhile."""
        with Pools() as pools:
            try:
                self._share({RUNS})
                self.began()
                while not stop.is_set():
                    try:
                        self._turn(pools)
                    except OrchestrationError as error:
                        logger.warning("%s", error)
                    stop.wait(TURN_SECONDS)
            finally:
                self.ledger.watchers.leave(self.owner)

    def once(self, *, seconds: float = ONCE_SECONDS) -> None:
        """Look at everything one time, without becoming one of those that live: for when none does.

        Whoever does not answer is asked again for so long: the next look may be minutes away.
        """
        until = time.monotonic() + seconds
        with Pools() as pools:
            self._alone = True
            while True:
                self._ask_and_act(pools)
                again = [pause for each in self._subjects.values() if (pause := each.asked_again_in()) is not None]
                if not again or time.monotonic() + min(again) >= until:
                    return
                threading.Event().wait(min(again))

    def _ask_and_act(self, pools: Pools) -> None:
        """A turn, and another for as long as the last one brought news, which the next one acts on."""
        known: set[str] | None = None
        while known != (news := self._ended | self._alarms):
            known = news
            self._turn(pools)
            wait(self._busy.values())

    # ----- one turn -------------------------------------------------------------------------------------------------

    def _turn(self, pools: Pools) -> None:
        picture = Picture.take(self.ledger)
        questions = picture.by_service(without=self._ended)
        self._share({RUNS, *questions})
        self._forget(picture)
        for name, records in questions.items():
            if name in self._mine:
                self._ask(name, records, picture, pools.asking)
        runs = {run.id: run for run in [*picture.told_by_service(self._ended), *picture.told_by_site(self._alarms)]}
        if RUNS in self._mine:
            runs |= {run.id: run for run in picture.told_by_ledger()}
            self._look(picture, pools)
        self._resume(runs, pools.acting)
        self._write_progress()

    def _share(self, subjects: set[str]) -> None:
        """Tell that this watcher lives, and which of the services are its own for the next lease."""
        if self._alone:
            self._mine = frozenset(subjects)
            return
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
        self._alarms &= picture.may_move
        self._resume_at = _of(self._resume_at, picture.runs)
        self._cancelled_at = _of(self._cancelled_at, picture.cancelled)
        for known in (self._progress, self._written):
            for key in known.keys() - picture.operations.keys():
                known.pop(key, None)

    def _do(self, pool: ThreadPoolExecutor, name: str, work: Callable[[], bool | None], subject: Subject) -> bool:
        """In a thread, unless the last such work is still going on."""
        last = self._busy.get(name)
        if last is not None and not last.done():
            return False
        self._busy[name] = pool.submit(guarded, name, work, subject)
        return True

    def _subject(self, name: str) -> Subject:
        if name not in self._subjects:
            least = max(PACE.first, self.services.poll_seconds(name))
            pace = replace(PACE, first=least, ceiling=max(PACE.ceiling, least))
            self._subjects[name] = Subject(name, pace)
        return self._subjects[name]

    # ----- services -------------------------------------------------------------------------------------------------

    def _ask(self, name: str, records: Sequence[OperationRecord], picture: Picture, pool: ThreadPoolExecutor) -> None:
        subject = self._subject(name)
        due = subject.due(records, picture.at)
        if due and self._do(pool, name, partial(self._poll, name, due, picture.may_move), subject):
            subject.asked(due)

    def _poll(self, name: str, records: Sequence[OperationRecord], may_move: frozenset[str]) -> None:
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
            waiting = may_move.intersection(record.key for record in records) - self._begun
            if waiting:
                self._alarm(site, waiting)

    def _alarm(self, site: Watch, waiting: frozenset[str]) -> None:
        """What has not begun at a site in trouble may have to go elsewhere: its run decides that, now and then."""
        trouble = site.trouble()
        if not trouble:
            for key in waiting:
                self._alarmed_at.pop(key, None)
            return
        news = {key for key in waiting - self._ended if _due(self._alarmed_at, key, ALARM_SECONDS)}
        if news:
            logger.warning("%s: %d jobs have not begun there, and may have to go elsewhere", trouble, len(news))
            self.ledger.operations.observed(dict.fromkeys(news, site.finding(trouble)))
            self._alarmed_at |= dict.fromkeys(news, time.monotonic())
            self._alarms.update(news)

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
        for run_id in runs:
            if time.monotonic() >= self._resume_at.get(run_id, 0.0) and prefect.open():
                self._do(pool, f"run {run_id}", partial(self._resume_one, run_id, prefect), prefect)

    def _resume_one(self, run_id: str, prefect: Subject) -> bool:
        """Whether Prefect was asked to: it may have fallen silent since this was queued."""
        if not prefect.open():
            return False
        resumed = self.prefect.resume(run_id)
        self._resume_at[run_id] = time.monotonic() + (TAKE_UP_SECONDS if resumed else NOT_RESUMED_SECONDS)
        if resumed:
            self.resumed += 1
            logger.info("run %s goes on", run_id)
            self.notice(run_id)
        return True

    def _look(self, picture: Picture, pools: Pools) -> None:
        """How Prefect has the runs, and what is to be done about those that were cancelled."""
        prefect = self._subject(RUNS)
        for run in picture.cancelled:
            if _due(self._cancelled_at, run.id, CONFIRM_SECONDS):
                self._do(pools.acting, f"run {run.id}", partial(self._bury, run), prefect)
        now = time.monotonic()
        if now - self._looked_at >= LOOK_SECONDS and prefect.open():
            self._looked_at = now
            self._do(pools.asking, RUNS, partial(self._look_now, picture), prefect)
        if now - self._freed_at >= FREE_SECONDS and prefect.open():
            self._freed_at = now
            self._do(pools.asking, RECONCILE, partial(free_reconcile, self.ledger, self.prefect), prefect)

    def _look_now(self, picture: Picture) -> None:
        working = self.ledger.runs.in_state(RunState.RUNNING)
        if picture.runs or working:
            hear_cancelled(self.ledger, self.prefect, [*picture.runs, *working])
        if picture.runs:
            thorough = time.monotonic() - self._looked_well_at >= LOOK_WELL_SECONDS
            look_at_runs(self.ledger, self.prefect, picture.runs, thorough=thorough)
            if thorough:
                self._looked_well_at = time.monotonic()

    def _bury(self, run: RunRecord) -> None:
        try:
            if bury(self.ledger, self.services, run).state is RunState.CANCELLED:
                logger.info("run %s was cancelled, and all that it waited for", run.id)
        finally:
            self._cancelled_at[run.id] = time.monotonic()


def _of(times: Mapping[str, float], runs: Iterable[RunRecord]) -> dict[str, float]:
    """Only those of these runs."""
    return {run.id: times[run.id] for run in runs if run.id in times}


def _due(times: Mapping[str, float], name: str, seconds: float) -> bool:
    """Whether so long has passed since that was last done."""
    return time.monotonic() - times.get(name, float("-inf")) >= seconds
