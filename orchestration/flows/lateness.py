"""Data that should have arrived and has not: no new scans, and scans whose copies are not where they should be."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from orchestration.config import Beamline, Endpoint
from orchestration.errors import ConfigError, OrchestrationError
from orchestration.flows.alarms import Alarms
from orchestration.flows.server import insist, prefect_server
from orchestration.flows.variables import QUICK
from orchestration.flows.work import Work
from orchestration.ledger.scan import Scan
from orchestration.ledger.service import Document
from orchestration.policy import Zone
from orchestration.times import clock

HOUR = 3600.0

LOOKED_BACK_HOURS = 7 * 24.0
"""Scans that were late for longer are no news."""

NAMED = 20


def look_for_arrivals(work: Work, alarms: Alarms) -> Document:
    """What is late, by beamline; raises an alarm for each."""
    told: Document = {}
    for beamline in work.settings.beamlines.values():
        if beamline.arrivals is None:
            continue
        try:
            silent = _silence(work, beamline)
        except OrchestrationError as error:
            alarms.add(f"arrivals at {beamline.id}", f"not known whether it runs: {error.sentence}")
            silent = ""
        if silent:
            alarms.add(f"no scans from {beamline.id}", silent)
        late = [*_late(work, beamline)]
        for name, scans in late:
            alarms.add(f"scans of {beamline.id} that are not at {name}", _sentence(beamline, name, scans))
        told[beamline.id] = {"silent": silent, "late": {name: [each.id for each in scans] for name, scans in late}}
    return told


def _silence(work: Work, beamline: Beamline) -> str:
    """Why there should have been a scan; empty if there was one, or need not have been."""
    arrivals = beamline.arrivals
    now = work.ledger.now()
    if arrivals is None or arrivals.within_hours is None or not arrivals.expecting(now):
        return ""
    running, since = _running(beamline)
    if not running:
        return ""
    latest = work.ledger.scans.latest(limit=1, beamline=beamline.id)
    last = latest[0].registered_at if latest else 0.0
    hours = arrivals.hours(max(last, since), now)
    if hours <= arrivals.within_hours:
        return ""
    when = f"the last became known at {clock(last)}" if latest else "none ever became known"
    what = f"no new scan for {hours:.1f} of the hours in which it takes scans ({arrivals.between})"
    return f"{what}, and {when}: is the beamline down, or does acquisition not reach this service?"


def _running(beamline: Beamline) -> tuple[bool, float]:
    """Whether it is said to run, and since when somebody says so (seconds since the epoch; 0: always).

    Raises:
        ConfigError: if the Prefect Variable is neither true nor false.
        ServiceUnavailable: if Prefect does not answer.
    """
    arrivals = beamline.arrivals
    if arrivals is None or arrivals.running_variable is None:
        return arrivals is not None and arrivals.running, 0.0
    name = arrivals.running_variable

    def ask() -> tuple[object, float]:
        with prefect_server() as client:
            found = client.read_variable_by_name(name)
            if found is None:
                return arrivals.running, 0.0
            return found.value, found.updated.timestamp() if found.updated is not None else 0.0

    value, since = insist(ask, seconds=QUICK)
    if not isinstance(value, bool):
        raise ConfigError(
            f"the Prefect Variable {name} is {value!r}, and should be true or false",
            where=f"Prefect Variable {name}",
            next_step="correct it under Variables in Prefect",
        )
    return value, since


def _late(work: Work, beamline: Beamline) -> Iterator[tuple[str, Sequence[Scan]]]:
    """Each endpoint at which copies are expected, with the scans that have none there in time."""
    hours = None if beamline.arrivals is None else beamline.arrivals.copies_within_hours
    if hours is None:
        return
    latest = work.ledger.now() - hours * HOUR
    scans = work.ledger.scans.registered(beamline.id, after=latest - LOOKED_BACK_HOURS * HOUR, before=latest)
    places = work.ledger.inventory.places_of([scan.id for scan in scans])
    for endpoint in _expected(work, beamline):
        counted = {each.name for each in work.settings.places.values() if each.shares_storage_with(endpoint)}
        counted.add(endpoint.name)
        late = [
            scan
            for scan in scans
            if not counted & places.get(scan.id, frozenset()) and _wanted_there(work, scan, endpoint)
        ]
        if late:
            yield endpoint.name, late


def _expected(work: Work, beamline: Beamline) -> Sequence[Endpoint]:
    """Where acquisition itself writes, nothing has to arrive."""
    named = None if beamline.arrivals is None else beamline.arrivals.expected_at
    if named is not None:
        return [work.settings.endpoint(name) for name in named]
    acquisition = work.settings.endpoint(beamline.acquisition)
    usual = [work.settings.endpoint(name) for name in (beamline.server, beamline.nersc) if name is not None]
    return [each for each in usual if not each.shares_storage_with(acquisition)]


def _wanted_there(work: Work, scan: Scan, endpoint: Endpoint) -> bool:
    """Not if it may not go there, or whoever started its flow did not want it."""
    if scan.export_controlled and endpoint.zone is not Zone.BEAMLINE:
        return False
    if any(denial.endpoint == endpoint.name for denial in work.ledger.audit.denials(scan.id)):
        return False
    beamline = work.settings.beamline(scan.beamline)
    unwanted = any(run.parameters.get("send_to_nersc") is False for run in work.ledger.runs.of_scan(scan.id))
    return not (unwanted and endpoint.name == beamline.nersc)


def _sentence(beamline: Beamline, endpoint: str, scans: Sequence[Scan]) -> str:
    hours = 0.0 if beamline.arrivals is None else beamline.arrivals.copies_within_hours or 0.0
    named = "; ".join(f"scan {each.id}" if each.export_controlled else each.path.text for each in scans[:NAMED])
    more = f"; and {len(scans) - NAMED} more" if len(scans) > NAMED else ""
    what = f"{len(scans)} scans became known more than {hours:g} hours ago and have no copy at {endpoint}"
    return f"{what}: {named}{more} (`beamline show` says of each what went wrong)"
