from __future__ import annotations

import json
import os
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from scicat_world import PICTURE, WRITTEN, problems

from orchestration.errors import InvalidInput, SourceMissing
from orchestration.ledger.service import Json
from orchestration.scicat import Attachment, DataFile, DerivedDataset, IngestRequest, RawDataset, clean, files_below
from orchestration.scicat.records import FILES_PER_BLOCK, MAX_THUMBNAIL


@pytest.fixture
def derived() -> DerivedDataset:
    return DerivedDataset(
        name="rec20260301_090405_bone",
        owner="A. User",
        investigator="A. User",
        contact_email="a.user@example.org",
        owner_group="ALS-01234",
        source_folder="/data/scratch/ALS-01234/rec",
        creation_time=WRITTEN,
        input_datasets=("20.500/1",),
        used_software=("beamline-orchestration 0.1.0",),
        job_parameters={"center": 1021.5, "nothing": None, "bad": float("nan")},
        job_log="done",
    )


def test_every_body_is_one_that_the_vendors_own_models_accept(
    request_: IngestRequest, record: RawDataset, derived: DerivedDataset
) -> None:
    assert problems("raw", {**record.payload(), "pid": "1/2"}) == []
    assert problems("derived", {**derived.payload(), "pid": "1/2"}) == []
    assert [problems("block", block) for block in request_.blocks()] == [[]]


def test_the_contract_check_sees_what_the_server_would_refuse(record: RawDataset, request_: IngestRequest) -> None:
    (block,) = request_.blocks()
    assert problems("raw", {**record.payload(), "foo": 1}) == ["foo: should not exist"]
    assert problems("raw", {"type": "raw"})
    assert problems("block", {**block, "dataFileList": [{"path": "a", "size": 1}]})
    extra = {"path": "a", "size": 1, "time": "2026-03-01T00:00:00Z", "foo": 1}
    assert problems("block", {**block, "dataFileList": [extra]}) == ["dataFileList.foo: should not exist"]


def test_nothing_that_kills_or_upsets_the_server_is_in_a_body(record: RawDataset) -> None:
    nasty: dict[str, Json] = {
        "null": None,
        "nan": float("nan"),
        "nested": {"inf": float("inf"), "list": [1, None, float("nan"), {"x": None}], "empty": []},
        "n.frames": 3,
        "$set": {"a.b": 1},
        "n_frames": 4,
        "pixel": {"value": 0.65, "unit": "µm"},
        "zero": 0,
        "false": False,
    }
    sent = replace(record, scientific_metadata=nasty).payload()["scientificMetadata"]
    assert sent == {
        "nested": {"list": [1, {}], "empty": []},
        "n_frames": 3,
        "_set": {"a_b": 1},
        "n_frames_": 4,
        "pixel": {"value": 0.65, "unit": "um"},
        "zero": 0,
        "false": False,
    }
    assert "null" not in json.dumps(sent, allow_nan=False)


def test_absent_fields_are_left_out_rather_than_empty(record: RawDataset) -> None:
    assert "sampleId" not in record.payload()
    assert "description" not in replace(record, description="").payload()


def test_times_are_sent_in_utc_with_their_zone(record: RawDataset) -> None:
    pacific = datetime(2026, 3, 1, 1, 4, 5, tzinfo=timezone(timedelta(hours=-8)))
    assert replace(record, creation_time=pacific).payload()["creationTime"] == "2026-03-01T09:04:05.000Z"
    with pytest.raises(InvalidInput, match="has no zone"):
        replace(record, creation_time=pacific.replace(tzinfo=None)).payload()


def test_the_document_is_the_same_however_the_files_came(request_: IngestRequest) -> None:
    files = tuple(DataFile(path=f"s{number}.tif", size=number, time=WRITTEN) for number in range(20))
    one, other = replace(request_, files=files), replace(request_, files=files[::-1])
    assert one.document() == other.document()
    assert one.document() != replace(request_, files=files[1:]).document()
    assert len(json.dumps(one.document())) < 3000


