"""Deletions in Prefect's calendar: a run for each copy, or one for many that are due at one endpoint at the same time.

What was put there once is not put there again, be it by itself or with others: a person may have cancelled it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache

from orchestration.config import Endpoint, RetentionRule
from orchestration.flows import catalogue
from orchestration.flows.quarantining import again
from orchestration.flows.runs import RunRequest
from orchestration.flows.starting import deployment_of
from orchestration.flows.variables import retention_days
from orchestration.flows.work import Work
from orchestration.ledger.copy import CopyRecord, CopyState, Role
from orchestration.ledger.operation import Operation, OperationRecord, OperationState
from orchestration.ledger.scan import Scan
from orchestration.ledger.service import Document, Json
from orchestration.policy import Zone

DAY = 24 * 3600.0

SCHEDULE_DEADLINE_SECONDS = 3600.0

GLOBUS_FLOW = "prune_globus_endpoint"
"""The flow that deletes at endpoints that have none of their own."""

FILESYSTEM_FLOW = "prune_filesystem_endpoint"
"""The same for endpoints that are directories of the workers' machines and nothing else."""

SERVICE = "prefect.schedule"

MOST = 1000
MOST_BYTES = 200_000
"""Copies, and bytes of their paths, that one run is told of: Prefect takes half a megabyte of parameters."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A run that is to be in the calendar, and the copies that it deletes."""

    copies: tuple[CopyRecord, ...]
    operation: Operation[RunRequest]


def schedule_pruning(
    work: Work, scan: Scan, copy: CopyRecord, *, within: float = SCHEDULE_DEADLINE_SECONDS
) -> OperationRecord | None:
    """Put the deletion of a copy into Prefect's calendar, if a rule allows it to be deleted at all.

    `within` so many seconds, or it stays open: whoever comes next carries on.
    """
    if (known := _in_calendar(work, [copy]).get(copy.id)) is not None:
        return known
    for entry in entries(work, [copy], {scan.id: scan}, within=within):
        return work.perform(entry.operation, work.services.prefect_schedule).record
    return None


def schedule_all(work: Work, copies: Sequence[CopyRecord], *, within: float = SCHEDULE_DEADLINE_SECONDS) -> None:
    """`schedule_pruning` for many, with a run for all those of an endpoint that are due at the same time."""
    for entry in entries(work, copies, work.ledger.scans.among({copy.scan_id for copy in copies}), within=within):
        work.perform(entry.operation, work.services.prefect_schedule)


def entries(work: Work, copies: Sequence[CopyRecord], scans: Mapping[str, Scan], *, within: float) -> Iterator[Entry]:
    """What is missing in the calendar for these copies, which get a time if a rule lets them go."""
    going = _with_times(work, copies, scans)
    known = _in_calendar(work, going)
    left = [copy for copy in going if copy.id not in known]
    begun = _begun(work, left)
    for key in dict.fromkeys(begun.values()):
        some = tuple(copy for copy in left if begun.get(copy.id) == key)
        yield Entry(copies=some, operation=_again(work, key, within=within))
    for some in _groups(work, [copy for copy in left if copy.id not in begun], scans):
        if len(some) == 1:
            yield Entry(copies=some, operation=calendar_entry(work, scans[some[0].scan_id], some[0], within=within))
        else:
            yield Entry(copies=some, operation=_entry_of_many(work, some, scans, within=within))


def in_calendar(work: Work, copy: CopyRecord) -> bool:
    """Whether its deletion is planned, for the time that was set."""
    return copy.id in _in_calendar(work, [copy])


def scheduled(work: Work, copies: Sequence[CopyRecord]) -> Mapping[int, OperationRecord]:
    """What has put the deletion of each into the calendar last, for whatever time, by its id."""
    return {number: max(known, key=lambda each: each.began_at) for number, known in planned(work, copies).items()}


def shared(record: OperationRecord) -> bool:
    """Whether the run that it has put into the calendar deletes copies of several scans."""
    return len(_told(record)) > 1


def _in_calendar(work: Work, copies: Sequence[CopyRecord]) -> Mapping[int, OperationRecord]:
    by_id = {copy.id: copy for copy in copies}
    return {
        number: record
        for number, known in planned(work, copies).items()
        for record in known
        if record.state is OperationState.SUCCEEDED and _is_for(record, by_id[number])
    }


