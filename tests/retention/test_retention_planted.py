"""Faults are planted into the code, one at a time, to see that the histories find them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from histories import Violated, search

from orchestration.config import Endpoint
from orchestration.errors import DeletionUnproven, OperationFailed
from orchestration.flows import deleting, pruning
from orchestration.paths import RelativePath
from orchestration.policy import rules
from orchestration.retention import proof

Plant = Callable[[pytest.MonkeyPatch], None]


def by_name_only(patch: pytest.MonkeyPatch) -> None:
    """A copy counts if something of its name is there."""

    def doubt(self: Any, copy: Any, other: Any) -> str:
        return "" if self.inspector.look(self.settings.endpoint(other.endpoint), other.path) else "it is not there"

    patch.setattr(proof._Hearing, "_doubt", doubt)
    patch.setattr(proof._Hearing, "_old", lambda self, other: False)


def failures_ignored(patch: pytest.MonkeyPatch) -> None:
    """What a task was to delete counts as deleted, however the task ended."""
    real = deleting._carry_out

    def carry_out(
        work: Any, endpoint: Any, operation: Any, copies: Any, *, perform: Any
    ) -> dict[int, DeletionUnproven]:
        try:
            perform(operation, deleting._service(work, endpoint))
        except OperationFailed:
            work.logger.warning("never mind")
        for copy in copies:
            work.ledger.copies.deleted(copy, run_id=work.run_id)
        return {}

    assert real is not carry_out
    patch.setattr(deleting, "_carry_out", carry_out)


def stale_evidence(patch: pytest.MonkeyPatch) -> None:
    """Checksums of long ago are good for ever."""
    patch.setattr(proof._Hearing, "_old", lambda self, other: False)


def escaping_paths(patch: pytest.MonkeyPatch) -> None:
    """Links are followed wherever they lead."""

    def local_path(self: Endpoint, relative: RelativePath) -> Path:
        assert self.mount is not None
        return self.mount / relative.text

    patch.setattr(Endpoint, "local_path", local_path)


def timers_fire_twice(patch: pytest.MonkeyPatch) -> None:
    """A timer deletes whatever is there by then, whether or not it was made for that."""
    real = pruning.present_at
    patch.setattr(pruning, "present_at", lambda work, endpoint, path, generation: real(work, endpoint, path, None))
    patch.setattr(pruning, "put_off", lambda work, copies: {})
    patch.setattr(pruning, "demand_due", lambda work, copy: None)


def flags_unread(patch: pytest.MonkeyPatch) -> None:
    """Export control is what the caller says."""
    patch.setattr(rules, "export_control", lambda effect, subject, places: rules.Rule.OPEN)


@pytest.mark.parametrize(
    ("plant", "among"),
    [
        (by_name_only, ["spoil", "time_passes", "sweep", "timer", "carry"]),
        (failures_ignored, ["trouble", "time_passes", "sweep", "timer"]),
        (stale_evidence, ["spoil", "time_passes", "sweep", "timer"]),
        (escaping_paths, ["link_away", "time_passes", "sweep", "by_hand"]),
        (timers_fire_twice, ["timer", "time_passes", "carry", "acquire"]),
        (flags_unread, ["acquire", "carry"]),
    ],
    ids=lambda each: getattr(each, "__name__", ""),
)
@pytest.mark.slow
def test_a_planted_fault_is_found(plant: Plant, among: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Among histories of what it has to do with: among all of them each is found too, in up to five minutes."""
    plant(monkeypatch)
    with pytest.raises(Violated):
        search(examples=400, shrink=False, among=among)
