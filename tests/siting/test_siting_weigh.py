"""Which site is chosen, and what is said about each: a table, and what holds for every input."""

from __future__ import annotations

import dataclasses
import itertools
import time
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestration.conditions import Outage, SiteCondition, SiteState
from orchestration.flows.siting import Prospect, weigh
from orchestration.ledger.decisions import Verdict
from orchestration.policy import Zone

NOW = 1_800_000_000.0
HOUR = 3600.0


@pytest.fixture(autouse=True)
def _universal_time() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TZ", "UTC")
        time.tzset()
        yield
    time.tzset()


def prospect(
    site: str,
    *,
    state: SiteState = SiteState.UP,
    note: str = "",
    outages: tuple[Outage, ...] = (),
    hours: float | None = None,
    needs: float = 1.0,
    queue: float | None = None,
    copying: float = 0.0,
    zone: Zone = Zone.EXTERNAL,
    left: str = "",
) -> Prospect:
    return Prospect(
        site=site,
        zone=zone,
        condition=SiteCondition(state=state, note=note, outages=outages, hours_left=hours),
        job_seconds=HOUR,
        node_hours=needs,
        queue_seconds=queue,
        copy_seconds=copying,
        data_there=copying == 0.0,
        left=left,
    )


MAINTENANCE = (Outage(start=NOW + 1800, end=NOW + 4 * HOUR, what="network"),)

TABLE: dict[str, tuple[list[Prospect], str | None]] = {
    "the first of those that are alike": ([prospect("a"), prospect("b")], "a"),
    "not one that is down": ([prospect("a", state=SiteState.DOWN), prospect("b")], "b"),
    "one that is degraded only where no other is up": (
        [prospect("a", state=SiteState.DEGRADED), prospect("b", queue=9000)],
        "b",
    ),
    "a degraded one before one that does not answer": (
        [prospect("a", state=SiteState.UNKNOWN), prospect("b", state=SiteState.DEGRADED)],
        "b",
    ),
    "one that does not answer rather than none": (
        [prospect("a", state=SiteState.UNKNOWN), prospect("b", state=SiteState.DOWN)],
        "a",
    ),
    "not one whose maintenance comes before the job could end": (
        [prospect("a", outages=MAINTENANCE), prospect("b")],
        "b",
    ),
    "one whose maintenance comes after the job": (
        [prospect("a", outages=(Outage(start=NOW + 2 * HOUR),)), prospect("b")],
        "a",
    ),
    "not one whose queue and job end in the maintenance": (
        [prospect("a", queue=1.5 * HOUR, outages=(Outage(start=NOW + 2 * HOUR),)), prospect("b")],
        "b",
    ),
    "one whose maintenance is over": ([prospect("a", outages=(Outage(start=NOW - HOUR, end=NOW - 1),))], "a"),
    "not one without hours": ([prospect("a", hours=0.5), prospect("b", hours=5)], "b"),
    "one with just enough hours": ([prospect("a", hours=1.0), prospect("b")], "a"),
    "the next one if its queue is much shorter": ([prospect("a", queue=1000), prospect("b", queue=100)], "b"),
    "the preferred one if the other is but a little sooner": (
        [prospect("a", queue=600), prospect("b", queue=100)],
        "a",
    ),
    "where the data is, if copying takes long": ([prospect("a", copying=1000), prospect("b")], "b"),
    "the first of three: each place in the order counts": (
        [prospect("a", queue=1100), prospect("b", queue=1100), prospect("c")],
        "a",
    ),
    "not one from which it was taken back": ([prospect("a", left="a went down"), prospect("b")], "b"),
    "none at all": ([prospect("a", state=SiteState.DOWN), prospect("b", left="b went down")], None),
    "none of none": ([], None),
}


@pytest.mark.parametrize("case", TABLE)
def test_the_site_is(case: str) -> None:
    sites, chosen = TABLE[case]
    assert weigh(sites, now=NOW, preference=600).site == chosen


@pytest.mark.parametrize(
    ("pinned", "chosen"),
    [
        (prospect("b", queue=1e6), "b"),
        (prospect("b", outages=MAINTENANCE), "b"),
        (prospect("b", state=SiteState.UNKNOWN), "b"),
        (prospect("b", state=SiteState.DOWN), None),
        (prospect("b", hours=0.0), None),
    ],
)
def test_a_pinned_run_goes_there_or_nowhere(pinned: Prospect, chosen: str | None) -> None:
    choice = weigh([prospect("a"), pinned], now=NOW, pin="b")
    assert choice.site == chosen
    assert choice.candidates[0].sentence == "a: passed over: the run is pinned to b"


def test_a_controlled_scan_stays_at_the_beamline_even_if_nothing_there_is_up_and_even_if_pinned_elsewhere() -> None:
    here = prospect("here", zone=Zone.BEAMLINE, state=SiteState.UNKNOWN)
    assert weigh([prospect("away"), here], now=NOW, export_controlled=True).site == "here"
    assert weigh([prospect("away"), here], now=NOW, export_controlled=True, pin="away").site is None


