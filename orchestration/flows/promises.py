"""Records that promise a result which no run makes any more: readers are told that there will be none, and why.

A run that fails says so itself. One that was cancelled, or killed and not started again, has no chance to.
"""

from __future__ import annotations

from collections.abc import Iterator

from orchestration.flows.publishing import publish
from orchestration.flows.remains import LIVE, LOOK_BACK_SECONDS, carried_now, comes_back
from orchestration.flows.work import Work
from orchestration.globus.publishing import RecordState
from orchestration.globus.search import GlobusPublish
from orchestration.globus.search_entries import MARK, Entry, PublishRequest, mark_of
from orchestration.ledger.operation import OperationRecord, OperationState
from orchestration.ledger.runs import RunRecord, RunState
from orchestration.ledger.service import Document, Json


def take_back_promises(work: Work) -> list[Json]:
    """One line for each record that was a placeholder and says now that there will be no result."""
    told: list[Json] = []
    for run in work.ledger.runs.ended(_BROKEN_OFF, since=work.ledger.now() - LOOK_BACK_SECONDS):
        for promise in _promises(work, run):
            with work.one_of_many(f"{promise.request['subject']} still promises a result"):
                if _take_back(work, run, promise):
                    told.append({"subject": promise.request["subject"], "run": run.id})
    return told


_BROKEN_OFF = (RunState.DEAD, RunState.CANCELLED)


def _promises(work: Work, run: RunRecord) -> Iterator[OperationRecord]:
    """What it has published, where nobody works at that any more."""
    for record in work.ledger.operations.of_run(run.id):
        published = record.service == GlobusPublish.name and record.state is OperationState.SUCCEEDED
        if published and _is_last(work, record) and not _is_wanted(work, run, record):
            yield record


def _is_wanted(work: Work, run: RunRecord, record: OperationRecord) -> bool:
    """Whether a run makes what it promises, or will."""
    if carried_now(work, record.scan_id) or _is_repeated(work, run):
        return True
    return run.state is not RunState.CANCELLED and comes_back(work, record)


def _is_repeated(work: Work, run: RunRecord) -> bool:
    """Whether another run does the same. What a run of many scans is about, the ledger does not say: any may be it."""
    live = [each for state in LIVE for each in work.ledger.runs.in_state(state) if each.flow == run.flow]
    return any(run.scan_id is None or each.parameters == run.parameters for each in live)


def _is_last(work: Work, record: OperationRecord) -> bool:
    """Whether nothing was asked for about its entry since."""
    about = {name: record.request[name] for name in ("index", "subject", "id")}
    later = (each for each in work.ledger.operations.of_scan(record.scan_id) if each.began_at > record.began_at)
    return not any(about.items() <= each.request.items() for each in later)


def _take_back(work: Work, run: RunRecord, promise: OperationRecord) -> bool:
    """Whether its record was a placeholder; it is read from the index, as the ledger has no more than its digest."""
    request = _failure(work, run, promise)
    if request is None:
        return False
    publish(work, work.ledger.scans.get(promise.scan_id), request, what="failure")
    return True


def _failure(work: Work, run: RunRecord, promise: OperationRecord) -> PublishRequest | None:
    asked = promise.request
    subject, id_ = str(asked["subject"]), str(asked["id"])
    index = work.settings.search.index(str(asked["name"]))
    content = work.services.search.entry(index, subject=subject, id=id_)
    if content is None or mark_of(content).get("digest") != asked["digest"]:
        return None
    if content.get("status") != {"state": RecordState.PLACEHOLDER.value}:
        return None
    status: Document = {"state": RecordState.FAILED.value, "reason": _reason(run)}
    told = {name: value for name, value in content.items() if name != MARK}
    visible_to = asked["visible_to"]
    readers = tuple(str(each) for each in visible_to) if isinstance(visible_to, list) else index.visible_to
    entry = Entry(subject=subject, id=id_, visible_to=readers, content={**told, "status": status})
    return PublishRequest(index=index, entry=entry)


def _reason(run: RunRecord) -> str:
    if run.error is not None:
        return run.error.sentence
    what = "was cancelled" if run.state is RunState.CANCELLED else "ended without a word"
    return f"The run that was to make it {what} ({run.id}). Next: start the flow of this dataset again."
