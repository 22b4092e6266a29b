"""The records that are published: complete, true, and the same wherever they are made."""

from __future__ import annotations

import hashlib
import json
import math
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from search_ground import COLLECTION, SHELF, SUBJECT, a_file, a_record, an_index

from orchestration.errors import ConfigError, InvalidInput, SourceChanged, SourceMissing
from orchestration.globus.published_files import PublishedFile, Shelf, files_below
from orchestration.globus.publishing import Located, Record, RecordState, Reprocessing
from orchestration.globus.search_entries import Entry, PublishRequest, WithdrawRequest
from orchestration.paths import RelativePath
from orchestration.policy import Effect, Zone

HOST = "g-1a2b3.data.globus.org:8443"
HERE = Shelf(endpoint=SHELF, https_host=HOST)


def content(record: Record) -> dict[str, Any]:
    return record.content(an_index(), subject=SUBJECT)


# ----- DataCite ----------------------------------------------------------------------------------------------------


def test_a_record_is_what_portals_of_publishv2_expect() -> None:
    record = a_record(subjects=("xpcs", "gel", "xpcs"), project_metadata={"cycle": "2026-1"})
    assert content(record) == {
        "dc": {
            "identifiers": [{"identifierType": "GlobusSearchSubject", "identifier": SUBJECT}],
            "creators": [{"name": "Lovelace, Ada"}],
            "titles": [{"title": "A gel under shear"}],
            "dates": [{"date": "2026-03-01T17:04:05Z", "dateType": "Created"}],
            "publicationYear": "2026",
            "publisher": "ALS",
            "subjects": [{"subject": "xpcs"}, {"subject": "gel"}],
            "formats": ["application/octet-stream"],
            "types": {"resourceType": "Dataset", "resourceTypeGeneral": "Dataset"},
            "version": "1",
            "schemaVersion": "http://datacite.org/schema/kernel-4",
        },
        "files": [a_file().document()],
        "project_metadata": {"cycle": "2026-1"},
        "status": {"state": "final"},
    }


def test_times_are_utc_whatever_the_zone_of_the_beamline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "America/Los_Angeles")
    berkeley = timezone(timedelta(hours=-8))
    record = a_record(created=datetime(2025, 12, 31, 23, 30, tzinfo=berkeley))
    dc = content(record)["dc"]
    assert (dc["dates"][0]["date"], dc["publicationYear"]) == ("2026-01-01T07:30:00Z", "2026")


def test_files_and_formats_are_in_one_order_however_they_came() -> None:
    kinds = {"a.h5": "application/x-hdf5", "b.png": "image/png", "c.csv": "text/csv"}
    files = [a_file(name, mime_type=kind) for name, kind in kinds.items()]
    first = content(a_record(files=tuple(files)))
    random.shuffle(files)
    assert content(a_record(files=tuple(files))) == first
    assert first["dc"]["formats"] == ["application/x-hdf5", "image/png", "text/csv"]
    assert [file["filename"] for file in first["files"]] == ["a.h5", "b.png", "c.csv"]


def test_what_is_not_a_finite_number_never_leaves() -> None:
    metadata = {"a": math.nan, "b": {"c": math.inf, "d": 1.0}, "e": [1.0, math.nan, 3.0], "f": None}
    found = content(a_record(project_metadata=metadata))["project_metadata"]
    assert found == {"b": {"d": 1.0}, "e": [1.0, None, 3.0]}
    json.dumps(found, allow_nan=False)
    with pytest.raises(InvalidInput, match=r"a\.b is not a finite number"):
        Entry(subject="s", visible_to=("public",), content={"a": {"b": math.nan}})


def test_a_result_made_again_says_of_what_and_with_what() -> None:
    again = Reprocessing(
        original=SUBJECT,
        suffix="_qmap2",
        inputs={"qmap": Located(name="qmap2.h5", endpoint=str(COLLECTION), path="/qmaps/qmap2.h5")},
        parameters={"smooth": math.nan, "dq": 3},
    )
    assert content(a_record(reprocessing=again))["project_metadata"]["reprocessing"] == {
        "qmap": {"name": "qmap2.h5", "source_endpoint": str(COLLECTION), "source_path": "/qmaps/qmap2.h5"},
        "original": {"subject": SUBJECT},
        "suffix": "_qmap2",
        "parameters": {"dq": 3},
    }


def test_a_record_says_how_far_its_data_is() -> None:
    assert content(a_record(state=RecordState.PLACEHOLDER, files=()))["status"] == {"state": "placeholder"}
    failed = a_record(state=RecordState.FAILED, files=(), reason="the scan has no flat fields")
    assert content(failed)["status"] == {"state": "failed", "reason": "the scan has no flat fields"}


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"title": " "}, "needs a title"),
        ({"created": datetime(2026, 1, 1)}, "has no zone"),  # noqa: DTZ001
        ({"creators": ("",)}, "creator or subject is empty"),
        ({"subjects": ("xpcs", "")}, "creator or subject is empty"),
        ({"files": ()}, "a final record has files"),
        ({"files": (a_file(), a_file())}, "twice"),
        ({"state": RecordState.FAILED}, "says why"),
        ({"reason": "because"}, "says why"),
        ({"project_metadata": {"reprocessing": {}}}, "field of its own"),
    ],
)
def test_what_is_no_record_is_refused_before_anything_is_asked(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        a_record(**wrong)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"subject": ""}, "1 to 500 bytes"),
        ({"subject": "ü" * 251}, "has 502"),
        ({"id": ""}, "needs an id"),
        ({"visible_to": ()}, "visible to 1 to 99"),
        ({"visible_to": ("everybody",)}, "'everybody', which is nobody"),
        ({"visible_to": ("urn:globus:groups:id:me",)}, "nobody"),
        ({"content": {"orchestration": 1}}, "belongs to this service"),
        ({"content": {"a": [{"b": "x" * 40_000}]}}, "the text in a.b has 40000 bytes"),
        ({"content": {"a": ["x" * 1000] * 10_000}}, "bytes, over 9900000"),
    ],
)
def test_what_the_index_would_refuse_is_refused_before_anything_is_asked(wrong: dict[str, Any], said: str) -> None:
    values: dict[str, Any] = {"subject": "s", "visible_to": ("public",), "content": {}}
    with pytest.raises(InvalidInput, match=said):
        Entry(**(values | wrong))


