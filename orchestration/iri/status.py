"""How a facility is, by its own word: its resource, what is announced, and what its project may still use."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import quote

from orchestration.conditions import Outage, SiteCondition, SiteState
from orchestration.errors import ServiceUnavailable
from orchestration.iri.client import IriClient, Params, objects
from orchestration.iri.errors import Refused
from orchestration.ledger.service import Document, Json

_OVER = frozenset({"completed", "cancelled"})
_PAGE = 1000
_MOST_PAGES = 5
_WORSE = (SiteState.UP, SiteState.DEGRADED, SiteState.UNKNOWN, SiteState.DOWN)
"""Each is worse than those before it."""


@dataclass(frozen=True, kw_only=True)
class Allocation:
    """A project's share of something; `unit` is the facility's word, such as ``node_hours`` or a URN of that."""

    id: str
    unit: str
    granted: float
    used: float
    capability: str = ""
    """Address of what it is a share of."""

    @property
    def left(self) -> float:
        return self.granted - self.used

    @property
    def node_hours(self) -> bool:
        return "node" in self.unit and "hours" in self.unit


@dataclass(frozen=True, kw_only=True)
class Project:
    id: str
    name: str
    allocations: tuple[Allocation, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _Told:
    """What the facility says of one resource."""

    resource: Document
    incidents: tuple[Document, ...]

    @property
    def name(self) -> str:
        return str(self.resource.get("name") or self.resource.get("id"))

    @property
    def state(self) -> SiteState:
        said = self.resource.get("current_status")
        return SiteState(said) if isinstance(said, str) and said in set(SiteState) else SiteState.UNKNOWN

    def outages(self, now: float) -> Iterator[Outage]:
        """Those that are not over, whether announced or going on: a resource that is only slow takes work."""
        for incident in self.incidents:
            outage = _span(incident)
            if incident.get("status") == "down" and outage is not None and (outage.end is None or outage.end > now):
                yield outage

    def note(self, now: float) -> str:
        """What is the matter with it now; empty if nothing is."""
        spans = ((incident, _span(incident)) for incident in self.incidents)
        matters = [
            f"{span.what} ({incident['status']})" if incident.get("status") == "degraded" else span.what
            for incident, span in spans
            if span is not None and span.overlaps(now, now + 1)
        ]
        if not matters and self.state is not SiteState.UP:
            matters = [f"the facility says that it is {self.state.value}"]
        return ", ".join(matters)


@dataclass(frozen=True, kw_only=True)
class IriStatus:
    """Asks anew each time. What is public needs no token; projects do."""

    client: IriClient
    clock: Callable[[], float] = time.time

    def condition(self) -> SiteCondition:
        """Of the resource with the nodes and of the one with the files: jobs need both.

        Raises:
            ConfigError: if there is no access token, or none that the facility accepts, or a resource is not there:
                no job can be given to it.
        """
        site, now = self.client.site, self.clock()
        try:
            self.client.bearer.token()
            told = [self._told(name) for name in dict.fromkeys((site.resource, site.storage or site.resource))]
        except ServiceUnavailable as error:
            return SiteCondition(state=SiteState.UNKNOWN, note=error.what, answered=False)
        except Refused as refused:
            return SiteCondition(state=SiteState.UNKNOWN, note=refused.said)
        hours, trouble = self._hours(told[0])
        nodes, *files = told
        notes = [nodes.note(now), *(f"{each.name}: {note}" for each in files if (note := each.note(now))), trouble]
        return SiteCondition(
            state=max((each.state for each in told), key=_WORSE.index),
            note="; ".join(filter(None, notes)),
            outages=tuple(dict.fromkeys(outage for each in told for outage in each.outages(now))),
            hours_left=hours,
        )

    def _told(self, name: str) -> _Told:
        """As it is now, and not as it was when the client looked it up by its name."""
        id_ = self.client.resource(name)
        resource = _object(self.client.get(f"status/resources/{quote(id_, safe='')}", public=True))
        return _Told(resource=resource, incidents=tuple(self._incidents(id_)))

    def projects(self) -> tuple[Project, ...]:
        """All that the owner of the token belongs to, with their allocations.

        Raises:
            ServiceUnavailable, ConfigError (not let in), JobFailed (the facility has no such thing)
        """
        try:
            rows = objects(self.client.get("account/projects"), self.client.where)
            return tuple(self._project(row) for row in rows)
        except Refused as refused:
            raise refused.translated("the facility does not show projects") from refused

    def _project(self, row: Document) -> Project:
        id_ = str(row.get("id") or "")
        return Project(id=id_, name=str(row.get("name") or ""), allocations=tuple(self._allocations(id_)))

    def _allocations(self, project: str) -> Iterator[Allocation]:
        path = f"account/projects/{quote(project, safe='')}/project_allocations"
        for row in objects(self.client.get(path), self.client.where):
            for unit, granted, used in _entries(row):
                yield Allocation(
                    id=str(row.get("id") or ""),
                    unit=unit,
                    granted=granted,
                    used=used,
                    capability=str(row.get("capability_uri") or ""),
                )

    def _hours(self, nodes: _Told) -> tuple[float | None, str]:
        """Node hours that are left, and why that is not known."""
        wanted = self.client.site.project or self.client.site.account
        if not wanted:
            return None, ""
        try:
            left = self._hours_of(wanted, nodes)
        except ServiceUnavailable as error:
            return None, f"{_NOT_KNOWN}: {error.what}"
        except Refused as refused:
            return None, f"{_NOT_KNOWN}: {refused.said}"
        if left is None:
            return None, f"{_NOT_KNOWN}: the facility shows no node hours of project {wanted} on {nodes.name}"
        return left, ""

    def _hours_of(self, wanted: str, nodes: _Told) -> float | None:
        """What the project may still use, or less, where the owner of the token may not use all of that."""
        rows = objects(self.client.get("account/projects"), self.client.where)
        ids = [str(row.get("id") or "") for row in rows if wanted in (row.get("id"), row.get("name"))]
        here = nodes.resource.get("capability_uris")
        left = [
            min(each.left, self._own(id_, each))
            for id_ in ids
            for each in self._allocations(id_)
            if each.node_hours and _same(each.capability, here)
        ]
        return sum(left) if left else None

    def _own(self, project: str, share: Allocation) -> float:
        """What the owner of the token may still use of it; no limit where the facility does not tell one."""
        parts = (quote(each, safe="") for each in (project, share.id))
        path = "account/projects/{}/project_allocations/{}/user_allocations".format(*parts)
        try:
            rows = objects(self.client.get(path), self.client.where)
        except Refused:
            return math.inf
        found = [granted - used for row in rows for unit, granted, used in _entries(row) if unit == share.unit]
        return sum(found) if found else math.inf

    def _incidents(self, resource: str) -> Iterator[Document]:
        for page in range(_MOST_PAGES):
            params: Params = {"resource_id": resource, "limit": _PAGE, "offset": page * _PAGE}
            rows = objects(self.client.get("status/incidents", params, public=True), self.client.where)
            yield from rows
            if len(rows) < _PAGE:
                return


_NOT_KNOWN = "what is left of the allocation is not known"


def _span(incident: Document) -> Outage | None:
    """None for what is resolved, is no loss of service, or has no beginning."""
    began = _epoch(incident.get("start"))
    harmless = incident.get("status") == "up" or incident.get("type") == "reservation"
    if began is None or harmless or str(incident.get("resolution")) in _OVER:
        return None
    return Outage(start=began, end=_epoch(incident.get("end")), what=str(incident.get("name") or "an incident"))


def _entries(row: Document) -> Iterator[tuple[str, float, float]]:
    """Unit, what was granted, and what was used of it."""
    for entry in _objects(row.get("entries")):
        granted, used = entry.get("allocation"), entry.get("usage")
        if isinstance(granted, int | float) and isinstance(used, int | float):
            yield str(entry.get("unit") or ""), float(granted), float(used)


def _same(capability: str, uris: Json) -> bool:
    """By the last part of the addresses: their hosts differ where a facility stands behind a gateway."""
    known = {str(uri).rstrip("/").rpartition("/")[2] for uri in uris} if isinstance(uris, list) else set()
    return capability.rstrip("/").rpartition("/")[2] in known


def _epoch(found: Json) -> float | None:
    try:
        at = datetime.fromisoformat(str(found))
    except ValueError:
        return None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


def _object(found: Json) -> Document:
    return found if isinstance(found, dict) else {}


def _objects(found: Json) -> list[Document]:
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []
