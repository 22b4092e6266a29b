"""Which files go into which bundle."""

from __future__ import annotations

import os
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestration.hpss.bundles import Archived, Cycle, Limits, Member, located, part_of, plan
from orchestration.hpss.names import encoded, printable, unbundled

P = "ALS-00001"


def member(name: str, size: int = 10, when: str = "2026-03-01") -> Member:
    seconds = datetime.fromisoformat(when).replace(tzinfo=UTC).timestamp()
    return Member(f"{P}/{name}", size, int(seconds * 1e9))


@pytest.mark.parametrize(
    ("when", "cycle"),
    [
        ("2026-01-01", "2026-1"),
        ("2026-07-15T23:59:59", "2026-1"),
        ("2026-07-16", "2026-2"),
        ("2026-12-31T23:59:59", "2026-2"),
    ],
)
def test_cycles_change_in_the_middle_of_july_and_at_new_year(when: str, cycle: str) -> None:
    assert str(member("a", when=when).cycle) == cycle


def test_the_cycle_before_the_first_is_the_second_of_last_year() -> None:
    assert [str(Cycle.parse(each).previous) for each in ("2026-2", "2026-1")] == ["2026-1", "2025-2"]


def test_a_bundle_holds_one_cycle_of_a_proposal() -> None:
    found = plan(P, [member("a"), member("b", when="2026-08-01"), member("c")])
    assert {each.object: [one.name for one in each.members] for each in found.objects} == {
        f"{P}/{P}_2026-1.tar": [f"{P}/a", f"{P}/c"],
        f"{P}/{P}_2026-2.tar": [f"{P}/b"],
    }


def test_what_is_full_is_closed_and_the_next_part_begins() -> None:
    files = [member(name, size=1000) for name in "abcde"]
    found = plan(P, files, limits=Limits(bundle=2 * files[0].room, member=5000))
    assert [(each.object, len(each.members)) for each in found.objects] == [
        (f"{P}/{P}_2026-1.tar", 2),
        (f"{P}/{P}_2026-1_part2.tar", 2),
        (f"{P}/{P}_2026-1_part3.tar", 1),
    ]
    assert len(plan(P, files, limits=Limits(members=2)).objects) == 3


def test_what_htar_cannot_take_is_stored_by_itself() -> None:
    odd = ["big", "new\nline", os.fsdecode(b"x" * 120 + b"\xff"), "fits"]
    found = plan(P, [member(name, size=100 if name == "big" else 5) for name in odd], limits=Limits(member=99))
    assert {each.kind: len(each.members) for each in found.objects if each.kind == "bundle"} == {"bundle": 1}
    assert {each.object for each in found.objects if each.kind == "single"} == {
        f"{P}/big",
        f"{P}/new%0Aline",
        f"{P}/{'x' * 120}%FF",
    }


def test_what_the_archive_has_is_not_planned_again_and_what_changed_goes_into_the_next_part() -> None:
    old, changed = member("old"), member("changed", size=11)
    archived = Archived(frozenset({f"{P}/{P}_2026-1.tar"}), frozenset({old, member("changed")}))
    found = plan(P, [old, changed], archived=archived)
    assert [(each.object, each.members) for each in found.objects] == [(f"{P}/{P}_2026-1_part2.tar", (changed,))]
    assert found.known == (old,)


def test_a_bundle_that_was_only_begun_is_made_again_under_its_name_and_another_ones_is_left_alone() -> None:
    name = f"{P}/{P}_2026-1.tar"
    begun = Archived(frozenset({name, f"{name}.begun.json"}), begun=frozenset({name}))
    assert plan(P, [member("a")], archived=begun).objects[0].object == name
    foreign = Archived(frozenset({name}))
    assert plan(P, [member("a")], archived=foreign).objects[0].object == f"{P}/{P}_2026-1_part2.tar"


def test_what_cannot_be_archived_is_refused_by_name() -> None:
    twins = [os.fsdecode(b"x\xff"), "x\\udcff"]
    files = [*(member(name) for name in twins), member("big", 100), member(f"{P}_2026-1.tar/y", 100)]
    archived = Archived(frozenset({f"{P}/big"}))
    found = plan(P, files, archived=archived, limits=Limits(member=50))
    assert set(found.refused) == {f"{P}/{each}" for each in (*twins, "big", f"{P}_2026-1.tar/y")}
    assert not found.objects


def test_only_the_cycle_that_is_asked_for() -> None:
    files = [member("a"), member("b", when="2026-08-01")]
    assert [each.members for each in plan(P, files, cycle=Cycle(2026, 2)).objects] == [(files[1],)]


@given(st.lists(st.binary(min_size=1, max_size=40).filter(lambda name: b"\0" not in name), unique=True, max_size=30))
def test_every_file_is_in_exactly_one_object_or_refused(names: list[bytes]) -> None:
    files = [Member(f"{P}/{os.fsdecode(name)}", len(name), 1_775_000_000 * 10**9) for name in names]
    found = plan(P, files, limits=Limits(bundle=4000, member=20, members=5))
    placed = [each.name for one in found.objects for each in one.members] + list(found.refused)
    assert sorted(placed) == sorted(each.name for each in files)
    assert len({each.object for each in found.objects}) == len(found.objects)
    assert plan(P, reversed(files), limits=Limits(bundle=4000, member=20, members=5)) == found


@given(st.binary(min_size=1, max_size=40), st.binary(min_size=1, max_size=40))
def test_different_names_are_different_objects_of_plain_characters(one: bytes, other: bytes) -> None:
    names = [encoded(os.fsdecode(each)) for each in (one, other)]
    assert (names[0] == names[1]) == (one == other)
    assert all(name.isascii() and name.isprintable() and not set(name) & set(" *?[]{}^;:'\"\\") for name in names)


def test_names_are_shown_as_they_are_where_they_can_be() -> None:
    assert printable("ünï code\\x") == "ünï code\\x"
    assert printable(os.fsdecode(b"a\xff\n")) == "a\\udcff\\x0a"
    assert not unbundled("a" * 154 + "/" + "b" * 99)
    assert unbundled("a" * 155 + "/" + "b" * 99)
    assert unbundled("b" * 100)


def test_the_number_of_a_part_is_read_from_its_name() -> None:
    cycle = Cycle(2026, 1)
    names = [f"{P}_2026-1.tar", f"{P}_2026-1_part12.tar", f"{P}_2026-2.tar", f"{P}_2026-1.tar.idx"]
    assert [part_of(name, P, cycle) for name in names] == [1, 12, None, None]


def test_a_path_in_a_bundle_names_the_bundle_and_the_member() -> None:
    bundle = f"{P}/{P}_2026-1_part2.tar"
    assert located(f"{bundle}/{P}/sub/f.h5") == (bundle, f"{P}/sub/f.h5")
    assert located(bundle) == (bundle, "")
    assert located(f"{P}/other.tar/f.h5") == (f"{P}/other.tar/f.h5", "")
