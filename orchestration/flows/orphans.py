"""What dead runs have left going on at the facilities: adopted, or ended when it lasts too long or nobody wants it."""

from __future__ import annotations

import time
from collections.abc import Sequence

from orchestration.errors import OrchestrationError, ServiceUnavailable
from orchestration.flows.cancelling import Answered, cancel_operations
from orchestration.flows.work import Work
from orchestration.jobs import JobSpec
from orchestration.ledger import Ledger
from orchestration.ledger.adopt import Fate, adopt
from orchestration.ledger.claims import held
from orchestration.ledger.operation import OperationRecord
from orchestration.ledger.runs import RunState
from orchestration.ledger.service import CancelAnswer, Document, Json
from orchestration.ledger.waiting import pause

OLD_SECONDS = 24 * 3600.0
"""Transfers and the like that nobody waits for are ended after so long; jobs after their own time."""

SLACK_SECONDS = 3600.0

_RUNS = ("prefect.run", "prefect.schedule")
"""Runs of deployments: as long as the run that began one may come back to it, nobody else looks after it."""

_FATES = {CancelAnswer.CANCELLED: Fate.CANCELLED, CancelAnswer.ALREADY_FINISHED: Fate.ENDED}


def look_after_orphans(work: Work) -> list[Json]:
    """One line for each open operation that no run holds or waits for; one of which nothing is known stops no other."""
    records = _unattended(work)
    lines = _adopted(work, [record for record in records if not record.cancel_requested])
    unwanted = [each for each in records if each.cancel_requested or _lasts_too_long(work, each, lines.get(each.key))]
    lines |= {each.key: _ended(each) for each in cancel_operations(work.ledger, work.services, unwanted)}
    found: list[Json] = []
    for record in records:
        line = lines.get(record.key)
        if line is not None and line["fate"] != Fate.HELD.value:
            work.logger.info("%s, which no run waits for: %s", record.step, line["fate"])
            found.append(line)
    return found


def _adopted(work: Work, records: Sequence[OperationRecord]) -> dict[str, Document]:
    """By key. Of a submission in doubt it is asked until its service must know: the next process would begin to wait
    for that anew.
    """
    lines: dict[str, Document] = {}
    settle = {record.key: work.services.settle_seconds(record.service) for record in records if not record.handle}
    longest = max(settle.values(), default=0.0)
    until = time.monotonic() + 2 * longest
    left = records
    while left:
        left = [record for record in left if _is_silent(work, record, lines) and settle.get(record.key)]
        if time.monotonic() > until:
            break
        if left:
            pause(longest / 4, "orphans")
    return lines


def _is_silent(work: Work, record: OperationRecord, lines: dict[str, Document]) -> bool:
    """Write down what became of one; whether its service did not say."""
    try:
        request = work.services.request_of(record)
        if request is not None:
            fate = adopt(work.ledger, record, work.services.named(record.service), request)
            lines[record.key] = _line(record.step, record.key, fate)
    except OrchestrationError as error:
        lines[record.key] = _line(record.step, record.key, Fate.UNKNOWN, error.sentence)
        return isinstance(error, ServiceUnavailable)
    return False


def _ended(answered: Answered) -> Document:
    return _line(answered.what, answered.key, _FATES.get(answered.answer, Fate.UNKNOWN), answered.why)


def _line(step: str, key: str, fate: Fate, why: str = "") -> Document:
    return {"step": step, "key": key, "fate": fate.value, **({"why": why} if why else {})}


def adrift(ledger: Ledger) -> list[OperationRecord]:
    """The open operations that no live run holds, and no suspended run waits for."""
    now = ledger.now()
    awaited = {key for run in ledger.runs.waiting() for key in run.awaits}
    return [record for record in ledger.operations.open() if record.key not in awaited and not held(record, now)]


def _unattended(work: Work) -> list[OperationRecord]:
    return [record for record in adrift(work.ledger) if record.token is not None and not _has_a_run(work, record)]


def _has_a_run(work: Work, record: OperationRecord) -> bool:
    """Whether one that is being cancelled sees to it; or, if it is a run itself, one that comes back to it."""
    run = None if record.run_id is None else work.ledger.runs.get(record.run_id)
    if run is None:
        return False
    if run.state is RunState.CANCELLING:
        return True
    if record.service not in _RUNS:
        return False
    if run.state is RunState.DEAD:  # another was started in its place, and takes a while to begin
        return (run.finished_at or 0.0) > work.ledger.now() - SLACK_SECONDS
    return run.state in {RunState.RUNNING, RunState.WAITING}


def _lasts_too_long(work: Work, record: OperationRecord, line: Document | None) -> bool:
    """Of one that is known not to have ended, or of which nobody could ask that."""
    if line is not None and line["fate"] not in {Fate.GOES_ON.value, Fate.NEVER_BEGAN.value}:
        return False
    limit = OLD_SECONDS
    request = work.services.request_of(record)
    if isinstance(request, JobSpec):
        limit = request.duration + (request.start_within or OLD_SECONDS) + SLACK_SECONDS
    return work.ledger.now() - record.began_at > limit
