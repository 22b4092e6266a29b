"""A site goes down, at any moment: the scan is done once, elsewhere, and the ledger says why.

How soon, by the settings as they are shipped, is in `test_siting_moments`.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest
from siting_world import Place, wait_for

from orchestration.sandbox.faults import FaultKind
from orchestration.sandbox.superfacility.scheduler import EndState

pytestmark = pytest.mark.slow

NERSC = "/nersc/api/v1.2/"
"""Of the Superfacility API: its status, and everything else."""


def done_once_at(place: Place, scan: str, *sites: str) -> None:
    """The scan was given to these sites in turn, computed once, and its results are where they belong."""
    assert place.chosen(scan) == list(sites)
    assert place.began(scan) == 1
    found = place.overview(scan)
    assert found.state == "completed", found.error
    assert [result.receipt.site for result in found.results] == [sites[-1]]


def held(place: Place) -> None:
    """NERSC's jobs wait in the queue from now on."""
    place.world.facility.superfacility.turn(held=True)


def released(place: Place) -> None:
    """They all begin, and end, whatever they are."""
    facility = place.world.facility
    facility.faults.clear()
    facility.superfacility.end_maintenance()
    facility.superfacility.turn(held=False)
    wait_for(lambda: all(job.over for job in facility.superfacility.jobs()))


def test_a_scan_goes_to_the_preferred_site_and_asked_for_again_is_not_done_again(place: Place) -> None:
    scan = place.scan()
    assert place.run(scan).completed
    done_once_at(place, scan, "nersc")
    assert place.said(scan, "nersc").startswith("nersc: chosen: up, ")
    with place.world.ledger() as ledger:
        assert ledger.queues.of("nersc.jobs@nersc", seconds=3600.0, most=5).wait is not None
    assert place.run(scan).completed
    done_once_at(place, scan, "nersc")


def test_down_before_the_choice(place: Place) -> None:
    scan = place.scan()
    place.world.facility.superfacility.begin_maintenance(text="cooling")
    assert place.run(scan).completed
    done_once_at(place, scan, "local")
    assert place.said(scan, "nersc").startswith("nersc: passed over: down")


def test_down_between_the_choice_and_the_copy(place: Place) -> None:
    scan = place.scan()
    place.world.facility.faults.add("GET .*/submission_id", times=0)
    run = place.start(scan)
    wait_for(lambda: place.chosen(scan))
    place.world.facility.superfacility.begin_maintenance()
    place.world.facility.faults.clear()
    assert run.wait().completed
    done_once_at(place, scan, "nersc", "local")
    assert place.said(scan, "nersc").startswith("nersc: left: nersc went down")


def test_down_during_the_copy(place: Place) -> None:
    scan = place.scan()
    place.world.facility.collections.set(place.collection("nersc832_alsdev_pscratch_raw"), bandwidth=500.0)
    run = place.start(scan)
    wait_for(lambda: place.stage(scan, "copy raw from data832_raw to nersc832_alsdev_pscratch_raw") == "running")
    place.world.facility.superfacility.begin_maintenance()
    assert run.wait().completed
    done_once_at(place, scan, "nersc", "local")
    assert "before the data was there" in place.said(scan, "nersc")


def test_down_when_the_job_is_submitted(place: Place) -> None:
    scan = place.scan()
    place.world.facility.faults.add(f"POST {NERSC}compute/jobs", FaultKind.DROP, times=0)
    run = place.start(scan)
    wait_for(lambda: "in doubt" in place.events(scan, "reconstruct at nersc"))
    place.world.facility.superfacility.begin_maintenance()
    assert run.wait().completed
    done_once_at(place, scan, "nersc", "local")
    released(place)
    assert place.began(scan) == 1


def test_silent_when_the_submission_is_in_doubt(place: Place) -> None:
    """The job is in the queue, nobody knows, and nothing answers: its folder is the proof that it will not begin."""
    scan = place.scan()
    held(place)
    place.world.facility.faults.add(f"POST {NERSC}compute/jobs", FaultKind.LOST_ANSWER)
    place.world.facility.faults.add(f"GET {NERSC}tasks", FaultKind.DROP, times=0)
    run = place.start(scan)
    wait_for(lambda: "in doubt" in place.events(scan, "reconstruct at nersc"))
    place.world.facility.faults.add(NERSC, FaultKind.DROP, times=0)
    assert run.wait().completed
    done_once_at(place, scan, "nersc", "local")
    assert "did not answer" in place.said(scan, "nersc")
    jobs = len(place.world.facility.superfacility.jobs())
    released(place)
    assert jobs, "the submission that was in doubt had arrived"
    assert place.began(scan) == 1, "the job that was left behind did nothing"