def _begun(work: Work, copies: Sequence[CopyRecord]) -> Mapping[int, str]:
    """The keys of entries for several that an interrupted run has left, and that are to be carried on as they are."""
    by_id = {copy.id: copy for copy in copies}
    return {
        number: record.key
        for number, known in planned(work, copies).items()
        for record in known
        if record.state.open and shared(record) and _is_for(record, by_id[number])
    }


def planned(work: Work, copies: Sequence[CopyRecord]) -> Mapping[int, Sequence[OperationRecord]]:
    """All that was ever to put the deletion of a copy into the calendar, by the id of the copy."""
    single: dict[tuple[str, str], list[OperationRecord]] = {}
    several: dict[tuple[str, str, int], list[OperationRecord]] = {}
    for record in work.ledger.operations.of_scans({copy.scan_id for copy in copies}, service=SERVICE):
        for path, generation in _told(record).items():
            several.setdefault((record.step.rpartition(" at ")[2], path, generation), []).append(record)
        single.setdefault((record.scan_id, record.step), []).append(record)
    found = {
        copy.id: [
            *single.get((copy.scan_id, planning(copy)), ()),
            *several.get((copy.endpoint, copy.lies_at.text, copy.generation), ()),
        ]
        for copy in copies
    }
    return {number: known for number, known in found.items() if known}


def _told(record: OperationRecord) -> Mapping[str, int]:
    """The copies of an entry for several: their generations by their paths."""
    parameters = record.request.get("parameters")
    copies = parameters.get("copies") if isinstance(parameters, dict) else None
    return {path: int(str(generation)) for path, generation in copies.items()} if isinstance(copies, dict) else {}


def _is_for(record: OperationRecord, copy: CopyRecord) -> bool:
    """Whether it is for the time that is set now."""
    when = _time(copy)
    return when is not None and record.request.get("scheduled_time") == when.isoformat()


def _time(copy: CopyRecord) -> datetime | None:
    return None if copy.delete_after is None else datetime.fromtimestamp(copy.delete_after, UTC)


# ----- which, and when ----------------------------------------------------------------------------------------------


def _with_times(work: Work, copies: Sequence[CopyRecord], scans: Mapping[str, Scan]) -> Sequence[CopyRecord]:
    """Those that a rule lets go one day, with that day."""

    @cache
    def kept(endpoint: str, dataset: str) -> float:
        rule = work.settings.retention_rule(endpoint, dataset)
        return 0.0 if rule is None else retention_days(work.settings, rule) * DAY

    going = [copy for copy in copies if _may_go(work, scans[copy.scan_id], copy)]
    unset = [copy for copy in going if copy.delete_after is None and not copy.set_aside]
    times = [(copy, copy.verified_at + kept(copy.endpoint, copy.dataset)) for copy in unset]
    timed = {copy.id: copy for copy in work.ledger.copies.schedule_all(times)} if times else {}
    return [timed.get(copy.id, copy) for copy in going]


def _may_go(work: Work, scan: Scan, copy: CopyRecord) -> bool:
    rule = work.settings.retention_rule(copy.endpoint, copy.dataset)
    if rule is None:
        work.logger.info("%s keeps its copy of %s: no retention rule", copy.endpoint, copy.path)
        return False
    if copy.set_aside:
        return True
    if scan.export_controlled and not _witnesses_allowed(work, rule):
        work.logger.info("%s keeps its copy of %s: no other place may have one", copy.endpoint, copy.path)
        return False
    if copy.role is Role.CACHE and not rule.recreatable and not _witnessed(work, rule, copy):
        work.logger.info("%s keeps its copy of %s until it has a second home", copy.endpoint, copy.path)
        return False
    return True


def _witnesses_allowed(work: Work, rule: RetentionRule) -> bool:
    """Whether export-controlled data could ever lie where the rule wants another copy."""
    zones = [work.settings.endpoint(name).zone for name in rule.requires.any_of]
    return zones.count(Zone.BEAMLINE) >= rule.requires.min_copies


def _witnessed(work: Work, rule: RetentionRule, copy: CopyRecord) -> bool:
    """Whether there are as many other copies as the rule asks for; most results have one home only, and stay there."""
    others = work.ledger.copies.of_scan(copy.scan_id)
    counted = {
        other.endpoint
        for other in others
        if other.endpoint in rule.requires.any_of
        and (other.dataset, other.version, other.state) == (copy.dataset, copy.version, CopyState.PRESENT)
    }
    return len(counted) >= rule.requires.min_copies


