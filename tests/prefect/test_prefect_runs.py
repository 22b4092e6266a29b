from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from asking import ask, submit
from lossy_proxy import lossy_proxy
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterIdempotencyKey
from prefect.settings import PREFECT_API_URL, temporary_settings

from orchestration.errors import Cancelled, ConfigError, InvalidInput, RunFailed, ServiceUnavailable, UnknownName
from orchestration.flows.runs import PrefectRun, PrefectSchedule, RunRequest
from orchestration.flows.server import insist
from orchestration.ledger import Ledger
from orchestration.ledger.operation import Operation
from orchestration.ledger.perform import perform
from orchestration.ledger.service import CancelAnswer, Failed, Running, Status, Succeeded
from orchestration.paths import RelativePath
from orchestration.policy import Place, Zone
from orchestration.sandbox.supervisor import Supervisor

PREFECT = Place("the Prefect server", Zone.BEAMLINE)
TOMORROW = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)


def request_of_tiny(tmp_path: Path, marker: str = "x", scheduled_time: datetime | None = None) -> RunRequest:
    return RunRequest(
        deployment="tiny/tiny",
        parameters={"path": str(tmp_path / "ran"), "marker": marker},
        scheduled_time=scheduled_time,
        flow_run_name=f"tiny {marker}",
        tags=("of-a-test",),
    )


def token() -> str:
    return uuid.uuid4().hex


def await_end(service: PrefectRun, request: RunRequest, handle: str) -> Status:
    until = time.monotonic() + 120
    while True:
        status = poll(service, request, handle)
        if not isinstance(status, Running) or time.monotonic() > until:
            return status
        time.sleep(0.1)


def poll(service: PrefectRun, request: RunRequest, handle: str) -> Status:
    return insist(lambda: service.poll(request, handle), seconds=30)


def cancelled(service: PrefectRun, handle: str) -> None:
    """Confirmed in the end: a worker that is busy may not have stopped it at the first request."""
    until_true(lambda: insist(lambda: service.cancel(handle), seconds=30) is CancelAnswer.CANCELLED)


