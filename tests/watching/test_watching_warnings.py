"""Owners are told of deletions, once and in time; and nothing is deleted of which they were not told."""

from __future__ import annotations

import shlex
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from post_office import LOGIN, PostOffice, make_certificate, only_with_password
from watch_room import Clock, Room

from orchestration.config import smtp_login
from orchestration.errors import ConfigError, DeletionUnproven, MailRefused, ServiceUnavailable
from orchestration.flows.mailing import send_notices
from orchestration.flows.nightly import known
from orchestration.flows.proving import demand_due, due_at
from orchestration.flows.warning import Warnings, warn_owners
from orchestration.ledger.copy import CopyRecord, Role
from orchestration.mail import Letter, Mailer
from orchestration.retention import Finding, survey

DAY = 86400.0
LETTER = Letter(key="k", addresses=("a@example.org",), subject="s", body="b")
RULE = {"after_days": 10, "warn_days": 5, "requires": {"any_of": ["archive"]}}


@pytest.fixture
def office() -> Iterator[PostOffice]:
    found = PostOffice()
    with found.open():
        yield found


def furnish(make_room: Callable[..., Room], office: PostOffice, **notify: Any) -> Room:
    return make_room(retention={"server": RULE}, notify=office.settings(**notify))


def leaving(room: Room, path: str = "raw/a.h5", *, days: float = 2.0, **facts: Any) -> CopyRecord:
    """A copy at the server that is due in so many days, with another at the archive."""
    room.put("archive", path)
    copy = room.put("server", path, delete_after=room.clock() + days * DAY, verified_at=room.clock() - 20 * DAY)
    room.ledger.scans.learn(copy.scan_id, {"title": "tooth", **facts})
    return copy


def tell(room: Room) -> Warnings:
    warnings = warn_owners(room.work)
    send_notices(room.work)
    return warnings


def test_a_message_says_what_will_be_deleted_when_where_else_it_is_and_how_to_keep_it(
    make_room: Callable[..., Room], office: PostOffice
) -> None:
    room = furnish(make_room, office)
    copy = leaving(room, email="ada@example.org")
    tell(room)
    (letter,), (text,) = office.letters, office.texts()
    assert office.recipients == [["ada@example.org"]]
    assert letter["From"] == "beamline@example.org"
    day = time.strftime("%Y-%m-%d", time.localtime(room.clock() + 5 * DAY))
    assert f"{day}: raw at server:raw/a.h5" in text
    assert "also at archive:raw/a.h5" in text
    (command,) = [line.partition(": ")[2] for line in text.splitlines() if "To keep them" in line]
    words = shlex.split(command)
    assert words[:3] == ["beamline", "hold", copy.scan_id]
    assert "--until" in words


def test_one_message_a_day_tells_an_owner_of_all(
    make_room: Callable[..., Room], office: PostOffice, clock: Clock
) -> None:
    room = furnish(make_room, office)
    for number in range(3):
        leaving(room, f"raw/ada{number}.h5", email="ada@example.org")
    leaving(room, "raw/bob.h5", email="bob@example.org")
    leaving(room, "raw/far.h5", days=30, email="ada@example.org")
    assert (tell(room).messages, len(office.letters)) == (2, 2)
    assert sum(text.count("raw at server") for text in office.texts()) == 4
    leaving(room, "raw/late.h5", email="ada@example.org")
    assert (tell(room).left, len(office.letters)) == (1, 2)  # of what is found later the same day, tomorrow
    clock.days(1)
    tell(room)
    assert len(office.letters) == 3
    assert "late" in office.texts()[-1]
    assert "ada0" not in office.texts()[-1]  # once


