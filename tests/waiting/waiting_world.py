"""A facility that runs jobs for as long as a test wants, and a Prefect that only remembers what it was told."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from prefect.client.schemas.objects import State
from prefect.states import Cancelled as CancelledState
from prefect.states import Scheduled, Suspended

from orchestration.conditions import SiteCondition, SiteState
from orchestration.config import Settings, SitingPolicy
from orchestration.errors import Cancelled, JobFailed, ServiceUnavailable, UnknownName
from orchestration.flows.runs import PrefectRun
from orchestration.flows.services import Services
from orchestration.flows.suspending import ASLEEP, CANCELLED, SuspendedRuns
from orchestration.jobs import JobSpec
from orchestration.ledger import Ledger
from orchestration.ledger.operation import Operation
from orchestration.ledger.owner import Owner
from orchestration.ledger.perform import perform
from orchestration.ledger.scan import Scan
from orchestration.ledger.service import (
    CancelAnswer,
    Failed,
    PollSchedule,
    Progress,
    Running,
    Service,
    Status,
    Succeeded,
)
from orchestration.ledger.waiting import Awaited, Waiting
from orchestration.policy import Permitted, Place, Zone, opened

QUICK = PollSchedule(first=0.01)
THERE = Place("there", Zone.BEAMLINE)


@dataclass
class Site:
    """Jobs run until `end` is called; each status request is written down with the number of jobs in it."""

    name: str = "nersc.jobs@north"
    place: Place = THERE
    submitted: dict[str, JobSpec] = field(default_factory=dict)
    ended: dict[str, Status] = field(default_factory=dict)
    asked: list[int] = field(default_factory=list)
    cancels: list[str] = field(default_factory=list)
    silent: bool = False
    confirms: bool = True
    needs_care: bool = False
    begun: set[str] = field(default_factory=set)
    state: SiteState = SiteState.UP
    poll_seconds: float = 0.0
    settle_seconds: float = 0.0

    def reserve(self, key: str) -> str:
        return key

    def find(self, request: JobSpec, token: str) -> str | None:
        self._speak()
        return token if token in self.submitted else None

    def submit(self, permitted: Permitted[JobSpec], token: str) -> str:
        self._speak()
        self.submitted[token] = opened(permitted, JobSpec, at=self.place)
        return token

    def poll(self, request: JobSpec, handle: str) -> Status:
        self._speak()
        return self.ended.get(handle, Running(needs_care=self.needs_care))

    def cancel(self, handle: str) -> CancelAnswer:
        self._speak()
        self.cancels.append(handle)
        if handle in self.ended:
            return CancelAnswer.ALREADY_FINISHED
        if not self.confirms:
            return CancelAnswer.UNKNOWN
        self.ended[handle] = Failed(error=Cancelled("cancelled at the site"))
        return CancelAnswer.CANCELLED

    def end(self, handle: str, *, fails: str = "") -> None:
        self.ended[handle] = Failed(error=JobFailed(fails)) if fails else Succeeded(evidence={"exit code": 0})

    def _speak(self) -> None:
        if self.silent:
            raise ServiceUnavailable("no answer", where=self.name, retry_after=0.05)


@dataclass
class BulkSite(Site):
    """It can be asked about many at once, and its jobs be waited for from elsewhere."""

    def poll_many(self, items: Sequence[tuple[JobSpec, str]]) -> Mapping[str, Status]:
        self.asked.append(len(items))
        self._speak()
        for request, handle in items:
            assert request == self.submitted[handle]
        return {handle: self.ended.get(handle, self._running(handle)) for _, handle in items}

    def _running(self, handle: str) -> Running:
        queued = handle not in self.begun
        progress = Progress(note="in the queue" if queued else "runs")
        return Running(progress=progress, queued=queued, needs_care=self.needs_care)


class SitesOnly(Services):
    """The services of a beamline that has these sites, perhaps Prefect, and nothing else."""

    def __init__(self, *sites: Site, prefect: RememberedRuns | None = None) -> None:
        super().__init__(Settings(siting=SitingPolicy(look_seconds=0.1, silence_seconds=1.0)))
        self._sites = {site.name: site for site in sites}
        if prefect is not None:
            vars(self)["prefect_run"] = RememberedPrefect(runs=prefect)

    def named(self, name: str) -> Service[Any]:
        if name not in self._sites:
            raise UnknownName(f"there is no compute site {name}")
        return self._sites[name]

    def poll_seconds(self, name: str) -> float:
        return self._sites[name].poll_seconds if name in self._sites else 0.0

    def settle_seconds(self, name: str) -> float:
        return self._sites[name].settle_seconds if name in self._sites else 0.0

    def condition(self, name: str) -> SiteCondition:
        return SiteCondition(state=self._sites[name].state)


@dataclass(frozen=True)
class RememberedRuns(SuspendedRuns):
    """Prefect's part, without a server."""

    known: dict[str, State] = field(default_factory=dict)
    resumed: list[str] = field(default_factory=list)
    away: threading.Event = field(default_factory=threading.Event)

    def resume(self, run_id: str) -> bool:
        self._speak()
        state = self.known.get(run_id)
        if state is None or not state.is_paused():
            return False
        self.known[run_id] = Scheduled()
        self.resumed.append(run_id)
        return True

    def states(self, run_ids: Sequence[str]) -> Mapping[str, State | None]:
        self._speak()
        return {run_id: self.known[run_id] for run_id in run_ids if run_id in self.known}

    def moved(self, run_ids: Sequence[str]) -> Mapping[str, State | None]:
        return {run_id: state for run_id, state in self.states(run_ids).items() if state and state.type not in ASLEEP}

    def cancelled(self, run_ids: Sequence[str]) -> Collection[str]:
        return [run_id for run_id, state in self.states(run_ids).items() if state and state.type in CANCELLED]

    def begun(self, flow: str) -> Mapping[str, State]:
        self._speak()
        return {run_id: state for run_id, state in self.known.items() if flow in run_id and not state.is_final()}

    def tell(self, run_id: str, state: State) -> None:
        self._speak()
        self.known[run_id] = state

    def cancel(self, run_id: str) -> None:
        """As a person does it in the pages."""
        self.known[run_id] = CancelledState()

    def _speak(self) -> None:
        if self.away.is_set():
            raise ServiceUnavailable("the Prefect server does not answer", retry_after=0.05)


