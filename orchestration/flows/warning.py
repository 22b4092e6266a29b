"""Telling the owners of copies, some days before, that these will be deleted: one message per owner and day."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache

from orchestration.config import RetentionRule, Settings
from orchestration.flows.addressing import addresses
from orchestration.flows.alarms import named
from orchestration.flows.calendar import DAY
from orchestration.flows.variables import retention_days
from orchestration.flows.warned import must_be_warned
from orchestration.flows.work import Work
from orchestration.ledger.copy import CopyRecord, CopyState
from orchestration.ledger.notices import NoticeKind
from orchestration.ledger.scan import Scan
from orchestration.ledger.service import Document
from orchestration.times import day

AT_ONCE = 500
"""Copies that are read from the ledger together."""

MOST = 1000
"""Copies that one message tells of; of the others the next day's does."""

PROLONGED_DAYS = 30.0
"""What the command in the message proposes, from the day of the deletion on."""


@dataclass
class Warnings:
    """What one pass has written down to be sent."""

    messages: int = 0
    copies: int = 0
    left: int = 0
    """Copies of which tomorrow's message tells."""

    def document(self) -> Document:
        return {"messages": self.messages, "copies": self.copies, "left": self.left}


@dataclass(frozen=True, kw_only=True)
class _Leaving:
    copy: CopyRecord
    scan: Scan
    at: float
    """Not before that time."""


@dataclass
class _Digest:
    leaving: list[_Leaving] = field(default_factory=list)


def warn_owners(work: Work) -> Warnings:
    """Write down a warning for the owner of each copy that is to be deleted soon, where its rule demands one.

    Raises:
        ServiceUnavailable: if Prefect, which knows for how long operators keep copies, does not answer.
    """
    digests: dict[tuple[str, ...], _Digest] = {}
    for leaving in _leaving(work):
        owners = addresses(work.settings, leaving.scan)
        digests.setdefault(owners, _Digest()).leaving.append(leaving)
    warnings = Warnings()
    for owners, digest in digests.items():
        _warn(work, warnings, owners, sorted(digest.leaving, key=lambda each: (each.at, each.copy.id)))
    return warnings


def _leaving(work: Work) -> Iterator[_Leaving]:
    """Copies that may be deleted within the days of their rule, and of which nobody has been warned."""
    now, after, held = work.ledger.now(), 0, work.ledger.due.held()
    longest = max((days for rule in _rules(work.settings) if (days := rule.warn_days)), default=0.0)
    if not longest or work.settings.notify.smtp_host is None:
        return

    @cache
    def ruled(endpoint: str, dataset: str) -> tuple[RetentionRule, float] | None:
        rule = work.settings.retention_rule(endpoint, dataset)
        return None if rule is None or rule.warn_days is None else (rule, retention_days(work.settings, rule) * DAY)

    while page := work.ledger.copies.due(now + longest * DAY, after=after, limit=AT_ONCE):
        after = page[-1].id
        noted = work.ledger.notices.noted(page)
        for copy in page:
            if copy.state is CopyState.PRESENT and copy.id not in noted and copy.scan_id not in held:
                yield from _soon(work, copy, now, ruled)


def _soon(
    work: Work, copy: CopyRecord, now: float, ruled: Callable[[str, str], tuple[RetentionRule, float] | None]
) -> Iterator[_Leaving]:
    found = ruled(copy.endpoint, copy.dataset) if copy.endpoint in work.settings.places else None
    if found is None or copy.delete_after is None or not must_be_warned(copy, found[0]):
        return
    rule, kept = found
    warning = (rule.warn_days or 0.0) * DAY
    due = max(copy.delete_after, copy.verified_at + kept)
    if due - now <= warning:
        yield _Leaving(copy=copy, scan=work.ledger.scans.get(copy.scan_id), at=max(due, now + warning))


def _rules(settings: Settings) -> Iterator[RetentionRule]:
    for rule in settings.retention.values():
        yield rule
        yield from (rule.of(dataset) for dataset in rule.datasets)


def _warn(work: Work, warnings: Warnings, owners: tuple[str, ...], leaving: Sequence[_Leaving]) -> None:
    told, left = leaving[:MOST], len(leaving[MOST:])
    utc_day = datetime.fromtimestamp(work.ledger.now(), UTC).date()
    key = f"warning {' '.join(sorted(owners))} {utc_day}"
    new = not work.ledger.notices.exists(key) and work.ledger.notices.write(
        key=key,
        kind=NoticeKind.WARNING,
        addresses=owners,
        subject=_subject(told),
        body=_body(work, told),
        warns_of=[each.copy for each in told],
    )
    if not new:
        warnings.left += len(leaving)
        return
    work.logger.info("%s are told of %d copies that will be deleted", ", ".join(owners), len(told))
    warnings.messages += 1
    warnings.copies += len(told)
    warnings.left += left


def _subject(leaving: Sequence[_Leaving]) -> str:
    scans = len({each.scan.id for each in leaving})
    what = "1 scan" if scans == 1 else f"{scans} scans"
    return f"Copies of {what} will be deleted from {day(leaving[0].at)} on"


def _body(work: Work, leaving: Sequence[_Leaving]) -> str:
    parts = [
        "These copies of your data will be deleted, none before the day that is given. What is on other storage stays",
        "there, and a copy is deleted only if another is proved at that moment.",
        "",
    ]
    by_scan: dict[str, list[_Leaving]] = {}
    for each in leaving:
        by_scan.setdefault(each.scan.id, []).append(each)
    for some in by_scan.values():
        parts += [*_paragraph(work, some), ""]
    return "\n".join(parts)


def _paragraph(work: Work, leaving: Sequence[_Leaving]) -> Iterator[str]:
    scan = leaving[0].scan
    title = "" if scan.export_controlled else scan.facts.get("title")
    yield _subject_of(scan) + (f" ({title})" if isinstance(title, str) and title else "")
    for each in leaving:
        size = f"{each.copy.size / 1e9:.3f} GB"
        yield f"  {day(each.at)}: {each.copy.dataset} at {named(work, each.copy)}, {size}"
        for other in _others(work, each.copy):
            yield f"      also at {named(work, other)}, verified on {day(other.evidence_at)}"
    until = day(max(each.at for each in leaving) + PROLONGED_DAYS * DAY)
    command = shlex.join(["beamline", "hold", scan.id, "--why", "still needed", "--until", until])
    yield f"  To keep them for longer: {command}"


def _subject_of(scan: Scan) -> str:
    return f"scan {scan.id}" if scan.export_controlled else scan.path.text


def _others(work: Work, copy: CopyRecord) -> Sequence[CopyRecord]:
    return [
        other
        for other in work.ledger.copies.of_scan(copy.scan_id)
        if (other.dataset, other.version, other.state) == (copy.dataset, copy.version, CopyState.PRESENT)
        and other.id != copy.id
    ]
