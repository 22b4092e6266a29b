"""Cataloguing against a catalogue that fails on demand and counts what really happened."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr
from scicat_world import PICTURE, WRITTEN, connect, ingest_operation, small_request

from orchestration.config import ScicatSettings
from orchestration.errors import CatalogueRefused, ConfigError, ServiceUnavailable
from orchestration.ledger import Ledger
from orchestration.ledger.perform import perform
from orchestration.ledger.service import CancelAnswer, Failed, Succeeded
from orchestration.sandbox.testing import RunningFacility, submit
from orchestration.scicat import (
    Attachment,
    DataFile,
    DerivedDataset,
    IngestRequest,
    RawDataset,
    ScicatClient,
    ScicatIngest,
)

KINDS = ("dataset", "origdatablock", "attachment")
POSTS = {
    "dataset": "POST .*/datasets$",
    "origdatablock": "POST .*/origdatablocks$",
    "attachment": "POST .*/attachments$",
}


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(f"sqlite:///{tmp_path}/ledger.sqlite", lease_seconds=1.0) as ledger:
        yield ledger


def happened(facility: RunningFacility) -> dict[str, int]:
    return {kind: len(facility.client.effects(kind)) for kind in KINDS}


ONCE = dict.fromkeys(KINDS, 1)


def test_a_record_is_complete_and_the_evidence_says_where_it_is(
    facility: RunningFacility, service: ScicatIngest, client: ScicatClient, request_: IngestRequest, ledger: Ledger
) -> None:
    outcome = perform(ledger, ingest_operation(ledger, request_), service)
    pid = service.pid(request_)
    assert outcome.evidence == {
        "pid": pid,
        "size": 1234,
        "number_of_files": 1,
        "attachments": 1,
        "url": f"https://scicat.example.org/datasets/{pid.replace('/', '%2F')}",
    }
    assert pid.startswith("20.500.12345/")
    stored = client.dataset(pid)
    assert stored is not None
    assert stored["accessGroups"] == ["8.3.2", "ingestor"]
    assert (stored["size"], stored["numberOfFiles"]) == (1234, 1)
    (picture,) = client.attachments(pid)
    assert (picture["thumbnail"], picture["accessGroups"]) == (PICTURE, ["8.3.2", "ingestor"])
    (block,) = client.blocks(pid)
    assert block["chkAlg"] == "sha256"


def test_the_same_scan_ingested_again_is_one_record(
    facility: RunningFacility, service: ScicatIngest, request_: IngestRequest, ledger: Ledger
) -> None:
    perform(ledger, ingest_operation(ledger, request_), service)
    assert perform(ledger, ingest_operation(ledger, request_), service).already_done
    assert service.find(request_, "any") == service.pid(request_)
    assert submit(service, request_, "another attempt") == service.pid(request_)
    assert happened(facility) == ONCE


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fault", ["lost_answer", "drop", "status"])
def test_an_answer_lost_anywhere_doubles_nothing(
    facility: RunningFacility, service: ScicatIngest, request_: IngestRequest, ledger: Ledger, kind: str, fault: str
) -> None:
    facility.client.faults.add(POSTS[kind], fault)
    assert perform(ledger, ingest_operation(ledger, request_), service).evidence["pid"] == service.pid(request_)
    assert happened(facility) == ONCE


@pytest.mark.parametrize("when", ["request", "response"])
@pytest.mark.parametrize(
    "number", [pytest.param(1, marks=pytest.mark.slow), 2, pytest.param(3, marks=pytest.mark.slow)]
)
def test_a_process_killed_at_any_request_doubles_nothing(
    facility: RunningFacility, tmp_path: Path, ledger: Ledger, when: str, number: int
) -> None:
    program = Path(__file__).with_name("killed_ingest.py")
    environment = facility.environment() | {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(
        [sys.executable, program, ledger.url, when, str(number)], env=environment, timeout=60, check=False
    )
    assert done.returncode == -9
    settings = ScicatSettings(api_url=environment["SCICAT_API_URL"], service_group="ingestor")
    with connect(facility, settings) as client:
        service = ScicatIngest(client, settings)
        assert perform(ledger, ingest_operation(ledger, small_request()), service).evidence["size"] == 1234
    assert happened(facility) == ONCE


def test_a_part_of_a_record_is_not_adopted(
    facility: RunningFacility, service: ScicatIngest, request_: IngestRequest
) -> None:
    facility.client.faults.add(POSTS["attachment"], "drop")
    with pytest.raises(ServiceUnavailable):
        submit(service, request_, "token")
    assert service.find(request_, "token") is None
    status = service.poll(request_, service.pid(request_))
    assert isinstance(status, Failed)
    assert "lacks the pictures raw image" in status.error.what
    assert submit(service, request_, "token") == service.pid(request_)
    assert happened(facility) == ONCE


def test_an_expired_login_is_renewed_before_an_empty_answer_is_believed(
    facility: RunningFacility, service: ScicatIngest, request_: IngestRequest
) -> None:
    submit(service, request_, "token")
    facility.client.expire_tokens()
    assert service.find(request_, "token") == service.pid(request_)
    facility.client.expire_tokens()
    assert isinstance(service.poll(request_, service.pid(request_)), Succeeded)
    facility.client.expire_tokens()
    submit(service, request_, "token")
    assert happened(facility) == ONCE


def test_a_login_about_to_expire_is_renewed_beforehand(facility: RunningFacility, settings: ScicatSettings) -> None:
    now = [1000.0]
    with connect(facility, settings) as client:
        login = client._login
        login._clock = lambda: now[0]
        first = login.token()
        assert login.token() is first
        now[0] += facility.settings.token_lifetime - 30
        assert login.token() is not first


def test_a_wrong_password_says_which_variables_to_mend(facility: RunningFacility, settings: ScicatSettings) -> None:
    with (
        connect(facility, settings, password="hunter2") as client,
        pytest.raises(ConfigError, match="SCICAT_INGEST_PASSWORD") as caught,
    ):
        client.dataset("x")
    assert "hunter2" not in str(caught.value)


def test_neither_password_nor_token_is_logged(
    facility: RunningFacility, service: ScicatIngest, request_: IngestRequest, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        submit(service, request_, "token")
    token = service._client._login.token()
    assert "POST" in caplog.text
    assert token.value not in caplog.text
    assert token.value not in repr(token)
    assert facility.environment()["SCICAT_INGEST_PASSWORD"] not in caplog.text.replace("/_sandbox", "")


def test_metadata_with_holes_is_stored_without_them(
    facility: RunningFacility, service: ScicatIngest, client: ScicatClient, request_: IngestRequest, record: RawDataset
) -> None:
    holes = replace(record, scientific_metadata={"a": None, "b": float("nan"), "c": [1.0, float("inf")], "n.x": 1})
    request = replace(request_, record=holes)
    pid = submit(service, request, "token")
    assert isinstance(service.poll(request, pid), Succeeded)
    stored = client.dataset(pid)
    assert stored is not None
    metadata = stored["scientificMetadata"]
    assert isinstance(metadata, dict)
    assert {name: value for name, value in metadata.items() if name != "ingest"} == {"c": [1.0], "n_x": 1}
    assert not facility.client.restart_catalogue()


def test_a_record_of_somebody_else_is_left_alone(
    facility: RunningFacility, service: ScicatIngest, admin: ScicatClient, request_: IngestRequest, record: RawDataset
) -> None:
    theirs = replace(record, access_groups=("ingestor",), description="theirs").payload()
    admin.create_dataset({**theirs, "pid": service.pid(request_)})
    with pytest.raises(CatalogueRefused, match="did not write it") as caught:
        submit(service, request_, "token")
    assert "nothing was changed" in caught.value.next_step
    assert not facility.client.effects("patch")
    assert service.find(request_, "token") is None


def test_a_record_that_may_not_be_read_names_the_setting(
    settings: ScicatSettings, client: ScicatClient, request_: IngestRequest
) -> None:
    blind = ScicatIngest(client, settings.model_copy(update={"service_group": ""}))
    pid = submit(blind, request_, "token")
    with pytest.raises(CatalogueRefused, match=r"scicat\.service_group"):
        blind.poll(request_, pid)


def test_changed_metadata_updates_the_one_record(
    facility: RunningFacility, admin_service: ScicatIngest, admin: ScicatClient, request_: IngestRequest
) -> None:
    pid = submit(admin_service, request_, "token")
    changed = replace(request_, record=replace(request_.record, description="a better description"))
    assert admin_service.find(changed, "token") is None
    assert submit(admin_service, changed, "token") == pid
    assert isinstance(admin_service.poll(changed, pid), Succeeded)
    stored = admin.dataset(pid)
    assert stored is not None
    assert stored["description"] == "a better description"
    assert happened(facility) == ONCE
    assert len(facility.client.effects("patch")) == 1


def test_what_people_corrected_in_the_catalogue_survives_a_repetition(
    admin_service: ScicatIngest, admin: ScicatClient, request_: IngestRequest
) -> None:
    pid = submit(admin_service, request_, "token")
    admin.update_dataset(pid, {"description": "corrected by hand"})
    submit(admin_service, request_, "token")
    stored = admin.dataset(pid)
    assert stored is not None
    assert stored["description"] == "corrected by hand"


def test_an_account_that_may_not_update_is_told_so(service: ScicatIngest, request_: IngestRequest) -> None:
    submit(service, request_, "token")
    changed = replace(request_, record=replace(request_.record, description="other"))
    with pytest.raises(CatalogueRefused, match="may not update the record"):
        submit(service, changed, "token")


def test_what_the_catalogue_does_not_accept_is_told_by_property(
    facility: RunningFacility, client: ScicatClient, record: RawDataset
) -> None:
    with pytest.raises(CatalogueRefused, match="property foo should not exist"):
        client.create_dataset({**record.payload(), "foo": 1})
    with pytest.raises(CatalogueRefused, match="ownerGroup"):
        client.create_dataset({**record.payload(), "ownerGroup": 8})
    assert happened(facility) == dict.fromkeys(KINDS, 0)


def test_a_body_over_the_servers_limit_is_refused_before_it_is_sent(
    facility: RunningFacility, service: ScicatIngest, request_: IngestRequest
) -> None:
    large = replace(request_.record, scientific_metadata={"series": ["x" * 1_000_000] * 16})
    with pytest.raises(CatalogueRefused, match="over the 15000000"):
        submit(service, replace(request_, record=large), "token")
    assert happened(facility) == dict.fromkeys(KINDS, 0)


def test_a_derived_record_with_many_files_counts_them_truly(
    facility: RunningFacility, service: ScicatIngest, client: ScicatClient, request_: IngestRequest
) -> None:
    raw_pid = submit(service, request_, "token")
    files = tuple(DataFile(path=f"scale0/image/{number}", size=3, time=WRITTEN) for number in range(7000))
    derived = IngestRequest(
        identity="scan-1/zarr",
        record=DerivedDataset(
            name="rec",
            owner="A. User",
            investigator="A. User",
            contact_email="a.user@example.org",
            owner_group="ALS-01234",
            source_folder="/data/scratch/rec.zarr",
            creation_time=WRITTEN,
            input_datasets=(raw_pid,),
            used_software=("beamline-orchestration 0.1.0",),
        ),
        files=files,
    )
    facility.client.faults.add(POSTS["origdatablock"], "lost_answer")
    with pytest.raises(ServiceUnavailable):
        submit(service, derived, "token")
    pid = submit(service, derived, "token")
    status = service.poll(derived, pid)
    assert isinstance(status, Succeeded)
    assert (status.evidence["number_of_files"], status.evidence["size"]) == (7000, 21000)
    stored = client.dataset(pid)
    assert stored is not None
    assert stored["inputDatasets"] == [raw_pid]
    assert stored["numberOfFiles"] == 7000


def test_two_pictures_that_differ_are_both_attached(
    facility: RunningFacility, service: ScicatIngest, request_: IngestRequest
) -> None:
    other = Attachment(thumbnail=PICTURE, caption="sinogram")
    request = replace(request_, attachments=(*request_.attachments, other))
    pid = submit(service, request, "token")
    submit(service, request, "token")
    assert isinstance(service.poll(request, pid), Succeeded)
    assert happened(facility)["attachment"] == 2


def test_a_record_is_not_taken_back(service: ScicatIngest, request_: IngestRequest) -> None:
    assert service.cancel("20.500.12345/none") is CancelAnswer.UNKNOWN
    pid = submit(service, request_, "token")
    assert service.cancel(pid) is CancelAnswer.ALREADY_FINISHED


def test_a_record_without_files_or_pictures_is_complete_too(service: ScicatIngest, request_: IngestRequest) -> None:
    bare = replace(request_, files=(), attachments=())
    assert isinstance(service.poll(bare, submit(service, bare, "token")), Succeeded)


def test_a_twin_of_a_list_of_files_does_no_harm(
    service: ScicatIngest, client: ScicatClient, request_: IngestRequest
) -> None:
    pid = submit(service, request_, "token")
    client.add_block(pid, request_.blocks()[0])
    assert isinstance(service.poll(request_, pid), Succeeded)
    assert service.find(request_, "token") == pid
    submit(service, request_, "token")
    assert len(client.blocks(pid)) == 2


def test_silence_is_not_an_answer(settings: ScicatSettings) -> None:
    nobody = settings.model_copy(update={"api_url": "http://127.0.0.1:9/api/v3"})
    with (
        ScicatClient(nobody.require_api_url(), lambda: ("user", SecretStr("secret"))) as client,
        pytest.raises(ServiceUnavailable, match="no answer from the catalogue"),
    ):
        client.dataset("x")


def test_an_address_without_a_catalogue_is_a_setting_to_mend(
    facility: RunningFacility, settings: ScicatSettings
) -> None:
    wrong = settings.model_copy(update={"api_url": facility.url + "/elsewhere"})
    with connect(facility, wrong) as client, pytest.raises(ConfigError, match=r"scicat\.api_url"):
        client.dataset("x")


def test_a_checksum_that_is_known_only_later_changes_nothing(
    facility: RunningFacility, service: ScicatIngest, request_: IngestRequest
) -> None:
    (file,) = request_.files
    unknown = replace(request_, files=(replace(file, checksum=""),))
    pid = submit(service, unknown, "token")
    assert submit(service, request_, "token") == pid
    assert isinstance(service.poll(request_, pid), Succeeded)
    assert happened(facility) == ONCE


def test_a_checksum_that_contradicts_the_record_is_noticed(service: ScicatIngest, request_: IngestRequest) -> None:
    (file,) = request_.files
    pid = submit(service, request_, "token")
    other = replace(request_, files=(replace(file, checksum="cd" * 32),))
    assert service.find(other, "token") is None
    assert isinstance(service.poll(other, pid), Failed)


def test_the_time_of_another_copy_of_the_file_changes_nothing(
    facility: RunningFacility, service: ScicatIngest, request_: IngestRequest
) -> None:
    pid = submit(service, request_, "token")
    later = WRITTEN + timedelta(seconds=5)
    (file,) = request_.files
    copied = replace(request_, record=replace(request_.record, creation_time=later), files=(replace(file, time=later),))
    assert service.find(copied, "token") == pid
    assert submit(service, copied, "token") == pid
    assert not facility.client.effects("patch")
    assert happened(facility) == ONCE