def test_down_while_the_job_is_queued_and_its_cancellation_is_confirmed(place: Place) -> None:
    scan = place.scan()
    held(place)
    run = place.start(scan)
    wait_for(lambda: "submitted" in place.events(scan, "reconstruct at nersc"))
    place.world.facility.superfacility.set_status("unavailable", notes=["network"])
    assert run.wait().completed
    place.world.facility.superfacility.set_status("active", notes=[])
    done_once_at(place, scan, "nersc", "local")
    assert place.said(scan, "nersc") == (
        "nersc: left: nersc went down (network) before the job had begun; it will not begin there any more"
    )
    released(place)
    assert place.began(scan) == 1


def test_silent_while_the_job_is_queued(place: Place) -> None:
    scan = place.scan()
    held(place)
    run = place.start(scan)
    wait_for(lambda: "submitted" in place.events(scan, "reconstruct at nersc"))
    place.world.facility.faults.add(NERSC, FaultKind.DROP, times=0)
    assert run.wait().completed
    done_once_at(place, scan, "nersc", "local")
    released(place)
    assert place.began(scan) == 1


def test_without_a_proof_the_job_stays_where_it_is_until_the_site_answers(place: Place) -> None:
    """Neither NERSC nor its collection answers: nothing is certain, and nothing is begun a second time."""
    scan = place.scan()
    held(place)
    run = place.start(scan)
    wait_for(lambda: "submitted" in place.events(scan, "reconstruct at nersc"))
    place.world.facility.collections.set(place.collection("nersc832_alsdev_pscratch_raw"), connected=False)
    place.world.facility.faults.add(NERSC, FaultKind.DROP, times=0)
    time.sleep(6.0)  # three times the silence after which it would be taken back
    assert place.chosen(scan) == ["nersc"]
    place.world.facility.collections.set(place.collection("nersc832_alsdev_pscratch_raw"), connected=True)
    released(place)
    assert run.wait().completed
    done_once_at(place, scan, *place.chosen(scan))


def test_a_pinned_run_waits_for_its_site(place: Place) -> None:
    scan = place.scan()
    held(place)
    run = place.start(scan, site="nersc")
    wait_for(lambda: "submitted" in place.events(scan, "reconstruct at nersc"))
    place.world.facility.superfacility.set_status("unavailable")
    time.sleep(2.0)
    assert place.chosen(scan) == ["nersc"]
    place.world.facility.superfacility.set_status("active")
    released(place)
    assert run.wait().completed
    done_once_at(place, scan, "nersc")
    assert place.said(scan, "local") == "local: passed over: the run is pinned to nersc"


def test_two_runs_of_one_reconstruction_go_to_one_site_even_if_it_goes_down(place: Place) -> None:
    scan = place.scan()
    held(place)
    runs = [place.start(scan), place.start(scan)]
    wait_for(lambda: "submitted" in place.events(scan, "reconstruct at nersc"))
    place.world.facility.superfacility.set_status("unavailable")
    assert all(run.wait().completed for run in runs)
    place.world.facility.superfacility.set_status("active", notes=[])
    done_once_at(place, scan, "nersc", "local")
    released(place)
    assert place.began(scan) == 1


def test_no_site_at_all_is_an_answer_that_names_each(place: Place) -> None:
    scan = place.scan()
    place.prefer("nersc")
    place.world.facility.superfacility.begin_maintenance()
    ended = place.run(scan)
    assert ended.error_type == "SiteUnavailable"
    assert "nersc: passed over: down" in str(ended.error)
    assert place.chosen(scan) == [""]
    assert place.began(scan) == 0


@pytest.mark.parametrize(
    "offline", [["compute"], ["compute", "non_compute"]], ids=["its login endpoint cancels it", "its folder proves it"]
)
def test_an_endpoint_of_globus_compute_goes_offline_while_the_job_is_queued(place: Place, offline: list[str]) -> None:
    place.prefer("alcf", "nersc")
    scan = place.scan()
    place.endpoints("compute", held=True)
    run = place.start(scan)
    wait_for(lambda: "submitted" in place.events(scan, "reconstruct at alcf"))
    place.endpoints(*offline, online=False)
    assert run.wait().completed
    done_once_at(place, scan, "alcf", "nersc")
    assert "alcf went down (its Globus Compute endpoint is offline)" in place.said(scan, "alcf")
    place.endpoints("compute", "non_compute", online=True, held=False)
    tasks = place.world.facility.compute.tasks
    wait_for(lambda: all(str(task["stage"]) in {"success", "failed"} for task in tasks()))
    assert place.began(scan) == 1


