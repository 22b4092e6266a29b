"""Answers hold every key of the documents recorded from the real service, with the same JSON type."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping

import globus_sdk
import pytest
from globus_sdk import AuthClient, ConfidentialAppAuthClient, TransferAPIError, TransferClient
from globus_sdk.testing import RegisteredResponse, get_response_set
from sandbox_lab import Lab

OPTIONAL = {"label", "completion_time", "nice_status", "filter_rules", "sync_level", "fatal_error"}
"""Null or not, as the case may be."""


def recorded(method: Callable[..., object], case: str = "default") -> Mapping[str, object]:
    document = response(method, case).json
    assert isinstance(document, dict)
    return document


def response(method: Callable[..., object], case: str) -> RegisteredResponse:
    found = get_response_set(method).lookup(case)
    assert isinstance(found, RegisteredResponse)
    return found


def assert_same_shape(ours: object, theirs: object, where: str = "") -> None:
    if isinstance(theirs, Mapping):
        assert isinstance(ours, Mapping), where
        for key, value in theirs.items():
            assert key in ours, f"{where}.{key} is missing"
            if key not in OPTIONAL:
                assert_same_shape(ours[key], value, f"{where}.{key}")
    elif isinstance(theirs, list):
        assert isinstance(ours, list), where
        for one in ours[:1]:
            assert_same_shape(one, theirs[0] if theirs else one, f"{where}[0]")
    else:
        assert type(ours) is type(theirs), f"{where}: {ours!r} is not like {theirs!r}"


def test_submission_id(lab: Lab) -> None:
    assert_same_shape(lab.transfer.get_submission_id().data, recorded(TransferClient.get_submission_id))


def test_submit_transfer(lab: Lab) -> None:
    lab.write("a", b"a")
    answer = lab.transfer.submit_transfer(lab.request(("/a", "/a")))
    assert_same_shape(answer.data, recorded(TransferClient.submit_transfer))
    assert answer["code"] == "Accepted"


def test_submit_transfer_without_items(lab: Lab) -> None:
    theirs = recorded(TransferClient.submit_transfer, "failure")
    with pytest.raises(TransferAPIError) as caught:
        lab.transfer.submit_transfer(lab.request())
    assert_same_shape(caught.value.raw_json, theirs)
    assert caught.value.code == theirs["code"]


def test_submit_delete(lab: Lab) -> None:
    data = globus_sdk.DeleteData(lab.destination)
    data.add_item("/x")
    assert_same_shape(lab.transfer.submit_delete(data).data, recorded(TransferClient.submit_delete))


def test_task_list_and_task(lab: Lab) -> None:
    lab.write("a", b"a")
    task = lab.submit(("/a", "/a"))
    lab.ended(task)
    theirs = recorded(TransferClient.task_list)
    assert_same_shape(lab.transfer.task_list().data, theirs)
    rows = theirs["DATA"]
    assert isinstance(rows, list)
    assert_same_shape(lab.task(task).data, rows[0])


def test_cancel_of_an_active_task(lab: Lab) -> None:
    task = lab.submit(("/missing", "/missing"))
    answer = lab.transfer.cancel_task(task)
    theirs = recorded(TransferClient.cancel_task)
    assert_same_shape(answer.data, theirs)
    assert answer["code"] == theirs["code"]


def test_mkdir_and_rename(lab: Lab) -> None:
    made = lab.transfer.operation_mkdir(lab.source, "/made")
    assert_same_shape(made.data, recorded(TransferClient.operation_mkdir))
    renamed = lab.transfer.operation_rename(lab.source, "/made", "/named")
    assert_same_shape(renamed.data, recorded(TransferClient.operation_rename))
    assert (lab.facility.root("beamline") / "named").is_dir()


def test_stat(lab: Lab) -> None:
    lab.write("file1.txt", b"four")
    answer = lab.transfer.operation_stat(lab.source, "/file1.txt")
    assert_same_shape(answer.data, recorded(TransferClient.operation_stat))
    assert (answer["name"], answer["size"], answer["type"]) == ("file1.txt", 4, "file")


@pytest.mark.parametrize("case", ["not_found", "permission_denied"])
def test_stat_refused(lab: Lab, case: str) -> None:
    lab.facility.client.collections.set(lab.source, deny=["/secret*"])
    path = {"not_found": "/nothing", "permission_denied": "/secret"}[case]
    with pytest.raises(TransferAPIError) as caught:
        lab.transfer.operation_stat(lab.source, path)
    theirs = recorded(TransferClient.operation_stat, case)
    assert_same_shape(caught.value.raw_json, theirs)
    status = response(TransferClient.operation_stat, case).status
    assert (caught.value.http_status, caught.value.code) == (status, theirs["code"])


def test_successful_transfers(lab: Lab) -> None:
    lab.write("a", b"a")
    task = lab.submit(("/a", "/b"))
    lab.ended(task)
    rows = [dict(row) for row in lab.transfer.task_successful_transfers(task)]
    theirs = recorded(TransferClient.endpoint_manager_task_successful_transfers)["DATA"]
    assert_same_shape(rows, theirs)
    assert (rows[0]["source_path"], rows[0]["destination_path"]) == ("/a", "/b")


def test_tokens_per_resource_server(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in lab.facility.environment().items():
        monkeypatch.setenv(name, value)
    with ConfidentialAppAuthClient(os.environ["GLOBUS_CLIENT_ID"], os.environ["GLOBUS_CLIENT_SECRET"]) as auth:
        scopes = [TransferClient.scopes.all, AuthClient.scopes.openid]
        tokens = auth.oauth2_client_credentials_tokens(scopes)
        assert_same_shape(tokens.data, recorded(ConfidentialAppAuthClient.oauth2_client_credentials_tokens))
        assert set(tokens.by_resource_server) == {"transfer.api.globus.org", "auth.globus.org"}
        secret = tokens.by_resource_server["transfer.api.globus.org"]["access_token"]
        assert auth.oauth2_token_introspect(secret)["active"]
        auth.oauth2_revoke_token(secret)
        assert not auth.oauth2_token_introspect(secret)["active"]


def test_wrong_secret_is_refused(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in lab.facility.environment().items():
        monkeypatch.setenv(name, value)
    with (
        ConfidentialAppAuthClient(os.environ["GLOBUS_CLIENT_ID"], "wrong") as auth,
        pytest.raises(globus_sdk.AuthAPIError) as caught,
    ):
        auth.oauth2_client_credentials_tokens(TransferClient.scopes.all)
    assert caught.value.http_status == 401


def test_a_client_app_of_the_sdk_logs_in_by_itself(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in lab.facility.environment().items():
        monkeypatch.setenv(name, value)
    config = globus_sdk.GlobusAppConfig(token_storage="memory")
    with (
        globus_sdk.ClientApp(
            "test",
            client_id=os.environ["GLOBUS_CLIENT_ID"],
            client_secret=os.environ["GLOBUS_CLIENT_SECRET"],
            config=config,
        ) as app,
        TransferClient(app=app) as client,
    ):
        assert client.task_list().data["DATA_TYPE"] == "task_list"
        lab.facility.client.expire_tokens()
        assert client.task_list().data["total"] == 0
