"""Of all copies that are due, which can be deleted as far as the ledger tells. Nobody outside is asked.

What is found here is worth trying: the proof, which looks at every copy, is still to be made. What is not found here
would be refused, so that a night is not spent on it.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache

from orchestration.config import RetentionRule, Settings
from orchestration.ledger.copy import CopyState, Role
from orchestration.ledger.due import DueRow, Input

_DAY = 24 * 3600.0


class Finding(enum.StrEnum):
    DUE = "due"
    HELD = "held"
    """Somebody wants the scan to be kept."""
    BUSY = "in use"
    UNPROVEN = "unproven"
    """The ledger does not have what the rule asks for: other copies, or a record in the catalogue."""
    UNWARNED = "not warned of"
    """Its owner has to be written to first, and then has some days."""
    KEPT = "kept for longer"
    """Its time has come, and operators keep copies for longer since it was set."""


@dataclass(frozen=True, slots=True)
class Decision:
    row: DueRow
    finding: Finding


@dataclass(frozen=True, kw_only=True)
class Known:
    """What is known of scans, by their ids, when a survey begins."""

    held: Collection[str] = field(default=frozenset())
    busy: Collection[str] = field(default=frozenset())
    catalogued: Collection[str] = field(default=frozenset())
    warned: Mapping[int, float] = field(default_factory=dict)
    """Of copies, by their ids: when a warning of their deletion was sent."""


def survey(
    scans: Iterable[Sequence[DueRow]],
    *,
    settings: Settings,
    days: Callable[[RetentionRule], float],
    known: Known,
    before: float,
) -> Iterator[Decision]:
    """One decision for each copy that was to go `before` that time (seconds since the epoch), where a rule lets it go.

    `scans` are the copies of each scan together; `days` says for how long copies are kept under a rule now, and is
    asked once for each.
    """
    judge = _Judge(settings, days, known, before)
    for rows in scans:
        for row in rows:
            if row.delete_after is not None and row.delete_after < before:
                yield from judge.decided(row, rows)


class _Judge:
    def __init__(self, settings: Settings, days: Callable[[RetentionRule], float], known: Known, before: float) -> None:
        @cache
        def rule_of(endpoint: str, dataset: str) -> tuple[RetentionRule, float] | None:
            rule = settings.retention_rule(endpoint, dataset)
            return None if rule is None else (rule, days(rule) * _DAY)

        @cache
        def apart(one: str, other: str) -> bool:
            return not settings.endpoint(one).shares_storage_with(settings.endpoint(other))

        self._rule_of, self._apart, self._known, self._before = rule_of, apart, known, before

    def decided(self, row: DueRow, rows: Sequence[DueRow]) -> Iterator[Decision]:
        ruled = self._rule_of(row.endpoint, row.dataset)
        if ruled is not None:
            yield Decision(row, self._finding(row, rows, *ruled))

    def _finding(self, row: DueRow, rows: Sequence[DueRow], rule: RetentionRule, kept: float) -> Finding:
        made = row.verified_at + kept
        if (made if row.quarantined_at is None else row.quarantined_at + rule.grace_days * _DAY) >= self._before:
            return Finding.KEPT
        if row.scan_id in self._known.held:
            return Finding.HELD
        if rule.warn_days is not None and row.quarantined_at is None:
            told = self._known.warned.get(row.id)
            if told is None or told + rule.warn_days * _DAY >= self._before:
                return Finding.UNWARNED
        if row.scan_id in self._known.busy:
            return Finding.BUSY
        if rule.catalogued and row.scan_id not in self._known.catalogued:
            return Finding.UNPROVEN
        return Finding.DUE if self._witnessed(row, rows, rule) else Finding.UNPROVEN

    def _witnessed(self, row: DueRow, rows: Sequence[DueRow], rule: RetentionRule) -> bool:
        """Whether there are as many copies as the rule asks for, each on storage of its own."""
        alike = [other for other in rows if _same(row, other)]
        if self._count(row, alike, rule) >= rule.requires.min_copies:
            return True
        if not rule.recreatable or row.role != Role.CACHE or not row.inputs:
            return False
        return all(self._kept(row, each, rows, rule) for each in row.inputs)

    def _kept(self, row: DueRow, made_of: Input, rows: Sequence[DueRow], rule: RetentionRule) -> bool:
        """Whether there are as many copies of one of its inputs, in any one version."""
        versions: dict[str, list[DueRow]] = {}
        for other in rows:
            if (other.dataset, other.size, other.state) == (*made_of, CopyState.PRESENT):
                versions.setdefault(other.version, []).append(other)
        return any(self._count(row, alike, rule) >= rule.requires.min_copies for alike in versions.values())

    def _count(self, row: DueRow, others: Sequence[DueRow], rule: RetentionRule) -> int:
        counted = [row.endpoint]
        for other in others:
            place = other.endpoint
            if place in rule.requires.any_of and all(self._apart(place, each) for each in counted):
                counted.append(place)
        return len(counted) - 1


def _same(row: DueRow, other: DueRow) -> bool:
    alike = (row.dataset, row.version, row.size, row.files) == (other.dataset, other.version, other.size, other.files)
    return alike and other.id != row.id and other.state == CopyState.PRESENT
