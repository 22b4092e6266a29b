"""What Globus Compute never tells, or tells wrongly: the folder of the job is the witness."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from compute_daemon import Daemon
from compute_ground import Ground, compute_client, eventually
from compute_jobs import COUNTING, Yard, alive, failure, job_operation, wait

from orchestration.errors import ConfigError, JobFailed, JobLost, ServiceUnavailable
from orchestration.globus.compute import GlobusCompute
from orchestration.jobs import JobSpec
from orchestration.ledger import Ledger
from orchestration.ledger.boundary import Boundary, listening
from orchestration.ledger.operation import OperationState
from orchestration.ledger.perform import perform
from orchestration.ledger.service import CancelAnswer, Document, Failed, Running, Status, Succeeded
from orchestration.ledger.waiting import Waiting
from orchestration.sandbox.testing import submit


@pytest.fixture
def yard(ground: Ground, tmp_path: Path) -> Yard:
    return Yard(ground, tmp_path)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(f"sqlite:///{tmp_path}/ledger.sqlite") as ledger:
        yield ledger


@pytest.fixture
def daemon(ground: Ground) -> Daemon:
    """An endpoint program; to the web service, what it has taken waits until it tells of it."""
    made = Daemon(compute_client(ground.url))
    made.beat()
    return made


def submitted(service: GlobusCompute, spec: JobSpec, daemon: Daemon) -> tuple[str, str]:
    """The handle of a job, and the endpoint whose queue it is on."""
    handle = submit(service, spec, service.reserve("key"))
    return handle, str(daemon.command()["amqp_creds"]["endpoint_id"])


def _parent(process: int) -> int:
    return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])


def left_in(yard: Yard, handle: str) -> dict[str, object]:
    folder = yard.folder / "jobs" / handle.partition("/")[0]
    found: dict[str, object] = json.loads((folder / "report.json").read_text())
    return found


def tasks(yard: Yard, function: str) -> list[Document]:
    return [task for task in yard.ground.control.compute.tasks() if task["function"] == function]


def begun_long_ago(yard: Yard, handle: str) -> None:
    """The mark of a runner whose computer was lost an hour ago."""
    folder = yard.folder / "jobs" / handle.partition("/")[0]
    folder.mkdir(parents=True)
    (folder / "started.json").write_text("{}")
    os.utime(folder / "started.json", (time.time() - 3600.0,) * 2)


def test_a_job_whose_end_is_never_told_has_succeeded(yard: Yard, daemon: Daemon, ledger: Ledger) -> None:
    service = yard.service(yard.site(compute=daemon.id), look=0.1)

    def endpoint() -> None:
        daemon.run_one_and_die(str(daemon.command()["amqp_creds"]["endpoint_id"]))

    running = threading.Thread(target=endpoint)
    running.start()
    done = perform(ledger, job_operation(ledger, yard.folder), service)
    running.join()
    assert (done.record.state, done.record.attempt) == (OperationState.SUCCEEDED, 1)
    assert done.evidence["exit_code"] == 0
    assert isinstance(done.evidence["queue_seconds"], float)
    assert len(yard.runs()) == 1


def test_who_asks_about_many_learns_which_of_them_are_over_untold(yard: Yard, daemon: Daemon) -> None:
    service, spec = yard.service(yard.site(compute=daemon.id), look=0.1), yard.counting()
    handle, endpoint = submitted(service, spec, daemon)

    def stand() -> Status | None:
        return service.poll_many([(spec, handle)]).get(handle)

    assert stand() is None  # nothing was learned yet
    assert eventually(lambda: isinstance(found := stand(), Running) and found.queued and not found.needs_care)
    daemon.run_one_and_die(endpoint)
    assert eventually(lambda: isinstance(found := stand(), Running) and found.needs_care)
    assert isinstance(wait(service, spec, handle), Succeeded)


def test_a_cancellation_that_finds_a_job_over_has_the_next_question_tell_how(yard: Yard, daemon: Daemon) -> None:
    service, spec = yard.service(yard.site(compute=daemon.id), look=1000.0, cancel=60.0), yard.counting()
    handle, endpoint = submitted(service, spec, daemon)
    daemon.run_one_and_die(endpoint)
    assert isinstance(service.poll(spec, handle), Running)
    assert service.cancel(handle) is CancelAnswer.ALREADY_FINISHED
    assert isinstance(service.poll(spec, handle), Succeeded)


def test_a_job_of_which_nothing_is_heard_after_its_time_is_lost_and_never_goes_on(yard: Yard, daemon: Daemon) -> None:
    service, spec = yard.service(yard.site(compute=daemon.id), look=0.1, dead=0.0), yard.counting()
    handle, endpoint = submitted(service, spec, daemon)
    begun_long_ago(yard, handle)
    assert type(failure(wait(service, spec, handle))) is JobLost
    assert left_in(yard, handle)["reason"] == "terminated"
    daemon.run_one(endpoint)  # delivered after all
    assert yard.runs() == []


def test_a_job_is_not_lost_as_long_as_its_program_lives(yard: Yard) -> None:
    """The worker is gone, and the runner gives a program that does not heed it some seconds to end."""
    code = f"import signal\nsignal.signal(signal.SIGTERM, lambda *_: open('told', 'w'))\n{COUNTING}time.sleep(600)"
    spec, service = yard.job(code), yard.service(unknown=0.0)
    handle = submit(service, spec, service.reserve("key"))
    (program,) = eventually(yard.runs)
    os.kill(yard.ground.worker_of(handle), signal.SIGKILL)
    polls = 0
    while isinstance(status := service.poll(spec, handle), Running):
        polls += 1
        if polls >= 3 and (yard.folder / "work" / "told").exists():
            os.kill(program, signal.SIGKILL)
    assert not alive(program)
    assert type(failure(status)) is JobLost


def test_what_a_killed_runner_left_is_told(yard: Yard) -> None:
    code = f"import sys\nsys.stderr.write('half of it\\n'); sys.stderr.flush()\n{COUNTING}time.sleep(60)"
    spec, service = yard.job(code), yard.service(dead=0.3)
    handle = submit(service, spec, service.reserve("key"))
    (program,) = eventually(yard.runs)
    os.kill(_parent(program), signal.SIGKILL)
    status = wait(service, spec, handle)
    assert isinstance(status, Failed)
    assert type(status.error) is JobLost
    assert "its runner ended with signal SIGKILL" in str(status.error)
    assert "its program had said: half of it" in str(status.error)
    assert (status.evidence["runner_code"], status.evidence["stderr"]) == (-9, "half of it\n")
    assert not alive(program)


def test_a_job_that_the_endpoint_refuses_never_begins(yard: Yard, daemon: Daemon) -> None:
    """Another submission of it may still be on its way."""
    service, spec = yard.service(yard.site(compute=daemon.id)), yard.counting()
    token = service.reserve("key")
    handle = submit(service, spec, token)
    endpoint = str(daemon.command()["amqp_creds"]["endpoint_id"])
    submit(service, spec, token)
    daemon.fail_one(endpoint, "the scheduler says no")
    error = failure(wait(service, spec, handle))
    assert type(error) is JobFailed
    assert "could not be run by the endpoint: the scheduler says no" in str(error)
    daemon.run_one(endpoint)
    assert yard.runs() == []
    assert type(failure(wait(yard.service(yard.site(compute=daemon.id)), spec, handle))) is JobFailed


def test_many_waiting_jobs_are_looked_after_by_one_errand(yard: Yard) -> None:
    yard.ground.control.compute.switch(Ground.compute, held=True)
    service, spec = yard.service(look=0.2), yard.counting()
    items = [(spec, submit(service, spec, service.reserve("key"))) for _ in range(8)]
    before = len(tasks(yard, "survey"))
    yard.ground.control.faults.add("POST .*/batch_status", "latency", times=0)

    def stands() -> bool:
        found = service.poll_many(items)
        return len(found) == 8 and all(isinstance(each, Running) and each.queued for each in found.values())

    asked = 1
    while not stands():
        asked += 1
        time.sleep(0.05)
    (rule,) = yard.ground.control.faults.every()
    assert rule.hits == asked  # one request for each question, whatever it asks about
    assert len(tasks(yard, "survey")) - before <= asked
    assert all(
        status.needs_care is False for status in service.poll_many(items).values() if isinstance(status, Running)
    )


def test_a_run_need_not_stay_for_a_job_in_the_queue(yard: Yard, ledger: Ledger) -> None:
    yard.ground.control.compute.switch(Ground.compute, held=True)
    operation = job_operation(ledger, yard.folder)
    with pytest.raises(Waiting):
        perform(ledger, operation, yard.service(look=0.1), may_leave=lambda _since, _here: True)
    record = ledger.operations.get(operation.key)
    assert (record.state, record.owner) == (OperationState.RUNNING, None)
    yard.ground.control.compute.switch(Ground.compute, held=False)
    assert perform(ledger, operation, yard.service()).record.attempt == 1
    assert len(yard.runs()) == 1


@pytest.mark.parametrize("status", [400, 403, 404, 409, 418, 425, 520])
def test_a_question_that_is_refused_ends_no_job(yard: Yard, ledger: Ledger, status: int) -> None:
    yard.ground.control.faults.add("POST .*/batch_status", status=status, times=2)
    done = perform(ledger, job_operation(ledger, yard.folder), yard.service())
    assert (done.record.state, done.record.attempt) == (OperationState.SUCCEEDED, 1)
    assert len(yard.runs()) == 1


def test_a_login_endpoint_that_is_not_there_ends_no_job(yard: Yard, ledger: Ledger) -> None:
    service = yard.service(yard.site(login=str(uuid.uuid4())), look=0.05)
    operation = job_operation(ledger, yard.folder, f"{COUNTING}time.sleep(0.5)")
    assert perform(ledger, operation, service).record.state is OperationState.SUCCEEDED
    assert len(yard.runs()) == 1


def test_where_the_login_endpoint_is_needed_and_not_there_the_operation_stays_open(yard: Yard, ledger: Ledger) -> None:
    wrong, operation = yard.service(yard.site(login=str(uuid.uuid4()))), job_operation(ledger, yard.folder)

    def forgets(boundary: Boundary, _subject: str) -> None:
        if boundary is Boundary.AFTER_SUBMIT:
            token = ledger.operations.get(operation.key).token
            (task,) = [str(one["id"]) for one in yard.ground.control.compute.tasks() if one["group"] == token]
            eventually(lambda: yard.ground.control.compute.forget(task))

    with listening(forgets), pytest.raises(ConfigError, match="GLOBUS_COMPUTE_LOGIN_ENDPOINT"):
        perform(ledger, operation, wrong)
    assert ledger.operations.get(operation.key).state is OperationState.RUNNING
    assert perform(ledger, operation, yard.service()).record.attempt == 1
    assert len(yard.runs()) == 1


class _Gateway(BaseHTTPRequestHandler):
    """Something on the way to a service, which knows no such page."""

    def do_GET(self) -> None:
        page = b"<h1>Not Found</h1>"
        self.send_response(404)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.do_GET()

    def log_message(self, format: str, *arguments: object) -> None:
        """Nobody reads it."""


def test_the_page_of_a_gateway_says_nothing_about_jobs(yard: Yard) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Gateway) as gateway:
        threading.Thread(target=gateway.serve_forever, daemon=True).start()
        site = yard.site().model_copy(update={"service_url": f"http://127.0.0.1:{gateway.server_port}"})
        service, spec = yard.service(site), yard.counting()
        token = service.reserve("key")
        for ask in (
            lambda: submit(service, spec, token),
            lambda: service.find(spec, token),
            lambda: service.poll(spec, f"{token}/{uuid.uuid4()}"),
            lambda: service.cancel(f"{token}/{uuid.uuid4()}"),
        ):
            with pytest.raises(ServiceUnavailable):
                ask()
        gateway.shutdown()


@pytest.mark.parametrize("status", [401, 403, 404, 422])
def test_a_submission_that_is_refused_has_failed_for_certain(yard: Yard, ledger: Ledger, status: int) -> None:
    operation = job_operation(ledger, yard.folder)
    yard.ground.control.faults.add(r"POST .*/submit$", status=status, times=2)
    with pytest.raises(JobFailed):
        perform(ledger, operation, yard.service())
    record = ledger.operations.get(operation.key)
    assert (record.state, record.handle) == (OperationState.FAILED, None)
    assert yard.runs() == []


def test_an_answer_that_is_not_globus_computes_tells_nothing_about_a_group(yard: Yard) -> None:
    service = yard.service()
    yard.ground.control.faults.add("taskgroup", status=403)
    with pytest.raises(ServiceUnavailable):
        service.find(yard.counting(), service.reserve("key"))