@pytest.mark.parametrize("silent", [False, True], ids=["it says that it is down", "it says nothing"])
def test_a_facility_with_the_iri_api_goes_down_while_the_job_is_queued(place: Place, *, silent: bool) -> None:
    place.prefer("iri", "local")
    scan = place.scan()
    iri = place.world.facility.iri
    iri.hold()
    run = place.start(scan)
    wait_for(lambda: "submitted" in place.events(scan, "reconstruct at iri"))
    if silent:
        place.world.facility.faults.add(" /iri/", FaultKind.DROP, times=0)
    else:
        iri.switch("down")
    assert run.wait().completed
    done_once_at(place, scan, "iri", "local")
    place.calm()
    wait_for(lambda: all(job["state"] in {"completed", "failed", "canceled"} for job in iri.jobs()))
    assert place.began(scan) == 1


def test_planned_maintenance_and_used_up_hours_are_reasons_to_go_elsewhere(place: Place) -> None:
    place.prefer("nersc", "iri", "local")
    soon = datetime.now(UTC) + timedelta(minutes=5)
    place.world.facility.superfacility.turn(hours_left={"als": 0.0})
    place.world.facility.iri.announce("network", start=soon.isoformat(), end=(soon + timedelta(hours=2)).isoformat())
    scan = place.scan()
    assert place.run(scan).completed
    done_once_at(place, scan, "local")
    assert "0 h left of its allocation" in place.said(scan, "nersc")
    assert "planned maintenance from " in place.said(scan, "iri")
    place.world.facility.superfacility.turn(hours_left={})


@pytest.mark.parametrize(("state", "attempts"), [(EndState.NODE_FAIL, 3)])
def test_a_job_that_its_site_keeps_losing_is_submitted_there_again_as_often_as_is_set_and_then_moves(
    place: Place, state: EndState, attempts: int
) -> None:
    scan = place.scan()
    held(place)
    run = place.start(scan)
    facility = place.world.facility.superfacility
    ended: set[str] = set()
    for number in range(1, attempts + 1):
        wait_for(lambda: place.events(scan, "reconstruct at nersc").count("submitted") == number)  # noqa: B023
        waiting = [job.id for job in facility.jobs() if not job.over and job.id not in ended]
        facility.end_job(waiting[-1], state)
        ended.add(waiting[-1])
    assert run.wait().completed
    done_once_at(place, scan, "nersc", "local")
    assert place.said(scan, "nersc").startswith("nersc: left: job reconstruct ")
    released(place)
    assert place.began(scan) == 1


def test_a_controlled_scan_goes_to_no_facility(place: Place) -> None:
    place.prefer("nersc", "alcf", "local")
    scan = place.scan(controlled=True)
    assert place.run(scan).completed
    done_once_at(place, scan, "local")
    reason = "passed over: the scan is export-controlled and this site is outside the beamline"
    assert [place.said(scan, site) for site in ("nersc", "alcf")] == [f"nersc: {reason}", f"alcf: {reason}"]
    assert place.run(scan, site="nersc").error_type == "SiteUnavailable"
    assert place.began(scan) == 1


def test_both_facilities_down_means_this_machine(place: Place) -> None:
    place.prefer("nersc", "alcf", "local")
    scan = place.scan()
    place.endpoints("compute", online=False)
    place.world.facility.superfacility.begin_maintenance()
    assert place.run(scan).completed
    done_once_at(place, scan, "local")
    assert "its Globus Compute endpoint is offline" in place.said(scan, "alcf")


@pytest.mark.parametrize("moment", [2, 5])
def test_whenever_the_run_that_moves_it_dies_it_is_done_once(place: Place, moment: int) -> None:
    scan = place.scan()
    held(place)
    run = place.start(scan)
    wait_for(lambda: "submitted" in place.events(scan, "reconstruct at nersc"))
    place.world.facility.superfacility.set_status("unavailable")
    time.sleep(0.15 * moment)
    run.signal()
    run.wait()
    place.world.facility.superfacility.set_status("active")
    released(place)
    assert place.run(scan).completed
    assert place.began(scan) == 1