@pytest.mark.parametrize(
    ("notify", "facts", "address"),
    [
        ({"owners": {"ALS-1": ["group@example.org"]}}, {"proposal": "ALS-1", "email": "a@example.org"}, "group"),
        ({}, {"proposal": "ALS-1", "email": "a@example.org"}, "a"),
        ({"owners": {"foster202603": ["group@example.org"]}}, {"proposal": "1", "experiment": "foster202603"}, "group"),
        ({"owners": {"ALS-2": ["group@example.org"]}}, {"proposal": "ALS-1", "owned_by": "ALS-2"}, "group"),
        ({"owners": {"ALS-1": ["group@example.org"]}}, {"proposal": "ALS-1", "owner_email": "b@example.org"}, "b"),
        ({"beamlines": {"bl": ["staff@example.org"]}}, {"email": "nonsense"}, "staff"),
        ({}, {}, "operator"),
    ],
)
def test_owners_are_known_by_the_settings_then_by_the_scan_then_by_the_beamline(
    make_room: Callable[..., Room],
    office: PostOffice,
    notify: Mapping[str, Any],
    facts: Mapping[str, Any],
    address: str,
) -> None:
    room = furnish(make_room, office, **notify)
    leaving(room, **facts)
    tell(room)
    assert office.recipients == [[f"{address}@example.org"]]


def test_no_copy_is_deleted_before_its_owner_was_sent_a_warning_and_has_had_his_days(
    make_room: Callable[..., Room], office: PostOffice, clock: Clock
) -> None:
    room = furnish(make_room, office)
    copy = leaving(room, days=-3)  # overdue
    with pytest.raises(DeletionUnproven, match="its owner has not been warned"):
        demand_due(room.work, copy)
    assert found(room) == Finding.UNWARNED
    clock.days(1)
    with pytest.raises(DeletionUnproven):
        demand_due(room.work, copy)
    office.busy = True
    tell(room)
    assert office.letters == []
    clock.days(20)
    with pytest.raises(DeletionUnproven):
        demand_due(room.work, copy)
    office.busy = False
    tell(room)
    due = due_at(room.work, copy)
    assert due == pytest.approx(room.clock() + 5 * DAY, abs=60)
    clock.days(5.1)
    demand_due(room.work, copy)
    assert found(room) == Finding.DUE


def found(room: Room) -> Finding:
    """What the nightly sweep thinks of the copy."""
    before = room.clock()
    (decision,) = survey(
        room.ledger.due.scans(before),
        settings=room.work.settings,
        days=lambda rule: rule.after_days,
        known=known(room.ledger, catalogue=False),
        before=before,
    )
    return decision.finding


def test_a_server_that_is_down_delays_a_warning_and_loses_none(make_room: Callable[..., Room], clock: Clock) -> None:
    office = PostOffice()
    room = furnish(make_room, office)
    leaving(room, email="ada@example.org")
    warn_owners(room.work)
    post = send_notices(room.work)
    assert (post.sent, post.left) == ([], 1)
    assert "no mail server listens there" in room.ledger.notices.unsent()[0].trouble
    clock.days(1)
    leaving(room, "raw/b.h5", email="bob@example.org")
    with office.open():
        tell(room)
    assert office.recipients == [["ada@example.org"], ["bob@example.org"]]
    assert room.ledger.notices.unsent() == []


def test_a_warning_that_was_sent_and_not_noted_is_sent_again_as_the_same_message(
    make_room: Callable[..., Room], office: PostOffice
) -> None:
    """Killed between the two; readers of mail show one message of one id."""
    room = furnish(make_room, office)
    leaving(room)
    warn_owners(room.work)
    (notice,) = room.ledger.notices.unsent()
    letter = Letter(key=notice.key, addresses=notice.addresses, subject=notice.subject, body=notice.body)
    Mailer(settings=room.work.settings.notify).send(letter)
    send_notices(room.work)
    assert len({letter["Message-ID"] for letter in office.letters}) == 1
    assert len(office.letters) == 2


def test_what_an_address_does_not_take_the_operators_get(make_room: Callable[..., Room], office: PostOffice) -> None:
    room = furnish(make_room, office)
    office.unknown.add("gone@example.org")
    copy = leaving(room, email="gone@example.org")
    tell(room)
    assert office.recipients == [["operator@example.org"]]
    assert office.texts()[0].startswith("This was meant for gone@example.org")
    assert room.ledger.notices.warned_at(copy) is not None


