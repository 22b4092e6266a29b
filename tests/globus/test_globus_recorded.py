"""Documents that the real service sent, as recorded in the SDK, are read as they should be."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID

import globus_sdk
import pytest
import responses
from globus_sdk.testing import RegisteredResponse, get_response_set, load_response

from orchestration.config import Credentials, Endpoint
from orchestration.errors import AccessDenied, EndpointRefused
from orchestration.globus.auth import TransferClients
from orchestration.globus.files import GlobusFiles
from orchestration.globus.tasks import GlobusTasks, Task, submit
from orchestration.ledger.service import CancelAnswer


class Recorded(TransferClients):
    """A client that needs no token; nothing here leaves the process."""

    def __call__(self) -> globus_sdk.TransferClient:
        return globus_sdk.TransferClient(authorizer=globus_sdk.AccessTokenAuthorizer("recorded"))


@pytest.fixture
def clients(monkeypatch: pytest.MonkeyPatch) -> Iterator[TransferClients]:
    monkeypatch.delenv("GLOBUS_SDK_SERVICE_URL_TRANSFER", raising=False)
    with responses.mock:
        yield Recorded(Credentials())


def test_a_recorded_task_is_read(clients: TransferClients) -> None:
    task = Task.parse(recorded_task())

    assert (task.status, task.files, task.files_transferred, task.bytes_transferred) == ("SUCCEEDED", 1, 1, 4)
    assert (task.code, task.subtasks_bad, task.ok, task.paused) == ("", 0, True, False)
    assert task.completed == "2021-09-02T18:04:49+00:00"


def test_recorded_files_and_refusals_are_read(clients: TransferClients) -> None:
    files = GlobusFiles(clients)

    def stat(case: str) -> object:
        meta = load_response(globus_sdk.TransferClient.operation_stat, case=case).metadata
        endpoint = Endpoint(uuid=UUID(meta["endpoint_id"])).known_as("tutorial")
        return files.entry(endpoint, "/~/file1.txt")

    found = stat("default")
    assert (getattr(found, "size", None), getattr(found, "modified", None)) == (4, 1702918370.0)
    assert stat("not_found") is None
    with pytest.raises(AccessDenied):
        stat("permission_denied")


def test_recorded_submissions_are_read(clients: TransferClients) -> None:
    recorded = load_response(globus_sdk.TransferClient.submit_transfer)
    load_response(globus_sdk.TransferClient.get_submission_id)
    end = "00000000-0000-0000-0000-000000000001"
    data = globus_sdk.TransferData(end, end, submission_id=GlobusTasks(clients).reserve())
    assert submit(clients, data, where="here") == recorded.metadata["task_id"]

    load_response(globus_sdk.TransferClient.submit_transfer, case="failure")
    with pytest.raises(EndpointRefused, match="at least one item"):
        submit(clients, data, where="here")


def test_a_recorded_cancellation_of_a_task_is_read(clients: TransferClients) -> None:
    meta = load_response(globus_sdk.TransferClient.cancel_task).metadata
    ended = {**recorded_task(), "status": "FAILED", "fatal_error": {"code": "CANCELED", "description": "canceled"}}
    responses.get(f"https://transfer.api.globus.org/v0.10/task/{meta['task_id']}", json=ended)
    assert GlobusTasks(clients).cancel(meta["task_id"]) is CancelAnswer.CANCELLED


def recorded_task() -> dict[str, object]:
    recorded = get_response_set(globus_sdk.TransferClient.task_list).lookup("default")
    assert isinstance(recorded, RegisteredResponse)
    assert isinstance(recorded.json, dict)
    return dict(recorded.json["DATA"][0])