def until_true(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


@dataclass(frozen=True)
class Ran:
    """A run of the tiny flow that was asked for twice and has ended."""

    request: RunRequest
    token: str
    handles: tuple[str, str]
    status: Status
    lines: list[str]


@pytest.fixture
def ran(once: Callable[..., Any], prefect_sandbox: Supervisor, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    found: Ran = once("ran", lambda: nullcontext(_run(prefect_sandbox, tmp_path_factory.mktemp("ran"))))
    return found


def _run(sandbox: Supervisor, folder: Path) -> Ran:
    key, service, request = token(), PrefectRun(), request_of_tiny(folder)
    with temporary_settings({PREFECT_API_URL: sandbox.environment["PREFECT_API_URL"]}):
        assert insist(lambda: service.find(request, key), seconds=30) is None
        handles = submit(service, request, key), submit(service, request, key)
        status = await_end(service, request, handles[0])
    return Ran(request, key, handles, status, (folder / "ran").read_text().splitlines())


def test_a_run_that_completes_succeeds_and_says_where_it_can_be_seen(server: str, ran: Ran) -> None:
    assert isinstance(ran.status, Succeeded)
    assert ran.status.evidence["run"] == ran.handles[0]
    assert ran.status.evidence["state"] == "Completed"
    assert str(ran.status.evidence["url"]).startswith(server.removesuffix("/api"))
    assert ran.handles[0] in str(ran.status.evidence["url"])


def test_a_run_starts_in_the_folder_that_its_deployment_names(ran: Ran) -> None:
    assert ran.lines[0].split()[1] == str(Path(__file__).parents[2])


def test_the_same_token_twice_is_one_run(server: str, ran: Ran) -> None:
    found = insist(lambda: PrefectRun().find(ran.request, ran.token), seconds=30)
    assert ran.handles[0] == ran.handles[1] == found
    assert len(ran.lines) == 1


def test_a_failed_run_fails_with_its_own_sentence_and_its_own_next_step(server: str, tmp_path: Path) -> None:
    service = PrefectRun()
    request = RunRequest(deployment="failing/failing", parameters={"path": "scan.h5"})

    status = await_end(service, request, submit(service, request, token()))

    assert isinstance(status, Failed)
    assert isinstance(status.error, RunFailed)
    assert "scan.h5 is empty" in status.error.what
    assert status.error.next_step == "take the scan again"
    assert status.error.sentence.count("Next:") == 1


def test_a_scheduled_run_succeeds_as_soon_as_it_stands_in_the_calendar(server: str, tmp_path: Path) -> None:
    service, request = PrefectSchedule(), request_of_tiny(tmp_path, scheduled_time=TOMORROW)
    handle = submit(service, request, token())

    status = poll(service, request, handle)

    assert isinstance(status, Succeeded)
    assert status.evidence["state"] == "Scheduled"
    assert datetime.fromisoformat(str(status.evidence["scheduled_time"])) == TOMORROW
    assert not (tmp_path / "ran").exists()


def test_a_schedule_of_which_the_answer_was_lost_is_made_once(server: str, tmp_path: Path) -> None:
    request = request_of_tiny(tmp_path, scheduled_time=TOMORROW)
    with lossy_proxy(server) as proxy, temporary_settings({PREFECT_API_URL: proxy.url}):
        proxy.lose.append("/create_flow_run")
        with Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}") as ledger:
            operation = Operation(
                scan=ledger.scans.register(beamline="bl832", path=RelativePath("p/scan.h5")),
                step="schedule",
                request=request,
                destination=PREFECT,
                deadline=60,
            )
            outcome = perform(ledger, operation, PrefectSchedule())
            again = perform(ledger, operation, PrefectSchedule())
        assert len(proxy.lost) == 1

    assert again.already_done
    by_token = FlowRunFilter(idempotency_key=FlowRunFilterIdempotencyKey(any_=[str(outcome.record.token)]))
    assert len(ask(lambda client: client.read_flow_runs(flow_run_filter=by_token))) == 1


def test_cancelling_a_scheduled_run_is_confirmed_and_it_never_starts(server: str, tmp_path: Path) -> None:
    service, request = PrefectSchedule(), request_of_tiny(tmp_path, scheduled_time=TOMORROW)
    handle = submit(service, request, token())

    cancelled(service, handle)

    status = poll(service, request, handle)
    assert isinstance(status, Failed)
    assert isinstance(status.error, Cancelled)


@pytest.mark.slow
def test_cancelling_a_running_run_stops_its_process(server: str, tmp_path: Path) -> None:
    service = PrefectRun()
    request = RunRequest(deployment="sleeping/sleeping", parameters={"path": str(tmp_path / "s"), "seconds": 300})
    handle = submit(service, request, token())
    until_true(lambda: (tmp_path / "s").exists())

    cancelled(service, handle)

    assert (tmp_path / "s").read_text() == "ended"
    status = poll(service, request, handle)
    assert isinstance(status, Failed)
    assert isinstance(status.error, Cancelled)


def test_a_run_that_nobody_stops_in_time_is_not_said_to_be_cancelled(server: str, tmp_path: Path) -> None:
    service = PrefectRun(cancel_patience=0.0)
    request = RunRequest(deployment="sleeping/sleeping", parameters={"path": str(tmp_path / "s"), "seconds": 300})
    handle = submit(service, request, token())
    until_true(lambda: (tmp_path / "s").exists())

    assert insist(lambda: service.cancel(handle), seconds=30) is CancelAnswer.UNKNOWN


def test_cancelling_what_has_ended_says_so(server: str, ran: Ran) -> None:
    answer = insist(lambda: PrefectRun().cancel(ran.handles[0]), seconds=30)
    assert answer is CancelAnswer.ALREADY_FINISHED


def test_a_run_that_was_deleted_in_prefect_is_a_failure_not_a_wait(server: str, tmp_path: Path) -> None:
    service, request = PrefectSchedule(), request_of_tiny(tmp_path, scheduled_time=TOMORROW)
    handle = submit(service, request, token())
    ask(lambda client: client.delete_flow_run(uuid.UUID(handle)))

    status = poll(service, request, handle)

    assert isinstance(status, Failed)
    assert "was deleted" in status.error.what
    assert insist(lambda: service.cancel(handle), seconds=30) is CancelAnswer.UNKNOWN


def test_a_missing_deployment_is_an_error_with_its_remedy(server: str) -> None:
    with pytest.raises(UnknownName, match=r"dispatcher/run_832_dispatcher.*create_deployments\.sh bl832"):
        submit(PrefectRun(), RunRequest(deployment="dispatcher/run_832_dispatcher"), token())
    with pytest.raises(UnknownName, match=r"correct the name, or add it to the prefect\.yaml"):
        submit(PrefectRun(), RunRequest(deployment="tiny/none"), token())


def test_parameters_that_the_flow_does_not_take_are_refused_before_anything_runs(server: str) -> None:
    with pytest.raises(InvalidInput, match=r"'path' is a required property|'pth' was unexpected"):
        submit(PrefectRun(), RunRequest(deployment="tiny/tiny", parameters={"pth": "x"}), token())


def test_the_services_work_inside_an_event_loop(server: str, tmp_path: Path) -> None:
    service, request = PrefectSchedule(), request_of_tiny(tmp_path, scheduled_time=TOMORROW)

    async def within_a_loop() -> Status:
        return poll(service, request, submit(service, request, token()))

    assert isinstance(asyncio.run(within_a_loop()), Succeeded)


@pytest.mark.slow
def test_without_an_answer_nothing_is_known() -> None:
    request = RunRequest(deployment="tiny/tiny")
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        with pytest.raises(ServiceUnavailable, match="does not answer"):
            submit(PrefectRun(), request, "t")
        with pytest.raises(ServiceUnavailable, match="does not answer"):
            PrefectRun().cancel(str(uuid.uuid4()))


def test_no_temporary_server_is_started_where_none_is_set() -> None:
    with (
        temporary_settings(restore_defaults={PREFECT_API_URL}),
        pytest.raises(ConfigError, match="no Prefect server is set"),
    ):
        submit(PrefectRun(), RunRequest(deployment="tiny/tiny"), "t")


@pytest.mark.parametrize("name", ["", "tiny", "/tiny", "tiny/", "a/b/c"])
def test_what_is_no_name_of_a_deployment_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput, match="not the name of a deployment"):
        RunRequest(deployment=name)


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(InvalidInput, match="no time zone"):
        RunRequest(deployment="a/b", scheduled_time=datetime(2026, 1, 1))  # noqa: DTZ001 -- on purpose


def test_names_and_tags_are_no_part_of_what_a_run_is() -> None:
    plain = RunRequest(deployment="a/b", parameters={"x": 1}, scheduled_time=TOMORROW)
    named = RunRequest(
        deployment="a/b",
        parameters={"x": 1},
        scheduled_time=TOMORROW.astimezone(),
        flow_run_name="for people",
        tags=("t",),
    )
    assert plain.document() == named.document()