def test_the_document_changes_with_the_picture_but_does_not_hold_it(request_: IngestRequest) -> None:
    bare = replace(request_, attachments=())
    assert bare.document() != request_.document()
    assert PICTURE not in json.dumps(request_.document())


def test_a_long_list_of_files_is_split_and_loses_none(request_: IngestRequest) -> None:
    count = 2 * FILES_PER_BLOCK + 1
    files = tuple(DataFile(path=f"c/{number}", size=2, time=WRITTEN) for number in range(count))
    blocks = replace(request_, files=files).blocks()
    lists = [block["dataFileList"] for block in blocks]
    assert [len(each) for each in lists if isinstance(each, list)] == [FILES_PER_BLOCK, FILES_PER_BLOCK, 1]
    assert [block["size"] for block in blocks] == [2 * FILES_PER_BLOCK, 2 * FILES_PER_BLOCK, 2]
    assert "chkAlg" not in blocks[0]


def test_a_file_listed_twice_is_refused(request_: IngestRequest) -> None:
    with pytest.raises(InvalidInput, match="twice"):
        replace(request_, files=request_.files * 2)


@pytest.mark.parametrize(
    "thumbnail",
    ["hello", "data:image/jpg;base64,aGVsbG8=", "data:image/png;base64,", "data:image/png;base64,no base64!"],
)
def test_what_is_no_picture_is_refused_here_since_the_server_takes_it(thumbnail: str) -> None:
    with pytest.raises(InvalidInput, match="not a PNG or JPEG"):
        Attachment(thumbnail=thumbnail, caption="raw image")


def test_a_picture_that_is_too_large_is_refused() -> None:
    with pytest.raises(InvalidInput, match="over 1000000"):
        Attachment(thumbnail="data:image/png;base64," + "A" * MAX_THUMBNAIL, caption="raw image")


def test_every_file_of_a_folder_is_found_with_its_size_and_time(tmp_path: Path) -> None:
    (tmp_path / "0" / "c").mkdir(parents=True)
    (tmp_path / "0" / "c" / "0").write_bytes(b"12345")
    (tmp_path / ".zattrs").write_bytes(b"{}")
    (tmp_path / "link").symlink_to("/etc/passwd")
    os.utime(tmp_path / ".zattrs", (0, 0))
    found = files_below(tmp_path)
    assert [(file.path, file.size) for file in found] == [(".zattrs", 2), ("0/c/0", 5)]
    assert found[0].payload()["time"] == "1970-01-01T00:00:00.000Z"


def test_an_empty_result_is_not_catalogued(tmp_path: Path) -> None:
    with pytest.raises(SourceMissing, match="no files"):
        files_below(tmp_path / "rec")


@pytest.mark.parametrize(
    ("sent", "stored"),
    [
        ("2026-03-01T09:04:05.000Z", "2026-03-01T09:04:05Z"),
        ("/data/raw/", "/data/raw"),
        ({"value": 1, "unit": "keV"}, {"value": 1, "unit": "keV", "valueSI": 1.6e-16, "unitSI": "J"}),
        ([{"a": 1}], [{"a": 1.0}]),
    ],
)
def test_what_the_server_rewrites_counts_as_the_same(sent: Json, stored: Json) -> None:
    assert clean.same(sent, stored)


@pytest.mark.parametrize(
    ("sent", "stored"), [("a", "b"), ({"a": 1}, {"a": 1, "b": 2}), ([1], [1, 2]), ("a", None), ({"a": 1}, {"b": 1})]
)
def test_what_somebody_changed_does_not(sent: Json, stored: Json) -> None:
    assert not clean.same(sent, stored)


@pytest.mark.parametrize("field", ["name", "owner", "contact_email", "owner_group", "source_folder"])
def test_a_record_that_nobody_could_find_or_own_is_refused(record: RawDataset, field: str) -> None:
    with pytest.raises(InvalidInput, match=field):
        replace(record, **{field: ""})  # type: ignore[arg-type]


def test_a_folder_of_this_machine_by_a_relative_path_is_refused(record: RawDataset) -> None:
    with pytest.raises(InvalidInput, match="absolute"):
        replace(record, source_folder="data/raw")
