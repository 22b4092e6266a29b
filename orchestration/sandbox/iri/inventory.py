"""The facility, its site, and its resources with what can be allocated of them."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass

from orchestration.ledger.service import Document, Json
from orchestration.sandbox.iri.settings import COMPUTE, STORAGE
from orchestration.sandbox.iri.version import Unit, Version

_NAMESPACE = uuid.UUID("0b8b0f43-6b3c-4a53-9d1e-3f2d8c1e7a55")
BUILT = "2026-01-01T00:00:00Z"
"""Since when the parts of the facility that never change are as they are."""


def identifier(kind: str, name: str) -> str:
    """The same for the same name, everywhere."""
    return str(uuid.uuid5(_NAMESPACE, f"{kind}:{name}"))


@dataclass(frozen=True, kw_only=True)
class Capability:
    """What a project may have a share of."""

    name: str
    description: str
    unit: Unit

    @property
    def id(self) -> str:
        return identifier("capability", self.name)

    def view(self, version: Version, base: str) -> Document:
        return {
            "id": self.id,
            "name": self.name,
            "description": self.description,
            "last_modified": BUILT,
            "units": [version.unit(self.unit)],
            "self_uri": f"{base}/account/capabilities/{self.id}",
        }


CAPABILITIES = (
    Capability(name=f"{COMPUTE} nodes", description="Time on whole nodes", unit=Unit.NODE_HOURS),
    Capability(name=f"{STORAGE} space", description="Space for files", unit=Unit.BYTES),
)


@dataclass(frozen=True, kw_only=True)
class Resource:
    """`kind` is ``compute`` or ``storage``; `endpoints` name the routers that take it."""

    name: str
    kind: str
    description: str
    endpoints: tuple[str, ...]
    capability: Capability
    group: str = "sandbox"

    @property
    def id(self) -> str:
        return identifier("resource", self.name)

    def view(self, version: Version, base: str, *, status: str, changed: str) -> Document:
        return {
            "id": self.id,
            "name": self.name,
            "description": self.description,
            "last_modified": changed,
            "group": self.group,
            "current_status": status,
            "resource_type": version.resource_type(self.kind),
            "supported_endpoints": list[Json](self.endpoints),
            "self_uri": f"{base}/status/resources/{self.id}",
            "site_uri": f"{base}/facility/sites/{SITE_ID}",
            "capability_uris": [f"{base}/account/capabilities/{self.capability.id}"],
        }


RESOURCES = (
    Resource(
        name=COMPUTE,
        kind="compute",
        description="Processes of this machine behind a queue",
        endpoints=("compute", "filesystem"),
        capability=CAPABILITIES[0],
    ),
    Resource(
        name=STORAGE,
        kind="storage",
        description="Directories of this machine",
        endpoints=("filesystem",),
        capability=CAPABILITIES[1],
    ),
)
FACILITY_ID = identifier("facility", "sandbox")
SITE_ID = identifier("site", "sandbox")


def resource(key: str) -> Resource | None:
    """By its identifier; the API knows no names."""
    return next((each for each in RESOURCES if each.id == key), None)


def named(name: str) -> Resource | None:
    return next((each for each in RESOURCES if each.name == name), None)


def serving(endpoint: str) -> Iterator[Resource]:
    return (each for each in RESOURCES if endpoint in each.endpoints)


def facility_view(base: str) -> Document:
    return {
        "id": FACILITY_ID,
        "name": "Sandbox Facility",
        "description": "A facility on this machine",
        "last_modified": BUILT,
        "short_name": "sandbox",
        "organization_name": "Sandbox",
        "support_uri": "https://sandbox.example/support",
        "self_uri": f"{base}/facility",
        "site_uris": [f"{base}/facility/sites/{SITE_ID}"],
    }


def site_view(base: str) -> Document:
    return {
        "id": SITE_ID,
        "name": "This machine",
        "description": "Where the facility runs",
        "last_modified": BUILT,
        "short_name": "sandbox",
        "operating_organization": "Sandbox",
        "country_name": "United States",
        "locality_name": "Berkeley",
        "state_or_province_name": "California",
        "latitude": 37.8762,
        "longitude": -122.2506,
        "self_uri": f"{base}/facility/sites/{SITE_ID}",
        "resource_uris": [f"{base}/status/resources/{each.id}" for each in RESOURCES],
    }
