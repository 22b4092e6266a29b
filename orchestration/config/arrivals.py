"""When data of a beamline is expected, and where."""

from __future__ import annotations

import re
from datetime import datetime, time, timedelta
from typing import Literal, TypeAlias
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, PositiveFloat, field_validator, model_validator

from orchestration.config.base import Section

Day: TypeAlias = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]

DAYS: tuple[Day, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

_BETWEEN = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-(?:([01]\d|2[0-3]):([0-5]\d)|24:00)")

LONGEST = timedelta(days=60)
"""Silence that is longer is not measured."""


class Arrivals(Section):
    """What is an alarm: no new scan for too long while the beamline runs, and scans whose copies do not arrive."""

    within_hours: PositiveFloat | None = Field(
        default=None, description="A new scan is expected within so many hours of the time between; left out: never."
    )
    between: str = Field(
        default="00:00-24:00",
        description="Time of day in which scans are taken, such as `08:00-20:00` or `20:00-04:00`.",
    )
    days: tuple[Day, ...] = Field(default=DAYS, min_length=1, description="Days on which that time begins.")
    timezone: str = Field(default="UTC", description="Of these hours and days, such as `America/Los_Angeles`.")
    running: bool = Field(default=True, description="Whether the beamline runs, where no variable says so.")
    running_variable: str | None = Field(
        default=None, description="Prefect Variable, true or false, with which operators say whether it runs."
    )
    copies_within_hours: PositiveFloat | None = Field(
        default=None, description="The copies of a scan are expected so many hours after it became known."
    )
    expected_at: tuple[str, ...] | None = Field(
        default=None, description="Endpoints of these copies; left out: `server` and `nersc` of the beamline."
    )

    @field_validator("between")
    @classmethod
    def _is_a_time(cls, value: str) -> str:
        found = _BETWEEN.fullmatch(value)
        if found is None:
            raise ValueError(f"`{value}` should be like `08:00-20:00`")
        if value.partition("-")[0] == value.partition("-")[2]:
            raise ValueError(f"`{value}` is no time at all; all day is `00:00-24:00`")
        return value

    @field_validator("timezone")
    @classmethod
    def _is_a_zone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ValueError(f"there is no time zone `{value}`: write it like `America/Los_Angeles`") from error
        return value

    @model_validator(mode="after")
    def _asks_for_something(self) -> Arrivals:
        if self.within_hours is None and self.copies_within_hours is None:
            raise ValueError("needs `within_hours`, `copies_within_hours`, or both")
        return self

    def expecting(self, now: float) -> bool:
        """Whether scans are taken at that time (seconds since the epoch)."""
        return self.hours(now - 1.0, now) > 0.0

    def hours(self, since: float, now: float) -> float:
        """How many of the hours in which scans are taken lie between two times."""
        zone = ZoneInfo(self.timezone)
        end = datetime.fromtimestamp(now, zone)
        begin = max(datetime.fromtimestamp(since, zone), end - LONGEST) if since > 0 else end - LONGEST
        total, day = 0.0, begin.date() - timedelta(days=1)  # a night that began yesterday
        while day <= end.date():
            if DAYS[day.weekday()] in self.days:
                first, last = self._edges(datetime.combine(day, time(), zone))
                total += max(0.0, min(last, now) - max(first, begin.timestamp()))
            day += timedelta(days=1)
        return total / 3600.0

    def _edges(self, midnight: datetime) -> tuple[float, float]:
        """The beginning and the end of the time that begins on a day, as its clocks tell them."""
        begin, _, end = self.between.partition("-")
        last = midnight + timedelta(days=1) if end == "24:00" or end < begin else midnight
        return _at(midnight, begin), _at(last, "00:00" if end == "24:00" else end)


def _at(midnight: datetime, clock: str) -> float:
    hour, _, minute = clock.partition(":")
    return midnight.replace(hour=int(hour), minute=int(minute)).timestamp()
