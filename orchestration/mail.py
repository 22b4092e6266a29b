"""Mail, by a server that speaks SMTP."""

from __future__ import annotations

import base64
import hashlib
import smtplib
import socket
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from email.message import EmailMessage
from email.utils import formatdate

from pydantic import SecretStr

from orchestration.config import NotifySettings
from orchestration.errors import ConfigError, MailRefused, NotSetUp, ServiceUnavailable

_FINE = 250
_AUTHENTICATION = {530, 534, 535, 538}


@dataclass(frozen=True, kw_only=True)
class Letter:
    """One message. The same `key` is the same message: readers show it once, should it be sent twice."""

    key: str
    addresses: tuple[str, ...]
    subject: str
    body: str

    def message(self, sender: str) -> EmailMessage:
        message = EmailMessage()
        message["From"], message["To"] = sender, ", ".join(self.addresses)
        message["Subject"] = " ".join(self.subject.split())
        message["Date"] = formatdate(localtime=True)
        name = hashlib.sha256(self.key.encode()).hexdigest()[:32]
        message["Message-ID"] = f"<{name}@{sender.partition('@')[2]}>"
        message["Auto-Submitted"] = "auto-generated"  # so that no out-of-office note comes back
        message.set_content(self.body)
        return message


@dataclass(frozen=True, kw_only=True)
class Mailer:
    """`login` is the account at the mail server; None where it takes mail without."""

    settings: NotifySettings
    login: tuple[str, SecretStr] | None = None

    def send(self, letter: Letter) -> Sequence[str]:
        """Those of its addresses that were refused, while others were not.

        Raises:
            NotSetUp: if there is no mail server.
            ServiceUnavailable: if it does not answer, or not now: nothing is known of the letter.
            MailRefused: if it takes the letter for none of the addresses.
            ConfigError: if it does not let us in.
        """
        with self._speaking(), self._connected() as server:
            return [*server.send_message(letter.message(self.settings.sender), to_addrs=letter.addresses)]

    def greet(self) -> str:
        """Go all the way but for a letter: connect, encrypt, sign in, name the sender, and take that back.

        Raises:
            NotSetUp, ServiceUnavailable, MailRefused, ConfigError: as `send`.
        """
        with self._speaking(), self._connected() as server:
            server.ehlo_or_helo_if_needed()
            code, said = server.mail(self.settings.sender)
            if code != _FINE:
                raise smtplib.SMTPResponseException(code, said)
            server.rset()
        encrypted = {"starttls": "encrypted by STARTTLS", "implicit": "encrypted", "none": "not encrypted"}
        who = "no account" if self.login is None else f"signed in as {self.login[0]}"
        return f"{self._where}, {encrypted[self.settings.tls]}, {who}, takes mail from {self.settings.sender}"

    @property
    def _where(self) -> str:
        return f"{self.settings.smtp_host}:{self.settings.smtp_port}"

    @contextmanager
    def _connected(self) -> Iterator[smtplib.SMTP]:
        wanted, host = self.settings, self.settings.smtp_host
        if host is None:
            raise NotSetUp("no mail server is set", where="notify.smtp_host", next_step="set it in config.yml")
        if self.login is not None and wanted.tls == "none":
            raise ConfigError(
                "a password would go to the mail server unencrypted",
                where="notify.tls",
                next_step="set `notify.tls` to `starttls` or `implicit`, or unset SMTP_USER",
            )
        context = ssl.create_default_context()
        if wanted.tls == "implicit":
            server: smtplib.SMTP = smtplib.SMTP_SSL(
                host, wanted.smtp_port, timeout=wanted.timeout_seconds, context=context
            )
        else:
            server = smtplib.SMTP(host, wanted.smtp_port, timeout=wanted.timeout_seconds)
        with server:
            if wanted.tls == "starttls":
                server.starttls(context=context)
            if self.login is not None:
                user, password = self.login
                server.login(user, password.get_secret_value())
            yield server

    @contextmanager
    def _speaking(self) -> Iterator[None]:
        try:
            yield
        except smtplib.SMTPRecipientsRefused as error:
            codes = {address: code for address, (code, _) in error.recipients.items()}
            if all(code >= 500 for code in codes.values()):
                refused = ", ".join(f"{address} ({code})" for address, code in codes.items())
                raise MailRefused(f"the mail server does not take mail for {refused}", where=self._where) from error
            raise self._silence(error) from error
        except smtplib.SMTPNotSupportedError as error:
            raise ConfigError(
                f"the mail server cannot do what `notify` asks for: {error}",
                where=self._where,
                next_step="correct `notify.tls`; a server that knows no accounts wants no SMTP_USER",
            ) from error
        except smtplib.SMTPResponseException as error:
            raise self._answer(error) from error
        except ssl.SSLEOFError as error:
            raise self._silence(error) from error
        except ssl.SSLError as error:
            raise self._insecure(error) from error
        except UnicodeError as error:
            raise ConfigError(
                f"a name, an address or a password cannot be told to a mail server: {error.__class__.__name__}",
                where=self._where,
                next_step="use plain ASCII characters in `notify`, SMTP_USER and SMTP_PASSWORD",
            ) from None  # which would show what it is
        except (smtplib.SMTPException, OSError) as error:
            raise self._silence(error) from error

    def _answer(self, error: smtplib.SMTPResponseException) -> ConfigError | MailRefused | ServiceUnavailable:
        said = error.smtp_error.decode(errors="replace") if isinstance(error.smtp_error, bytes) else error.smtp_error
        said = self._without_secrets(said)
        if error.smtp_code in _AUTHENTICATION:
            return ConfigError(
                f"the mail server does not let us in ({error.smtp_code}): {said}",
                where=self._where,
                next_step="correct SMTP_USER and SMTP_PASSWORD in the environment",
            )
        if error.smtp_code >= 500:
            return MailRefused(f"the mail server refuses the message ({error.smtp_code}): {said}", where=self._where)
        return self._later(f"({error.smtp_code}) {said}")

    def _insecure(self, error: ssl.SSLError) -> ConfigError:
        if isinstance(error, ssl.SSLCertVerificationError):
            return ConfigError(
                f"the certificate of the mail server is not trusted: {error.verify_message}",
                where=self._where,
                next_step="set `notify.smtp_host` to the name in its certificate, or SSL_CERT_FILE to a file with who "
                "signed it",
            )
        return ConfigError(
            f"the connection to the mail server could not be encrypted: {error.reason or error}",
            where=self._where,
            next_step="correct `notify.tls` and `notify.smtp_port`: usually `starttls` at 587, `implicit` at 465",
        )

    def _silence(self, error: Exception) -> ServiceUnavailable:
        match error:
            case socket.gaierror():
                return ServiceUnavailable(
                    f"there is no host of the name {self.settings.smtp_host}: {error.strerror}",
                    where=self._where,
                    next_step="correct `notify.smtp_host`, or ask why the name is not known here",
                )
            case ConnectionRefusedError():
                return ServiceUnavailable(
                    "no mail server listens there",
                    where=self._where,
                    next_step="correct `notify.smtp_host` and `notify.smtp_port`, or start it",
                )
            case TimeoutError():
                return self._later(f"no answer within {self.settings.timeout_seconds:g} s")
            case _:
                return self._later(self._without_secrets(str(error)))

    def _later(self, why: str) -> ServiceUnavailable:
        return ServiceUnavailable(f"the mail server does not take mail now: {why}", where=self._where)

    def _without_secrets(self, said: str) -> str:
        """A server may say back what it was told."""
        if self.login is None:
            return said
        user, password = self.login[0], self.login[1].get_secret_value()
        told = [password, *(_encoded(text) for text in (password, f"\0{user}\0{password}"))]
        for secret in filter(None, told):
            said = said.replace(secret, "***")
        return said


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
