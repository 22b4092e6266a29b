"""The catalogue accepts, refuses and forgets as a real SciCat backend does."""

from __future__ import annotations

import json
import re
from pathlib import Path

import httpx
import pytest
from scicat_lab import ATTACHMENT, BLOCK, DERIVED, PID, RAW, Person, at, log_in, with_people

from orchestration.ledger.service import Document
from orchestration.sandbox.settings import INGEST_PASSWORD, INGEST_USER, Settings
from orchestration.sandbox.testing import RunningFacility, running_facility


def without(document: Document, *names: str) -> Document:
    return {name: value for name, value in document.items() if name not in names}


def problems(answer: httpx.Response) -> dict[str, dict[str, str]]:
    """The constraints of a v3 refusal, by property: JSON inside JSON."""
    assert answer.status_code == 400
    assert answer.json()["status"] == 400
    return {row["property"]: row["constraints"] for row in json.loads(answer.json()["message"])}


def test_a_dataset_is_kept_under_the_pid_that_was_chosen(ingestor: Person) -> None:
    answer = ingestor.post("/datasets", RAW)
    assert (answer.status_code, answer.json()["pid"]) == (201, PID)
    kept = ingestor.get(at(PID)).json()
    assert kept == answer.json()
    assert (kept["createdBy"], kept["size"], kept["isPublished"]) == ("ingestor", 0, False)


def test_the_same_pid_twice_is_a_conflict(ingestor: Person) -> None:
    ingestor.post("/datasets", RAW)
    again = ingestor.post("/datasets", RAW)
    assert again.status_code == 409
    expected = {"message": f"A dataset with pid {PID} already exists!", "error": "Conflict", "statusCode": 409}
    assert again.json() == expected


def test_the_same_folder_twice_is_two_datasets(ingestor: Person) -> None:
    pids = {ingestor.post("/datasets", without(RAW, "pid")).json()["pid"] for _ in range(2)}
    assert len(pids) == 2
    assert set(ingestor.found(sourceFolder="/raw/tooth")) == pids


def test_both_spellings_of_the_route_are_one(ingestor: Person) -> None:
    assert ingestor.post("/Datasets", RAW).status_code == 201
    assert ingestor.get(at(PID).replace("datasets", "Datasets")).json()["pid"] == PID


@pytest.mark.parametrize(
    "name", ["ownerGroup", "owner", "contactEmail", "sourceFolder", "creationTime", "creationLocation"]
)
def test_a_required_field_is_missed(ingestor: Person, name: str) -> None:
    assert name in problems(ingestor.post("/datasets", without(RAW, name)))


def test_an_unknown_field_is_refused(ingestor: Person) -> None:
    found = problems(ingestor.post("/datasets", RAW | {"foo": 1}))
    assert found == {"foo": {"whitelistValidation": "property foo should not exist"}}


@pytest.mark.parametrize(
    ("name", "value", "constraint"),
    [
        ("contactEmail", "nobody", "isEmail"),
        ("creationTime", "yesterday", "isDateString"),
        ("keywords", "tomography", "isArray"),
        ("size", "7", "isNumber"),
        ("createdBy", "me", "whitelistValidation"),
    ],
)
def test_a_wrong_value_is_refused(ingestor: Person, name: str, value: str, constraint: str) -> None:
    assert constraint in problems(ingestor.post("/datasets", RAW | {name: value}))[name]


@pytest.mark.parametrize("name", ["sampleId", "instrumentId", "creationLocation"])
def test_a_derived_dataset_has_no_beamline(ingestor: Person, name: str) -> None:
    assert name in problems(ingestor.post("/datasets", DERIVED | {name: "x"}))


def test_folder_name_and_times_are_normalised(ingestor: Person) -> None:
    given = without(RAW, "datasetName") | {
        "sourceFolder": "/data/raw/tooth/",
        "creationTime": "2024-01-01T12:00:00+02:00",
    }
    kept = ingestor.post("/datasets", given).json()
    assert (kept["sourceFolder"], kept["datasetName"]) == ("/data/raw/tooth", "raw/tooth")
    assert kept["creationTime"] == "2024-01-01T10:00:00.000Z"


