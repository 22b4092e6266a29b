"""The policy is asked about an operation, on its scan as the ledger has it at that moment; what it answered is kept.

What it permits stands in the history of the operation, with the token under which it is submitted. What it refuses has
no history, mostly not even a row: that is in the audit, to which lines are added and never changed.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import PurePosixPath
from typing import TypeAlias, TypeVar

from sqlalchemy import Connection, RowMapping, select

from orchestration.errors import PolicyRefused, UnknownName
from orchestration.ledger import audit, carried
from orchestration.ledger.operation import Operation, error_document
from orchestration.ledger.scan import Scan, read_scans
from orchestration.ledger.service import Document, Json, Request
from orchestration.ledger.slices import KEYS_AT_ONCE, batched
from orchestration.ledger.tables import operation_scans, scans
from orchestration.policy import (
    EMBARGO_UNTIL,
    BeamlineRules,
    Decision,
    Effect,
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
    """`site` is where its service works. Of an operation of many scans each is asked about: one no is enough.

    Raises:
        PolicyRefused: if it may not be done; it names the scan for which not, if there are others.
        UnknownName: if there is no such scan.
    """
    subjects = [_subject(operation.scan, _within(connection, operation.scan), rules)]
    subjects += _others(connection, operation, rules)
    permitted = []
    for scan_id, subject in chain(
        ((subject.scan, subject) for subject in subjects), _taken_along(connection, operation, rules)
    ):
        try:
            permitted.append(
                permit(operation.request, subject=subject, at=at, site=site, destination=operation.destination)
            )
        except PolicyRefused as refusal:
            if len(subjects) > 1:
                refusal.scan = scan_id
            raise
    return permitted[0]


def _taken_along(connection: Connection, operation: Operation[Request], rules: Rules) -> Iterator[tuple[str, Subject]]:
    """Scans that may not leave, of which it would carry something though it is not about them; each with the id of the
    scan that it is about and would be carried with, empty if its path does not tell.
    """
    passages = getattr(operation.request, "passages", None)
    if operation.request.effect is not Effect.MOVE or not isinstance(passages, tuple):
        return
    about = (operation.scan, *operation.others)
    for scan, passage in carried.flagged(connection, passages, about, rules):
        having = [each for each in about if f"{passage.asked}/".startswith(f"{each.path}/")]
        nearest = max(having, key=lambda each: len(each.path.text), default=None)
        subject = Subject(
            scan=scan.id,
            name=f"{scan.path.text}, of which {operation.step} would carry something,",
            export_controlled=True,
        )
        yield "" if nearest is None else nearest.id, subject


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
    """Write down that it was not permitted, and why; of the scan for which not, if there are others."""
    evidence = asked.evidence | {"error": error_document(refusal)}
    operation = asked.operation
    if refusal.scan:
        operation = replace(operation, scan=read_scans(connection, [refusal.scan])[refusal.scan])
    audit.deny(connection, operation, at=at, run_id=asked.run_id, reason=refusal.what, evidence=evidence)


def _places(*places: Place) -> list[Json]:
    return [{"name": place.name, "zone": place.zone.value} for place in places]


def _within(connection: Connection, scan: Scan) -> Sequence[RowMapping]:
    """The scan, and all that it has within."""
    own = connection.execute(select(scans).where(scans.c.id == scan.id)).mappings().one_or_none()
    if own is None:
        raise UnknownName(f"scan {scan.id} is not registered in the ledger")
    within = (scans.c.beamline == scan.beamline) & scans.c.path.startswith(f"{scan.path}/", autoescape=True)
    return [own, *connection.execute(select(scans).where(within)).mappings()]


def _others(connection: Connection, operation: Operation[Request], rules: Rules) -> Iterator[Subject]:
    """The further scans of an operation: those that its caller names, and those that the ledger has of it."""
    told = {scan.id: scan for scan in operation.others}
    noted = select(operation_scans.c.scan_id).where(operation_scans.c.operation_key == operation.key)
    ids = sorted({*told, *connection.execute(noted).scalars()} - {operation.scan.id})
    if not ids:
        return
    own: list[RowMapping] = []
    for some in batched(ids, KEYS_AT_ONCE):
        own += connection.execute(select(scans).where(scans.c.id.in_(some))).mappings()
    if len(own) < len(ids):
        raise UnknownName(f"a scan that goes with {operation.step} is not registered in the ledger")
    inside = _inside(connection, own)
    for row in own:
        scan = told.get(row["id"]) or Scan.from_row(row)
        yield _subject(scan, [row, *inside.get(row["id"], ())], rules)


def _inside(connection: Connection, own: Sequence[RowMapping]) -> Mapping[str, Sequence[RowMapping]]:
    """What each of many scans has within, by its id: asked at once, of all that is below the folder they have in
    common.
    """
    found: dict[str, list[RowMapping]] = {}
    for beamline in {row["beamline"] for row in own}:
        mine = {row["path"]: row["id"] for row in own if row["beamline"] == beamline}
        common = posixpath.commonpath([posixpath.dirname(path) for path in mine])
        below = scans.c.beamline == beamline
        if common:
            below &= scans.c.path.startswith(f"{common}/", autoescape=True)
        for row in connection.execute(select(scans).where(below)).mappings():
            for parent in PurePosixPath(row["path"]).parents:
                if (holder := mine.get(str(parent))) is not None:
                    found.setdefault(holder, []).append(row)
    return found


def _subject(scan: Scan, found: Sequence[RowMapping], rules: Rules) -> Subject:
    """What is said of a scan is said of all that has it within: a folder is as restricted as each file of it."""
    demanded = rules.get(found[0]["beamline"], BeamlineRules())
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
