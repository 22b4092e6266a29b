"""Publishing in a search index: once, whatever is lost on the way, and what is there is what was asked for."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import globus_sdk
import pytest
from globus_ground import CREDENTIALS
from search_ground import (
    FAST,
    SUBJECT,
    Shown,
    a_record,
    a_request,
    a_scan,
    an_index,
    publication,
    shown,
)

from orchestration.config import Credentials
from orchestration.errors import CatalogueRefused, ConfigError, ExportControlled, NotSetUp, ServiceUnavailable
from orchestration.globus.publishing import RecordState
from orchestration.globus.search import DONE, GlobusPublish, GlobusWithdraw
from orchestration.globus.search_clients import SearchClients
from orchestration.globus.search_entries import Entry, PublishRequest, WithdrawRequest
from orchestration.ledger import Ledger
from orchestration.ledger.boundary import Boundary
from orchestration.ledger.operation import Operation
from orchestration.ledger.perform import Outcome, perform
from orchestration.ledger.scan import Scan
from orchestration.ledger.service import CancelAnswer, Failed, Running, Succeeded
from orchestration.sandbox.settings import CLIENT_ID
from orchestration.sandbox.testing import RunningFacility, submit


@pytest.fixture
def search(facility: RunningFacility, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shown]:
    """An index as good as new."""
    facility.client.reset()
    for name, value in facility.environment().items():
        monkeypatch.setenv(name, value)
    yield shown(facility)
    facility.client.faults.clear()


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(f"sqlite:///{tmp_path}/ledger.sqlite") as ledger:
        yield ledger


@pytest.fixture
def scan(ledger: Ledger) -> Scan:
    return a_scan(ledger)


def publish(search: Shown, ledger: Ledger, scan: Scan, request: PublishRequest, **options: Any) -> Outcome:
    step = options.pop("step", "publish")
    return perform(ledger, publication(scan, request, step), GlobusPublish(search.clients), schedule=FAST, **options)


def withdraw(search: Shown, ledger: Ledger, scan: Scan, step: str = "withdraw") -> Outcome:
    request = WithdrawRequest(index=search.index, subject=SUBJECT)
    operation = Operation(scan=scan, step=step, request=request, destination=request.place, deadline=30.0)
    return perform(ledger, operation, GlobusWithdraw(search.clients), schedule=FAST)


# ----- once --------------------------------------------------------------------------------------------------------


def test_a_record_is_published_and_read_back(search: Shown, ledger: Ledger, scan: Scan) -> None:
    request = a_request(project_metadata={"cycle": "2026-1"})
    done = publish(search, ledger, scan, request)
    (entry,) = search.entries()
    content = search.content()
    mark = content.pop("orchestration")
    assert content == request.entry.content
    assert mark == {"operation": f"{done.record.key}-1", "digest": request.digest}
    assert (entry["subject"], entry["id"], entry["visible_to"]) == (SUBJECT, "metadata", ["public"])
    assert {name: done.evidence[name] for name in ("index", "subject", "digest")} == {
        "index": "publications",
        "subject": SUBJECT,
        "digest": request.digest,
    }
    assert publish(search, ledger, scan, request).already_done
    assert search.ingests() == 1


@pytest.mark.parametrize("kind", ["lost_answer", "drop", "status"])
def test_it_is_published_once_through_a_storm(search: Shown, ledger: Ledger, scan: Scan, kind: str) -> None:
    for question in ("POST .*/token", "POST .*/ingest", "GET .*/subject", "GET .*/task_list", "GET .*/task/"):
        search.control.faults.add(question, kind)
        search.control.faults.add(question, kind, skip=2)
    search.control.expire_tokens()
    publish(search, ledger, scan, a_request())
    assert (search.ingests(), len(search.entries())) == (1, 1)


def test_an_ingest_that_still_waits_when_its_answer_was_lost_is_waited_for_and_adopted(
    search: Shown, ledger: Ledger, scan: Scan
) -> None:
    search.hold()
    search.control.faults.add("POST .*/ingest", "lost_answer")
    done = publish(search, ledger, scan, a_request(), on_progress=search.release_when_asked_again())
    assert search.ingests() == 1
    assert str(done.record.handle).startswith(DONE)
    events = [event.event for event in ledger.operations.history(done.record.key)]
    assert events[-3:] == ["in doubt", "adopted", "succeeded"]


@pytest.mark.parametrize("where", [Boundary.BEFORE_SUBMIT, Boundary.AFTER_SUBMIT, Boundary.IN_WAIT])
def test_a_process_killed_anywhere_doubles_nothing(search: Shown, ledger: Ledger, scan: Scan, where: Boundary) -> None:
    search.hold()
    program = Path(__file__).with_name("killed_publish.py")
    paths = os.pathsep.join([str(Path(__file__).parents[2]), str(Path(__file__).parent)])
    environment = search.facility.environment() | {"PATH": os.environ["PATH"], "PYTHONPATH": paths}
    command = [sys.executable, str(program), ledger.url, where.value]
    done = subprocess.run(command, env=environment, timeout=60, check=False)
    assert done.returncode == -9
    assert search.ingests() == (0 if where is Boundary.BEFORE_SUBMIT else 1)
    if where is not Boundary.AFTER_SUBMIT:
        search.hold(held=False)
    publish(search, ledger, scan, a_request(), on_progress=search.release_when_asked_again())
    assert (search.ingests(), len(search.entries())) == (1, 1)


def test_too_many_requests_are_asked_again_when_the_service_says(
    search: Shown, ledger: Ledger, scan: Scan, caplog: pytest.LogCaptureFixture
) -> None:
    search.control.faults.add("POST .*/ingest", status=429, retry_after=1)
    publish(search, ledger, scan, a_request())
    assert search.ingests() == 1
    assert "asked again in 1.0 s" in caplog.text


def test_the_same_record_published_by_another_operation_is_not_sent_again(
    search: Shown, ledger: Ledger, scan: Scan
) -> None:
    publish(search, ledger, scan, a_request())
    done = publish(search, ledger, scan, a_request(), step="publish once more")
    assert (search.ingests(), done.evidence["task_id"]) == (1, None)


def test_a_placeholder_is_replaced_by_the_final_record(search: Shown, ledger: Ledger, scan: Scan) -> None:
    publish(search, ledger, scan, a_request(state=RecordState.PLACEHOLDER, files=()), step="announce")
    publish(search, ledger, scan, a_request())
    assert search.content()["status"] == {"state": "final"}
    assert (search.ingests(), len(search.entries())) == (2, 1)


# ----- the truth ---------------------------------------------------------------------------------------------------


def test_an_ingest_that_fails_says_what_the_service_says(search: Shown, ledger: Ledger, scan: Scan) -> None:
    search.ingest({"project_metadata": {"energy": 8}}, subject="earlier")
    with pytest.raises(CatalogueRefused, match=r"project_metadata\.energy.*type \[long\].*Globus Search task"):
        publish(search, ledger, scan, a_request(project_metadata={"energy": "8 keV"}))
    done = publish(search, ledger, scan, a_request(project_metadata={"energy": 9}))
    assert done.record.attempt == 1, "another record, another operation"


def test_a_record_that_is_not_there_after_all_is_no_success(search: Shown) -> None:
    service = GlobusPublish(search.clients, patience=0.0)
    request = a_request()
    handle = submit(service, request, "token")
    while isinstance(service.poll(request, handle), Running):
        pass
    search.ingest({"by": "somebody else"})
    status = service.poll(request, handle)
    assert isinstance(status, Failed)
    assert "something else is there now" in status.error.what
    patient = GlobusPublish(search.clients).poll(request, handle)
    assert isinstance(patient, Running), "it may be read late"


def test_a_task_that_the_service_has_forgotten_is_known_by_its_entry(search: Shown) -> None:
    service, request = GlobusPublish(search.clients, patience=0.0), a_request()
    forgotten = "00000000-0000-4000-8000-000000000000"
    assert isinstance(service.poll(request, forgotten), Failed)
    handle = submit(service, request, "token")
    while isinstance(service.poll(request, handle), Running):
        pass
    assert isinstance(service.poll(request, forgotten), Succeeded)


def test_an_entry_of_somebody_else_is_left_alone(search: Shown, ledger: Ledger, scan: Scan) -> None:
    search.ingest({"by": "somebody else"})
    with pytest.raises(CatalogueRefused, match="did not write"):
        publish(search, ledger, scan, a_request())
    with pytest.raises(CatalogueRefused, match="did not write"):
        withdraw(search, ledger, scan)
    assert [entry["content"] for entry in search.entries()] == [{"by": "somebody else"}]


@pytest.mark.parametrize("status", [400, 403, 409])
def test_a_question_that_is_refused_ends_no_publication(search: Shown, ledger: Ledger, scan: Scan, status: int) -> None:
    search.control.faults.add("GET .*/task/", status=status)
    assert publish(search, ledger, scan, a_request()).record.attempt == 1


@pytest.mark.parametrize(("status", "kind"), [(403, CatalogueRefused), (400, CatalogueRefused), (401, ConfigError)])
def test_an_ingest_that_is_refused_fails_at_once(
    search: Shown, ledger: Ledger, scan: Scan, status: int, kind: type[Exception]
) -> None:
    search.control.faults.add("POST .*/ingest", status=status, times=2)
    with pytest.raises(kind):
        publish(search, ledger, scan, a_request())
    assert search.ingests() == 0


def test_an_index_that_is_not_there_is_named(search: Shown, ledger: Ledger, scan: Scan) -> None:
    nowhere = an_index(uuid="00000000-0000-4000-8000-000000000000")
    with pytest.raises(CatalogueRefused, match=r"no search index named.*`search\.indexes`"):
        publish(search, ledger, scan, a_record().request(nowhere, subject=SUBJECT))


def test_credentials_are_demanded_when_they_are_used(search: Shown) -> None:
    with pytest.raises(NotSetUp, match="GLOBUS_CLIENT_ID"):
        submit(GlobusPublish.connect(Credentials()), a_request(), "token")


def test_a_gateway_on_the_way_says_nothing_about_the_index(search: Shown) -> None:
    search.control.faults.add("POST .*/ingest", status=520)
    with pytest.raises(ServiceUnavailable):
        submit(GlobusPublish(search.clients), a_request(), "token")


def test_a_publication_cannot_be_taken_back_by_cancelling(search: Shown) -> None:
    search.hold()
    service, request = GlobusPublish(search.clients), a_request()
    handle = submit(service, request, "token")
    assert service.cancel(handle) is CancelAnswer.REFUSED
    search.hold(held=False)
    while isinstance(service.poll(request, handle), Running):
        pass
    assert service.cancel(handle) is CancelAnswer.ALREADY_FINISHED
    assert service.cancel("00000000-0000-4000-8000-000000000000") is CancelAnswer.UNKNOWN


# ----- who sees it -------------------------------------------------------------------------------------------------


def test_only_those_see_it_whom_the_record_names_and_this_service(search: Shown, ledger: Ledger, scan: Scan) -> None:
    team = "urn:globus:groups:id:88888888-0000-4000-8000-000000000001"
    request = a_record().request(search.index, subject=SUBJECT, visible_to=(team,))
    publish(search, ledger, scan, request)
    (entry,) = search.entries()
    assert entry["visible_to"] == [team, f"urn:globus:auth:identity:{CLIENT_ID}"]
    with globus_sdk.SearchClient() as stranger:
        assert stranger.search(search.index.uuid, "*")["total"] == 0
    widened = a_record().request(search.index, subject=SUBJECT)
    assert widened.digest != request.digest, "who may see it is a part of what was asked for"
    publish(search, ledger, scan, widened)
    with globus_sdk.SearchClient() as stranger:
        assert stranger.search(search.index.uuid, "*")["total"] == 1


def test_an_export_controlled_scan_is_not_published_and_can_be_withdrawn(search: Shown, ledger: Ledger) -> None:
    secret = a_scan(ledger, export_controlled=True)
    with pytest.raises(ExportControlled, match="the search index publications is outside the beamline"):
        publish(search, ledger, secret, a_request())
    assert search.ingests() == 0
    entry = a_request()
    handle = submit(GlobusPublish(search.clients), entry, "before it was known that it is controlled")
    while isinstance(GlobusPublish(search.clients).poll(entry, handle), Running):
        pass
    withdraw(search, ledger, secret)
    assert search.entries() == []


# ----- withdrawal --------------------------------------------------------------------------------------------------


def test_an_entry_is_withdrawn_however_often_it_is_asked_for(search: Shown, ledger: Ledger, scan: Scan) -> None:
    publish(search, ledger, scan, a_request())
    search.ingest({"by": "somebody else"}, id_="theirs")
    withdraw(search, ledger, scan)
    assert [entry["id"] for entry in search.entries()] == ["theirs"]
    withdraw(search, ledger, scan, step="once more")
    assert [effect.label for effect in search.control.effects("unindexed")] == ["metadata"]


@pytest.mark.parametrize("kind", ["lost_answer", "drop", "status"])
def test_it_is_withdrawn_once_through_a_storm(search: Shown, ledger: Ledger, scan: Scan, kind: str) -> None:
    publish(search, ledger, scan, a_request())
    for question in ("DELETE .*/entry", "GET .*/subject", "GET .*/task_list", "GET .*/task/"):
        search.control.faults.add(question, kind)
    withdraw(search, ledger, scan)
    assert (len(search.control.effects("unindex")), search.entries()) == (1, [])


def test_what_still_waits_to_be_published_is_withdrawn_as_well(search: Shown, ledger: Ledger, scan: Scan) -> None:
    search.hold()
    service = GlobusPublish(search.clients)
    submit(service, a_request(), "token")
    gone = GlobusWithdraw(search.clients)
    request = WithdrawRequest(index=search.index, subject=SUBJECT)
    handle = submit(gone, request, "token")
    status = gone.poll(request, handle)
    assert isinstance(status, Running)
    assert status.queued
    search.hold(held=False)
    while isinstance(gone.poll(request, handle), Running):
        pass
    assert search.entries() == []


def test_a_client_is_made_for_each_thread_with_one_token(search: Shown) -> None:
    clients = SearchClients(CREDENTIALS)
    assert clients() is clients()
    assert clients.identity == f"urn:globus:auth:identity:{CLIENT_ID}"
    assert "sandbox" not in repr(clients)


def test_an_entry_about_the_same_subject_has_a_place_of_its_own(search: Shown, ledger: Ledger, scan: Scan) -> None:
    publish(search, ledger, scan, a_request())
    entry = Entry(subject=SUBJECT, id="notes", visible_to=("public",), content={"note": "a bubble"})
    publish(search, ledger, scan, PublishRequest(index=search.index, entry=entry), step="annotate")
    assert [entry["id"] for entry in search.entries()] == ["metadata", "notes"]