def test_known_units_are_converted_and_unknown_ones_pass(ingestor: Person) -> None:
    metadata = {
        "energy": {"value": 20.0, "unit": "keV"},
        "motors": {"theta": {"value": 180, "unit": "deg"}},
        "resistance": {"value": 3, "unit": "Ohm"},
        "temperature": {"value": 20, "unit": "degC"},
    }
    kept = ingestor.post("/datasets", RAW | {"scientificMetadata": metadata}).json()["scientificMetadata"]
    assert kept["energy"]["unitSI"] == "J"
    assert kept["energy"]["valueSI"] == pytest.approx(20 * 1.602176634e-16)
    assert kept["motors"]["theta"]["unitSI"] == "rad"
    assert kept["temperature"]["valueSI"] == pytest.approx(293.15)
    assert kept["resistance"] == metadata["resistance"]


def test_nan_is_not_json(ingestor: Person) -> None:
    answer = ingestor.http.post("/datasets", content=json.dumps(RAW | {"dataQualityMetrics": float("nan")}))
    assert answer.status_code == 400
    assert ingestor.found() == []


def test_a_null_in_the_metadata_kills_the_backend(facility: RunningFacility, ingestor: Person) -> None:
    assert ingestor.post("/datasets", RAW | {"scientificMetadata": {"energy": None}}).status_code == 201
    assert ingestor.get("/datasets").status_code == 503
    assert ingestor.post("/auth/login", {}).status_code == 503
    assert facility.client.restart_catalogue()
    assert ingestor.found() == [PID]


def test_a_body_too_large_is_an_internal_error(ingestor: Person) -> None:
    answer = ingestor.post("/datasets", RAW | {"description": "x" * (17 * 1024 * 1024)})
    assert (answer.status_code, answer.json()["message"]) == (500, "Internal server error")


def test_size_and_number_of_files_are_those_of_the_blocks(ingestor: Person) -> None:
    ingestor.post("/datasets", RAW)
    for _ in range(2):
        assert ingestor.post(at(PID, "origdatablocks"), BLOCK).status_code == 201
    kept = ingestor.get(at(PID)).json()
    assert (kept["size"], kept["numberOfFiles"]) == (14, 2)
    blocks = ingestor.get(at(PID, "origdatablocks")).json()
    assert [block["datasetId"] for block in blocks] == [PID, PID]


def test_a_block_is_checked_to_its_files(ingestor: Person) -> None:
    ingestor.post("/datasets", RAW)
    answer = ingestor.post(at(PID, "origdatablocks"), {"size": 1, "dataFileList": [{"path": "a", "size": 1}], "foo": 1})
    assert (answer.status_code, answer.json()["error"]) == (400, "Bad Request")
    assert "property foo should not exist" in answer.json()["message"]
    assert any("dataFileList.time" in sentence for sentence in answer.json()["message"])


def test_the_thumbnail_is_that_of_the_first_attachment(ingestor: Person) -> None:
    ingestor.post("/datasets", RAW)
    assert ingestor.get(at(PID, "thumbnail")).json() == {}
    assert ingestor.post(at(PID, "attachments"), ATTACHMENT).status_code == 201
    assert ingestor.get(at(PID, "thumbnail")).json() == {"thumbnail": ATTACHMENT["thumbnail"]}
    assert [one["caption"] for one in ingestor.get(at(PID, "attachments")).json()] == ["middle slice"]


def test_what_is_not_there_is_not_found(ingestor: Person) -> None:
    answer = ingestor.get(at("no/such"))
    assert (answer.status_code, answer.json()["message"]) == (404, "dataset: no/such not found")
    assert ingestor.post(at("no/such", "attachments"), ATTACHMENT).status_code == 404


def test_a_bad_token_reads_as_nobody_and_writes_nothing(ingestor: Person, nobody: Person) -> None:
    ingestor.post("/datasets", RAW)
    listed = nobody.get("/datasets")
    assert (listed.status_code, listed.json()) == (200, [])
    assert nobody.post("/datasets", RAW).status_code == 403
    assert nobody.get("/users/my/self").status_code == 401
    whoami = nobody.get("/auth/whoami")
    assert (whoami.status_code, whoami.json()) == (200, {})


