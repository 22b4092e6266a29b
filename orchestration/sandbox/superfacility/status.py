"""What the facility says about its machines: their status, outages and notes. Public, like NERSC's."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from orchestration.ledger.service import Document, Json
from orchestration.sandbox import clock, documents
from orchestration.sandbox.store import Store
from orchestration.sandbox.superfacility import answers

_STATUS = "sf-status"
_OUTAGE = "sf-outage"
_PLANNED = "Planned"
_STATUSES = ("active", "unavailable", "degraded", "other")
_OUTAGE_STATUSES = ("Active", "Cancelled", "Completed", "Extended", _PLANNED)
_RESOURCES = {
    "perlmutter": ("Perlmutter", "compute"),
    "dtns": ("Data Transfer Nodes", "filesystem"),
    "dtn01": ("Data Transfer Node 1", "filesystem"),
    "global_homes": ("Global Homes", "filesystem"),
    "global_common": ("Global Common", "filesystem"),
    "community_filesystem": ("Community File System (CFS)", "filesystem"),
    "archive": ("HPSS Archive (User)", "storage"),
    "globus": ("Globus", "service"),
    "spin": ("Spin", "service"),
    "iris": ("IRIS", "service"),
    "network": ("Network", "service"),
}
_PAST: Document = {
    "start_at": "2026-01-21T06:00:00-08:00",
    "end_at": "2026-01-21T22:00:00-08:00",
    "description": "Scheduled Maintenance",
    "notes": "",
    "status": "Completed",
    "swo": "Scheduled",
    "update_at": "2026-01-21T22:05:00-08:00",
}
"""Of the machine: there has always been one."""


class Status:
    def __init__(self, store: Store, *, machine: str) -> None:
        self._store = store
        self._machine = machine
        self._resources = {machine: (machine.capitalize(), "compute")} | _RESOURCES

    def routes(self) -> list[Route]:
        return [
            Route("/meta/changelog", self.changelog),
            Route("/meta/config", self.config),
            Route("/status", self.list_all),
            Route("/status/", self.list_all),
            Route("/status/outages", self.outages),
            Route("/status/outages/planned", self.planned),
            Route("/status/outages/planned/{name}", self.planned),
            Route("/status/outages/{name}", self.outages),
            Route("/status/notes", self.notes),
            Route("/status/notes/{name}", self.notes),
            Route("/status/{name}", self.show),
        ]

    def set(self, name: str, changes: Document) -> Document:
        """Change status, description or notes of a machine or service. Raises: KeyError, ValueError."""
        if changes.get("status", "active") not in _STATUSES:
            raise ValueError(f"no such status: {changes['status']!r}; there are {', '.join(_STATUSES)}")
        known = self._document(name)
        found = known | {key: changes[key] for key in ("status", "description", "notes") if key in changes}
        self._store.put(_STATUS, name, found | {"updated_at": clock.stamp()})
        return self._document(name)

    def add_outage(self, outage: Document) -> Document:
        """Announce one, planned where nothing else is said. Raises: KeyError, ValueError."""
        name = documents.text(outage, "name")
        status = documents.text(outage, "status", _PLANNED)
        if name not in self._resources:
            raise KeyError(name)
        if status not in _OUTAGE_STATUSES:
            raise ValueError(f"no such status of an outage: {status!r}; there are {', '.join(_OUTAGE_STATUSES)}")
        found: Document = {
            "name": name,
            "start_at": outage.get("start_at"),
            "end_at": outage.get("end_at"),
            "description": documents.text(outage, "description", "Scheduled Maintenance"),
            "notes": documents.text(outage, "notes"),
            "status": status,
            "swo": documents.text(outage, "swo", "Scheduled"),
            "update_at": clock.stamp(),
        }
        self._store.put(_OUTAGE, f"{name}/{found['start_at']}/{status}", found)
        return found

    def clear_outages(self) -> int:
        return self._store.clear(_OUTAGE)

    async def list_all(self, request: Request) -> JSONResponse:
        return JSONResponse([self._document(name) for name in self._resources])

    async def show(self, request: Request) -> JSONResponse:
        return JSONResponse(self._document(self._named(request)))

    async def outages(self, request: Request) -> JSONResponse:
        """All of them; those of one resource where it is named."""
        return self._listed(request, self._outages())

    async def planned(self, request: Request) -> JSONResponse:
        return self._listed(request, [row for row in self._outages() if row["status"] == _PLANNED])

    async def notes(self, request: Request) -> JSONResponse:
        rows: list[Document] = []
        for name in self._resources:
            document = self._document(name)
            stamp = document["updated_at"]
            rows += [
                {"name": name, "notes": text, "active": True, "timestamp": stamp}
                for text in documents.strings(document, "notes")
            ]
        return self._listed(request, rows)

    async def changelog(self, request: Request) -> JSONResponse:
        return JSONResponse([{"date": "2026-01-15", "change": "A stand-in on this machine."}])

    async def config(self, request: Request) -> JSONResponse:
        targets = {"compute.targets": self._machine, "utilities.targets": f"{self._machine},dtns,dtn01"}
        return JSONResponse([{"key": key, "value": value} for key, value in targets.items()])

    def _outages(self) -> list[Document]:
        past: Document = {"name": self._machine, **_PAST}
        return [past, *(document for _, document in self._store.every(_OUTAGE))]

    def _listed(self, request: Request, rows: list[Document]) -> JSONResponse:
        """The rows of the resource named; a list for each resource where none is."""
        if "name" in request.path_params:
            name = self._named(request)
            return JSONResponse([row for row in rows if row["name"] == name])
        by_name: dict[Json, list[Document]] = {}
        for row in rows:
            by_name.setdefault(row["name"], []).append(row)
        return JSONResponse(list(by_name.values()))

    def _named(self, request: Request) -> str:
        name = str(request.path_params["name"])
        if name not in self._resources:
            raise answers.not_found()
        return name

    def _document(self, name: str) -> Document:
        full_name, kind = self._resources[name]
        untouched: Document = {
            "name": name,
            "full_name": full_name,
            "description": "System is active",
            "system_type": kind,
            "notes": [],
            "status": "active",
            "updated_at": None,
        }
        return untouched | (self._store.get(_STATUS, name) or {})
