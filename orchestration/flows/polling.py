"""Asking services about many operations that nobody holds: when, about which, and what came of it."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field

from orchestration.errors import ServiceUnavailable, UnknownName
from orchestration.flows.services import Services
from orchestration.ledger.operation import OperationRecord
from orchestration.ledger.service import BulkService, Document, PollSchedule, Request, Running, Status
from orchestration.ledger.waiting import asked_again_in, backoff

logger = logging.getLogger(__name__)

PACE = PollSchedule(first=1.0, fraction=0.01, ceiling=30.0)
"""The end of an operation is noticed within a hundredth of the time that it took; a second, for the shortest."""

UNEXPECTED_SECONDS = 60.0
"""After an error that nobody planned for, a service is left alone for so long."""


@dataclass(frozen=True, kw_only=True)
class Polled:
    """What one question to a service said."""

    ended: Collection[str]
    """Keys of operations whose runs have to go on, since they ended or need care."""
    progress: Mapping[str, Document]
    """By key, of those that go on."""
    begun: Collection[str]
    """Keys of those that do not wait for their turn any more: trouble of their site does not concern them."""


@dataclass
class Subject:
    """One service, and when it was asked last about each operation (by the monotonic clock)."""

    name: str
    pace: PollSchedule = PACE
    _asked_at: dict[str, float] = field(default_factory=dict)
    _not_before: float = float("-inf")
    _delays: Iterator[float] = field(default_factory=backoff)
    _unanswered: bool = False

    def due(self, records: Sequence[OperationRecord], now: float) -> Sequence[OperationRecord]:
        """Those to ask about now, by one question; `now` is the time of the ledger.

        Once one of them is due, so are those that would be soon: fewer questions tell as much.
        """
        clock = time.monotonic()
        self._asked_at = {row.key: at for row in records if (at := self._asked_at.get(row.key)) is not None}
        if not self.open():
            return ()
        overdue = {row.key: self._overdue(row, now, clock) for row in records}
        if not any(share >= 1.0 for share in overdue.values()):
            return ()
        return [row for row in records if overdue[row.key] >= 0.5]

    def _overdue(self, record: OperationRecord, now: float, clock: float) -> float:
        """The time since the last question as a share of what may pass between two."""
        asked_at = self._asked_at.get(record.key)
        if asked_at is None:
            return 1.0
        return (clock - asked_at) / self.pace.interval(now - (record.submitted_at or record.began_at))

    def open(self) -> bool:
        """Whether it may be asked now."""
        return time.monotonic() >= self._not_before

    def asked(self, records: Sequence[OperationRecord]) -> None:
        self._asked_at |= dict.fromkeys((record.key for record in records), time.monotonic())

    def answered(self) -> None:
        self._delays = backoff()
        self._unanswered = False

    def silent(self, doubt: ServiceUnavailable) -> None:
        """It gave no answer: it is left alone for a while, longer each time."""
        self._not_before = time.monotonic() + asked_again_in(doubt, next(self._delays))
        self._unanswered = True

    def asked_again_in(self) -> float | None:
        """Seconds until it may be asked what it has not answered; None if it owes no answer."""
        return max(0.0, self._not_before - time.monotonic()) if self._unanswered else None

    def failed(self) -> None:
        self._not_before = time.monotonic() + UNEXPECTED_SECONDS


def poll(services: Services, name: str, records: Sequence[OperationRecord]) -> Polled:
    """Ask one service about operations of it, in one call.

    What cannot be asked any more (its site is not in the settings, or it was to another version of this program that
    the run has left) has ended, for all that is known here: the run finds out, and fails with an error that says it.

    Raises:
        ServiceUnavailable: if it did not answer.
    """
    try:
        service = services.named(name)
    except UnknownName as error:
        logger.warning("%s cannot be asked: %s", name, error)
        return _handed_over(records)
    if not isinstance(service, BulkService):
        return _handed_over(records)
    items, keys, unreadable = _items(services, records)
    statuses: Mapping[str, Status] = service.poll_many(items) if items else {}
    ended = list(unreadable)
    begun: list[str] = []
    progress: dict[str, Document] = {}
    for handle, status in statuses.items():
        if isinstance(status, Running) and not status.needs_care:
            progress |= dict.fromkeys(keys.get(handle, ()), asdict(status.progress))
            begun += [] if status.queued else keys.get(handle, ())
        else:
            ended += keys.get(handle, ())
    return Polled(ended=ended, progress=progress, begun=begun)


def _handed_over(records: Sequence[OperationRecord]) -> Polled:
    return Polled(ended=[record.key for record in records], progress={}, begun=())


def _items(
    services: Services, records: Sequence[OperationRecord]
) -> tuple[list[tuple[Request, str]], dict[str, list[str]], list[str]]:
    """Requests and handles to ask about; the keys behind each handle; and the keys that cannot be asked about."""
    items: dict[str, Request] = {}
    keys: dict[str, list[str]] = {}
    unreadable: list[str] = []
    for record in records:
        request = services.request_of(record)
        if request is None or record.handle is None:
            unreadable.append(record.key)
            continue
        items[record.handle] = request
        keys.setdefault(record.handle, []).append(record.key)
    return [(request, handle) for handle, request in items.items()], keys, unreadable
