"""A measurement of 8-ID and its correlation, in the catalogue: once each, linked, with their files and units."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from publishing_room import Bench, a_scan

from orchestration import config
from orchestration.errors import ExportControlled
from orchestration.flows.aps8idi.catalogue import Described, ingest_raw, ingest_result
from orchestration.flows.thumbnail import png
from orchestration.ledger import Ledger
from orchestration.ledger.copy import CopyRecord, Role
from orchestration.ledger.manifests import FileEvidence
from orchestration.ledger.results import Receipt, ResultRecord
from orchestration.ledger.scan import Scan
from orchestration.ledger.service import Document
from orchestration.paths import RelativePath
from orchestration.sandbox.testing import RunningFacility
from orchestration.scicat import ScicatClient

METADATA: Document = {
    "name": "A001",
    "analysis_type": "Multitau",
    "start_time": "2026-03-01T15:00:00+00:00",
    "experiment": "foster202603",
    "cycle": "2026-1",
    "organization": None,
    "sample": {"name": "silica"},
    "acquisition": {
        "title": "silica at 20 C",
        "beamline": "8-ID-I",
        "proposal_id": "12345",
        "owner": "B. User",
        "count_time_s": 0.001,
        "frame_time_s": None,
        "duration_s": 20.0,
        "stride_frames": 1,
    },
    "beam": {"energy_kev": 10.9},
    "detector": {"name": "Eiger4M", "rows": 2162, "columns": 2068, "x_pixel_size": 7.5e-05, "valid_fraction": 0.9},
    "geometry": {"center_x": 1000.0, "q_per_pixel": 1e-4},
    "q_bins": {"qmap_hash": "ab" * 8, "map_names": ["q", "phi"], "dynamic": 27, "q_min": 0.004, "q_max": None},
    "fits": {
        "model": "single",
        "good": 20,
        "bins": [{"bin": number} for number in range(27)],
        "power_law": {"exponent": 2.0, "diffusion": 6e4, "diffusion_error": None},
    },
}


@dataclass
class Desk:
    work: Bench
    scan: Scan
    catalogue: ScicatClient

    def copy(self, dataset: str, path: str, **sizes: int) -> CopyRecord:
        files = [
            FileEvidence(path=name.replace("__", "."), size=size, checksum=f"sha256:{size:064x}")
            for name, size in sizes.items()
        ]
        return self.work.ledger.copies.record(
            scan_id=self.scan.id,
            dataset=dataset,
            endpoint="voyager",
            path=RelativePath(path),
            role=Role.ORIGINAL,
            manifest=files,
            method="test",
            verified_by=None,
        )

    def raw(self) -> CopyRecord:
        return self.copy("raw", "2026-1/foster202603/A001", A001__h5=1000, A001_metadata__hdf=10)

    def result(self, job: str = "4711") -> ResultRecord:
        receipt = Receipt(
            inputs=(),
            parameters={"type": "Multitau"},
            code_version="1.2.3",
            environment={"numba": "0.60"},
            site="polaris",
            job=job,
            timings={},
            quality={"occupancy": 0.01},
        )
        return ResultRecord(
            id=1,
            scan_id=self.scan.id,
            operation_key=f"key of {job}",
            kind="xpcs",
            endpoint="voyager",
            path=RelativePath("2026-1/foster202603/A001/q_1/A001_results.hdf"),
            receipt=receipt,
            created_at=1_772_400_000.0,
        )

    def record(self, pid: str) -> Any:
        return self.catalogue.dataset(pid)


@pytest.fixture
def desk(work: Bench, scan: Scan, facility: RunningFacility) -> Iterator[Desk]:
    with ScicatClient(work.settings.scicat.require_api_url(), config.credentials().scicat) as client:
        yield Desk(work, scan, client)


def test_a_measurement_and_its_result_are_catalogued_and_linked(desk: Desk, tmp_path: Path) -> None:
    picture = tmp_path / "g2.png"
    picture.write_bytes(png(np.eye(32, dtype=np.uint8)))
    described, result = Described.parse(METADATA), desk.result()
    copied = desk.copy("xpcs.result", "2026-1/foster202603/A001/q_1", A001_results__hdf=7, A001_results__json=2)
    raw_pid = ingest_raw(desk.work, desk.scan, described, [desk.raw()])
    pid = ingest_result(desk.work, desk.scan, described, result, copied, raw_pid, picture)

    raw = desk.record(raw_pid)
    assert (raw["type"], raw["sourceFolder"]) == ("raw", "/8IDI/2026-1/foster202603/A001")
    assert (raw["owner"], raw["ownerGroup"], raw["proposalId"], raw["instrumentId"]) == (
        "B. User",
        "12345",
        "12345",
        "8-ID-I",
    )
    assert (raw["numberOfFiles"], raw["size"], raw["creationTime"]) == (2, 1010, "2026-03-01T15:00:00.000Z")
    told = raw["scientificMetadata"]
    assert (told["beam"]["energy"]["value"], told["beam"]["energy"]["unit"]) == (10.9, "keV")
    assert (told["acquisition"]["count_time"]["value"], told["acquisition"]["title"]) == (0.001, "silica at 20 C")
    assert "organization" not in told
    assert "valid_fraction" not in told["detector"]

    derived = desk.record(pid)
    assert (derived["type"], derived["inputDatasets"]) == ("derived", [raw_pid])
    assert (derived["sourceFolder"], derived["numberOfFiles"]) == ("/8IDI/2026-1/foster202603/A001/q_1", 2)
    assert derived["usedSoftware"] == ["beamline-orchestration 1.2.3", "numba 0.60"]
    made = derived["scientificMetadata"]
    assert made["q_bins"]["qmap_hash"] == "ab" * 8
    fits = made["fits"]
    assert (fits["model"], fits["good"], fits["bins"]) == ("single", 20, 27)
    assert fits["power_law"]["diffusion"]["unit"] == "angstrom^2/s"
    assert [each["caption"] for each in desk.catalogue.attachments(pid)] == ["g2"]
    (block,) = desk.catalogue.blocks(pid)
    assert block["chkAlg"] == "sha256"


def test_another_result_of_the_same_measurement_leaves_the_record_of_that_alone(desk: Desk) -> None:
    copied = desk.copy("xpcs.result", "2026-1/foster202603/A001/q_1/A001_results.hdf", **{"": 7})
    first, other = Described.parse(METADATA), Described.parse({**METADATA, "beam": {"energy_kev": 11.0}})
    raw = [desk.raw()]
    raw_pid = ingest_raw(desk.work, desk.scan, first, raw)
    pids = {
        ingest_result(desk.work, desk.scan, first, desk.result(job), copied, raw_pid, None)
        for job in ("4711", "4711", "4712")
    }
    assert len(pids) == 2
    assert ingest_raw(desk.work, desk.scan, other, raw) == raw_pid
    assert desk.record(raw_pid)["scientificMetadata"]["beam"]["energy"]["value"] == 10.9
    record = desk.record(pids.pop())
    assert (record["sourceFolder"], record["size"]) == ("/8IDI/2026-1/foster202603/A001/q_1", 7)
    operations = desk.work.ledger.operations.of_scan(desk.scan.id)
    assert [record.step for record in operations] == ["catalogue raw", "catalogue xpcs", "catalogue xpcs"]


def test_nothing_of_an_export_controlled_scan_is_catalogued(desk: Desk, ledger: Ledger) -> None:
    secret = a_scan(ledger, export_controlled=True)
    with pytest.raises(ExportControlled):
        ingest_raw(desk.work, secret, Described.parse(METADATA), [desk.raw()])
    assert ledger.operations.of_scan(secret.id) == []


def test_what_is_not_known_is_left_out(desk: Desk) -> None:
    nothing: Document = {"start_time": None, "acquisition": {"title": None}, "fits": {"bins": [], "power_law": {}}}
    pid = ingest_raw(desk.work, desk.scan, Described.parse(nothing), [desk.raw()])
    record = desk.record(pid)
    assert (record["owner"], record["ownerGroup"], record["instrumentId"]) == ("Unknown", "aps8idi", "8-ID-I")
