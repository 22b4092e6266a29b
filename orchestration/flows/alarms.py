"""What operators must know: kept while a pass goes on, and told once."""

from __future__ import annotations

from dataclasses import dataclass, field

from orchestration.flows.work import Work
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
    """Those of one run, in the order in which they were raised."""

    work: Work
    raised: list[Alarm] = field(default_factory=list)

    def add(self, subject: str, text: str) -> None:
        self.work.logger.warning("%s: %s", subject, text)
        self.raised.append(Alarm(subject=subject, text=text))

    def document(self) -> list[Json]:
        return [each.document() for each in self.raised]
