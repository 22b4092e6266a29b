"""A mail server on this machine that keeps what it gets, and can be told to refuse."""

from __future__ import annotations

import email
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.message import Message
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from orchestration.sandbox import ports

LOGIN = ("beamline", "open sesame")


@dataclass
class PostOffice:
    port: int = field(default_factory=ports.take)
    letters: list[Message] = field(default_factory=list)
    recipients: list[list[str]] = field(default_factory=list)
    unknown: set[str] = field(default_factory=set)
    """Addresses that it has never heard of."""
    busy: bool = False

    async def handle_RCPT(  # the name is the library's
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if address in self.unknown:
            return "550 no such user"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        if self.busy:
            return "451 come back later"
        content = envelope.content
        assert isinstance(content, bytes)
        self.letters.append(email.message_from_bytes(content))
        self.recipients.append(list(envelope.rcpt_tos))
        return "250 OK"

    @contextmanager
    def open(self, **options: Any) -> Iterator[None]:
        controller = Controller(self, hostname="127.0.0.1", port=self.port, **options)
        controller.start()
        try:
            yield
        finally:
            controller.stop()

    def settings(self, **more: Any) -> dict[str, Any]:
        """The section `notify`."""
        return {
            "smtp_host": "127.0.0.1",
            "smtp_port": self.port,
            "tls": "none",
            "timeout_seconds": 5,
            "sender": "beamline@example.org",
            "operators": ["operator@example.org"],
            **more,
        }

    def texts(self) -> list[str]:
        return [str(letter.get_payload(decode=True).decode()) for letter in self.letters]  # type: ignore[union-attr]


def only_with_password(server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any) -> AuthResult:
    assert isinstance(data, LoginPassword)
    known = (data.login.decode(), data.password.decode()) == LOGIN
    return AuthResult(success=known, handled=known)


def make_certificate(folder: Path) -> Path:
    """Of 127.0.0.1, signed by itself, with its key in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path = folder / "mail.pem"
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(key.private_bytes(*form) + certificate.public_bytes(serialization.Encoding.PEM))
    return path
