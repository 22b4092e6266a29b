"""What `beamline cancel` finds in Prefect, and what a run says of itself to the process that goes on with it."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest
from asking import ask, submit
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.exceptions import Pause
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Cancelling
from prefect.states import Running as RunningState

from orchestration import config
from orchestration.config import Settings
from orchestration.errors import JobFailed
from orchestration.flows.queued import runs_of_scan
from orchestration.flows.runs import PrefectRun, RunRequest
from orchestration.flows.services import Services
from orchestration.flows.stopping import cancel_scan
from orchestration.flows.suspending import Suspension
from orchestration.flows.work import Work
from orchestration.globus.search_entries import Entry, PublishRequest
from orchestration.ledger import Ledger
from orchestration.ledger.operation import Operation
from orchestration.ledger.owner import Owner
from orchestration.ledger.runs import RunState
from orchestration.ledger.scan import Scan
from orchestration.ledger.service import CancelAnswer, Document, Failed, Json, Running, Status
from orchestration.ledger.waiting import Awaited
from orchestration.paths import RelativePath
from orchestration.policy import Effect, Permitted, Place, Zone, opened

HERE = Place("here", Zone.BEAMLINE)


@pytest.fixture(scope="module")
def settings() -> Settings:
    found, problems = config.inspect(Path(__file__).parents[2] / "config.yml")
    assert found is not None, problems
    return found


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(f"sqlite:///{tmp_path}/ledger.sqlite") as ledger:
        yield ledger


@pytest.fixture
def scan(ledger: Ledger) -> Scan:
    return ledger.scans.register(beamline="bl832", path=RelativePath(f"raw/p/{uuid.uuid4().hex}.h5"))


def scheduled(path: str, *, hours: float) -> str:
    """A run that Prefect has, and no process."""
    when = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=hours)
    request = RunRequest(
        deployment="carrying/carrying", parameters={"file_path": path}, scheduled_time=when, flow_run_name="carries"
    )
    return submit(PrefectRun(), request, uuid.uuid4().hex)


def scheduled_together(*paths: str, beamline: str = "bl832") -> str:
    request = RunRequest(
        deployment="carrying_many/carrying_many",
        parameters={"file_paths": [*paths], "beamline": beamline},
        scheduled_time=datetime.now(UTC).replace(microsecond=0) + timedelta(hours=0.5),
        flow_run_name="carries many",
    )
    return submit(PrefectRun(), request, uuid.uuid4().hex)


def state_of(run_id: str) -> StateType:
    state = ask(lambda client: client.read_flow_run(UUID(run_id))).state
    assert state is not None
    return state.type


def cancel(ledger: Ledger, settings: Settings, scan: Scan) -> dict[str, CancelAnswer]:
    with closing(Services(settings)) as services:
        return {each.what: each.answer for each in cancel_scan(ledger, services, scan)}


def test_a_run_that_waits_for_its_turn_is_cancelled_and_what_stands_in_the_calendar_is_not(
    server: str, ledger: Ledger, settings: Settings, scan: Scan
) -> None:
    queued = scheduled(f"/global/{scan.path}", hours=0.5)
    planned = scheduled(f"/global/{scan.path}", hours=48.0)
    other = scheduled(f"/global/{scan.path}x", hours=0.5)

    assert cancel(ledger, settings, scan) == {"run carries": CancelAnswer.CANCELLED}

    assert state_of(queued) is StateType.CANCELLED
    assert {state_of(planned), state_of(other)} == {StateType.SCHEDULED}
    assert cancel(ledger, settings, scan) == {}


def test_all_runs_of_a_file_are_found_however_many_there_are(
    server: str, ledger: Ledger, settings: Settings, scan: Scan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestration.flows.queued.RUNS_AT_ONCE", 2)
    runs = {scheduled(scan.path.text, hours=0.5) for _ in range(5)}
    found = runs_of_scan(ledger, settings.beamline("bl832"), scan)
    assert {str(run.id) for run in found} == runs


def test_a_run_that_waits_with_others_is_cancelled_only_with_all_of_them(
    server: str, ledger: Ledger, settings: Settings, scan: Scan
) -> None:
    alone = scheduled_together(f"/global/{scan.path}", scan.path.text)
    together = scheduled_together(f"/global/{scan.path}", "/global/raw/p/another.h5")
    elsewhere = scheduled_together(f"/global/{scan.path}", beamline="bl733")
    scheduled_together(f"/global/{scan.path}x")
    with closing(Services(settings)) as services:
        found = {each.key: each for each in cancel_scan(ledger, services, scan)}
        assert found.keys() == {alone, together}
        assert (found[together].spared, found[together].others) == (True, ("raw/p/another.h5",))
        assert (state_of(alone), state_of(together)) == (StateType.CANCELLED, StateType.SCHEDULED)

        (all_of_it,) = cancel_scan(ledger, services, scan, whole_batch=True)
        assert (all_of_it.answer, all_of_it.others) == (CancelAnswer.CANCELLED, ("raw/p/another.h5",))
        assert (state_of(together), state_of(elsewhere)) == (StateType.CANCELLED, StateType.SCHEDULED)
        assert cancel_scan(ledger, services, scan) == []


def scheduled_correlation(**parameters: Json) -> str:
    request = RunRequest(
        deployment="correlating/correlating",
        parameters=parameters,
        scheduled_time=datetime.now(UTC).replace(microsecond=0) + timedelta(hours=0.5),
        flow_run_name="correlates",
    )
    return submit(PrefectRun(), request, uuid.uuid4().hex)


def test_a_correlation_that_waits_is_found_by_its_dataset_or_a_raw_file_of_it(
    server: str, ledger: Ledger, settings: Settings
) -> None:
    folder = f"2024-1/{uuid.uuid4().hex}/a_0.5C"
    scan = ledger.scans.register(beamline="aps8idi", path=RelativePath(folder))
    mine = {scheduled_correlation(raw=f"/gdata/dm/8IDI/{folder}"), scheduled_correlation(raw=f"{folder}/a.bin.000")}
    others = {scheduled_correlation(raw=raw) for raw in (f"{folder}C", f"{folder}/b/b.bin", f"{folder}/b")}
    with closing(Services(settings)) as services:
        found = cancel_scan(ledger, services, scan)
    assert {each.key: (each.answer, each.others) for each in found} == dict.fromkeys(mine, (CancelAnswer.CANCELLED, ()))
    assert {state_of(each) for each in others} == {StateType.SCHEDULED}


def test_a_correlation_once_more_that_waits_is_found_by_what_was_published_of_its_dataset(
    server: str, ledger: Ledger, settings: Settings
) -> None:
    folder = f"2024-1/{uuid.uuid4().hex}/a_0.5C"
    scan = ledger.scans.register(beamline="aps8idi", path=RelativePath(folder))
    subject = f"globus://74defd5b-5f61-42fc-bcc4-834c9f376a4f/XPCS/{folder}/qmap_0123abcd"
    record = PublishRequest(
        index=settings.search.index("xpcs"), entry=Entry(subject=subject, visible_to=("public",), content={})
    )
    operation = Operation(scan=scan, step="publish", request=record, destination=record.place, deadline=60.0)
    ledger.operations.take(operation, Owner.here(), service="globus.search", redo=True)
    mine = scheduled_correlation(subject=subject, suffix="_second")
    other = scheduled_correlation(subject=f"{subject}e", suffix="_second")
    with closing(Services(settings)) as services:
        found = {each.key: each.answer for each in cancel_scan(ledger, services, scan)}
    assert found[mine] is CancelAnswer.CANCELLED
    assert other not in found
    assert (state_of(mine), state_of(other)) == (StateType.CANCELLED, StateType.SCHEDULED)


def test_a_batch_of_xpcs_that_waits_is_found_by_its_folder_by_its_datasets_or_by_its_id(
    server: str, ledger: Ledger, settings: Settings
) -> None:
    folder = f"2024-1/{uuid.uuid4().hex}"
    scan = ledger.scans.register(beamline="aps8idi", path=RelativePath(f"{folder}/a"))
    names: dict[str, Document] = {name: {"folder": f"{folder}/{name}"} for name in "abc"}
    batch = ledger.batches.begin(
        id=uuid.uuid4().hex[:16], flow="any", beamline="aps8idi", name="", parameters={}, run_id="x", items=names
    )
    ledger.batches.done(batch.id, "c", evidence={})
    alone = scheduled_correlation(folder=folder, datasets=["a"])
    expected = {
        scheduled_correlation(folder=f"/gdata/dm/8IDI/{folder}"): (f"{folder}/*",),
        scheduled_correlation(folder=folder, datasets=["a", "b"]): (f"{folder}/b",),
        scheduled_correlation(batch=batch.id, folder="left/aside"): (f"{folder}/b",),
    }
    scheduled_correlation(folder=folder, datasets=["b"])
    scheduled_correlation(folder="2024-1")
    scheduled_correlation(batch="0123456789abcdef")
    with closing(Services(settings)) as services:
        found = {each.key: each for each in cancel_scan(ledger, services, scan)}
        assert {key: (each.spared, each.others) for key, each in found.items()} == {
            alone: (False, ()),
            **{key: (True, others) for key, others in expected.items()},
        }
        assert state_of(alone) is StateType.CANCELLED
        assert {state_of(each) for each in expected} == {StateType.SCHEDULED}
        every = cancel_scan(ledger, services, scan, whole_batch=True)
        assert {each.key: (each.answer, each.others) for each in every} == {
            key: (CancelAnswer.CANCELLED, others) for key, others in expected.items()
        }


def test_that_prefect_does_not_say_what_is_queued_is_told(
    ledger: Ledger, settings: Settings, scan: Scan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestration.flows.stopping.PATIENCE_SECONDS", 0.1)
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        assert cancel(ledger, settings, scan) == {"runs that have not begun": CancelAnswer.UNKNOWN}
    with temporary_settings(restore_defaults={PREFECT_API_URL}):
        assert cancel(ledger, settings, scan) == {}


def test_a_run_whose_process_is_gone_is_closed_in_prefect_too(
    server: str, ledger: Ledger, settings: Settings, scan: Scan
) -> None:
    run = scheduled("elsewhere.h5", hours=0.5)
    ask(lambda client: client.set_flow_run_state(UUID(run), RunningState(), force=True))
    here = Owner.here()
    dead = Owner(here.host, here.pid, "another time", "x")
    ledger.runs.begin(run_id=run, flow="carrying", parameters={}, owner=dead, scan_id=scan.id)
    ask(lambda client: client.set_flow_run_state(UUID(run), Cancelling(), force=True))

    assert cancel(ledger, settings, scan) == {"run of carrying": CancelAnswer.CANCELLED}

    assert state_of(run) is StateType.CANCELLED
    record = ledger.runs.get(run)
    assert record is not None
    assert record.state is RunState.CANCELLED


class Errand:
    effect = Effect.COMPUTE
    directory, reads, writes = "/", (), ()
    place = HERE

    def __init__(self, name: str) -> None:
        self.name = name

    def document(self) -> Document:
        return {"name": self.name}


class Errands:
    """What is called ``wrong`` fails at once; all else goes on."""

    name = "test.errands"

    def __init__(self) -> None:
        self.submitted: list[str] = []

    def reserve(self, key: str) -> str:
        return key

    def find(self, request: Errand, token: str) -> str | None:
        return None

    def submit(self, permitted: Permitted[Errand], token: str) -> str:
        self.submitted.append(opened(permitted, Errand).name)
        return token

    def poll(self, request: Errand, handle: str) -> Status:
        return Failed(error=JobFailed("cold")) if request.name == "wrong" else Running()

    def poll_many(self, items: object) -> dict[str, Status]:
        return {}

    def cancel(self, handle: str) -> CancelAnswer:
        return CancelAnswer.UNKNOWN


def test_what_failed_before_a_run_was_suspended_is_not_tried_again_when_it_goes_on(
    server: str, ledger: Ledger, settings: Settings, scan: Scan
) -> None:
    """As a branch that has failed, while another goes on for long."""
    run_id, service = scheduled("elsewhere.h5", hours=0.5), Errands()
    ask(lambda client: client.set_flow_run_state(UUID(run_id), RunningState(), force=True))
    run = ask(lambda client: client.read_flow_run(UUID(run_id)))
    ledger.watchers.beat(Owner.here())
    wrong, long = (
        Operation(scan=scan, step=name, request=Errand(name), destination=HERE, deadline=600.0)
        for name in ("wrong", "long")
    )

    first = bench(ledger, settings, run)
    with pytest.raises(JobFailed):
        first.perform(wrong, service)
    with pytest.raises(Pause):
        first.perform(long, service)
    record = ledger.runs.get(run_id)
    assert record is not None
    assert record.state is RunState.WAITING
    assert record.waiting_for[wrong.key] == Awaited(until=0.0, over=True)
    assert set(record.awaits) == {long.key}

    second = bench(ledger, settings, run)
    with pytest.raises(JobFailed, match="cold"):
        second.perform(wrong, service)
    assert service.submitted == ["wrong", "long"]


def bench(ledger: Ledger, settings: Settings, run: FlowRun) -> Work:
    """As `working` makes it for a process of a run."""
    run_id = str(run.id)
    awaited = ledger.runs.begin(run_id=run_id, flow="carrying", parameters={}, owner=Owner.here())
    suspension = Suspension(ledger, run_id, run, inline_seconds=0.0)
    return Work(settings, ledger, Services(settings), run_id, logging.getLogger("test"), suspension, set(awaited))
