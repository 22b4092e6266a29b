"""Sites that do as they are told, runs that go to one of them, and a clock that goes only while somebody waits."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from orchestration.conditions import SiteCondition, SiteState
from orchestration.config import ComputeSite, Endpoint, RemoteSite, Settings, SitingPolicy
from orchestration.errors import Cancelled, OrchestrationError, ServiceUnavailable
from orchestration.flows.choosing import Piece
from orchestration.flows.moving import wherever
from orchestration.flows.prospects import Needs
from orchestration.flows.services import Services
from orchestration.flows.suspending import Suspension
from orchestration.flows.work import Work
from orchestration.jobs import JobSpec
from orchestration.ledger import Ledger
from orchestration.ledger.operation import Operation
from orchestration.ledger.owner import Owner
from orchestration.ledger.perform import Outcome, perform
from orchestration.ledger.runs import RunState
from orchestration.ledger.scan import Scan
from orchestration.ledger.service import (
    CancelAnswer,
    Failed,
    PollSchedule,
    Progress,
    Request,
    Running,
    Service,
    Status,
    Succeeded,
)
from orchestration.ledger.waiting import Awaited
from orchestration.paths import RelativePath
from orchestration.policy import Permitted, Place, Zone, opened
from orchestration.transfers import TransferItem, TransferRequest

HERE = Place("here", Zone.BEAMLINE)
QUICK = SitingPolicy(look_seconds=0.01, silence_seconds=0.1, answer_seconds=60.0)
QUEUED = Running(progress=Progress(note="in the queue"), queued=True)
RUNNING = Running(progress=Progress(note="running"))
JOB = JobSpec(executable="/bin/true", directory="/tmp", duration=1.0)


@dataclass
class Site:
    """Says what `status` is, after so many `polls` that it is done.

    While `silent` it is asked about jobs in vain, while `mute` how it is. What `on_...` is called with is the site.
    """

    name: str = "test.jobs"
    place: Place = HERE
    state: SiteState = SiteState.UP
    status: Status = QUEUED
    polls: int = 6
    silent: bool = False
    mute: bool = False
    retry_after: float | None = 0.02
    answer: CancelAnswer = CancelAnswer.CANCELLED
    on_reserve: Callable[[Site], None] = field(default=lambda _: None)
    on_poll: Callable[[Site], None] = field(default=lambda _: None)
    on_submit: Callable[[Site], None] = field(default=lambda _: None)
    submitted: list[str] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)

    def condition(self) -> SiteCondition:
        if self.mute:
            raise ServiceUnavailable("no answer")
        return SiteCondition(state=self.state, note="cooling" if self.state is SiteState.DOWN else "")

    def reserve(self, key: str) -> str:
        self.on_reserve(self)
        self._speak()
        return key

    def find(self, request: Request, token: str) -> str | None:
        self._speak()
        return token if token in self.submitted else None

    def submit(self, permitted: Permitted[Request], token: str) -> str:
        self._speak()
        opened(permitted, type(permitted.request), at=self.place)
        self.submitted.append(token)
        self.on_submit(self)
        self._speak()
        return token

    def poll(self, request: Request, handle: str) -> Status:
        self.on_poll(self)
        self._speak()
        self.polls -= 1
        if handle in self.cancelled and self.answer is CancelAnswer.CANCELLED:
            return Failed(error=Cancelled("it was cancelled"))
        return Succeeded() if self.polls < 0 else self.status

    def cancel(self, handle: str) -> CancelAnswer:
        self._speak()
        self.cancelled.append(handle)
        return self.answer

    def _speak(self) -> None:
        if self.silent:
            raise ServiceUnavailable("no answer", retry_after=self.retry_after)


class BulkSite(Site):
    def poll_many(self, items: Sequence[tuple[Request, str]]) -> Mapping[str, Status]:
        self._speak()
        return {handle: self.status for _, handle in items}


class Told(BulkSite):
    """Tells by a second submission what came of the first."""

    def find_by_sending(self, permitted: Permitted[Request], token: str) -> str | None:
        self._speak()
        opened(permitted, type(permitted.request), at=self.place)
        return token if token in self.submitted else None


class Mover(Site):
    """Carries data: to ``b`` at once, elsewhere as a site does its jobs."""

    def poll(self, request: Request, handle: str) -> Status:
        there = isinstance(request, TransferRequest) and request.destination.name == "b_raw"
        return Succeeded() if there else super().poll(request, handle)


@dataclass
class Folders:
    """The folders of the jobs of a site."""

    has_begun: bool = False
    trouble: bool = False
    shuts: list[str] = field(default_factory=list)
    stops: list[str] = field(default_factory=list)

    def begun(self, token: str) -> bool:
        self._speak()
        return self.has_begun

    def shut(self, token: str) -> None:
        self.shuts.append(token)

    def stop(self, token: str) -> None:
        self._speak()
        self.stops.append(token)

    def _speak(self) -> None:
        if self.trouble:
            raise OrchestrationError("Globus does not answer")


def goes_down(site: Site) -> None:
    site.state = SiteState.DOWN


def falls_silent(site: Site) -> None:
    site.silent = True


# ----- runs ---------------------------------------------------------------------------------------------------------


class Left(BaseException):
    """Raised in the place of what ends the process of a run that Prefect has suspended."""


class Suspended(Suspension):
    """Of a run that leaves as soon as it may, into the ledger."""

    def patient(self, since_submission: float, waited: float) -> bool:
        return since_submission >= self.inline_seconds

    def suspend(self, awaited: Mapping[str, Awaited]) -> None:
        self.ledger.runs.wait(self.run_id, awaited)
        raise Left


class Plain(Work):
    """Performs without Prefect, which would only show it."""

    def _stage(
        self,
        operation: Operation[Any],
        service: Service[Any],
        schedule: PollSchedule | None,
        moves_after: float | None,
        *,
        redo: bool,
    ) -> Outcome:
        again = redo and operation.key not in self.awaited
        self.awaited.discard(operation.key)
        return perform(
            self.ledger,
            operation,
            service,
            run_id=self.run_id,
            schedule=schedule,
            redo=again,
            may_leave=self._may_leave,
            moves_after=moves_after,
        )


class Sites(Services):
    """`at` by the names of the sites; `gates` of those that have one."""

    def __init__(self, settings: Settings, at: Mapping[str, Any], gates: Mapping[str, Any]) -> None:
        super().__init__(settings)
        self.at = at
        self.gates = gates

    def jobs(self, site: ComputeSite) -> Service[JobSpec]:
        service: Service[JobSpec] = self.at[site.name]
        return service

    def site_condition(self, site: ComputeSite) -> SiteCondition:
        found = self.at[site.name]
        condition: SiteCondition = (found if isinstance(found, Site) else found.status).condition()
        return condition

    def fence(self, site: RemoteSite, endpoint: Endpoint) -> Any:
        return self.gates[site.name]


def settings_of(sites: Mapping[str, Any], policy: SitingPolicy) -> Settings:
    """Sites by name, as their section of the settings has them."""
    endpoints = {f"{site}_{part}": {"uuid": f"{n:032x}"} for n, site in enumerate(sites, 1) for part in ("raw", "out")}
    return Settings.model_validate(
        {
            "globus": {"globus_endpoints": {"server": {"uuid": f"{99:032x}"}, **endpoints}},
            "compute_sites": {
                name: {"raw_endpoint": f"{name}_raw", "scratch_endpoint": f"{name}_out", **words}
                for name, words in sites.items()
            },
            "siting": policy.model_dump(),
        }
    )


NERSC = {"kind": "nersc", "job_folder": "/jobs"}


@dataclass
class Yard:
    """Runs of one piece of work: the data is carried to the site by `mover`, and then there is a job."""

    ledger: Ledger
    settings: Settings
    at: Mapping[str, Any]
    gates: Mapping[str, Any]
    mover: Mover = field(default_factory=lambda: Mover(name="globus.transfer", status=RUNNING, polls=2))
    schedule: PollSchedule | None = None
    inline_seconds: float = float("inf")
    spec: JobSpec = JOB

    @classmethod
    def of(cls, ledger: Ledger, *, policy: SitingPolicy = QUICK, kind: type[Site] = Site) -> Yard:
        """Two sites, ``a`` and ``b``, preferred in that order."""
        at = {name: kind(name=f"nersc.jobs@{name}") for name in "ab"}
        settings = settings_of(dict.fromkeys(at, NERSC), policy)
        return cls(ledger, settings, at, {name: Folders() for name in at}, schedule=PollSchedule(ceiling=0.01))

    @property
    def scan(self) -> Scan:
        return self.ledger.scans.register(beamline="bl832", path=RelativePath("raw/p/a.h5"), fingerprint="1")

    def work(self, run: str) -> Plain:
        awaited = self.ledger.runs.begin(run_id=run, flow="any_recon_flow", parameters={}, owner=Owner.here())
        suspension = Suspended(self.ledger, run, None, self.inline_seconds)
        services = Sites(self.settings, self.at, self.gates)
        work = Plain(self.settings, self.ledger, services, run, logging.getLogger(run), suspension)
        work.awaited |= set(awaited)
        return work

    def run(self, run: str, *, copied: Callable[[str], None] = lambda _: None) -> str:
        """The site where the work was done; `copied` is called with a site once the data is there."""
        work = self.work(run)
        piece = Piece(
            scan=self.scan,
            step="reconstruct",
            told_by={},
            needs=Needs(size=0, seconds=lambda _: 1.0),
            job_at=lambda name: f"reconstruct at {name}",
        )

        def do(site: str) -> str:
            self.copy(work, site)
            copied(site)
            self.compute(work, site)
            return site

        done = wherever(work, piece, candidates=list(self.at), do=do)
        self.ledger.runs.finish(run, RunState.COMPLETED)
        return done

    def copy(self, work: Plain, site: str) -> Outcome:
        item = TransferItem(source=RelativePath("a"), destination=RelativePath("a"))
        request = TransferRequest(
            source=self.settings.endpoint("server"), destination=self.settings.endpoint(f"{site}_raw"), items=(item,)
        )
        return work.perform(self._operation(f"copy to {site}", request), self.mover, schedule=self.schedule)

    def compute(self, work: Plain, site: str) -> Outcome:
        return work.perform(self.job(site), self.at[site], schedule=self.schedule)

    def job(self, site: str) -> Operation[JobSpec]:
        return self._operation(f"reconstruct at {site}", self.spec)

    def _operation(self, step: str, request: Any) -> Operation[Any]:
        return Operation(scan=self.scan, step=step, request=request, destination=HERE, deadline=48 * 3600.0)

    @property
    def decided(self) -> list[str]:
        return [each.site for each in self.ledger.decisions.of_scan(self.scan.id)]

    def said(self, site: str) -> str:
        """Of a site, by the newest decision."""
        found = self.ledger.decisions.of_scan(self.scan.id)[-1].candidate(site)
        return "" if found is None else found.sentence


# ----- time ---------------------------------------------------------------------------------------------------------


class Clock:
    """Of the ledger, and of all that waits in `standing`: it goes on only while somebody waits, and at once."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0
        self._soon: Callable[[], None] | None = None

    def __call__(self) -> float:
        return self.now

    def wait(self, seconds: float, *_: object) -> None:
        if self._soon is not None:
            act, self._soon = self._soon, None
            act()
        self.now += seconds

    def soon(self, act: Callable[[], None]) -> None:
        """At the beginning of the next wait."""
        self._soon = act

    def standing(self, patch: pytest.MonkeyPatch) -> None:
        """Put this clock in the place of the process's, where `perform` and the watcher look at it."""
        for module in ("ledger.waiting", "ledger.attempt", "flows.polling", "flows.watching"):
            patch.setattr(f"orchestration.{module}.time", SimpleNamespace(monotonic=self, time=self))
        patch.setattr("orchestration.ledger.waiting.pause", self.wait)
