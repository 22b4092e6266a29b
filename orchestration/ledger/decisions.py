"""Where work was given, and why there: every site that was thought of, with the reasons for and against it."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, RowMapping, select

from orchestration.ledger.database import Database
from orchestration.ledger.operation import OperationRecord, OperationState
from orchestration.ledger.requests import records
from orchestration.ledger.service import Document, Json
from orchestration.ledger.tables import decisions, events, operations

GIVEN = "given"
"""The event of an operation that is about to be submitted because of a decision; its detail names the `subject`."""


class Verdict(enum.StrEnum):
    CHOSEN = "chosen"
    POSSIBLE = "possible"
    """It could have taken the work; another one was better."""
    PASSED_OVER = "passed over"
    """It could not take the work."""
    LEFT = "left"
    """The work was given to it before, and taken back; it is certain that it was not begun there."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One site that was thought of. `reasons` are for people; `facts` are what was known of it at that time."""

    site: str
    verdict: Verdict
    reasons: tuple[str, ...] = ()
    facts: Mapping[str, Json] = field(default_factory=dict)

    @property
    def sentence(self) -> str:
        """``nersc: chosen: up, queue wait lately 40 s, raw data already there``"""
        return f"{self.site}: {self.verdict.value}: {', '.join(self.reasons)}".removesuffix(": ")

    def document(self) -> Document:
        return {
            "site": self.site,
            "verdict": self.verdict.value,
            "reasons": list(self.reasons),
            "facts": dict(self.facts),
        }

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> Candidate:
        return cls(
            site=document["site"],
            verdict=Verdict(document["verdict"]),
            reasons=tuple(document["reasons"]),
            facts=document["facts"],
        )


@dataclass(frozen=True, kw_only=True)
class DecisionRecord:
    """`subject` tells for which work it was made: a scan in one version, what is done with it, and its parameters.

    `step` says the same for people. `site` is empty where no site could take it.
    """

    id: int
    scan_id: str
    run_id: str
    subject: str
    step: str
    site: str
    candidates: tuple[Candidate, ...]
    decided_at: float

    @classmethod
    def from_row(cls, row: RowMapping) -> DecisionRecord:
        values = dict(row)
        values["candidates"] = tuple(Candidate.parse(each) for each in values["candidates"])
        return cls(**values)

    def candidate(self, site: str) -> Candidate | None:
        return next((each for each in self.candidates if each.site == site), None)


@dataclass(frozen=True, kw_only=True)
class JobAt:
    """The job of some work at one site, as the ledger files it."""

    step: str
    service: str


class Decisions:
    """Decisions are added and never changed: the newest of a subject holds.

    Who is about to submit a job because of one writes that into the history of the job (`GIVEN`) first, and looks then
    whether the decision still holds. Who replaces one looks for that in the transaction that writes the new one. So
    whatever the order in which the two come, one of them sees the other.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def decide(
        self,
        *,
        scan_id: str,
        run_id: str,
        subject: str,
        step: str,
        site: str,
        candidates: Sequence[Candidate],
        instead_of: DecisionRecord | None,
        unless: JobAt | None = None,
    ) -> DecisionRecord:
        """Write a decision down, in the place of the one that its maker knew as the newest.

        If another run has decided meanwhile, nothing is written, and what that run decided is returned: it holds for
        both, so that the same work is never given to two sites. Nor is anything written if the job of the decision that
        would be replaced, `unless`, has been given to its site meanwhile.
        """
        listed: list[Json] = [candidate.document() for candidate in candidates]
        with self._database.write("decisions") as connection:
            newest = _newest(connection, subject)
            if newest is not None and (instead_of is None or newest.id != instead_of.id):
                return newest
            if newest is not None and unless is not None and _in_hand(connection, newest, unless):
                return newest
            row = connection.execute(
                decisions.insert()
                .values(
                    scan_id=scan_id,
                    run_id=run_id,
                    subject=subject,
                    step=step,
                    site=site,
                    candidates=listed,
                    decided_at=self._database.now(),
                )
                .returning(decisions)
            )
            return DecisionRecord.from_row(row.mappings().one())

    def newest(self, subject: str) -> DecisionRecord | None:
        with self._database.read() as connection:
            return _newest(connection, subject)

    def of_scan(self, scan_id: str) -> Sequence[DecisionRecord]:
        """Oldest first."""
        query = select(decisions).where(decisions.c.scan_id == scan_id).order_by(decisions.c.id)
        with self._database.read() as connection:
            return [DecisionRecord.from_row(row) for row in connection.execute(query).mappings()]


def _newest(connection: Connection, subject: str) -> DecisionRecord | None:
    query = select(decisions).where(decisions.c.subject == subject).order_by(decisions.c.id.desc()).limit(1)
    row = connection.execute(query).mappings().one_or_none()
    return None if row is None else DecisionRecord.from_row(row)


def _in_hand(connection: Connection, decision: DecisionRecord, job: JobAt) -> bool:
    """Whether the job is or may be going on, or was done, because of a decision on the same work."""
    rows = connection.execute(
        select(operations).where(
            operations.c.scan_id == decision.scan_id, operations.c.step == job.step, operations.c.service == job.service
        )
    ).mappings()
    return any(
        _given(connection, each, decision.subject)
        for each in records(connection, rows.all())
        if each.state is OperationState.SUCCEEDED or (each.state.open and each.token is not None)
    )


def _given(connection: Connection, record: OperationRecord, subject: str) -> bool:
    query = select(events.c.detail).where(
        events.c.operation_key == record.key, events.c.attempt == record.attempt, events.c.event == GIVEN
    )
    return any((detail or {}).get("subject") == subject for detail in connection.execute(query).scalars())
