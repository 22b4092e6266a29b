"""Whether the owner of a copy was warned of its deletion, where a rule demands that."""

from __future__ import annotations

from orchestration.config import RetentionRule
from orchestration.flows.work import Work
from orchestration.ledger.copy import CopyRecord

_DAY = 24 * 3600.0


def must_be_warned(copy: CopyRecord, rule: RetentionRule) -> bool:
    """What is in quarantine was warned of before it came there."""
    return rule.warn_days is not None and not copy.set_aside


def not_before(work: Work, copy: CopyRecord, rule: RetentionRule) -> float:
    """The time (seconds since the epoch) before which the copy stays for its owner's sake; 0 if there is none.

    It stays for the days of the rule since a warning was *sent*; while none was, for those from now on.
    """
    if not must_be_warned(copy, rule):
        return 0.0
    told = work.ledger.notices.warned_at(copy)
    return (work.ledger.now() if told is None else told) + (rule.warn_days or 0.0) * _DAY


def unwarned(work: Work, copy: CopyRecord) -> bool:
    rule = work.settings.retention_rule(copy.endpoint, copy.dataset)
    return rule is not None and must_be_warned(copy, rule) and work.ledger.notices.warned_at(copy) is None
