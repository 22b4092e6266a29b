"""One scan at several sites: at once without meeting, and each killed wherever it can be."""

from __future__ import annotations

import pytest
from test_chaos_boundaries import killed_all_the_way, killed_once_each, undisturbed
from trial_room import ALCF, LOCAL, NERSC, Room

from orchestration.sandbox.trials.audit import ALCF_FLOW, LOCAL_FLOW, NERSC_FLOW, NEW_FILE_FLOW
from orchestration.sandbox.trials.kills import kinds


@pytest.mark.slow
def test_reconstructions_at_three_sites_at_once_do_not_meet(room: Room) -> None:
    file_path = room.moved_scan()
    children = [room.start(target, file_path=file_path) for target in (LOCAL, NERSC, ALCF)]
    ends = [child.wait() for child in children]
    assert all(ended.completed for ended in ends), ends
    assert room.complaints(file_path, NEW_FILE_FLOW, LOCAL_FLOW, NERSC_FLOW, ALCF_FLOW) == []
    results = room.overview(file_path).results
    assert len({result.path.text for result in results}) == 3


@pytest.mark.slow
def test_two_runs_at_one_site_at_once_are_one_job(room: Room) -> None:
    file_path = room.moved_scan()
    ends = [child.wait() for child in [room.start(NERSC, file_path=file_path) for _ in range(2)]]
    assert all(ended.completed for ended in ends), ends
    assert room.complaints(file_path, NEW_FILE_FLOW, NERSC_FLOW) == []


@pytest.mark.slow
def test_a_job_survives_kills_around_its_submission(room: Room) -> None:
    kills = [kill for kill in kinds(undisturbed(room, NERSC_FLOW)) if "reconstruct at nersc" in kill.at]
    assert len(kills) > 3
    assert killed_once_each(room, NERSC_FLOW, kills[::2]) == []


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_runs_at_a_facility_killed_at_every_fifth_kind_of_boundary_complete(room: Room) -> None:
    """`benchmarks/chaos.py` kills at any boundary, at any facility."""
    kills, bad = killed_all_the_way(room, ALCF_FLOW, every=5)
    assert kills > 6
    assert bad == []