def test_each_site_is_explained_in_a_sentence() -> None:
    choice = weigh(
        [
            prospect("alcf", outages=(Outage(start=NOW + 1800, end=NOW + 4 * HOUR, what="network"),)),
            prospect("nersc", queue=40, hours=1234.5),
            prospect("local", copying=90, queue=0, zone=Zone.BEAMLINE),
            prospect("olcf", state=SiteState.DOWN, note="cooling"),
            prospect("lcrc", state=SiteState.UNKNOWN, note="no answer", copying=1.0),
            prospect("tacc", left="tacc went down before the job had begun"),
            prospect("sdsc", hours=0.25),
            prospect("ncsa", outages=(Outage(start=NOW - 60, end=NOW + 30 * HOUR),)),
        ],
        now=NOW,
    )
    assert [candidate.sentence for candidate in choice.candidates] == [
        "alcf: passed over: planned maintenance from 08:30 to 12:00 before the job could end (network)",
        "nersc: chosen: up, queue wait lately 40 s, raw data already there, 1234 h left of its allocation",
        "local: possible: up, queue wait lately 0 s, raw data to be copied, 90 s at most, nersc would begin 50 s sooner",  # noqa: E501
        "olcf: passed over: down (cooling)",
        "lcrc: possible: unknown (no answer), no job there lately, raw data to be copied, 1 s at most, nersc is up",
        "tacc: left: tacc went down before the job had begun",
        "sdsc: passed over: 0.25 h left of its allocation, and 1 h are needed",
        "ncsa: passed over: in maintenance until 16 Jan 14:00",
    ]


def test_why_there_is_none_is_said_in_one_line() -> None:
    assert weigh([prospect("a", state=SiteState.DOWN)], now=NOW).why_none == "a: passed over: down"
    assert weigh([], now=NOW).why_none == "no site is named for this beamline"


outages = st.builds(
    lambda start, length: Outage(start=NOW + start, end=None if length is None else NOW + start + length),
    st.floats(-2 * HOUR, 12 * HOUR),
    st.none() | st.floats(0, 12 * HOUR),
)
seconds = st.floats(0, 24 * HOUR)


@st.composite
def sites(draw: st.DrawFn) -> Sequence[Prospect]:
    names = draw(st.lists(st.sampled_from("abcdef"), unique=True, max_size=6))
    return [
        Prospect(
            site=name,
            zone=draw(st.sampled_from(Zone)),
            condition=SiteCondition(
                state=draw(st.sampled_from(SiteState)),
                outages=tuple(draw(st.lists(outages, max_size=2))),
                hours_left=draw(st.none() | st.floats(0, 10)),
            ),
            job_seconds=draw(seconds),
            node_hours=draw(st.floats(0, 10)),
            queue_seconds=draw(st.none() | seconds),
            copy_seconds=draw(seconds),
            left=draw(st.sampled_from(["", "", "it went down"])),
        )
        for name in names
    ]


choices = settings(max_examples=150, deadline=None)


@choices
@given(sites(), st.booleans(), st.sampled_from(["", "", "a", "z"]), seconds)
def test_whatever_is_known_the_choice_is_one_that_may_be_made(
    found: Sequence[Prospect], controlled: bool, pin: str, preference: float
) -> None:
    choice = weigh(found, now=NOW, pin=pin, export_controlled=controlled, preference=preference)
    assert choice == weigh(found, now=NOW, pin=pin, export_controlled=controlled, preference=preference)
    assert [each.site for each in choice.candidates] == [each.site for each in found]
    assert all(each.reasons and all(each.reasons) for each in choice.candidates)
    chosen = [each.site for each in choice.candidates if each.verdict is Verdict.CHOSEN]
    assert chosen == ([] if choice.site is None else [choice.site])
    for each in found:
        if each.site != choice.site:
            continue
        assert each.condition.state is not SiteState.DOWN
        assert not (controlled and each.zone is not Zone.BEAMLINE)
        assert not each.left
        assert pin in ("", each.site)
        assert each.condition.hours_left is None or each.condition.hours_left >= each.node_hours
        assert pin or each.condition.outage(NOW, NOW + each.ends_in) is None


@choices
@given(sites(), seconds)
def test_a_site_that_could_take_the_work_is_never_left_out_of_account(
    found: Sequence[Prospect], preference: float
) -> None:
    choice = weigh(found, now=NOW, preference=preference)
    able = [each.site for each in choice.candidates if each.verdict in (Verdict.CHOSEN, Verdict.POSSIBLE)]
    assert (choice.site is None) == (not able)
    for site in able:  # alone, each of them would have been chosen
        alone = [each for each in found if each.site == site]
        assert weigh(alone, now=NOW, preference=preference).site == site


@choices
@given(sites(), seconds)
def test_taking_work_back_from_site_after_site_tries_each_that_is_able_once(
    found: Sequence[Prospect], preference: float
) -> None:
    first = weigh(found, now=NOW, preference=preference)
    able = {each.site for each in first.candidates if each.verdict in (Verdict.CHOSEN, Verdict.POSSIBLE)}
    tried: list[str] = []
    for _ in itertools.repeat(None, len(found) + 1):
        current = [dataclasses.replace(each, left="gone") if each.site in tried else each for each in found]
        chosen = weigh(current, now=NOW, preference=preference).site
        if chosen is None:
            break
        tried.append(chosen)
    assert sorted(tried) == sorted(able)
