"""A site that goes down at any moment, in any way, while the run may be killed: by chance, from a seed."""

from __future__ import annotations

import os
import random
import time

import pytest
from siting_world import Place, wait_for

from orchestration.sandbox.faults import FaultKind
from orchestration.sandbox.superfacility.knobs import Maintenance

API = "/nersc/"

WAYS = ["status", "unavailable", "error", "null", "silent", "deaf", "dark"]
"""It says so; its services refuse in three ways; nothing answers; answers are lost; its collection is gone as well."""


def goes_down(place: Place, way: str) -> None:
    facility = place.world.facility
    match way:
        case "status":
            facility.superfacility.set_status("unavailable")
        case "unavailable" | "error" | "null":
            facility.superfacility.begin_maintenance(Maintenance(way))
        case "deaf":
            facility.faults.add(API, FaultKind.LOST_ANSWER, times=0)
        case _:
            facility.faults.add(API, FaultKind.DROP, times=0)
    if way == "dark":
        facility.collections.set(place.collection("nersc832_alsdev_pscratch_raw"), connected=False)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(int(os.environ.get("BEAMLINE_TEST_TRIALS", "2"))))
def test_the_work_is_done_once(place: Place, seed: int) -> None:
    chance = random.Random(seed)
    way, held, killed = WAYS[seed % len(WAYS)], chance.random() < 0.5, chance.random() < 0.5
    place.world.facility.superfacility.turn(held=held, submit_delay=chance.choice([0.0, 0.5]))
    scan = place.scan()
    run = place.start(scan)
    time.sleep(chance.uniform(0.0, 2.5))
    goes_down(place, way)
    time.sleep(chance.uniform(0.0, 4.0))
    if killed:
        run.signal()
    place.calm()
    facility = place.world.facility.superfacility
    ended = run.wait()
    assert killed or ended.completed, ended
    assert place.run(scan).completed
    wait_for(lambda: all(job.over for job in facility.jobs()))
    found = place.overview(scan)
    assert place.began(scan) == 1, (way, place.chosen(scan))
    assert found.state == "completed", found.error
    assert len(found.results) == 1
    assert place.chosen(scan)[-1] == found.results[0].receipt.site
