"""The public half of the API: the facility, its resources, incidents and events."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Annotated

from pydantic import Field
from starlette.responses import JSONResponse

from orchestration.ledger.service import Document, Json
from orchestration.sandbox import clock, documents
from orchestration.sandbox.iri import inventory
from orchestration.sandbox.iri.calls import Call, Moment, Operation, Page, Query, Text
from orchestration.sandbox.iri.conditions import Conditions, IncidentType, Resolution, State, event_view
from orchestration.sandbox.iri.inventory import RESOURCES, Resource
from orchestration.sandbox.iri.problems import NotModified, Problem, not_found
from orchestration.sandbox.iri.version import Version


class Since(Query):
    modified_since: Moment | None = None


class SiteQuery(Page, Since):
    name: Text | None = None
    short_name: Text | None = None


class ResourceQuery(Page, Since):
    name: Text | None = None
    description: Text | None = None
    group: Text | None = None
    resource_type: Text | None = None
    current_status: State | None = None
    capability: tuple[str, ...] = ()


class Spanning(Page, Since):
    name: Text | None = None
    description: Text | None = None
    status: State | None = None
    from_: Annotated[Moment | None, Field(alias="from")] = None
    time: Moment | None = None
    to: Moment | None = None
    resource_id: Text | None = None


class IncidentQuery(Spanning):
    type: IncidentType | None = None
    resolution: Resolution | None = None


class EventQuery(Spanning):
    incident_id: Text | None = None


class Nothing(Query):
    pass


class Status:
    def __init__(self, conditions: Conditions) -> None:
        self._conditions = conditions

    def operations(self) -> list[Operation]:
        return [
            Operation(name="getFacility", method="GET", path="/facility", handler=self.facility, public=True),
            Operation(name="getSites", method="GET", path="/facility/sites", handler=self.sites, public=True),
            Operation(name="getSite", method="GET", path="/facility/sites/{site_id}", handler=self.site, public=True),
            Operation(name="getResources", method="GET", path="/status/resources", handler=self.resources, public=True),
            Operation(
                name="getResource",
                method="GET",
                path="/status/resources/{resource_id}",
                handler=self.resource,
                public=True,
            ),
            Operation(name="getIncidents", method="GET", path="/status/incidents", handler=self.incidents, public=True),
            Operation(
                name="getIncident",
                method="GET",
                path="/status/incidents/{incident_id}",
                handler=self.incident,
                public=True,
            ),
            Operation(
                name="getEventsByIncident", method="GET", path="/status/events", handler=self.events, public=True
            ),
            Operation(
                name="getEventByIncident",
                method="GET",
                path="/status/events/{event_id}",
                handler=self.event,
                public=True,
            ),
        ]

    def facility(self, call: Call) -> JSONResponse:
        return JSONResponse(fresh(inventory.facility_view(call.base), call.query(Since).modified_since))

    def sites(self, call: Call) -> JSONResponse:
        asked = call.query(SiteQuery)
        rows = [inventory.site_view(call.base)]
        found = [row for row in rows if _told(row, asked.name, None) and _equal(row, "short_name", asked.short_name)]
        return JSONResponse(part(newer(found, asked.modified_since), asked))

    def site(self, call: Call) -> JSONResponse:
        since = call.query(Since).modified_since
        if call.path("site_id") != inventory.SITE_ID:
            raise not_found("Site")
        return JSONResponse(fresh(inventory.site_view(call.base), since))

    def resources(self, call: Call) -> JSONResponse:
        asked = call.query(ResourceQuery, lists=frozenset({"capability"}))
        rows = [
            self.view(each, call.version, call.base)
            for each in RESOURCES
            if not asked.capability or call.version.unit(each.capability.unit) in asked.capability
        ]
        found = [
            row
            for row in newer(rows, asked.modified_since)
            if _told(row, asked.name, asked.description)
            and _equal(row, "group", asked.group)
            and _equal(row, "resource_type", asked.resource_type)
            and _equal(row, "current_status", asked.current_status)
        ]
        return JSONResponse(part(found, asked))

    def resource(self, call: Call) -> JSONResponse:
        call.query(Nothing)
        return JSONResponse(self.view(known(call), call.version, call.base))

    def view(self, resource: Resource, version: Version, base: str) -> Document:
        state, changed = self._conditions.state(resource), self._conditions.changed(resource)
        return resource.view(version, base, status=state.value, changed=changed)

    def incidents(self, call: Call) -> JSONResponse:
        asked = call.query(IncidentQuery)
        rows = [
            row
            for row in newer(self._conditions.incidents(), asked.modified_since)
            if _told(row, asked.name, asked.description)
            and _equal(row, "status", asked.status)
            and _equal(row, "type", asked.type)
            and _equal(row, "resolution", asked.resolution)
            and (asked.resource_id is None or asked.resource_id in documents.strings(row, "resources"))
            and _between(row, "start", "end", asked)
        ]
        return JSONResponse([self._conditions.incident_view(row, call.base) for row in part(rows, asked)])

    def incident(self, call: Call) -> JSONResponse:
        call.query(Nothing)
        found = _by_id(self._conditions.incidents(), call.path("incident_id"), "Incident")
        return JSONResponse(self._conditions.incident_view(found, call.base))

    def events(self, call: Call) -> JSONResponse:
        asked = call.query(EventQuery)
        rows = [
            row
            for row in newer(self._conditions.events(), asked.modified_since)
            if _told(row, asked.name, asked.description)
            and _equal(row, "status", asked.status)
            and _equal(row, "resource", asked.resource_id)
            and _equal(row, "incident", asked.incident_id)
            and _between(row, "occurred_at", "occurred_at", asked)
        ]
        return JSONResponse([event_view(row, call.base) for row in part(rows, asked)])

    def event(self, call: Call) -> JSONResponse:
        call.query(Nothing)
        return JSONResponse(event_view(_by_id(self._conditions.events(), call.path("event_id"), "Event"), call.base))

    def working(self, call: Call, endpoint: str) -> Resource:
        """The resource that an operation names. Raises: Problem 404, 400 (wrong kind) or 503 (it is down)."""
        resource = known(call)
        if endpoint not in resource.endpoints:
            raise Problem(400, f"{resource.name} does not serve {endpoint}")
        if self._conditions.state(resource) is State.DOWN:
            raise Problem(503, f"{resource.name} is down", headers={"Retry-After": "1"})
        return resource


def known(call: Call) -> Resource:
    """Raises: Problem 404."""
    found = inventory.resource(call.path("resource_id"))
    if found is None:
        raise not_found("Resource")
    return found


def newer(rows: Iterable[Document], since: datetime | None) -> list[Document]:
    return [row for row in rows if since is None or clock.parse(documents.text(row, "last_modified")) > since]


def fresh(row: Document, since: datetime | None) -> Document:
    """Raises: NotModified."""
    if not newer([row], since):
        raise NotModified
    return row


def part(rows: list[Document], page: Page) -> list[Document]:
    return rows[page.offset : page.offset + page.limit]


def _by_id(rows: list[Document], key: str, what: str) -> Document:
    found = next((row for row in rows if row["id"] == key), None)
    if found is None:
        raise not_found(what)
    return found


def _told(row: Document, name: str | None, description: str | None) -> bool:
    """Whether the texts contain what was asked for, whatever their case."""
    pairs = (("name", name), ("description", description))
    return all(word is None or word.lower() in documents.text(row, key).lower() for key, word in pairs)


def _equal(row: Document, key: str, wanted: Json | State | IncidentType | Resolution) -> bool:
    return wanted is None or row.get(key) == wanted


def _between(row: Document, start: str, end: str, asked: Spanning) -> bool:
    """Whether all of it lies between `from` and `to`, and it was going on at `time`."""
    begins = clock.parse(documents.text(row, start))
    ends = clock.parse(documents.text(row, end)) if row.get(end) else None
    return (
        (asked.from_ is None or begins >= asked.from_)
        and (asked.to is None or (ends is not None and ends <= asked.to))
        and (asked.time is None or (begins <= asked.time and (ends is None or ends >= asked.time)))
    )
