"""How long jobs waited for their turn lately, and how many wait now, as far as this ledger's own jobs tell."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from sqlalchemy import select

from orchestration.ledger.database import Database
from orchestration.ledger.operation import OperationState
from orchestration.ledger.service import Json
from orchestration.ledger.tables import operations


@dataclass(frozen=True, kw_only=True)
class Queue:
    """Of one service. `waits` and `runs` are seconds of finished jobs, newest first; `going_on` counts open ones."""

    waits: Sequence[float] = ()
    runs: Sequence[float] = ()
    going_on: int = 0

    @property
    def wait(self) -> float | None:
        """Seconds in the queue, as the middle one of the last jobs had it; None if there were none."""
        return median(self.waits) if self.waits else None

    @property
    def run(self) -> float | None:
        """Seconds of work, likewise."""
        return median(self.runs) if self.runs else None


class Queues:
    def __init__(self, database: Database) -> None:
        self._database = database

    def of(self, service: str, *, seconds: float, most: int) -> Queue:
        """From jobs that ended well in the last `seconds`, at most the `most` newest."""
        finished = (
            select(operations.c.evidence)
            .where(operations.c.service == service, operations.c.state == OperationState.SUCCEEDED)
            .where(operations.c.finished_at >= self._database.now() - seconds)
            .order_by(operations.c.finished_at.desc(), operations.c.key)
            .limit(most)
        )
        opened = [state for state in OperationState if state.open]
        still = select(operations.c.key).where(operations.c.service == service, operations.c.state.in_(opened))
        with self._database.read() as connection:
            found = [evidence for (evidence,) in connection.execute(finished) if isinstance(evidence, dict)]
            going_on = len(connection.execute(still).all())
        return Queue(
            waits=_numbers(evidence.get("queue_seconds") for evidence in found),
            runs=_numbers(evidence.get("run_seconds", evidence.get("seconds")) for evidence in found),
            going_on=going_on,
        )


def _numbers(values: Iterable[Json]) -> tuple[float, ...]:
    return tuple(float(value) for value in values if isinstance(value, int | float) and value >= 0)
