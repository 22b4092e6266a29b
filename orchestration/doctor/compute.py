"""Compute sites: are they up, is there an allocation left, and are the science programs installed there?"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime

from orchestration.conditions import Outage, SiteCondition, SiteState, Tells
from orchestration.config import ComputeSite, LocalSite, NerscSite, RemoteSite, Settings
from orchestration.doctor.check import Check, Health, attempt, refused
from orchestration.doctor.once import Trial, once
from orchestration.errors import (
    ConfigError,
    DeadlinePassed,
    JobFailed,
    JobNotStarted,
    OrchestrationError,
    ServiceUnavailable,
)
from orchestration.flows.jobs import remote_job
from orchestration.flows.services import Services
from orchestration.jobs import JobSpec
from orchestration.ledger import Ledger
from orchestration.ledger.operation import OperationRecord
from orchestration.ledger.service import CancelAnswer, Clears, Service
from orchestration.ledger.waiting import backoff, pause

SOON_SECONDS = 7 * 24 * 3600.0
TRIAL_SECONDS = 240.0
"""For a job that only says who it is; a queue that is longer than this is doubtful rather than broken."""

CANCEL_SECONDS = 60.0
"""For a site to find out that a job is over; an endpoint for light work may have to be started for that."""

_HEALTH = {
    SiteState.UP: Health.WORKS,
    SiteState.DEGRADED: Health.DOUBTFUL,
    SiteState.UNKNOWN: Health.DOUBTFUL,
    SiteState.DOWN: Health.BROKEN,
}


def site_check(settings: Settings, site: ComputeSite, *, ledger: Ledger | None) -> Check:
    """With a `ledger` for trials, a job of a second is run there."""
    what = f"site {site.name}"
    if isinstance(site, LocalSite):
        return Check(what=what, note="this machine", parts=(attempt("science programs", lambda: _local(site)),))
    try:
        state = _condition(settings, site)
    except ConfigError as error:
        return Check(what=what, parts=(refused("sign-in", error),))
    except OrchestrationError as error:
        return Check(what=what, parts=(refused("status", error),))
    parts = [_state(state), *_outages(state), *_clients(site)]
    if ledger is not None and state.takes_work:
        parts += _trial(settings, site, ledger)
    return Check(what=what, parts=tuple(parts))


def _condition(settings: Settings, site: ComputeSite) -> SiteCondition:
    services = Services(settings)
    try:
        service = services.jobs(site)
        teller = getattr(service, "status", service)
        return teller.condition() if isinstance(teller, Tells) else SiteCondition(state=SiteState.UNKNOWN)
    finally:
        services.close()


def _local(site: LocalSite) -> str:
    python = site.python or sys.executable
    command = [python, "-m", "orchestration.science", "--help"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise JobFailed(
            f"{python} cannot be run: {error}", next_step=f"correct compute_sites.{site.name}.python"
        ) from error
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it says nothing"])[-1]
        raise JobFailed(
            f"{python} has no science programs: {last}",
            next_step="install them there: pip install 'beamline-orchestration[science]'",
        )
    return python


def _state(state: SiteCondition) -> Check:
    left = "" if state.hours_left is None else f"{state.hours_left:,.0f} hours left"
    note = ", ".join(filter(None, [state.state.value, state.note, left]))
    health = _HEALTH[state.state]
    if state.hours_left is not None and state.hours_left <= 0:
        return Check(
            what="status", health=Health.BROKEN, note=note, remedy="ask for more hours, or use another account"
        )
    remedy = "" if health is Health.WORKS else "wait; other sites take the work meanwhile, if the flow may choose"
    return Check(what="status", health=health, note=note, remedy=remedy)


def _outages(state: SiteCondition) -> list[Check]:
    now = time.time()
    coming = [each for each in state.outages if each.overlaps(now, now + SOON_SECONDS)]
    return [Check(what="maintenance", health=Health.DOUBTFUL, note=_when(each), remedy=_WAIT) for each in coming]


_WAIT = "nothing: jobs that would not end before it go elsewhere, if the flow may choose"


def _when(outage: Outage) -> str:
    times = [None if at is None else datetime.fromtimestamp(at, UTC) for at in (outage.start, outage.end)]
    words = ["open" if at is None else f"{at:%Y-%m-%d %H:%M} UTC" for at in times]
    return f"{words[0]} to {words[1]}{f': {outage.what}' if outage.what else ''}"


def _clients(site: RemoteSite) -> list[Check]:
    """What is known to go wrong on this side."""
    if not isinstance(site, NerscSite):
        return []
    if importlib.util.find_spec("httpx2") is None:
        return []
    return [
        Check(
            what="client library",
            health=Health.DOUBTFUL,
            note="the package httpx2 is installed, with which sfapi-client repeats no request after a silence",
            remedy="uninstall httpx2",
        )
    ]


def _trial(settings: Settings, site: RemoteSite, ledger: Ledger) -> tuple[Check, ...]:
    """A job like every other of this site, but for what it does; and whether the site understands cancelling."""
    services = Services(settings)
    try:
        service = services.jobs(settings.site(site.name))
        trial = once(ledger, _nothing(site), service, place=site.place, seconds=TRIAL_SECONDS)
        ran = _ran(trial)
        handle = trial.record.handle
        if ran.health is not Health.WORKS or handle is None:
            return (ran,)  # what keeps it from beginning after all is in its folder
        cancelling = attempt("cancelling", lambda: _known_as_over(service, handle))
        return (_cleared(ran, service, trial.record), cancelling)
    finally:
        services.close()


def _ran(trial: Trial[JobSpec]) -> Check:
    """A queue that is longer than the patience of a trial is no fault of the site."""
    what = "trial job"
    try:
        evidence = trial.run().evidence
    except (DeadlinePassed, JobNotStarted) as late:
        cancelled = isinstance(late, DeadlinePassed) and not trial.record.state.open
        note = f"{late.what}; it was cancelled" if cancelled else late.what
        return Check(what=what, health=Health.DOUBTFUL, note=note, remedy="look at the queue of the site")
    except OrchestrationError as error:
        return refused(what, error)
    return Check(what=what, note=f"a job ran, version {evidence['science_version']}, Python {evidence['python']}")


def _known_as_over(service: Service[JobSpec], handle: str) -> str:
    """A cancellation must find out that a job is over. At a site of Globus Compute that is light work of its own."""
    delays, until = backoff(), time.monotonic() + CANCEL_SECONDS
    while (answer := _cancelled(service, handle, until)) is CancelAnswer.UNKNOWN and time.monotonic() < until:
        pause(min(1.0, next(delays)), "cancelling")
    if answer is CancelAnswer.ALREADY_FINISHED:
        return "a job that is over is known to be"
    raise JobFailed(
        f"a job that is over was cancelled, and the answer is {answer.value!r}",
        where=service.name,
        next_step="see that what cancels jobs there (`endpoints.non_compute`, for Globus Compute) sees the job_folder",
    )


def _cancelled(service: Service[JobSpec], handle: str, until: float) -> CancelAnswer:
    try:
        return service.cancel(handle)
    except ServiceUnavailable:
        if time.monotonic() > until:
            raise
        return CancelAnswer.UNKNOWN


def _cleared(ran: Check, service: Service[JobSpec], record: OperationRecord) -> Check:
    """Without its folder, which nobody will read. One that cannot be removed is told."""
    if not isinstance(service, Clears) or record.token is None:
        return ran
    try:
        service.clear([record.token])
    except OrchestrationError as error:
        return replace(ran, note=f"{ran.note}; its folder was left there: {error.what}")
    return ran


def _nothing(site: RemoteSite) -> JobSpec:
    """The runner has looked at the version of the science programs by then."""
    return remote_job(
        site,
        duration=60.0,
        arguments=("-c", "pass"),
        directory=site.job_folder,
        start_within=TRIAL_SECONDS,
        name="doctor",
    )