def test_content_that_is_nested_too_deep_is_refused() -> None:
    deep: dict[str, Any] = {}
    for _ in range(30):
        deep = {"d": deep}
    with pytest.raises(InvalidInput, match="nested more than 20 deep"):
        Entry(subject="s", visible_to=("public",), content=deep)


# ----- requests ----------------------------------------------------------------------------------------------------


def test_equal_records_are_one_request_and_others_are_others() -> None:
    index = an_index()

    def request(**changes: Any) -> PublishRequest:
        return a_record(**changes).request(index, subject=SUBJECT)

    assert request().document() == request().document()
    assert request().digest != request(title="Another").digest
    assert request().digest != a_record().request(index, subject=SUBJECT, id="notes").digest
    group = "urn:globus:groups:id:88888888-0000-4000-8000-000000000001"
    assert request().digest != a_record().request(index, subject=SUBJECT, visible_to=(group,)).digest
    assert len(json.dumps(request().document())) < 500, "the ledger does not keep the content"


def test_publishing_takes_data_out_of_the_beamline_and_withdrawing_takes_none() -> None:
    index = an_index()
    going = a_record().request(index, subject=SUBJECT)
    coming = WithdrawRequest(index=index, subject=SUBJECT)
    assert (going.place.zone, going.effect) == (coming.place.zone, Effect.PUBLISH) == (Zone.EXTERNAL, Effect.PUBLISH)
    assert coming.effect is Effect.DELETE


# ----- files -------------------------------------------------------------------------------------------------------


def read_by_this_process() -> int:
    """Bytes, of all files together."""
    lines = Path("/proc/self/io").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("rchar:"))


def test_a_file_is_read_once_and_known_by_its_bytes(tmp_path: Path) -> None:
    data = random.Random(1).randbytes(3_000_000)
    file = tmp_path / "g2 fit #1.h5"
    file.write_bytes(data)
    before = read_by_this_process()
    found = PublishedFile.read(file, shelf=HERE, path=RelativePath("scan") / file.name)
    assert 3_000_000 <= read_by_this_process() - before < 4_000_000
    assert found.document() == {
        "filename": "g2 fit #1.h5",
        "url": f"globus://{COLLECTION}/published/scan/g2 fit #1.h5",
        "https_url": f"https://{HOST}/published/scan/g2%20fit%20%231.h5",
        "mime_type": "application/x-hdf5",
        "length": 3_000_000,
        "sha256": hashlib.sha256(data).hexdigest(),
        "sha512": hashlib.sha512(data).hexdigest(),
    }


def test_what_is_not_known_is_not_said(tmp_path: Path) -> None:
    (tmp_path / "data.bin").write_bytes(b"x")
    shelf = replace(HERE, https_host="")
    found = PublishedFile.read(tmp_path / "data.bin", shelf=shelf, path=RelativePath("data.bin"), sha512=False)
    assert {"https_url", "sha512"} & set(found.document()) == set()
    assert found.mime_type == "application/octet-stream"


def test_every_file_of_a_folder_is_published_in_the_order_of_names(tmp_path: Path) -> None:
    for name in ("b.png", "resources/a.png", "a.h5"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "link.h5").symlink_to(tmp_path / "a.h5")
    found = files_below(tmp_path, shelf=HERE, path=RelativePath("scan"))
    assert [one.filename for one in found] == ["a.h5", "b.png", "resources/a.png"]
    assert found[2].url == f"globus://{COLLECTION}/published/scan/resources/a.png"
    with pytest.raises(SourceMissing):
        files_below(tmp_path / "nothing", shelf=HERE, path=RelativePath("scan"))


def test_a_file_that_is_written_to_while_it_is_read_is_not_published(tmp_path: Path) -> None:
    file = tmp_path / "growing.h5"
    file.write_bytes(bytes(30_000_000))
    done, begun = threading.Event(), threading.Event()

    def grow() -> None:
        with file.open("ab", buffering=0) as end:
            while not done.wait(0.001):
                end.write(b"x")
                begun.set()

    with ThreadPoolExecutor(1) as pool:
        pool.submit(grow)
        begun.wait(10)
        try:
            with pytest.raises(SourceChanged, match="changed while it was read"):
                PublishedFile.read(file, shelf=HERE, path=RelativePath("growing.h5"))
        finally:
            done.set()


def test_a_file_that_is_not_there_or_nowhere_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceMissing):
        PublishedFile.read(tmp_path / "none", shelf=HERE, path=RelativePath("none"))
    (tmp_path / "some").write_text("x")
    nowhere = Shelf.of(an_index(), SHELF.model_copy(update={"uuid": None}))
    with pytest.raises(ConfigError, match="not on a Globus collection"):
        PublishedFile.read(tmp_path / "some", shelf=nowhere, path=RelativePath("some"))


def test_the_time_of_a_record_keeps_no_fractions() -> None:
    moment = datetime(2026, 3, 1, 17, 4, 5, 678_000, tzinfo=UTC)
    assert content(a_record(created=moment))["dc"]["dates"][0]["date"] == "2026-03-01T17:04:05Z"
