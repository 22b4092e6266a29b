"""What `beamline doctor` says of the mail server: each failure by itself, no secret, and no letter sent."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, Session
from click.testing import CliRunner
from post_office import LOGIN, PostOffice, make_certificate, only_with_password

from orchestration.commands.doctor import doctor
from orchestration.config import Settings
from orchestration.doctor.check import Check, Health
from orchestration.doctor.mail import mail_check


@pytest.fixture
def office() -> Iterator[PostOffice]:
    """It must get no letter."""
    found = PostOffice()
    yield found
    assert found.letters == []


@pytest.fixture(autouse=True)
def no_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "empty.env").touch()
    monkeypatch.setenv("BEAMLINE_ENV_FILE", str(tmp_path / "empty.env"))
    for name in ("SMTP_USER", "SMTP_PASSWORD"):
        monkeypatch.delenv(name, raising=False)


def look(office: PostOffice, **notify: Any) -> Check:
    return mail_check(Settings.model_validate({"notify": office.settings(**notify)}))


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    return make_certificate(tmp_path)


@pytest.fixture
def context(certificate: Path) -> ssl.SSLContext:
    found = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    found.load_cert_chain(certificate)
    return found


def sign_in(monkeypatch: pytest.MonkeyPatch, password: str = LOGIN[1]) -> None:
    monkeypatch.setenv("SMTP_USER", LOGIN[0])
    monkeypatch.setenv("SMTP_PASSWORD", password)


def test_a_server_that_takes_mail_works(office: PostOffice) -> None:
    with office.open():
        found = look(office)
    assert found.health is Health.WORKS
    assert found.note == (f"127.0.0.1:{office.port}, not encrypted, no account, takes mail from beamline@example.org")


def test_an_account_is_tried_where_the_connection_is_encrypted(
    office: PostOffice, certificate: Path, context: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    options: dict[str, Any] = {"authenticator": only_with_password, "auth_required": True, "tls_context": context}
    with office.open(require_starttls=True, **options):
        wanted = look(office, tls="starttls")
        assert wanted.health is Health.BROKEN
        assert wanted.note.startswith("the mail server does not let us in (530)")
        sign_in(monkeypatch, "wrong and long")
        refused = look(office, tls="starttls")
        assert refused.health is Health.BROKEN
        assert refused.note.startswith("the mail server does not let us in (535)")
        assert "SMTP_PASSWORD" in refused.remedy
        sign_in(monkeypatch)
        fine = look(office, tls="starttls")
        assert fine.health is Health.WORKS
        assert "encrypted by STARTTLS, signed in as beamline" in fine.note
        for each in (wanted, refused, fine):
            assert "wrong and long" not in str(each.document())
            assert LOGIN[1] not in str(each.document())
        unencrypted = look(office)
        assert "a password would go to the mail server unencrypted" in unencrypted.note


def test_what_a_server_says_back_of_a_password_is_not_shown(
    office: PostOffice, certificate: Path, context: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gossip(server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any) -> AuthResult:
        told = data.password.decode()
        return AuthResult(success=False, handled=False, message=f"535 5.7.8 not with {told}")

    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    sign_in(monkeypatch)
    with office.open(authenticator=gossip, tls_context=context, require_starttls=True):
        found = look(office, tls="starttls")
    assert found.note.startswith("the mail server does not let us in (535): 5.7.8 not with ***")
    assert LOGIN[1] not in str(found.document())


def test_a_password_that_cannot_be_told_is_not_shown(
    office: PostOffice, certificate: Path, context: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    sign_in(monkeypatch, "geheimnisträger")
    with office.open(authenticator=only_with_password, tls_context=context, require_starttls=True):
        found = look(office, tls="starttls")
    assert found.health is Health.BROKEN
    assert "plain ASCII" in found.remedy
    assert "träger" not in str(found.document())


def test_a_certificate_that_nobody_trusts_is_named(
    office: PostOffice, context: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign_in(monkeypatch)
    for tls, options in (("starttls", {"tls_context": context}), ("implicit", {"ssl_context": context})):
        with office.open(**options):
            found = look(office, tls=tls)
        assert found.health is Health.BROKEN
        assert found.note.startswith("the certificate of the mail server is not trusted: self-signed certificate")
        assert "SSL_CERT_FILE" in found.remedy


def test_a_certificate_of_another_name_is_named(
    office: PostOffice, certificate: Path, context: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with office.open(tls_context=context):
        found = look(office, tls="starttls", smtp_host="localhost")
    assert "is not trusted: Hostname mismatch" in found.note
    assert "notify.smtp_host" in found.remedy


def test_a_server_that_does_not_encrypt_is_named(office: PostOffice) -> None:
    with office.open():
        for tls in ("starttls", "implicit"):
            found = look(office, tls=tls)
            assert found.health is Health.BROKEN
            assert "notify.tls" in found.remedy, found


@pytest.mark.parametrize(
    ("notify", "said", "remedy"),
    [
        ({}, "no mail server listens there", "notify.smtp_port"),
        ({"smtp_host": "mail.invalid"}, "there is no host of the name mail.invalid", "notify.smtp_host"),
        ({"smtp_host": "mail..example"}, "cannot be told to a mail server", "ASCII"),
    ],
)
def test_a_server_that_is_not_there_is_named(
    office: PostOffice, notify: dict[str, Any], said: str, remedy: str
) -> None:
    found = look(office, **notify)
    assert found.health is Health.BROKEN
    assert said in found.note
    assert remedy in found.remedy


def test_a_server_that_takes_no_mail_from_the_sender_is_named(office: PostOffice) -> None:
    class Choosy(PostOffice):
        async def handle_MAIL(  # the name is the library's
            self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
        ) -> str:
            return "550 who is that?"

    choosy = Choosy(port=office.port)
    with choosy.open():
        found = look(office)
    assert "(550): who is that?" in found.note


def test_without_a_mail_server_it_is_not_set_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMTP_USER", "somebody")  # without a password
    found = mail_check(Settings())
    assert (found.health, found.note) == (Health.UNUSED, "no mail server is set (notify.smtp_host)")


def test_the_command_tells_it(office: PostOffice, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.yml").write_text(yaml.safe_dump({"notify": office.settings()}))
    monkeypatch.setenv("BEAMLINE_CONFIG", str(tmp_path / "config.yml"))
    broken = CliRunner().invoke(doctor, ["--only", "mail", "--json"])
    assert broken.exit_code == 1
    assert json.loads(broken.output)["checks"][0]["worst"] == "broken"
    with office.open():
        fine = CliRunner().invoke(doctor, ["--only", "mail"])
    assert fine.exit_code == 0, fine.output
    assert "ok mail" in fine.output
