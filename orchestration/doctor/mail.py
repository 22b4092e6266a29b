"""The mail server: whether it would take mail now. None is sent."""

from __future__ import annotations

from pydantic import SecretStr

from orchestration.config import Settings, smtp_login
from orchestration.doctor.check import Check, attempt
from orchestration.mail import Mailer


def mail_check(settings: Settings) -> Check:
    return attempt("mail", lambda: Mailer(settings=settings.notify, login=_login(settings)).greet())


def _login(settings: Settings) -> tuple[str, SecretStr] | None:
    """Not asked for where there is no mail server: what is not there first is what a person is told of."""
    return None if settings.notify.smtp_host is None else smtp_login()
