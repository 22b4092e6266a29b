"""The records of a scan of 8.3.2 and of what was made of it."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import h5py
import numpy as np
import pytest

from orchestration.config import CatalogueDefaults
from orchestration.errors import InvalidInput
from orchestration.flows.bl832.metadata import ScanMetadata, read_metadata
from orchestration.flows.bl832.records import Product, derived_request, raw_dataset, raw_request
from orchestration.flows.cataloguing import raw_identity
from orchestration.flows.thumbnail import projection_thumbnail
from orchestration.scicat import DataFile, RawDataset, dataset_pid, files_below

TAKEN = datetime(2026, 3, 1, 9, 4, 5, tzinfo=UTC)


@pytest.fixture
def metadata() -> ScanMetadata:
    return ScanMetadata(
        file_name="20260301_mouse.h5",
        size=1000,
        written_at=TAKEN,
        taken_at=TAKEN,
        shape=(3, 4, 5),
        title="20260301_mouse",
        instrument="ALS 8.3.2 beamline",
        beamline="'bl832',",
        investigator="A. Pi",
        experiment_lead="B. Lead",
        experimenter="A. User",
        email="a.user@lab.example.gov",
        proposal="ALS-01234",
        scientific={"/process/acquisition/name": "Dino"},
        missing=(),
    )


@pytest.fixture
def nameless(metadata: ScanMetadata) -> ScanMetadata:
    return replace(metadata, instrument="", beamline="", investigator="", email="", proposal="")


@pytest.fixture
def product() -> Product:
    return Product(
        kind="zarr",
        folder="/data/scratch/ALS-01234/rec20260301_mouse.zarr",
        files=(DataFile(path="0/0/0/0", size=10, time=TAKEN), DataFile(path=".zattrs", size=5, time=TAKEN)),
        finished_at=TAKEN,
        software=("beamline-orchestration 0.1.0",),
        parameters={"center": 1021.5, "algorithm": "gridrec"},
        properties={"levels": 4},
        log="x" * 20_000 + "the end",
    )


def test_the_record_of_a_scan_says_what_the_existing_ingestion_said(metadata: ScanMetadata) -> None:
    assert raw_dataset(metadata, source_folder="/data/raw/ALS-01234").payload() == {
        "type": "raw",
        "datasetName": "20260301_mouse",
        "owner": "A. Pi",
        "principalInvestigator": "A. Pi",
        "contactEmail": "a.user@lab.example.gov",
        "creationLocation": "ALS 8.3.2 beamline",
        "instrumentId": "ALS 8.3.2 beamline",
        "ownerGroup": "ALS-01234",
        "accessGroups": ["8.3.2"],
        "proposalId": "ALS-01234",
        "sourceFolder": "/data/raw/ALS-01234",
        "creationTime": "2026-03-01T09:04:05.000Z",
        "description": "20260301 mouse",
        "sampleId": "20260301 mouse",
        "keywords": ["20260301", "mouse"],
        "dataFormat": "DX",
        "isPublished": False,
        "scientificMetadata": {"/process/acquisition/name": "Dino"},
    }


def test_what_the_scan_does_not_say_is_unknown(nameless: ScanMetadata) -> None:
    record = raw_dataset(nameless, source_folder="/data/raw")
    assert (record.owner, record.principal_investigator) == ("Unknown", "Unknown")
    assert (record.creation_location, record.instrument_id, record.proposal_id) == ("Unknown",) * 3
    assert record.contact_email == "unknown@example.com"
    assert (record.owner_group, record.access_groups) == ("8.3.2", ("8.3.2",))


def test_what_the_scan_does_not_say_the_beamlines_settings_do(nameless: ScanMetadata) -> None:
    defaults = CatalogueDefaults(
        owner="Beamline", contact_email="832@als.example", owner_group="bl832-staff", access_groups=("als", "8.3.2")
    )
    record = raw_dataset(nameless, source_folder="/data/raw", defaults=defaults)
    assert (record.owner, record.contact_email, record.owner_group) == ("Beamline", "832@als.example", "bl832-staff")
    assert record.access_groups == ("8.3.2", "als")


def test_a_scan_of_another_beamlines_name_is_readable_by_both(metadata: ScanMetadata) -> None:
    record = raw_dataset(replace(metadata, beamline="7.3.3"), source_folder="/data/raw")
    assert record.access_groups == ("7.3.3", "8.3.2")


def test_the_pid_depends_on_the_scan_and_the_kind_alone(metadata: ScanMetadata, product: Product) -> None:
    raw = raw_request(metadata, raw_dataset(metadata, source_folder="/a"), scan_id="s1")
    again = raw_request(replace(metadata, size=2000), raw_dataset(metadata, source_folder="/b"), scan_id="s1")
    assert raw.identity == again.identity == raw_identity("s1")
    assert raw.document() != again.document()
    record = raw_dataset(metadata, source_folder="/a")
    kinds = [
        derived_request(one, scan_id="s1", raw=record, raw_pid="p").identity
        for one in (product, replace(product, kind="tiff"), replace(product, variant="nersc"))
    ]
    pids = {dataset_pid(identity, prefix="20.500") for identity in (raw.identity, *kinds)}
    assert len(pids) == 4


def test_a_result_belongs_to_whom_its_scan_belongs_to(metadata: ScanMetadata, product: Product) -> None:
    raw = raw_dataset(metadata, source_folder="/data/raw")
    request = derived_request(product, scan_id="s1", raw=raw, raw_pid="20.500/raw")
    body = request.record.payload()
    assert body["inputDatasets"] == ["20.500/raw"]
    assert body["usedSoftware"] == ["beamline-orchestration 0.1.0"]
    assert body["jobParameters"] == {"center": 1021.5, "algorithm": "gridrec"}
    assert body["scientificMetadata"] == {"levels": 4, "format": "zarr"}
    assert body["datasetName"] == "rec20260301_mouse.zarr"
    assert body["sourceFolder"] == product.folder
    log = body["jobLogData"]
    assert isinstance(log, str)
    assert (len(log), log[-7:]) == (10_000, "the end")
    for field in ("owner", "ownerGroup", "accessGroups", "contactEmail", "proposalId"):
        assert body[field] == raw.payload()[field]
    assert (request.size, len(request.files)) == (15, 2)


def test_a_scan_with_no_metadata_groups_at_all_gives_a_whole_request(tmp_path: Path) -> None:
    path = tmp_path / "tooth.h5"
    with h5py.File(path, "w") as file:
        file["/exchange/data"] = np.random.default_rng(0).random((18, 20, 64), np.float32)
        file["/exchange/theta"] = np.linspace(0, 180, 18)
        file["/measurement/sample/name"] = "tooth"
    found = read_metadata(path)
    thumbnail = projection_thumbnail(path)
    request = raw_request(
        found, raw_dataset(found, source_folder="/data/raw"), scan_id="s1", thumbnail=thumbnail, checksum="ab" * 32
    )
    assert request.size == path.stat().st_size
    assert request.files[0].path == "tooth.h5"
    assert request.attachments[0].caption == "raw image"
    body = request.record.payload()
    assert (body["datasetName"], body["owner"], body["ownerGroup"]) == ("tooth", "Unknown", "8.3.2")


def test_a_result_on_disk_is_listed_whole(tmp_path: Path, metadata: ScanMetadata, product: Product) -> None:
    for number in range(3):
        (tmp_path / f"rec_{number:05d}.tiff").write_bytes(b"x" * number)
    listed = replace(product, kind="tiff", files=files_below(tmp_path))
    raw = raw_dataset(metadata, source_folder="/data/raw")
    request = derived_request(listed, scan_id="s1", raw=raw, raw_pid="p")
    assert [file.path for file in request.files] == ["rec_00000.tiff", "rec_00001.tiff", "rec_00002.tiff"]
    assert request.size == 3


def test_the_record_of_a_scan_comes_back_from_the_ledger_as_it_was(metadata: ScanMetadata) -> None:
    record = raw_dataset(metadata, source_folder="/data/raw")
    stored = json.loads(json.dumps(raw_request(metadata, record, scan_id="s1").document()["record"]))
    assert RawDataset.parse(stored).payload() == record.payload()
    with pytest.raises(InvalidInput, match="not the payload"):
        RawDataset.parse({"datasetName": "x"})
