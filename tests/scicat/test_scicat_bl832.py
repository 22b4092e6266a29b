"""A scan of 8.3.2 and its reconstruction, from their files into the catalogue and back."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import h5py
import numpy as np
from scicat_world import problems

from orchestration.flows.bl832.metadata import SCIENTIFIC_KEYS, SERIES_KEYS, read_metadata
from orchestration.flows.bl832.records import Product, derived_request, raw_dataset, raw_request
from orchestration.flows.thumbnail import data_uri, png, projection_thumbnail
from orchestration.ledger.service import Succeeded
from orchestration.sandbox.testing import submit
from orchestration.scicat import ScicatClient, ScicatIngest, files_below


def write_scan(path: Path) -> Path:
    with h5py.File(path, "w") as file:
        file["/exchange/data"] = np.random.default_rng(0).random((18, 32, 64), np.float32)
        for key in SCIENTIFIC_KEYS:
            file[key] = np.array([1.25])
        for key in SERIES_KEYS:
            file[key] = np.append(np.linspace(1, 2, 180), np.nan)
        file["/measurement/sample/experiment/pi"] = "A. Pi"
        file["/measurement/sample/experiment/proposal"] = "ALS-01234"
    return path


def write_zarr(folder: Path) -> Path:
    for number in range(30):
        chunk = folder / "0" / "c" / str(number)
        chunk.parent.mkdir(parents=True, exist_ok=True)
        chunk.write_bytes(b"x" * number)
    return folder


def test_a_scan_and_its_result_are_catalogued_and_linked(
    tmp_path: Path, service: ScicatIngest, client: ScicatClient
) -> None:
    path = write_scan(tmp_path / "20260301_bone.h5")
    metadata = read_metadata(path)
    record = raw_dataset(metadata, source_folder="/data/raw/ALS-01234")
    raw = raw_request(metadata, record, scan_id="s1", thumbnail=projection_thumbnail(path), checksum="ab")
    raw_pid = submit(service, raw, "token")
    product = Product(
        kind="zarr",
        folder="/data/scratch/ALS-01234/rec20260301_bone.zarr",
        files=files_below(write_zarr(tmp_path / "rec.zarr")),
        finished_at=datetime(2026, 3, 1, 10, tzinfo=UTC),
        software=("beamline-orchestration 0.1.0", "numpy 2.0"),
        parameters={"center": 1021.5, "angles": None},
        thumbnail=data_uri(png(np.eye(64, dtype=np.uint8))),
    )
    derived = derived_request(product, scan_id="s1", raw=record, raw_pid=raw_pid)
    assert isinstance(service.poll(raw, raw_pid), Succeeded)
    assert isinstance(service.poll(derived, submit(service, derived, "token")), Succeeded)

    stored = client.dataset(service.pid(derived))
    assert stored is not None
    assert stored["inputDatasets"] == [raw_pid]
    assert (stored["size"], stored["numberOfFiles"]) == (sum(range(30)), 30)
    scan = client.dataset(raw_pid)
    assert scan is not None
    assert isinstance(scan["scientificMetadata"], dict)
    assert set(SCIENTIFIC_KEYS) <= set(scan["scientificMetadata"])

    assert problems("raw", raw.record.payload()) == problems("derived", derived.record.payload()) == []
    assert [problems("block", block) for block in (*raw.blocks(), *derived.blocks())] == [[], []]
    assert problems("attachment", service._picture(raw, raw.attachments[0])) == []
