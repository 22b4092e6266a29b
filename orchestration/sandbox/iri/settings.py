"""What the stand-in for an IRI facility consists of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from orchestration.ledger.service import Document
from orchestration.sandbox import documents

TOKEN = "sandbox-iri"  # noqa: S105 -- opens nothing but the facility on this machine
COMPUTE = "cluster"
"""The compute resource; it serves files too."""
STORAGE = "scratch"


@dataclass(frozen=True, kw_only=True)
class IriSettings:
    """Times are in seconds.

    `token` is accepted beside those of the Globus stand-in. `roots` are the directories that the file operations may
    touch; none named: the facility's own directory and those of its collections. `slots` jobs run at once, with
    `environment` added to theirs.
    """

    token: str = TOKEN
    user: str = "alsdev"
    accounts: tuple[str, ...] = ("als",)
    node_hours: float = 10_000.0
    roots: tuple[Path, ...] = ()
    slots: int = 4
    grace: float = 2.0
    idempotency_seconds: float = 86_400.0
    path: str = "/usr/local/bin:/usr/bin:/bin"
    environment: Mapping[str, str] = field(default_factory=dict)


def parse(row: Document, *, state: Path) -> IriSettings:
    """From a facility's settings file; relative roots are below `state`."""
    plain = IriSettings()
    return IriSettings(
        token=documents.text(row, "token", plain.token),
        user=documents.text(row, "user", plain.user),
        accounts=tuple(documents.strings(row, "accounts")) or plain.accounts,
        node_hours=documents.number(row, "node_hours", plain.node_hours),
        roots=tuple(state / root for root in documents.strings(row, "roots")),
        slots=documents.whole(row, "slots", plain.slots),
        grace=documents.number(row, "grace", plain.grace),
        idempotency_seconds=documents.number(row, "idempotency_seconds", plain.idempotency_seconds),
        path=documents.text(row, "path", plain.path),
        environment={name: str(value) for name, value in documents.object_at(row, "environment").items()},
    )
