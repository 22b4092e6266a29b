"""What NERSC says about itself, as the choice of a site sees it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from nersc_ground import Ground

from orchestration.conditions import Outage, SiteCondition, SiteState
from orchestration.errors import ConfigError
from orchestration.nersc.status import NerscStatus
from orchestration.times import clock

NOW = datetime.now(UTC).replace(microsecond=0)


@pytest.fixture
def status(ground: Ground) -> Iterator[NerscStatus]:
    ground.control.clear_outages()
    yield NerscStatus(site=ground.site, credentials=ground.credentials, keep=0.0)
    ground.control.end_maintenance()
    ground.control.clear_outages()


def test_a_machine_that_is_up_says_so_with_what_is_left_of_the_project(ground: Ground, status: NerscStatus) -> None:
    ground.control.turn(hours_left={"als": 12.5})
    assert status.condition() == SiteCondition(state=SiteState.UP, hours_left=12.5)
    assert status.trouble() == ""


@pytest.mark.parametrize("account", ["als", "als_g"])
def test_the_account_for_gpus_is_the_same_project(ground: Ground, account: str) -> None:
    site = ground.site.model_copy(update={"account": account, "constraint": "gpu"})
    assert NerscStatus(site=site, credentials=ground.credentials).condition().hours_left == 10_000.0


def test_hours_of_a_project_that_is_not_ours_are_not_known(ground: Ground) -> None:
    site = ground.site.model_copy(update={"project": "m1234"})
    assert NerscStatus(site=site, credentials=ground.credentials).condition().hours_left is None
    assert NerscStatus(site=ground.site).condition().hours_left is None


@pytest.mark.parametrize(
    ("said", "state", "takes"),
    [
        ("degraded", SiteState.DEGRADED, True),
        ("unavailable", SiteState.DOWN, False),
        ("other", SiteState.UNKNOWN, False),
    ],
)
def test_its_state_comes_with_its_notes(
    ground: Ground, status: NerscStatus, said: str, state: SiteState, takes: bool
) -> None:
    ground.control.set_status(said, notes=["slow file system"])
    try:
        found = status.condition()
    finally:
        ground.control.set_status("active", notes=[])
    assert (found.state, found.note, found.takes_work) == (state, "slow file system", takes)


def test_outages_that_are_not_over_are_told(ground: Ground, status: NerscStatus) -> None:
    planned = NOW + timedelta(days=2), NOW + timedelta(days=2, hours=8)
    ground.control.add_outage(*planned)
    ground.control.add_outage(NOW - timedelta(hours=1), NOW + timedelta(hours=1), status="Active", description="power")
    ground.control.add_outage(NOW - timedelta(days=9), NOW - timedelta(days=8), status="Completed")
    ground.control.add_outage(NOW + timedelta(days=5), NOW + timedelta(days=6), status="Cancelled")
    found = status.condition()
    assert [outage.what for outage in found.outages] == ["power", "Scheduled Maintenance"]
    start, end = (each.timestamp() for each in planned)
    assert found.outages[1] == Outage(start=start, end=end, what="Scheduled Maintenance")
    assert found.outage(start - 3600, start + 60) == found.outages[1]
    assert found.outage(start - 3600, start - 60) is None
    assert found.document()["state"] == "up"


def test_somebody_who_waits_is_told_until_when(ground: Ground, status: NerscStatus) -> None:
    ground.control.begin_maintenance("unavailable", "new switches")
    ground.control.add_outage(NOW, NOW + timedelta(hours=2), status="Active")
    assert f"down (new switches), planned to end at {clock((NOW + timedelta(hours=2)).timestamp())}" in status.trouble()


def test_a_status_page_that_does_not_answer_says_nothing(ground: Ground, status: NerscStatus) -> None:
    ground.facility.client.faults.add("GET .*/status", times=0)
    found = status.condition()
    assert found.state is SiteState.UNKNOWN
    assert "cannot serve now" in found.note
    assert not found.takes_work
    assert status.trouble() == ""


def test_a_site_that_does_not_let_us_in_is_a_setting_to_mend(ground: Ground, status: NerscStatus) -> None:
    ground.control.expire_client("sandboxclient")
    with pytest.raises(ConfigError, match="client expired"):
        status.condition()


def test_a_glance_is_kept_for_a_while(ground: Ground) -> None:
    kept, fresh = (NerscStatus(site=ground.site, keep=seconds) for seconds in (3600.0, 0.0))
    assert kept.glance().state is fresh.glance().state is SiteState.UP
    ground.control.set_status("unavailable")
    try:
        assert kept.glance().state is SiteState.UP
        assert fresh.glance().state is SiteState.DOWN
    finally:
        ground.control.set_status("active")
