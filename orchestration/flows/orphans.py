"""What dead runs have left going on at the facilities: adopted, or ended when it lasts too long."""

from __future__ import annotations

from orchestration.errors import OrchestrationError
from orchestration.flows.work import Work
from orchestration.jobs import JobSpec
from orchestration.ledger.adopt import Fate, adopt
from orchestration.ledger.operation import OperationRecord
from orchestration.ledger.operations import held
from orchestration.ledger.service import Document, Json, Request

OLD_SECONDS = 24 * 3600.0
"""Transfers and the like that nobody waits for are ended after so long; jobs after their own time."""

SLACK_SECONDS = 3600.0

_RUNS = ("prefect.run", "prefect.schedule")
"""Runs of deployments look after themselves, or are looked after as dead runs."""


def look_after_orphans(work: Work) -> list[Json]:
    """One line for each open operation that no run holds or waits for; one of which nothing is known stops no other."""
    found: list[Json] = []
    for record in _unattended(work):
        try:
            request = work.services.request_of(record)
            if request is None:
                continue
            fate = adopt(
                work.ledger,
                record,
                work.services.named(record.service),
                request,
                too_old=_too_old(work, record, request),
            )
            line: Document = {"step": record.step, "key": record.key, "fate": fate.value}
        except OrchestrationError as error:
            line = {"step": record.step, "key": record.key, "fate": Fate.UNKNOWN.value, "why": error.sentence}
        if line["fate"] != Fate.HELD.value:
            work.logger.info("%s, which no run waits for: %s", record.step, line["fate"])
            found.append(line)
    return found


def _unattended(work: Work) -> list[OperationRecord]:
    now = work.ledger.now()
    awaited = {key for run in work.ledger.runs.waiting() for key in run.waiting_for or ()}
    return [
        record
        for record in work.ledger.operations.open()
        if record.service not in _RUNS
        and record.key not in awaited
        and not held(record, now)
        and record.token is not None
    ]


def _too_old(work: Work, record: OperationRecord, request: Request) -> bool:
    limit = OLD_SECONDS
    if isinstance(request, JobSpec):
        limit = request.duration + (request.start_within or OLD_SECONDS) + SLACK_SECONDS
    return work.ledger.now() - record.began_at > limit
