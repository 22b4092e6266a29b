"""Listing, stat, mkdir and rename; collections, their access rules and consents."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import globus_sdk
import pytest
from globus_sdk import TransferAPIError, TransferClient
from sandbox_lab import Lab, running_lab

from orchestration.sandbox.settings import CollectionSettings, Settings
from orchestration.sandbox.testing import running_facility


def refusal(act: object) -> tuple[int, str | None]:
    assert callable(act)
    with pytest.raises(TransferAPIError) as caught:
        act()
    return caught.value.http_status, caught.value.code


def test_a_listing_is_sorted_filtered_and_has_pages(lab: Lab) -> None:
    for name in ("b.h5", "a.h5", "notes.txt", "folder/x", ".hidden"):
        lab.write(name, b"1234")

    def names(**query: Any) -> list[str]:
        return [str(row["name"]) for row in lab.transfer.operation_ls(lab.source, "/", **query)]

    assert names() == ["folder", ".hidden", "a.h5", "b.h5", "notes.txt"]
    assert names(show_hidden=False, filter={"name": "~*.h5"}) == ["a.h5", "b.h5"]
    assert names(filter={"type": "dir"}) == ["folder"]
    assert names(limit=2, offset=1) == [".hidden", "a.h5"]
    row = lab.transfer.operation_ls(lab.source, "/")["DATA"][2]
    assert row["last_modified"][10] == " "
    assert lab.transfer.operation_ls(lab.source, "/folder")["path"] == "/folder/"


def test_what_cannot_be_listed(lab: Lab) -> None:
    lab.write("file", b"")
    assert refusal(lambda: lab.transfer.operation_ls(lab.source, "/nothing")) == (404, "ClientError.NotFound")
    expected = (502, "ExternalError.DirListingFailed.NotDirectory")
    assert refusal(lambda: lab.transfer.operation_ls(lab.source, "/file")) == expected
    assert refusal(lambda: lab.transfer.operation_ls("nobody", "/")) == (404, "EndpointNotFound")
    lab.facility.client.collections.set(lab.source, connected=False)
    expected = (502, "ExternalError.DirListingFailed.GCDisconnected")
    assert refusal(lambda: lab.transfer.operation_ls(lab.source, "/")) == expected


def test_nothing_leads_out_of_a_collection(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text("x")
    (lab.facility.root("beamline") / "link").symlink_to(tmp_path / "outside")
    assert lab.transfer.operation_ls(lab.source, "/../../..")["path"] == "/"
    assert refusal(lambda: lab.transfer.operation_stat(lab.source, "/link/secret"))[0] == 403


def test_mkdir_refuses_what_exists_and_what_has_no_parent(lab: Lab) -> None:
    lab.transfer.operation_mkdir(lab.source, "/new")
    again = refusal(lambda: lab.transfer.operation_mkdir(lab.source, "/new"))
    assert again == (502, "ExternalError.MkdirFailed.Exists")
    assert refusal(lambda: lab.transfer.operation_mkdir(lab.source, "/no/parent"))[0] == 404


def test_a_rename_refuses_what_exists_what_is_missing_and_another_file_system(lab: Lab) -> None:
    lab.write("old", b"old")
    lab.write("taken", b"taken")
    lab.write("disk/x", b"x")
    lab.facility.client.collections.set(lab.source, volumes=["/disk"])
    rename = lab.transfer.operation_rename
    expected = (502, "ExternalError.RenameFailed.Exists")
    assert refusal(lambda: rename(lab.source, "/old", "/taken")) == expected
    assert refusal(lambda: rename(lab.source, "/none", "/new")) == (404, "ClientError.NotFound")
    assert refusal(lambda: rename(lab.source, "/old", "/no/parent"))[0] == 404
    assert refusal(lambda: rename(lab.source, "/old", "/disk/old")) == (502, "ExternalError.RenameFailed")
    lab.facility.client.collections.set(lab.source, writable=False)
    assert refusal(lambda: rename(lab.source, "/old", "/new")) == (403, "EndpointPermissionDenied")
    assert lab.facility.client.effects("renamed") == []


def test_collections_describe_themselves_and_are_found(lab: Lab) -> None:
    assert lab.transfer.get_endpoint(lab.source)["display_name"] == "beamline"
    found = list(lab.transfer.endpoint_search("facility"))
    assert [row["id"] for row in found] == [lab.destination]


def test_a_collection_may_ask_for_consent_and_names_the_scope(tmp_path: Path) -> None:
    closed = CollectionSettings(name="beamline", root=tmp_path / "closed", data_access=True)
    with running_lab(tmp_path / "state", collections=[closed, "facility"]) as lab:
        with pytest.raises(TransferAPIError) as caught:
            lab.transfer.operation_ls(lab.source, "/")
        assert (caught.value.http_status, caught.value.code) == (403, "ConsentRequired")
        assert caught.value.info.consent_required
        scopes = caught.value.info.consent_required.required_scopes
        auth = globus_sdk.ConfidentialAppAuthClient(
            lab.facility.environment()["GLOBUS_CLIENT_ID"],
            lab.facility.environment()["GLOBUS_CLIENT_SECRET"],
            base_url=f"{lab.facility.url}/auth",
        )
        with auth:
            authorizer = globus_sdk.ClientCredentialsAuthorizer(auth, scopes[0])
            with TransferClient(authorizer=authorizer, base_url=f"{lab.facility.url}/transfer") as consented:
                assert consented.operation_ls(lab.source, "/")["DATA"] == []


def test_a_guest_collection_admits_whom_its_rules_name(tmp_path: Path) -> None:
    owner, guest = "00000000-0000-4000-8000-00000000000a", "00000000-0000-4000-8000-00000000000b"
    settings = Settings(state=tmp_path / "state", clients={owner: "o", guest: "g"}, retry=0.05)
    shared = CollectionSettings(name="shared", root=tmp_path / "shared", kind="guest", owner=owner)
    with running_facility(tmp_path / "state", [shared], settings=settings) as facility:
        url, collection = facility.url, shared.identity

        def client(identity: str, secret: str) -> TransferClient:
            with globus_sdk.ConfidentialAppAuthClient(identity, secret, base_url=f"{url}/auth") as auth:
                tokens = auth.oauth2_client_credentials_tokens(TransferClient.scopes.all)
            token = tokens.by_resource_server["transfer.api.globus.org"]["access_token"]
            made = TransferClient(authorizer=globus_sdk.AccessTokenAuthorizer(token), base_url=f"{url}/transfer")
            made.retry_config.max_retries = 0
            return made

        with client(owner, "o") as mine, client(guest, "g") as theirs:
            mine.operation_mkdir(collection, "/open")
            assert refusal(lambda: theirs.operation_ls(collection, "/open"))[1] == "EndpointPermissionDenied"
            rule = {"DATA_TYPE": "access", "principal_type": "identity", "principal": guest, "path": "/open/"}
            rule_id = mine.add_endpoint_acl_rule(collection, rule | {"permissions": "r"})["access_id"]
            assert theirs.operation_ls(collection, "/open")["DATA"] == []
            assert refusal(lambda: theirs.operation_mkdir(collection, "/open/x"))[0] == 403
            mine.update_endpoint_acl_rule(collection, rule_id, {"permissions": "rw"})
            theirs.operation_mkdir(collection, "/open/x")
            assert refusal(lambda: theirs.add_endpoint_acl_rule(collection, rule))[1] == "PermissionDenied"
            assert [row["id"] for row in mine.endpoint_acl_list(collection)] == [rule_id]
            mine.delete_endpoint_acl_rule(collection, rule_id)
            assert refusal(lambda: theirs.operation_ls(collection, "/open"))[0] == 403
