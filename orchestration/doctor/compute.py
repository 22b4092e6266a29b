"""Compute sites: are they up, is there an allocation left, and are the science programs installed there?"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import time
import uuid
from datetime import UTC, datetime

from orchestration.conditions import Outage, SiteCondition, SiteState, Tells
from orchestration.config import ComputeSite, LocalSite, NerscSite, RemoteSite, Settings
from orchestration.doctor.check import Check, Health, attempt, refused
from orchestration.errors import ConfigError, JobFailed, OrchestrationError
from orchestration.flows.services import Services
from orchestration.jobs import JobSpec, Output, OutputKind, Resources
from orchestration.ledger.service import Failed, Succeeded
from orchestration.ledger.waiting import backoff, pause
from orchestration.remote import science_version

SOON_SECONDS = 7 * 24 * 3600.0
TRIAL_SECONDS = 240.0
"""For a job that only says who it is; a queue that is longer than this is doubtful rather than broken."""

NOT_SET = "environment"
"""Where the error of a credential says that it is, if it is not set."""

_HEALTH = {
    SiteState.UP: Health.WORKS,
    SiteState.DEGRADED: Health.DOUBTFUL,
    SiteState.UNKNOWN: Health.DOUBTFUL,
    SiteState.DOWN: Health.BROKEN,
}


def site_check(settings: Settings, site: ComputeSite, *, write: bool) -> Check:
    """With `write`, a job of a second is run there."""
    what = f"site {site.name}"
    if isinstance(site, LocalSite):
        return Check(what=what, note="this machine", parts=(attempt("science programs", lambda: _local(site)),))
    try:
        state = _condition(settings, site)
    except ConfigError as error:
        # A credential that is not there is nobody's fault yet; one that is refused has run out, mostly.
        health = Health.UNUSED if error.where == NOT_SET else Health.BROKEN
        return Check(what=what, parts=(refused("sign-in", error, health),))
    except OrchestrationError as error:
        return Check(what=what, parts=(refused("status", error),))
    parts = [_state(state), *_outages(state), *_clients(site)]
    if write and state.takes_work:
        parts.append(_trial(settings, site))
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


def _trial(settings: Settings, site: RemoteSite) -> Check:
    """A job that does nothing but be found there in the right version."""

    def ask() -> str:
        services = Services(settings)
        try:
            service = services.jobs(settings.site(site.name))
            spec = _nothing(site)
            handle = service.submit(spec, service.reserve(f"doctor-{uuid.uuid4().hex[:12]}"))
            delays, until = backoff(), time.monotonic() + TRIAL_SECONDS
            while time.monotonic() < until:
                status = service.poll(spec, handle)
                if isinstance(status, Succeeded):
                    return f"a job ran, version {science_version(site)}, Python {status.evidence.get('python')}"
                if isinstance(status, Failed):
                    raise status.error
                pause(min(1.0, next(delays)), f"the trial at {site.name}")
            service.cancel(handle)
            raise JobFailed(
                f"no job ran within {TRIAL_SECONDS:.0f} s; it was cancelled",
                where=site.name,
                next_step="look at the queue of the site",
            )
        finally:
            services.close()

    return attempt("trial job", ask)


def _nothing(site: RemoteSite) -> JobSpec:
    program = "import json, pathlib, sys; pathlib.Path(sys.argv[1]).write_text(json.dumps({'python': sys.version}))"
    record = f"doctor-{uuid.uuid4().hex[:12]}.json"
    return JobSpec(
        executable=site.python,
        arguments=("-c", program, record),
        directory=site.job_folder,
        duration=60.0,
        outputs=(Output(path=record, kind=OutputKind.JSON),),
        resources=Resources(nodes=1, cores=1, exclusive=False),
        queue=site.queue,
        account=site.account,
        constraint=site.constraint,
        start_within=TRIAL_SECONDS,
        name="doctor",
    )
