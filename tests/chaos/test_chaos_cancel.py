"""What a person cancels stays cancelled, wherever its process died."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings
from trial_room import NERSC, Room

from orchestration import config
from orchestration.flows.cancelling import cancel_scan
from orchestration.flows.services import Services
from orchestration.ledger.runs import RunState
from orchestration.ledger.service import CancelAnswer
from orchestration.sandbox.trials.kills import Kill, kinds


@pytest.fixture
def here(room: Room, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This process is at home in the world of the trials."""
    for name in [name for name in os.environ if name.startswith(("PREFECT_API", "BEAMLINE_"))]:
        monkeypatch.delenv(name)
    for name, value in room.world.environment.items():
        monkeypatch.setenv(name, value)
    with temporary_settings({PREFECT_API_URL: room.world.prefect_url}):
        yield


def cancelled(room: Room, file_path: str) -> Mapping[str, CancelAnswer]:
    services = Services(config.load())
    try:
        with room.world.ledger() as ledger:
            return cancel_scan(ledger, services, ledger.scans.find(file_path.removeprefix("/global/")).id)
    finally:
        services.close()


PLACES = (
    "after-write of copies, after copy raw from",
    "after-submit of reconstruct at nersc",
    pytest.param("after-submit of copy raw from", marks=pytest.mark.slow),
    pytest.param("in-wait of reconstruct at nersc", marks=pytest.mark.slow),
    pytest.param("after-write of results, after reconstruct at nersc", marks=pytest.mark.slow),
)


@pytest.fixture(scope="module")
def all_kinds(one_room: Room) -> list[Kill]:
    one_room.calm()
    ended = one_room.run(NERSC, file_path=one_room.moved_scan())
    assert ended.completed, ended
    return kinds(ended.boundaries)


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("place", PLACES)
def test_a_run_whose_process_died_is_cancelled_for_good(room: Room, all_kinds: list[Kill], place: str) -> None:
    kill = next(each for each in all_kinds if place in str(each))
    file_path = room.moved_scan()
    assert room.run(NERSC, file_path=file_path, kill=kill).killed
    answers = cancelled(room, file_path)
    assert set(answers.values()) <= {CancelAnswer.CANCELLED, CancelAnswer.ALREADY_FINISHED}
    found = room.overview(file_path)
    assert [operation.step for operation in found.operations if operation.state.open] == []
    with room.world.ledger() as ledger:
        run = ledger.runs.of_scan(found.scan.id)[-1]
        assert (run.flow, run.state) == ("nersc_recon_flow", RunState.CANCELLED)
        assert run not in ledger.runs.dead()
    assert room.prefect_states(file_path)[-1][0] == "CANCELLED"
    assert cancelled(room, file_path) == {}