# ----- entries ------------------------------------------------------------------------------------------------------


def planning(copy: CopyRecord) -> str:
    """The step that puts its deletion, and nothing else, into the calendar."""
    if copy.set_aside:
        return f"schedule deletion of {copy.dataset} from quarantine at {copy.endpoint}{again(copy)}"
    return f"schedule deletion of {copy.dataset} at {copy.endpoint}{again(copy)}"


def calendar_entry(
    work: Work, scan: Scan, copy: CopyRecord, *, within: float = SCHEDULE_DEADLINE_SECONDS
) -> Operation[RunRequest]:
    """Of one copy."""
    deployment, named = deletion_at(scan.beamline, work.settings.endpoint(copy.endpoint))
    request = RunRequest(
        deployment=deployment,
        parameters={"relative_path": copy.lies_at.text, "generation": copy.generation, **named},
        scheduled_time=_time(copy),
        flow_run_name=f"prune {copy.endpoint}: {copy.path.name}"[:200],
        tags=(scan.beamline, "prune"),
    )
    return Operation(scan=scan, step=planning(copy), request=request, destination=request.place, deadline=within)


def _entry_of_many(
    work: Work, copies: Sequence[CopyRecord], scans: Mapping[str, Scan], *, within: float
) -> Operation[RunRequest]:
    """Of copies that are due at one endpoint at the same time."""
    endpoint, beamline = copies[0].endpoint, scans[copies[0].scan_id].beamline
    deployment, named = deletion_at(beamline, work.settings.endpoint(endpoint))
    paths: dict[str, Json] = {copy.lies_at.text: copy.generation for copy in copies}
    request = RunRequest(
        deployment=deployment,
        parameters={"relative_path": "", "copies": paths, **named},
        scheduled_time=_time(copies[0]),
        flow_run_name=f"prune {endpoint}: {len(copies)} copies",
        tags=(beamline, "prune"),
    )
    ordered = [scans[each] for each in dict.fromkeys(copy.scan_id for copy in copies)]
    return _operation(ordered, f"schedule deletion of {len(copies)} copies at {endpoint}", request, within=within)


def _again(work: Work, key: str, *, within: float) -> Operation[RunRequest]:
    """An entry for several, as the ledger has it."""
    record = work.ledger.operations.get(key)
    ids = work.ledger.operations.scans_of(key)
    scans = work.ledger.scans.among(ids)
    return _operation([scans[each] for each in ids], record.step, RunRequest.parse(record.request), within=within)


def _operation(scans: Sequence[Scan], step: str, request: RunRequest, *, within: float) -> Operation[RunRequest]:
    first, *others = (replace(scan, fingerprint="") for scan in scans)
    place = request.place
    return Operation(scan=first, others=tuple(others), step=step, request=request, destination=place, deadline=within)


def _groups(work: Work, copies: Iterable[CopyRecord], scans: Mapping[str, Scan]) -> Iterator[tuple[CopyRecord, ...]]:
    """Those that one run deletes. What is under export control goes alone, as everywhere."""
    found: dict[object, list[CopyRecord]] = {}
    for copy in copies:
        scan = scans[copy.scan_id]
        alone = copy.id if scan.export_controlled else None
        found.setdefault((scan.beamline, copy.endpoint, copy.delete_after, alone), []).append(copy)
    for group in found.values():
        yield from _slices(group)


def _slices(copies: Iterable[CopyRecord]) -> Iterator[tuple[CopyRecord, ...]]:
    some: dict[str, CopyRecord] = {}
    size = 0
    for copy in copies:
        path = copy.lies_at.text
        length = len(path.encode())
        if path in some or len(some) == MOST or size + length > MOST_BYTES:
            yield tuple(some.values())
            some, size = {}, 0
        some[path] = copy
        size += length
    if some:
        yield tuple(some.values())


def deletion_at(beamline: str, endpoint: Endpoint) -> tuple[str, Document]:
    """The deployment that deletes at an endpoint: its own, or a general one, with the parameter that names it."""
    deployed = {spec.flow_name for spec in catalogue.of_beamline(beamline).deployments}
    if (own := f"prune_{endpoint.name}") in deployed:
        return deployment_of(beamline, own), {}
    general = FILESYSTEM_FLOW if endpoint.uuid is None and FILESYSTEM_FLOW in deployed else GLOBUS_FLOW
    return deployment_of(beamline, general), {"source_endpoint": endpoint.name}
