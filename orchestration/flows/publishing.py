"""Publishing what was made of a scan in a search index, and taking it out again."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TypeVar

from orchestration.flows.work import Work
from orchestration.globus.search import POLLS, GlobusPublish, GlobusWithdraw
from orchestration.globus.search_entries import PublishRequest, WithdrawRequest
from orchestration.ledger.operation import Operation, OperationRecord, OperationState
from orchestration.ledger.perform import Outcome
from orchestration.ledger.scan import Scan
from orchestration.ledger.service import Document, Service

DEADLINE_SECONDS = 3600.0

R = TypeVar("R", PublishRequest, WithdrawRequest)

_ENTRY = ("index", "subject", "id")
"""What tells one entry from all others."""


def publish(work: Work, scan: Scan, request: PublishRequest, *, what: str) -> Outcome:
    """See that the entry says exactly this, whatever was said there about its subject before.

    Raises:
        PolicyRefused: if nothing about the scan may go there; nothing was sent.
        CatalogueRefused: if the index does not take it.
    """
    return _perform(work, scan, request, work.services.globus_publish, f"publish {what} in {request.index.name}")


def withdraw(work: Work, scan: Scan, request: WithdrawRequest, *, what: str) -> Outcome:
    """See that the entry is gone, whatever was said there before.

    Raises:
        CatalogueRefused: if it is not one of this service's own.
    """
    return _perform(work, scan, request, work.services.globus_withdraw, f"withdraw {what} from {request.index.name}")


def _perform(work: Work, scan: Scan, request: R, service: Service[R], name: str) -> Outcome:
    step = _step(work, scan, service.name, request.document(), name)
    operation = Operation(scan=scan, step=step, request=request, destination=request.place, deadline=DEADLINE_SECONDS)
    return work.perform(operation, service, schedule=POLLS)


def _step(work: Work, scan: Scan, service: str, wanted: Document, name: str) -> str:
    """The ledger does not do again what it has seen done. So a step is called by how often the entry had been changed
    before; but the last change is taken up as it was called, if it was just this one: it is done, or goes on.
    """
    past = _history(work, scan, wanted)
    effective = sorted(filter(_may_have_changed_it, past), key=_asked_at)
    same = [record for record in past if _asks_the_same(record, service, wanted)]
    if effective and effective[-1] in same:
        return effective[-1].step
    done = {record.step for record in same if record.state is OperationState.SUCCEEDED}
    steps = (f"{name} [{count}]" if count else name for count in itertools.count(len(effective)))
    return next(step for step in steps if step not in done)


def _history(work: Work, scan: Scan, wanted: Document) -> Sequence[OperationRecord]:
    """All that was ever asked about the entry."""
    return [
        record
        for record in work.ledger.operations.of_scan(scan.id)
        if record.service in {GlobusPublish.name, GlobusWithdraw.name}
        and all(record.request.get(part) == wanted[part] for part in _ENTRY)
    ]


def _may_have_changed_it(record: OperationRecord) -> bool:
    """Of what a dead run has left open, nobody knows yet."""
    return record.state is OperationState.SUCCEEDED or (record.state.open and record.token is not None)


def _asked_at(record: OperationRecord) -> float:
    """An index makes changes in the order in which they were asked for."""
    return record.submitted_at or record.began_at


def _asks_the_same(record: OperationRecord, service: str, wanted: Document) -> bool:
    return record.service == service and record.request.get("digest") == wanted.get("digest")
