"""The bench at which one run of a flow works: settings, ledger, services, and the run's own record."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import FlowRun, State
from prefect.context import FlowRunContext
from prefect.exceptions import MissingContextError, Pause
from prefect.logging import get_run_logger
from prefect.states import Completed

from orchestration import config
from orchestration.config import Beamline, Settings
from orchestration.errors import (
    Cancelled,
    JobNotStarted,
    OperationFailed,
    OrchestrationError,
    TransferWithdrawn,
)
from orchestration.flows.cancelling import cancelling, close_cancelled, end_run
from orchestration.flows.links import controlled
from orchestration.flows.services import Services
from orchestration.flows.side_by_side import current_branch, side_by_side
from orchestration.flows.suspending import Suspension
from orchestration.ledger import Ledger
from orchestration.ledger.lease import Lease
from orchestration.ledger.operation import Operation
from orchestration.ledger.owner import Owner
from orchestration.ledger.perform import Outcome, perform
from orchestration.ledger.runs import LEASE_SECONDS, RunState
from orchestration.ledger.scan import Scan
from orchestration.ledger.service import Document, PollSchedule, Progress, Request, Service
from orchestration.ledger.waiting import Awaited, Waiting

R = TypeVar("R", bound=Request)
T = TypeVar("T")

PROGRESS_LOG_SECONDS = 5.0


@dataclass
class Work:
    """What the steps of a flow need; one per run."""

    settings: Settings
    ledger: Ledger
    services: Services
    run_id: str
    logger: logging.Logger | logging.LoggerAdapter[logging.Logger]
    suspension: Suspension
    awaited: set[str] = field(default_factory=set)
    """Operations for which this run had been suspended: how they ended is their answer."""
    failed: set[str] = field(default_factory=set)
    """Operations that have failed here and were not tried again: so they do after this run was suspended."""
    guard: Callable[[Operation[Any], Service[Any]], Service[Any]] | None = None
    """What watches over the operations that this run performs, and may give one up: `orchestration.flows.guarding`."""
    _logged_at: dict[str, float] = field(default_factory=dict)

    def perform(
        self,
        operation: Operation[R],
        service: Service[R],
        *,
        schedule: PollSchedule | None = None,
        redo: bool = True,
    ) -> Outcome:
        """The operation as a stage that Prefect shows, done exactly once by the ledger, asked about as `schedule` says.

        A run of a deployment that waits for long is suspended here: its process ends, and another comes back to here.
        Without `redo`, how an earlier attempt ended is the answer, good or bad.
        """
        guarded = service if self.guard is None else self.guard(operation, service)
        self.failed.discard(operation.key)
        while True:
            branch = current_branch()
            if branch is not None:
                branch.working()
            try:
                moves_after = None if guarded is service else self.settings.siting.silence_seconds
                outcome = self._stage(operation, guarded, schedule, moves_after, redo=redo)
            except Waiting as waiting:
                if branch is not None:
                    raise
                self._suspend(waiting.awaited)
                continue
            except OperationFailed as error:
                if self._taken_back_by_another(operation.key, error):
                    how = "another run took it back, and this one does it again"
                    self.logger.info("%s: %s; %s", operation.step, error, how)
                    continue
                self.failed.add(operation.key)
                raise
            if branch is not None:
                branch.working()
            how = "was already done" if outcome.already_done else f"done in {outcome.record.seconds or 0:.1f} s"
            self.logger.info("%s: %s", operation.step, how)
            return outcome

    @contextmanager
    def one_of_many(self, what: str) -> Iterator[None]:
        """What fails in it is a warning, and keeps nothing else from being done, unless nothing else is wanted either.

        Raises:
            Cancelled: if somebody cancelled this run.
        """
        try:
            yield
        except OrchestrationError as error:
            self.ledger.runs.demand_wanted(self.run_id)
            self.logger.warning("%s: %s", what, error)

    def _taken_back_by_another(self, key: str, error: OperationFailed) -> bool:
        """A run that may go elsewhere has given up what this one, which may not, wants as well."""
        taken_back = isinstance(error, JobNotStarted | TransferWithdrawn)
        return taken_back and self.guard is None and self.ledger.operations.get(key).run_id != self.run_id

    def side_by_side(self, calls: Sequence[Callable[[], T]]) -> list[T]:
        """All results, in order, of calls that each perform something; the first exception is raised at the end.

        The run is suspended once each has ended or waits for what can be waited for from elsewhere.
        """
        return side_by_side(calls, suspend=self._suspend)

    def _suspend(self, awaited: Mapping[str, Awaited]) -> None:
        over = Awaited(until=0.0, over=True)
        self.suspension.suspend({**dict.fromkeys(self.failed, over), **awaited})

    def _stage(
        self,
        operation: Operation[R],
        service: Service[R],
        schedule: PollSchedule | None,
        moves_after: float | None,
        *,
        redo: bool,
    ) -> Outcome:
        left: list[Waiting] = []
        done: list[Outcome] = []

        @task(name=operation.step, cache_policy=NO_CACHE, persist_result=False)
        def stage() -> State[None] | None:
            try:
                done.append(
                    perform(
                        self.ledger,
                        operation,
                        service,
                        run_id=self.run_id,
                        schedule=schedule,
                        on_progress=self._log_progress,
                        may_leave=self._may_leave,
                        moves_after=moves_after,
                        redo=redo and operation.key not in self.awaited,
                    )
                )
            except Waiting as waiting:
                left.append(waiting)
                return Completed(name="Waiting", message="It goes on; this run waits for it without a process")
            return None

        try:
            stage()
        finally:
            if not left:
                self.awaited.discard(operation.key)
        if left:
            raise left[0]
        return done[0]

    def _may_leave(self, since_submission: float, waited: float) -> bool:
        if not self.suspension.patient(since_submission, waited):
            return False
        branch = current_branch()
        return branch is None or branch.willing()

    def _log_progress(self, step: str, progress: Progress) -> None:
        now = time.monotonic()
        if now - self._logged_at.get(step, 0.0) < PROGRESS_LOG_SECONDS:
            return
        self._logged_at[step] = now
        if text := describe(progress):
            self.logger.info("%s: %s", step, text)


def describe(progress: Progress) -> str:
    """Progress as people read it: ``1.2 of 8.5 GB, 3 of 512 files, 240 MB/s, checking``."""
    parts = []
    if progress.bytes_done is not None and progress.bytes_total:
        parts.append(f"{progress.bytes_done / 1e9:.2f} of {progress.bytes_total / 1e9:.2f} GB")
    elif progress.bytes_done:
        parts.append(f"{progress.bytes_done / 1e9:.2f} GB")
    if progress.files_done is not None and progress.files_total:
        parts.append(f"{progress.files_done} of {progress.files_total}")
    if progress.bytes_per_second:
        parts.append(f"{progress.bytes_per_second / 1e6:.0f} MB/s")
    if progress.note:
        parts.append(progress.note)
    return ", ".join(parts)


@contextmanager
def working(flow: str, parameters: Document) -> Iterator[Work]:
    """Open the bench for this run, keep its record alive, and write down how it ended."""
    settings = config.load()
    flow_run = _flow_run()
    run_id = str(uuid.uuid4()) if flow_run is None else str(flow_run.id)
    with (
        closing(Services(settings)) as services,
        Ledger.of(settings) as ledger,
    ):
        suspension = Suspension(ledger, run_id, flow_run, settings.waiting.inline_seconds)
        awaited = ledger.runs.begin(run_id=run_id, flow=flow, parameters=parameters, owner=Owner.here())
        work = Work(settings, ledger, services, run_id, _logger(), suspension, set(awaited))
        with Lease(lambda: ledger.runs.renew(run_id), seconds=LEASE_SECONDS), _recorded(work):
            yield work


@contextmanager
def _recorded(work: Work) -> Iterator[None]:
    runs = work.ledger.runs
    try:
        yield
    except Cancelled as error:
        close_cancelled(work.ledger, work.services, work.run_id, error)
        raise
    except OrchestrationError as error:
        runs.finish(work.run_id, RunState.FAILED, error)
        raise
    except Exception as error:
        found = OrchestrationError(
            f"an error nobody planned for: {type(error).__name__}: {error}",
            where=f"run {work.run_id}",
            next_step="read the traceback in the run's log and report it; starting the flow again carries on",
        )
        runs.finish(work.run_id, RunState.FAILED, found)
        raise
    except Pause:
        raise  # suspended: the ledger has it already
    except BaseException:
        # A signal. Cancelled by a person: so is all that this run started. Anything else (the worker stops, the
        # machine goes down): the record stays open, and the next run carries on.
        if cancelling(work.ledger, work.run_id):
            end_run(work.ledger, work.services, work.run_id)
        raise
    runs.finish(work.run_id, RunState.COMPLETED)


def register(
    work: Work,
    file_path: str,
    *,
    beamline: Beamline,
    is_export_control: bool = False,
    fingerprint: str = "",
    carried: bool = True,
) -> Scan:
    """Make the scan known to the ledger, and this run as the one that carries it, unless it carries several."""
    path = beamline.relative(file_path)
    flag = controlled(work.ledger, work.settings, beamline, path, told=is_export_control)
    scan = work.ledger.scans.register(beamline=beamline.id, path=path, export_controlled=flag, fingerprint=fingerprint)
    if carried:
        work.ledger.runs.carries(work.run_id, scan.id)
    return scan


def _flow_run() -> FlowRun | None:
    context = FlowRunContext.get()
    return None if context is None else context.flow_run


def _logger() -> logging.Logger | logging.LoggerAdapter[logging.Logger]:
    try:
        return get_run_logger()
    except MissingContextError:
        return logging.getLogger(__name__)