def test_expired_tokens_become_nobody(facility: RunningFacility, ingestor: Person) -> None:
    assert ingestor.get("/users/my/self").json()["username"] == "ingestor"
    facility.client.expire_tokens()
    assert ingestor.get("/users/my/self").status_code == 401


def test_a_wrong_password_is_unauthorized(facility: RunningFacility) -> None:
    with log_in(facility, "ada", "wrong") as person:
        assert person.http.post("/auth/login", json={"username": "ada", "password": "wrong"}).status_code == 401


def test_who_may_create_for_all_groups_cannot_read_them(ingestor: Person, ada: Person) -> None:
    assert ingestor.post("/datasets", without(RAW, "accessGroups")).status_code == 201
    assert ingestor.found() == []
    assert ingestor.get(at(PID)).status_code == 403
    assert ingestor.post(at(PID, "origdatablocks"), BLOCK).status_code == 201
    assert ada.found() == [PID]


def test_only_owners_may_change_and_few_may_delete(facility: RunningFacility, ingestor: Person, ada: Person) -> None:
    ingestor.post("/datasets", RAW)
    assert ingestor.patch(at(PID), {"comment": "x"}).status_code == 403
    assert ada.patch(at(PID), {"comment": "x"}).json()["comment"] == "x"
    assert ada.http.delete(at(PID)).status_code == 403
    with log_in(facility, "admin", "sandbox") as admin:
        assert admin.http.delete(at(PID)).status_code == 200
    assert ada.get(at(PID)).status_code == 404


def test_a_member_creates_for_the_own_group_only_and_without_a_pid(ada: Person) -> None:
    assert ada.post("/datasets", RAW).status_code == 403
    assert ada.post("/datasets", without(RAW, "pid")).status_code == 201
    assert ada.post("/datasets", without(RAW, "pid") | {"ownerGroup": "als-9999"}).status_code == 403


def test_what_is_published_is_for_everybody(ingestor: Person, nobody: Person) -> None:
    ingestor.post("/datasets", RAW | {"isPublished": True})
    assert nobody.found() == [PID]


def test_a_change_replaces_the_metadata_and_refuses_what_is_fixed(ingestor: Person, ada: Person) -> None:
    ingestor.post("/datasets", RAW)
    changed = ada.patch(at(PID), {"scientificMetadata": {"new": 1}}).json()
    assert changed["scientificMetadata"] == {"new": 1}
    assert ada.patch(at(PID), {"pid": "x"}).status_code == 400
    assert ada.patch(at(PID), {"type": "derived"}).status_code == 400
    stale = ada.patch(at(PID), {"comment": "x"}, **{"If-Unmodified-Since": "2020-01-01T00:00:00Z"})
    assert stale.status_code == 412


def test_datasets_are_found_by_filter(ingestor: Person) -> None:
    ingestor.post("/datasets", RAW)
    derived = ingestor.post("/datasets", DERIVED).json()["pid"]
    assert ingestor.found(type="derived") == [derived]
    assert ingestor.found(inputDatasets=PID) == [derived]
    assert ingestor.found(datasetName={"like": "TOOTH"}, type={"inq": ["raw"]}) == [PID]
    assert ingestor.found(**{"or": [{"type": "raw"}, {"type": "derived"}]}) == [PID, derived]
    assert ingestor.found(**{"scientificMetadata.energy.value": {"gt": 10}}) == [PID]
    limits = {"limit": 1, "skip": 1, "order": "creationTime:asc"}
    rows = ingestor.get("/datasets", filter={"limits": limits, "fields": ["pid"]}).json()
    assert rows == [{"pid": derived}]
    assert ingestor.get("/datasets/count", where={"type": "raw"}).json() == {"count": 1}
    assert ingestor.http.get("/datasets", params={"filter": "{"}).status_code == 400


