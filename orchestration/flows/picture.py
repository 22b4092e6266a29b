"""What the watcher sees at one moment: runs without a process, and what they wait for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from orchestration.ledger import Ledger
from orchestration.ledger.operation import OperationRecord
from orchestration.ledger.runs import RunRecord, RunState


@dataclass(frozen=True)
class Picture:
    """As the ledger has it."""

    runs: Sequence[RunRecord]
    """Those that wait."""
    cancelled: Sequence[RunRecord]
    """Those that are to end, with all that they wait for."""
    operations: Mapping[str, OperationRecord]
    at: float
    """Seconds since the epoch."""

    @classmethod
    def take(cls, ledger: Ledger) -> Picture:
        runs, now = ledger.runs.waiting(), ledger.now()
        cancelled = [run for run in ledger.runs.in_state(RunState.CANCELLING) if run.dead(now)]
        keys = {key for run in runs for key in run.awaits}
        return cls(runs, cancelled, {record.key: record for record in ledger.operations.among(keys)}, now)

    @property
    def may_move(self) -> frozenset[str]:
        """Operations that a run would take elsewhere if their site were in trouble."""
        return frozenset(key for run in self.runs for key, each in run.awaits.items() if each.may_move)

    def by_service(self, *, without: Iterable[str]) -> dict[str, list[OperationRecord]]:
        """What goes on and nobody knows better about, by the service to be asked."""
        known = set(without)
        found: dict[str, list[OperationRecord]] = {}
        for key, record in self.operations.items():
            if record.state.open and key not in known:
                found.setdefault(record.service, []).append(record)
        return found

    def told_by_service(self, ended: Iterable[str]) -> list[RunRecord]:
        """Runs of which a service says that something they wait for has ended."""
        known = set(ended)
        return [run for run in self.runs if not known.isdisjoint(run.awaits)]

    def told_by_site(self, alarms: Iterable[str]) -> list[RunRecord]:
        """Runs that would take something elsewhere that is at a site in trouble."""
        known = set(alarms)
        return [run for run in self.runs if any(each.may_move and key in known for key, each in run.awaits.items())]

    def told_by_ledger(self) -> list[RunRecord]:
        """Runs of which the ledger says so, or that something is late, or is to be cancelled."""
        return [run for run in self.runs if not self._waits(run)]

    def _waits(self, run: RunRecord) -> bool:
        return bool(run.awaits) and all(
            (record := self.operations.get(key)) is not None
            and record.state.open
            and not record.cancel_requested
            and self.at < each.until
            for key, each in run.awaits.items()
        )
