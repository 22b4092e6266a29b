"""The policy is asked about an operation, on its scan as the ledger has it at that moment; what it answered is kept.

What it permits stands in the history of the operation, with the token under which it is submitted. What it refuses has
no history, mostly not even a row: that is in the audit, to which lines are added and never changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from sqlalchemy import Connection, select

from orchestration.errors import PolicyRefused, UnknownName
from orchestration.ledger import audit
from orchestration.ledger.operation import Operation, error_document
from orchestration.ledger.service import Document, Json, Request
from orchestration.ledger.tables import scans
from orchestration.policy import Decision, Permitted, Place, Subject, permit

PERMITTED = "permitted"
"""The event that tells which decision stands behind a submission."""

R = TypeVar("R", bound=Request)


def ask(connection: Connection, operation: Operation[R], *, site: Place | None, at: float) -> Permitted[R]:
    """`site` is where its service works.

    Raises:
        PolicyRefused: if it may not be done.
        UnknownName: if there is no such scan.
    """
    return permit(
        operation.request,
        subject=_subject(connection, operation),
        at=at,
        site=site,
        destination=operation.destination,
    )


def document(decision: Decision) -> Document:
    """For the history, which knows the scan and the time."""
    return {"effect": decision.effect.value, "places": _places(*decision.places), "rule": decision.rule.value}


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


def _subject(connection: Connection, operation: Operation[Request]) -> Subject:
    scan = operation.scan
    flagged = connection.execute(select(scans.c.export_controlled).where(scans.c.id == scan.id)).scalar_one_or_none()
    if flagged is None:
        raise UnknownName(f"scan {scan.id} is not registered in the ledger")
    # One flag is enough, whether the ledger has it or only this caller does, or it is that of a file in a folder.
    within = scans.c.path.startswith(f"{scan.path}/", autoescape=True)
    inside = select(scans.c.id).where(scans.c.beamline == scan.beamline, scans.c.export_controlled, within)
    controlled = flagged or scan.export_controlled or connection.execute(inside.limit(1)).first() is not None
    return Subject(scan=scan.id, name=scan.path.text, export_controlled=controlled)
