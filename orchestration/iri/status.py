"""How a facility is, by its own word: its resource, what is announced, and what its project may still use."""

from __future__ import annotations

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


@dataclass(frozen=True, kw_only=True)
class Allocation:
    """A project's share of something; `unit` is the facility's word, such as ``node_hours`` or a URN of that."""

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
class IriStatus:
    """Asks anew each time. What is public needs no token; projects do."""

    client: IriClient
    clock: Callable[[], float] = time.time

    def condition(self) -> SiteCondition:
        """UNKNOWN for a facility that does not answer.

        Raises:
            ConfigError: if there is no access token, or none that the facility accepts: no job can be given to it.
        """
        site = self.client.site
        try:
            self.client.bearer.token()
            # As it is now, and not as it was when the client looked it up by its name.
            path = f"status/resources/{quote(self.client.resource(site.resource), safe='')}"
            resource = _object(self.client.get(path, public=True))
            outages = tuple(self._outages(str(resource.get("id"))))
        except ServiceUnavailable as error:
            return SiteCondition(state=SiteState.UNKNOWN, note=error.what)
        except Refused as refused:
            return SiteCondition(state=SiteState.UNKNOWN, note=refused.said)
        hours, trouble = self._hours(resource)
        state = _state(resource.get("current_status"))
        ongoing = next((each.what for each in outages if each.overlaps(self.clock(), self.clock() + 1)), "")
        note = "" if state is SiteState.UP else ongoing or f"the facility says that it is {state.value}"
        return SiteCondition(
            state=state, note="; ".join(filter(None, (note, trouble))), outages=outages, hours_left=hours
        )

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
            for entry in _objects(row.get("entries")):
                granted, used = entry.get("allocation"), entry.get("usage")
                if isinstance(granted, int | float) and isinstance(used, int | float):
                    yield Allocation(
                        unit=str(entry.get("unit") or ""),
                        granted=float(granted),
                        used=float(used),
                        capability=str(row.get("capability_uri") or ""),
                    )

    def _hours(self, resource: Document) -> tuple[float | None, str]:
        """Node hours that are left, and why that is not known."""
        wanted = self.client.site.project or self.client.site.account
        if not wanted:
            return None, ""
        try:
            rows = objects(self.client.get("account/projects"), self.client.where)
            mine = [row for row in rows if wanted in (row.get("id"), row.get("name"))]
            shares = [each for row in mine for each in self._allocations(str(row.get("id") or ""))]
        except ServiceUnavailable as error:
            return None, f"what is left of the allocation is not known: {error.what}"
        except Refused as refused:
            return None, f"what is left of the allocation is not known: {refused.said}"
        hours = [each for each in shares if each.node_hours]
        here = [each for each in hours if _same(each.capability, resource.get("capability_uris"))]
        counted = here or hours
        return (sum(each.left for each in counted), "") if counted else (None, "")

    def _outages(self, resource: str) -> Iterator[Outage]:
        """Those that are not over, whether announced or going on."""
        for incident in self._incidents(resource):
            outage = _outage(incident)
            if outage is not None and (outage.end is None or outage.end > self.clock()):
                yield outage

    def _incidents(self, resource: str) -> Iterator[Document]:
        for page in range(_MOST_PAGES):
            params: Params = {"resource_id": resource, "limit": _PAGE, "offset": page * _PAGE}
            rows = objects(self.client.get("status/incidents", params, public=True), self.client.where)
            yield from rows
            if len(rows) < _PAGE:
                return


def _outage(incident: Document) -> Outage | None:
    """None for what is resolved, is no loss of service, or has no beginning."""
    began = _epoch(incident.get("start"))
    if began is None or str(incident.get("resolution")) in _OVER or incident.get("status") == "up":
        return None
    if incident.get("type") == "reservation":
        return None
    return Outage(start=began, end=_epoch(incident.get("end")), what=str(incident.get("name") or "an incident"))


def _state(found: Json) -> SiteState:
    return SiteState(found) if isinstance(found, str) and found in set(SiteState) else SiteState.UNKNOWN


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
