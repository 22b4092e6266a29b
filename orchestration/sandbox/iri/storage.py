"""The storage router of the second version: where files are, and how else they are reached."""

from __future__ import annotations

import enum
from pathlib import Path

from starlette.responses import JSONResponse

from orchestration.ledger.service import Document
from orchestration.sandbox.iri.calls import Call, Operation, Query, Text
from orchestration.sandbox.iri.inventory import Resource
from orchestration.sandbox.iri.problems import Problem
from orchestration.sandbox.iri.settings import IriSettings
from orchestration.sandbox.iri.status import Status
from orchestration.sandbox.settings import CollectionSettings


class LogicalName(enum.StrEnum):
    HOME = "home"
    SCRATCH = "scratch"
    PROJECT = "project"
    CAMPAIGN = "campaign"
    ARCHIVE = "archive"
    SHARED = "shared"
    TEMPORARY = "temporary"


class Intent(enum.StrEnum):
    READ = "read"
    WRITE = "write"
    STAGING = "staging"
    LONG_TERM = "long-term-storage"


class Protocol(enum.StrEnum):
    GLOBUS = "globus"
    XROOTD = "xrootd"
    S3 = "s3"


class LocationQuery(Query):
    logicalpath: LogicalName | None = None
    project: Text | None = None
    allocation: Text | None = None
    intent: Intent | None = None


class EndpointQuery(Query):
    protocol: Protocol | None = None
    endpoint_id: Text | None = None


class Storage:
    """Every root is scratch, and every Globus collection of the sandbox a way to it."""

    def __init__(
        self,
        status: Status,
        settings: IriSettings,
        *,
        roots: tuple[Path, ...],
        collections: tuple[CollectionSettings, ...],
    ) -> None:
        self._status = status
        self._settings = settings
        self._roots = roots
        self._collections = collections

    def operations(self) -> list[Operation]:
        locations, endpoints = "/storage/locations/{resource_id}", "/storage/access-endpoints/{resource_id}"
        return [
            Operation(name="getStorageLocations", method="GET", path=locations, handler=self.locations),
            Operation(name="getStorageAccessEndpoints", method="GET", path=endpoints, handler=self.endpoints),
        ]

    def locations(self, call: Call) -> JSONResponse:
        asked = call.query(LocationQuery)
        self._status.working(call, "filesystem")
        project = asked.project or asked.allocation
        if project and project not in self._settings.accounts:
            raise Problem(403, f"User is not a member of project {project!r}")
        wanted = asked.intent is not Intent.LONG_TERM and asked.logicalpath in (None, LogicalName.SCRATCH)
        return JSONResponse([_location(root) for root in self._roots] if wanted else [])

    def endpoints(self, call: Call) -> JSONResponse:
        asked = call.query(EndpointQuery)
        resource = self._status.working(call, "filesystem")
        rows = [_endpoint(each, resource) for each in self._collections]
        globus = asked.protocol in (None, Protocol.GLOBUS)
        return JSONResponse([row for row in rows if globus and asked.endpoint_id in (None, row["id"])])


def _location(root: Path) -> Document:
    return {
        "logical_name": LogicalName.SCRATCH.value,
        "path": str(root),
        "filesystem": "scratch",
        "performance_tier": "high",
        "purge_policy_days": None,
        "shared": True,
        "access": {"read": True, "write": True, "execute": True},
    }


def _endpoint(collection: CollectionSettings, resource: Resource) -> Document:
    return {
        "id": collection.identity,
        "resource_id": resource.id,
        "protocol": Protocol.GLOBUS.value,
        "display_name": collection.name,
        "auth_type": "globus",
        "capabilities": ["list", "read", "write", "transfer"],
        "endpoint_id": collection.identity,
        "uri": f"globus://{collection.identity}/",
        "root_path": "/",
    }