def test_what_is_held_is_not_warned_of_and_what_is_made_again_is_warned_of_again(
    make_room: Callable[..., Room], office: PostOffice, clock: Clock
) -> None:
    room = furnish(make_room, office)
    copy = leaving(room)
    room.ledger.holds.place(copy.scan_id, why="paper", who="ada", until=room.clock() + DAY)
    assert tell(room).copies == 0
    clock.days(1.1)
    assert tell(room).copies == 1
    again = room.put("server", "raw/a.h5", version="2", role=Role.REPLICA)
    assert again.generation == 2
    assert room.ledger.notices.warned_at(again) is None


def test_of_export_controlled_data_mail_tells_no_name(make_room: Callable[..., Room], office: PostOffice) -> None:
    room = furnish(make_room, office)
    copy = leaving(room, "raw/secret sample.h5")
    scan = room.ledger.scans.get(copy.scan_id)
    room.ledger.scans.register(beamline=scan.beamline, path=scan.path, export_controlled=True)
    tell(room)
    assert "secret" not in office.texts()[0]
    assert "tooth" not in office.texts()[0]
    assert copy.scan_id in office.texts()[0]


def test_alarms_go_to_the_operators_once_a_day_for_each_subject(
    make_room: Callable[..., Room], office: PostOffice, clock: Clock
) -> None:
    room = furnish(make_room, office)
    for day in range(2):
        for number in range(2):
            room.put("server", f"raw/{day}{number}.h5")
            room.file("server", f"raw/{day}{number}.h5").unlink()
            room.look()
            send_notices(room.work)
            room.ledger.inventory.begin("server")
        clock.days(1)
    assert [letter["Subject"] for letter in office.letters] == ["Alarm: copies that are missing"] * 2
    assert "server:raw/00.h5" in office.texts()[0]


def test_a_server_that_wants_a_password_gets_it_from_the_environment_and_encrypted(
    make_room: Callable[..., Room], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    office = PostOffice()
    room = furnish(make_room, office, tls="starttls")
    leaving(room)
    warn_owners(room.work)
    certificate = make_certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with office.open(authenticator=only_with_password, auth_required=True, tls_context=context, require_starttls=True):
        assert send_notices(room.work).left == 1
        monkeypatch.setenv("SMTP_USER", LOGIN[0])
        monkeypatch.setenv("SMTP_PASSWORD", "wrong")
        assert "does not let us in" in send_notices(room.work).trouble[0]
        monkeypatch.setenv("SMTP_PASSWORD", LOGIN[1])
        assert send_notices(room.work).left == 0
    plain = room.work.settings.notify.model_copy(update={"tls": "none"})
    with pytest.raises(ConfigError, match="unencrypted"):
        Mailer(settings=plain, login=smtp_login()).send(LETTER)


def test_each_answer_of_a_mail_server_has_its_error(make_room: Callable[..., Room], office: PostOffice) -> None:
    room = furnish(make_room, office)
    office.unknown.add("a@example.org")
    with pytest.raises(MailRefused, match="550"):
        Mailer(settings=room.work.settings.notify).send(LETTER)
    plain = room.work.settings.notify.model_copy(update={"tls": "starttls"})
    with pytest.raises(ConfigError, match=r"notify\.tls"):
        Mailer(settings=plain).send(LETTER)
    nowhere = room.work.settings.notify.model_copy(update={"smtp_port": 9})
    with pytest.raises(ServiceUnavailable):
        Mailer(settings=nowhere).send(LETTER)


def test_two_addresses_of_which_one_is_refused_get_one_letter(
    make_room: Callable[..., Room], office: PostOffice
) -> None:
    room = furnish(make_room, office)
    office.unknown.add("b@example.org")
    letter = Letter(key="k", addresses=("a@example.org", "b@example.org"), subject="two\nlines", body="b")
    assert Mailer(settings=room.work.settings.notify).send(letter) == ["b@example.org"]
    assert office.letters[0]["Subject"] == "two lines"