def test_full_query_knows_text_keywords_and_units(ingestor: Person) -> None:
    ingestor.post("/datasets", RAW)
    ingestor.post("/datasets", DERIVED)

    def found(**fields: object) -> int:
        return len(ingestor.get("/datasets/fullquery", fields=fields, limits={"limit": 10}).json())

    assert (found(text="reconstructed"), found(keywords=["tomography"]), found(type=["derived"])) == (1, 1, 1)
    above = {"lhs": "energy", "relation": "GREATER_THAN", "unit": "eV"}
    assert found(scientific=[above | {"rhs": 19_000}]) == 1
    assert found(scientific=[above | {"rhs": 21_000}]) == 0
    facets = ingestor.get("/datasets/fullfacet", fields={}, facets=["type"]).json()[0]
    assert facets["all"] == [{"totalSets": 2}]
    assert {row["_id"]: row["count"] for row in facets["type"]} == {"raw": 1, "derived": 1}


def test_v4_reads_the_same_with_lists_and_includes(ingestor: Person) -> None:
    ingestor.post("/datasets", RAW)
    ingestor.post("/datasets", DERIVED)
    ingestor.post(at(PID, "origdatablocks"), BLOCK)
    base = str(ingestor.http.base_url).replace("v3", "v4")
    one = ingestor.http.get(
        base + at(PID).removeprefix("/"), params={"filter": json.dumps({"include": ["all"]})}
    ).json()
    assert one["principalInvestigators"] == ["Ada"]
    assert (len(one["origdatablocks"]), one["attachments"]) == (1, [])
    where = {"where": {"principalInvestigators": "Ada"}, "limits": {"limit": 5}}
    rows = ingestor.http.get(base + "datasets", params={"filter": json.dumps(where)}).json()
    assert [row["proposalIds"] for row in rows] == [[], [None]]


def test_the_catalogue_outlives_a_restart(tmp_path: Path) -> None:
    settings = with_people(Settings(state=tmp_path))
    with running_facility(tmp_path, [], settings=settings) as facility:
        with log_in(facility, INGEST_USER, INGEST_PASSWORD) as person:
            person.post("/datasets", RAW)
            person.post(at(PID, "origdatablocks"), BLOCK)
        token = person.http.headers["Authorization"]
    with (
        running_facility(tmp_path, [], settings=settings) as facility,
        httpx.Client(
            base_url=facility.environment()["SCICAT_API_URL"], headers={"Authorization": token}, verify=False
        ) as http,
    ):
        assert http.get(at(PID)).json()["size"] == 7
        assert [effect.kind for effect in facility.client.effects()] == ["dataset", "origdatablock"]
        assert http.post("/datasets", json=RAW).status_code == 409


def test_effects_tell_what_was_catalogued(facility: RunningFacility, ingestor: Person) -> None:
    ingestor.post("/datasets", RAW)
    ingestor.post("/datasets", RAW)
    ingestor.post(at(PID, "attachments"), ATTACHMENT)
    effects = [(effect.kind, effect.key, effect.label) for effect in facility.client.effects()]
    assert effects == [("dataset", PID, "tooth"), ("attachment", PID, "middle slice")]


def test_a_lost_answer_has_created_the_dataset(facility: RunningFacility, ingestor: Person) -> None:
    facility.client.faults.add("POST /scicat/api/v3/datasets$", "lost_answer")
    with pytest.raises(httpx.TransportError):
        ingestor.post("/datasets", RAW)
    assert ingestor.post("/datasets", RAW).status_code == 409
    assert len(facility.client.effects("dataset")) == 1


def test_the_page_shows_names_as_text_and_thumbnails(facility: RunningFacility, ingestor: Person) -> None:
    assert "Nothing is catalogued yet." in httpx.get(f"{facility.url}/catalogue", verify=False).text
    ingestor.post("/datasets", RAW | {"datasetName": "<script>alert(1)</script>", "numberOfFiles": 1})
    ingestor.post(at(PID, "attachments"), ATTACHMENT)
    page = httpx.get(f"{facility.url}/catalogue", verify=False).text
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert 'alt="middle slice"' in page
    assert "<p>1 dataset, newest first.</p>" in page
    assert "1 file</td>" in page
    assert re.search(r"<td>\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC</td>", page)
    link = re.search(r'href="(/catalogue/[^"]+)"', page)
    assert link
    record = httpx.get(facility.url + link[1], verify=False).json()
    assert (record["pid"], record["attachments"]) == (PID, ["middle slice"])