@dataclass(frozen=True, kw_only=True)
class RememberedPrefect(PrefectRun):
    """Prefect as a service, by the same memory: runs that it is told to cancel end at once."""

    runs: RememberedRuns

    def cancel(self, handle: str) -> CancelAnswer:
        if handle not in self.runs.known:
            return CancelAnswer.UNKNOWN
        self.runs.cancel(handle)
        return CancelAnswer.CANCELLED

    def say_cancelled(self, handle: str, message: str) -> None:
        self.runs._speak()
        self.runs.cancel(handle)


def job(scan: Scan, name: str, *, deadline: float = 600.0) -> Operation[JobSpec]:
    request = JobSpec(executable="/bin/sleep", arguments=(name,), directory="/work", duration=60.0)
    return Operation(scan=scan, step=f"compute {name}", request=request, destination=THERE, deadline=deadline)


@dataclass
class Settling(BulkSite):
    """Of a submission in doubt it says nothing until it was asked about it `after` times by this process."""

    after: int = 0
    asked_for: list[str] = field(default_factory=list)

    def find(self, request: JobSpec, token: str) -> str | None:
        self.asked_for.append(token)
        if len(self.asked_for) <= self.after:
            raise ServiceUnavailable("it may still be on its way", retry_after=0.05)
        return super().find(request, token)


def in_doubt(ledger: Ledger, scan: Scan, site: Site, name: str = "doubt") -> Operation[JobSpec]:
    """As a process leaves it that is killed between its token and the submission."""
    operation, owner = job(scan, name), Owner.here()
    ledger.operations.take(operation, owner, service=site.name, redo=True)
    ledger.operations.permitted(operation, owner, token=f"token of {name}", site=site.place)
    ledger.operations.release(operation.key, owner)
    return operation


def leave(
    ledger: Ledger, operation: Operation[JobSpec], site: Site, *, run_id: str | None = None, may_move: bool = False
) -> Mapping[str, Awaited]:
    """Submit a job, and leave it at once; what is waited for."""
    try:
        perform(
            ledger,
            operation,
            site,
            schedule=QUICK,
            run_id=run_id,
            may_leave=lambda since, waited: True,
            moves_after=60.0 if may_move else None,
        )
    except Waiting as waiting:
        return waiting.awaited
    raise AssertionError("it did not leave")


def suspend(ledger: Ledger, prefect: RememberedRuns, run_id: str, awaited: Mapping[str, Awaited]) -> None:
    """As a run does it that has left."""
    ledger.runs.begin(run_id=run_id, flow="f", parameters={}, owner=Owner.here())
    prefect.known[run_id] = Suspended()
    assert ledger.runs.wait(run_id, awaited)


def wait_until(true: Callable[[], object], *, seconds: float = 60.0) -> None:
    give_up = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < give_up, f"not within {seconds} s"
        time.sleep(0.01)
