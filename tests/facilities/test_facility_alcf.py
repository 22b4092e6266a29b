"""The reconstruction at ALCF, by the unmodified SDK and the real Globus Compute endpoint program."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
from facility_room import Room, same_bytes

from orchestration.sandbox.endpoint_program import EndpointProgram
from orchestration.sandbox.trials.world import World

pytestmark = [pytest.mark.compute_endpoint, pytest.mark.timeout(600)]

VARIABLE = "BEAMLINE_TEST_COMPUTE_ENDPOINT"
KINDS = {"compute": "GLOBUS_COMPUTE_ENDPOINT", "non_compute": "GLOBUS_COMPUTE_LOGIN_ENDPOINT"}


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    venv = Path(os.environ.get(VARIABLE, ""))
    if not (venv / "bin" / "globus-compute-endpoint").exists():
        pytest.skip(f"no daemon in {VARIABLE}={str(venv)!r}: scripts/install_compute_endpoint.sh makes one")
    with World(tmp_path / "world", real=True) as world, ExitStack() as running:
        variables = {}
        for kind, variable in KINDS.items():
            folder = tmp_path / kind
            program = EndpointProgram(
                url=world.facility_url, venv=venv.absolute(), directory=folder, kind=kind, values={}
            )
            running.callback(program.stop)
            program.start()
            variables[variable] = program.id
        yield running.enter_context(closing(Room(world, variables)))


def test_alcf_makes_the_same_bytes_as_this_machine(room: Room) -> None:
    same_bytes(room, room.demo_scan(), "alcf:alcf_recon_flow", "alcf")
    tasks = [effect for effect in room.world.facility.effects() if effect.kind == "task"]
    assert len([task for task in tasks if task.label == "run_job"]) == 1
