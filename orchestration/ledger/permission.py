"""The policy is asked about an operation, on its scan as the ledger has it at that moment; what it answered is kept.

What it permits stands in the history of the operation, with the token under which it is submitted. What it refuses has
no history, mostly not even a row: that is in the audit, to which lines are added and never changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from sqlalchemy import Connection, RowMapping, select

from orchestration.errors import PolicyRefused, UnknownName
from orchestration.ledger import audit
from orchestration.ledger.operation import Operation, error_document
from orchestration.ledger.service import Document, Json, Request
from orchestration.ledger.tables import scans
from orchestration.policy import (
    EMBARGO_UNTIL,
    BeamlineRules,
    Decision,
    Permitted,
    Place,
    Subject,
    embargo,
    permit,
    proposal,
)

PERMITTED = "permitted"
"""The event that tells which decision stands behind a submission."""

R = TypeVar("R", bound=Request)

Rules: TypeAlias = Mapping[str, BeamlineRules]
"""What each beamline demands, by its id."""


def ask(
    connection: Connection, operation: Operation[R], rules: Rules, *, site: Place | None, at: float
) -> Permitted[R]:
    """`site` is where its service works.

    Raises:
        PolicyRefused: if it may not be done.
        UnknownName: if there is no such scan.
    """
    return permit(
        operation.request,
        subject=_subject(connection, operation, rules),
        at=at,
        site=site,
        destination=operation.destination,
    )


def document(decision: Decision) -> Document:
    """For the history, which knows the scan and the time."""
    return {"effect": decision.effect.value, "places": _places(*decision.places), "rules": [*decision.rules]}


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Of which service, by which run, something was asked that was not permitted."""

    operation: Operation[Request]
    service: str
    run_id: str | None
    site: Place | None

    @property
    def evidence(self) -> Document:
        request = self.operation.request
        stated = [place for place in (getattr(request, "place", None), self.site) if isinstance(place, Place)]
        return {
            "operation": self.operation.key,
            "service": self.service,
            "effect": str(getattr(request, "effect", "")),
            "places": _places(*dict.fromkeys([*stated, self.operation.destination])),
        }


def deny(connection: Connection, asked: Asked, refusal: PolicyRefused, *, at: float) -> None:
    """Write down that it was not permitted, and why."""
    evidence = asked.evidence | {"error": error_document(refusal)}
    audit.deny(connection, asked.operation, at=at, run_id=asked.run_id, reason=refusal.what, evidence=evidence)


def _places(*places: Place) -> list[Json]:
    return [{"name": place.name, "zone": place.zone.value} for place in places]


def _subject(connection: Connection, operation: Operation[Request], rules: Rules) -> Subject:
    """What is said of a scan is said of all that has it within: a folder is as restricted as each file of it."""
    scan = operation.scan
    own = connection.execute(select(scans).where(scans.c.id == scan.id)).mappings().one_or_none()
    if own is None:
        raise UnknownName(f"scan {scan.id} is not registered in the ledger")
    within = (scans.c.beamline == scan.beamline) & scans.c.path.startswith(f"{scan.path}/", autoescape=True)
    found = [own, *connection.execute(select(scans).where(within)).mappings()]
    demanded = rules.get(own["beamline"], BeamlineRules())
    embargoes = [embargo(_facts(row), row["registered_at"], demanded) for row in found]
    proposals = [proposal(_facts(row), row["path"], demanded) for row in found]
    return Subject(
        scan=scan.id,
        name=scan.path.text,
        # One flag is enough, whether the ledger has it or only this caller does.
        export_controlled=scan.export_controlled is not False or any(row["export_controlled"] for row in found),
        embargoes=tuple(each for each in embargoes if each is not None),
        proposals=tuple(sorted({each for each in proposals if each is not None})),
        owners=demanded.owners,
    )


def _facts(row: RowMapping) -> Mapping[str, object]:
    facts = row["facts"]
    return facts if isinstance(facts, dict) else {EMBARGO_UNTIL: f"in facts that cannot be read: {facts!r}"}
