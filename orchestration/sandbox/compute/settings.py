"""What the stand-in for Globus Compute consists of."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from pathlib import Path

from orchestration.errors import ConfigError
from orchestration.ledger.service import Document
from orchestration.sandbox import documents

_NAMESPACE = uuid.UUID("c3b6a3f4-3a36-4a58-9a53-2e1e1e6e7b3c")

COMPUTE_ENDPOINT = "alcf"
"""Runs jobs, in a facility that was given no other endpoints."""

LOGIN_ENDPOINT = "alcf-login"
"""Does light work, likewise."""


def endpoint_id(name: str) -> str:
    """The id of an inline endpoint that was given none: the same for the same name, everywhere."""
    return str(uuid.uuid5(_NAMESPACE, name))


@dataclass(frozen=True, kw_only=True)
class InlineEndpoint:
    """An endpoint without an endpoint program: at most `workers` tasks at a time, in processes of the facility."""

    name: str
    id: str = ""
    workers: int = 2

    @property
    def identity(self) -> str:
        return self.id or endpoint_id(self.name)


def _default_endpoints() -> tuple[InlineEndpoint, ...]:
    return InlineEndpoint(name=COMPUTE_ENDPOINT), InlineEndpoint(name=LOGIN_ENDPOINT)


@dataclass(frozen=True, kw_only=True)
class ComputeSettings:
    """`result_lifetime` is how many seconds after its end the result of a task is forgotten.

    A task that an endpoint program took `delivery_limit` times without a sign that it has it fails. `endpoints` are
    the inline ones; endpoint programs register themselves.
    """

    endpoints: tuple[InlineEndpoint, ...] = _default_endpoints()
    result_lifetime: float = 1800.0
    delivery_limit: int = 3


def parse(found: Document, *, where: Path) -> ComputeSettings:
    """From ``{endpoints: [{name, id?, workers?}], result_lifetime?, delivery_limit?}``.

    Raises:
        ConfigError: if an endpoint has no name or no workers.
    """
    rows = documents.objects(found, "endpoints")
    endpoints = tuple(_endpoint(row, where) for row in rows) if "endpoints" in found else _default_endpoints()
    return ComputeSettings(
        endpoints=endpoints,
        result_lifetime=documents.number(found, "result_lifetime", 1800.0),
        delivery_limit=documents.whole(found, "delivery_limit", 3),
    )


def _endpoint(row: Document, where: Path) -> InlineEndpoint:
    one = InlineEndpoint(
        name=documents.text(row, "name"), id=documents.text(row, "id"), workers=documents.whole(row, "workers", 2)
    )
    if not one.name or one.workers < 1:
        raise ConfigError("every compute endpoint needs a name and at least one worker", where=str(where))
    return one
