"""What operators must know: in the log and the result of the run, and by mail once a day per subject."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime

from orchestration.flows.work import Work
from orchestration.ledger.copy import CopyRecord
from orchestration.ledger.notices import NoticeKind
from orchestration.ledger.service import Json


@dataclass(frozen=True, kw_only=True)
class Alarm:
    """`subject` is what it is about: of one subject people are written to at most once a day."""

    subject: str
    text: str

    def document(self) -> Json:
        return {"subject": self.subject, "text": self.text}


@dataclass
class Alarms:
    """Those of one run, in the order in which they were raised. What is to be mailed is written down at once."""

    work: Work
    raised: list[Alarm] = field(default_factory=list)

    def add(self, subject: str, text: str) -> None:
        self.work.logger.warning("%s: %s", subject, text)
        self.raised.append(Alarm(subject=subject, text=text))
        if self.work.settings.notify.smtp_host is None:
            return
        day = datetime.fromtimestamp(self.work.ledger.now(), UTC).date()
        self.work.ledger.notices.write(
            key=f"alarm {subject} {day}",
            kind=NoticeKind.ALARM,
            addresses=self.work.settings.notify.operators,
            subject=f"Alarm: {subject}",
            body=f"{text}\n\nFrom run {self.work.run_id} of watch_copies. There is no other mail of this today.\n",
        )

    def document(self) -> list[Json]:
        return [each.document() for each in self.raised]


def named(work: Work, copy: CopyRecord) -> str:
    """``endpoint:path``; of export-controlled data not even the name leaves, and mail does."""
    hidden = work.ledger.scans.get(copy.scan_id).export_controlled
    return f"{copy.endpoint}:(scan {copy.scan_id})" if hidden else f"{copy.endpoint}:{copy.path}"
