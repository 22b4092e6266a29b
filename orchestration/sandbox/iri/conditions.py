"""How the resources are: their states, the incidents, and the events that changed a state."""

from __future__ import annotations

import enum
import threading
import uuid
from datetime import datetime

from orchestration.ledger.service import Document, Json
from orchestration.sandbox import clock, documents
from orchestration.sandbox.iri.inventory import BUILT, RESOURCES, Resource
from orchestration.sandbox.store import Store

_STATE = "iri-state"
_EVENT = "iri-event"
_INCIDENT = "iri-incident"


class State(enum.StrEnum):
    UP = "up"
    DOWN = "down"
    DEGRADED = "degraded"
    UNKNOWN = "unknown"


class IncidentType(enum.StrEnum):
    PLANNED = "planned"
    UNPLANNED = "unplanned"
    RESERVATION = "reservation"


class Resolution(enum.StrEnum):
    UNRESOLVED = "unresolved"
    CANCELLED = "cancelled"
    COMPLETED = "completed"
    EXTENDED = "extended"
    PENDING = "pending"


def moment(time: datetime | None = None) -> str:
    return (time or clock.now()).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Conditions:
    """Kept across restarts. Incidents come from whoever steers the sandbox; maintenance takes its resources down."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()

    def state(self, resource: Resource) -> State:
        if any(resource.id in documents.strings(each, "resources") for _, each in self._maintenance()):
            return State.DOWN
        known = self._store.get(_STATE, resource.id)
        return State(documents.text(known, "state")) if known else State.UP

    def changed(self, resource: Resource) -> str:
        known = self._store.get(_STATE, resource.id)
        return documents.text(known, "changed") if known else BUILT

    def switch(self, resource: Resource, state: State, *, incident: str = "") -> Document:
        """The event of it. Without an incident named, trouble opens one of its own and its end closes that."""
        with self._lock:
            if not incident:
                incident = self._unplanned(resource, state)
            now = moment()
            event: Document = {
                "id": str(uuid.uuid4()),
                "name": f"{resource.name} is {state.value}",
                "description": f"{resource.description}: {state.value}",
                "last_modified": now,
                "occurred_at": now,
                "status": state.value,
                "resource": resource.id,
                "incident": incident or None,
            }
            self._store.put(_EVENT, documents.text(event, "id"), event)
            self._store.put(_STATE, resource.id, {"state": state.value, "changed": now})
            return event

    def _unplanned(self, resource: Resource, state: State) -> str:
        for key, incident in self._store.every(_INCIDENT):
            ongoing = incident.get("automatic") and resource.id in documents.strings(incident, "resources")
            if not ongoing or incident.get("end"):
                continue
            over: Document = {"end": moment(), "resolution": Resolution.COMPLETED.value, "last_modified": moment()}
            self._store.put(_INCIDENT, key, incident | (over if state is State.UP else {"status": state.value}))
            return key
        if state not in (State.DOWN, State.DEGRADED):
            return ""
        return self.announce(
            f"{resource.name} is {state.value}", [resource], kind=IncidentType.UNPLANNED, status=state, automatic=True
        )

    def announce(
        self,
        name: str,
        resources: list[Resource],
        *,
        kind: IncidentType = IncidentType.PLANNED,
        status: State = State.DOWN,
        start: str = "",
        end: str = "",
        resolution: Resolution = Resolution.UNRESOLVED,
        automatic: bool = False,
    ) -> str:
        """The identifier of the incident. Times are ISO 8601; no start: it began now; no end: it goes on."""
        id_ = str(uuid.uuid4())
        incident: Document = {
            "id": id_,
            "name": name,
            "description": name,
            "last_modified": moment(),
            "status": status.value,
            "start": start or moment(),
            "end": end or None,
            "type": kind.value,
            "resolution": resolution.value,
            "resources": list[Json](each.id for each in resources),
            "automatic": automatic,
        }
        self._store.put(_INCIDENT, id_, incident)
        return id_

    def _maintenance(self) -> list[tuple[str, Document]]:
        """What was planned as a time without service, and is going on."""
        return [(key, each) for key, each in self._store.every(_INCIDENT) if _maintains(each)]

    def end_maintenance(self) -> None:
        for key, incident in self._maintenance():
            over: Document = {"end": moment(), "resolution": Resolution.COMPLETED.value, "last_modified": moment()}
            self._store.put(_INCIDENT, key, incident | over)

    def incidents(self) -> list[Document]:
        """Oldest first, as stored."""
        return [incident for _, incident in self._store.every(_INCIDENT)]

    def events(self) -> list[Document]:
        return [event for _, event in self._store.every(_EVENT)]

    def all_up(self) -> None:
        """Resources up, and nothing announced any more."""
        for resource in RESOURCES:
            self._store.remove(_STATE, resource.id)
        self._store.clear(_INCIDENT)
        self._store.clear(_EVENT)

    def incident_view(self, incident: Document, base: str) -> Document:
        id_ = documents.text(incident, "id")
        events = [event for event in self.events() if event.get("incident") == id_]
        shown: Document = {key: incident[key] for key in incident if key not in {"resources", "automatic"}}
        return shown | {
            "self_uri": f"{base}/status/incidents/{id_}",
            "event_uris": [event_uri(event, base) for event in events],
            "resource_uris": [f"{base}/status/resources/{each}" for each in documents.strings(incident, "resources")],
        }


def _maintains(incident: Document) -> bool:
    over = incident["resolution"] in (Resolution.CANCELLED, Resolution.COMPLETED)
    if over or (incident["type"], incident["status"]) != (IncidentType.PLANNED, State.DOWN):
        return False
    end = documents.text(incident, "end") if incident.get("end") else ""
    return clock.parse(documents.text(incident, "start")) <= clock.now() and (not end or clock.now() < clock.parse(end))


def event_uri(event: Document, base: str) -> str:
    return f"{base}/status/events/{documents.text(event, 'id')}"


def event_view(event: Document, base: str) -> Document:
    incident = documents.text(event, "incident")
    return {key: event[key] for key in event if key not in {"resource", "incident"}} | {
        "self_uri": event_uri(event, base),
        "resource_uri": f"{base}/status/resources/{documents.text(event, 'resource')}",
        "incident_uri": f"{base}/status/incidents/{incident}" if incident else None,
    }
