"""Operators are told when data should have arrived and has not, and of nothing that need not have."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from pydantic import ValidationError
from watch_room import Clock, Room

from orchestration.config import Arrivals
from orchestration.flows.alarms import Alarms
from orchestration.flows.lateness import look_for_arrivals
from orchestration.ledger.owner import Owner
from orchestration.ledger.service import Document
from orchestration.paths import RelativePath

ZONE = ZoneInfo("America/Los_Angeles")


def at(text: str) -> float:
    """A time at the beamline."""
    return datetime.fromisoformat(text).replace(tzinfo=ZONE).timestamp()


def arrivals(**values: Any) -> Arrivals:
    return Arrivals.model_validate({"within_hours": 2, "timezone": "America/Los_Angeles", **values})


@pytest.mark.parametrize(
    ("between", "since", "now", "hours"),
    [
        ("08:00-20:00", "2026-11-30T07:00", "2026-11-30T09:30", 1.5),
        ("08:00-20:00", "2026-11-30T19:00", "2026-12-01T09:00", 2.0),
        ("08:00-20:00", "2026-11-30T21:00", "2026-11-30T23:00", 0.0),
        ("20:00-04:00", "2026-11-30T21:00", "2026-12-01T02:00", 5.0),
        ("20:00-04:00", "2026-12-01T03:00", "2026-12-01T21:00", 2.0),
        ("00:00-24:00", "2026-11-30T00:00", "2026-12-02T00:00", 48.0),
        ("00:00-24:00", "2026-03-08T00:00", "2026-03-09T00:00", 23.0),  # clocks are put forward
    ],
)
def test_only_hours_in_which_scans_are_taken_count(between: str, since: str, now: str, hours: float) -> None:
    assert arrivals(between=between).hours(at(since), at(now)) == pytest.approx(hours)


def test_days_on_which_nobody_measures_do_not_count() -> None:
    weekdays = arrivals(days=["mon", "tue", "wed", "thu", "fri"], between="08:00-20:00")
    assert weekdays.hours(at("2026-11-27T19:00"), at("2026-11-30T09:00")) == pytest.approx(2.0)  # over a weekend
    assert not weekdays.expecting(at("2026-11-28T12:00"))
    assert weekdays.expecting(at("2026-11-30T12:00"))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"between": "8-20"}, "should be like"),
        ({"between": "08:00-25:00"}, "should be like"),
        ({"between": "08:00-08:00"}, "no time at all"),
        ({"timezone": "Mars/Olympus"}, "no time zone"),
        ({"days": ["someday"]}, "days"),
        ({"within_hours": 0}, "within_hours"),
        ({"within_hours": None}, "needs `within_hours`"),
    ],
)
def test_what_cannot_be_meant_is_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        arrivals(**wrong)


def look(room: Room) -> list[str]:
    """The subjects of the alarms."""
    alarms = Alarms(room.work)
    look_for_arrivals(room.work, alarms)
    return [alarm.subject for alarm in alarms.raised]


def scan(room: Room, path: str = "raw/a.h5", *, controlled: bool = False) -> str:
    return room.ledger.scans.register(beamline="bl", path=RelativePath(path), export_controlled=controlled).id


def test_a_beamline_without_new_scans_is_an_alarm_until_one_comes(make_room: Callable[..., Room], clock: Clock) -> None:
    room = make_room(beamline={"arrivals": {"within_hours": 2}})
    scan(room)
    assert look(room) == []
    clock.days(3 / 24)
    assert look(room) == ["no scans from bl"]
    scan(room, "raw/b.h5")
    assert look(room) == []


def test_a_beamline_that_does_not_run_takes_no_scans(make_room: Callable[..., Room], clock: Clock) -> None:
    room = make_room(beamline={"arrivals": {"within_hours": 2, "running": False}})
    clock.days(3)
    assert look(room) == []


def test_a_beamline_that_has_nothing_to_say_about_arrivals_is_not_watched(room: Room, clock: Clock) -> None:
    clock.days(100)
    assert look(room) == []


def test_a_scan_without_its_copies_after_some_hours_is_an_alarm_for_each_place(
    make_room: Callable[..., Room], clock: Clock
) -> None:
    room = make_room(beamline={"arrivals": {"copies_within_hours": 4}})
    room.put("server", "raw/a.h5")
    scan(room, "raw/b.h5")
    assert look(room) == []
    clock.days(5 / 24)
    assert look(room) == ["scans of bl that are not at server", "scans of bl that are not at archive"]
    room.put("archive", "raw/a.h5")
    room.put("archive", "raw/b.h5")
    assert look(room) == ["scans of bl that are not at server"]
    clock.days(30)
    assert look(room) == []  # no news


def test_what_was_there_and_was_deleted_since_has_arrived(make_room: Callable[..., Room], clock: Clock) -> None:
    room = make_room(beamline={"arrivals": {"copies_within_hours": 4, "expected_at": ["server"]}})
    room.ledger.copies.deleted(room.put("server", "raw/a.h5"))
    clock.days(1)
    assert look(room) == []


def test_what_may_not_go_there_or_was_not_to_is_not_late(make_room: Callable[..., Room], clock: Clock) -> None:
    room = make_room(beamline={"arrivals": {"copies_within_hours": 4, "expected_at": ["archive"]}})
    scan(room, "raw/secret.h5", controlled=True)
    here = scan(room, "raw/here.h5")
    parameters: Document = {"file_path": "raw/here.h5", "send_to_nersc": False}
    room.ledger.runs.begin(run_id="1", flow="new", parameters=parameters, owner=Owner.here())
    room.ledger.runs.carries("1", here)
    clock.days(1)
    assert look(room) == []


def test_where_acquisition_writes_itself_nothing_has_to_arrive(make_room: Callable[..., Room], clock: Clock) -> None:
    room = make_room(beamline={"server": "detector", "nersc": None, "arrivals": {"copies_within_hours": 4}})
    scan(room)
    clock.days(1)
    assert look(room) == []
