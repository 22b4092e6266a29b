"""Sending what the ledger has for people: each notice once, whatever is killed, and later if the server is down."""

from __future__ import annotations

from dataclasses import dataclass, field

from orchestration.config import smtp_login
from orchestration.errors import ConfigError, MailRefused, ServiceUnavailable
from orchestration.flows.work import Work
from orchestration.ledger.notices import Notice
from orchestration.ledger.service import Document, Json
from orchestration.mail import Letter, Mailer


@dataclass
class Post:
    """What came of it."""

    sent: list[str] = field(default_factory=list)
    """The subjects."""
    left: int = 0
    """Notices that wait for the next pass."""
    trouble: list[str] = field(default_factory=list)

    def document(self) -> Document:
        sent: list[Json] = [*self.sent]
        trouble: list[Json] = [*self.trouble]
        return {"sent": sent, "left": self.left, "trouble": trouble}


def send_notices(work: Work) -> Post:
    """All that was not sent so far. A server that is silent is left until the next pass."""
    post, unsent = Post(), work.ledger.notices.unsent()
    if work.settings.notify.smtp_host is None:
        post.left = len(unsent)
        return post
    for number, notice in enumerate(unsent):
        try:
            _send(work, Mailer(settings=work.settings.notify, login=smtp_login()), notice)
        except (ServiceUnavailable, ConfigError) as silence:
            work.ledger.notices.failed(notice, silence.what)
            work.logger.warning("%d notices wait: %s", len(unsent) - number, silence)
            post.trouble.append(silence.what)
            post.left += len(unsent) - number
            break
        except MailRefused as refusal:
            work.ledger.notices.failed(notice, refusal.what)
            work.logger.warning("%r was not sent: %s", notice.subject, refusal)
            post.trouble.append(refusal.what)
            post.left += 1
        else:
            post.sent.append(notice.subject)
    return post


def _send(work: Work, mailer: Mailer, notice: Notice) -> None:
    """What is refused for those whom it was meant for, operators get, who know whom else to tell."""
    operators, notices = work.settings.notify.operators, work.ledger.notices
    try:
        refused = mailer.send(_letter(notice, notice.addresses))
    except MailRefused as refusal:
        if set(notice.addresses) == set(operators):
            raise
        work.logger.warning("%r goes to the operators: %s", notice.subject, refusal)
        notices.readdress(notice, operators, trouble=f"for {', '.join(notice.addresses)}: {refusal.what}")
        mailer.send(_letter(notice, operators, first=f"This was meant for {', '.join(notice.addresses)}.\n\n"))
        refused = notice.addresses
    notices.sent(notice, trouble=f"refused: {', '.join(refused)}" if refused else "")


def _letter(notice: Notice, addresses: tuple[str, ...], *, first: str = "") -> Letter:
    return Letter(key=notice.key, addresses=addresses, subject=notice.subject, body=first + notice.body)
