"""What is read of a scan of 8.3.2, from files as its writers leave them."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import h5py
import numpy as np
import pytest

from orchestration.errors import ScanUnreadable
from orchestration.flows.bl832.metadata import SCIENTIFIC_KEYS, SERIES_KEYS, read_metadata

INSTRUMENT = "/measurement/instrument"
ACQUISITION = "/process/acquisition"

TEXTS = {
    f"{INSTRUMENT}/instrument_name": "ALS 8.3.2",
    "/measurement/sample/experiment/beamline": " 'bl832',",
    "/measurement/sample/experiment/experiment_lead": "B. Lead",
    "/measurement/sample/experiment/pi": "A. Pi",
    "/measurement/sample/experiment/proposal": "ALS-01234",
    "/measurement/sample/experimenter/email": "'A. User' <a.user@lab.example.gov>,",
    "/measurement/sample/experimenter/name": "A. User",
    "/measurement/sample/file_name": "20260301_090405_mouse_Femur-2x_x00y01.h5",
}

Writer = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Writer:
    """Writes a scan with every key of the beamline, and whatever else is given by path; None leaves a key out."""

    def scan(name: str = "scan.h5", **changes: object) -> Path:
        path = tmp_path / name
        values: dict[str, object] = {key: np.array([7.5]) for key in SCIENTIFIC_KEYS}
        values |= {key: np.linspace(0, 99, 100) for key in SERIES_KEYS}
        values |= {key: np.array([text.encode()]) for key, text in TEXTS.items()}
        values |= {"/exchange/data": np.ones((3, 4, 5), np.uint16)} | changes.pop("at", {})  # type: ignore[operator]
        with h5py.File(path, "w") as file:
            for key, value in values.items():
                if value is not None:
                    file[key] = value
        return path

    return scan


def test_the_keys_are_all_those_of_the_existing_ingestion() -> None:
    assert len(SCIENTIFIC_KEYS) == len(set(SCIENTIFIC_KEYS)) == 39
    assert len(SERIES_KEYS) == len(set(SERIES_KEYS)) == 13


def test_a_complete_scan_lacks_nothing(write: Writer) -> None:
    path = write()
    found = read_metadata(path)
    assert found.missing == ()
    assert "missing" not in found.scientific
    assert set(SCIENTIFIC_KEYS) <= set(found.scientific)
    assert (found.shape, found.size) == ((3, 4, 5), path.stat().st_size)
    assert (found.investigator, found.experiment_lead, found.experimenter) == ("A. Pi", "B. Lead", "A. User")
    assert found.email == "a.user@lab.example.gov"
    assert found.title == "20260301_090405_mouse_Femur-2x_x00y01"
    assert found.words == ("20260301", "090405", "mouse", "femur", "2x", "x00y01")


def test_ten_samples_are_kept_of_each_series_with_both_ends(write: Writer) -> None:
    samples = read_metadata(write()).scientific["data_sample"]
    assert isinstance(samples, dict)
    assert set(samples) == set(SERIES_KEYS)
    energy = samples[f"{INSTRUMENT}/monochromator/energy"]
    assert energy == [0, 11, 22, 33, 44, 55, 66, 77, 88, 99]


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (np.float32(1.5), 1.5),
        (np.array([4], np.int64), 4),
        (np.array([[2, 3], [2, 9]]), 2),
        (np.array([1, 1, 1]), 1),
        (np.array([1, 2, 3]), [1, 2, 3]),
        (np.array(b"PCO.edge\0\0", "S10"), "PCO.edge"),
        (np.array([b"PCO.edge  "]), "PCO.edge"),
        ("Grüße", "Grüße"),
        (np.bytes_(b"\xff\xfe"), "��"),
        (np.array([True]), True),
        (np.array([np.nan, 2.0]), 2.0),
    ],
)
def test_values_are_plain_however_they_were_written(write: Writer, written: object, read: object) -> None:
    key = f"{INSTRUMENT}/detector/model"
    assert read_metadata(write(at={key: written})).scientific[key] == read


@pytest.mark.parametrize(
    "written", [None, np.nan, np.array([np.inf]), np.array([]), h5py.Empty("f8"), b"", np.array([], "S4")]
)
def test_a_value_that_says_nothing_counts_as_missing(write: Writer, written: object) -> None:
    key = f"{INSTRUMENT}/detector/temperature"
    found = read_metadata(write(at={key: written}))
    assert key not in found.scientific
    assert found.missing == (key,)
    assert found.scientific["missing"] == [key]


def test_a_group_where_a_value_should_be_counts_as_missing(write: Writer) -> None:
    key = f"{INSTRUMENT}/detector/model"
    assert read_metadata(write(at={key: None, f"{key}/inner": 1})).missing == (key,)


def test_known_units_are_noted_with_the_value_and_those_of_the_file_go_first(write: Writer) -> None:
    path = write(at={f"{INSTRUMENT}/detector/pixel_size": 0.00065})
    with h5py.File(path, "a") as file:
        file[f"{INSTRUMENT}/detector/temperature"].attrs["units"] = b"degC"
        file[f"{ACQUISITION}/rotation/range"].attrs["units"] = np.array([b"rad"])
        file[f"{INSTRUMENT}/source/current"].attrs["unit"] = "mA"
    found = read_metadata(path).scientific
    assert found[f"{INSTRUMENT}/detector/pixel_size"] == {"value": 0.00065, "unit": "mm"}
    assert found[f"{INSTRUMENT}/detector/temperature"] == {"value": 7.5, "unit": "degC"}
    assert found[f"{ACQUISITION}/rotation/range"] == {"value": 7.5, "unit": "rad"}
    assert found["data_sample_units"] == {
        f"{INSTRUMENT}/source/current": "mA",
        f"{INSTRUMENT}/monochromator/energy": "eV",
    }


@pytest.mark.parametrize(
    ("stamp", "taken"),
    [
        (np.array([b"2026-03-01T01:04:05-08:00"]), datetime(2026, 3, 1, 9, 4, 5, tzinfo=UTC)),
        (np.array([b"2026-07-01T01:04:05"]), datetime(2026, 7, 1, 8, 4, 5, tzinfo=UTC)),
        (np.array([1772355845.0, 1772355900.0]), datetime(2026, 3, 1, 9, 4, 5, tzinfo=UTC)),
        (np.array([1772355845000]), datetime(2026, 3, 1, 9, 4, 5, tzinfo=UTC)),
    ],
)
def test_the_files_own_time_stamp_is_read_in_its_zone(write: Writer, stamp: object, taken: datetime) -> None:
    assert read_metadata(write(at={f"{INSTRUMENT}/time_stamp": stamp})).taken_at == taken


@pytest.mark.parametrize(
    "stamp", [np.array([12.5]), np.array([b"yesterday"]), np.array([1e300]), np.array([-1e12]), None]
)
def test_without_a_usable_stamp_the_time_is_that_of_the_file(write: Writer, stamp: object) -> None:
    path = write(at={f"{INSTRUMENT}/time_stamp": stamp})
    os.utime(path, (1772355845, 1772355845))
    found = read_metadata(path)
    assert found.taken_at == found.written_at == datetime(2026, 3, 1, 9, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize("email", ["", "nobody", "a.user@", "@lab.gov", "None"])
def test_what_is_no_address_is_none(write: Writer, email: str) -> None:
    assert read_metadata(write(at={"/measurement/sample/experimenter/email": email.encode()})).email == ""


def test_a_scan_without_a_name_is_called_after_its_file(write: Writer) -> None:
    found = read_metadata(write("20260301_bone.h5", at={"/measurement/sample/file_name": None}))
    assert found.title == "20260301_bone"


def test_a_scan_with_nothing_but_projections_is_one(tmp_path: Path) -> None:
    path = tmp_path / "bare.h5"
    with h5py.File(path, "w") as file:
        file["/exchange/data"] = np.ones((2, 2, 2), np.float32)
    found = read_metadata(path)
    assert len(found.missing) == 39 + 13 + 8
    assert found.words == ("bare",)


def test_links_to_other_files_are_not_followed(write: Writer, tmp_path: Path) -> None:
    key = f"{INSTRUMENT}/detector/model"
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["secret"] = b"secret"
    path = write(at={key: None})
    with h5py.File(path, "a") as file:
        file[key] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "/secret")
    assert read_metadata(path).missing == (key,)


def test_links_that_lead_nowhere_count_as_missing(write: Writer) -> None:
    keys = (f"{INSTRUMENT}/detector/dimension_x", f"{INSTRUMENT}/detector/model")
    path = write(at=dict.fromkeys(keys))
    with h5py.File(path, "a") as file:
        file[keys[0]] = h5py.SoftLink("/nowhere")
        file[keys[1]] = h5py.ExternalLink("none.h5", "/x")
    assert read_metadata(path).missing == keys


@pytest.mark.parametrize("content", [b"", b"not HDF5 at all", b"\x89HDF\r\n\x1a\n and no more"])
def test_what_is_not_hdf5_is_not_a_scan(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "scan.h5"
    path.write_bytes(content)
    with pytest.raises(ScanUnreadable, match="not a complete HDF5 file"):
        read_metadata(path)


def test_a_truncated_scan_is_not_one(write: Writer) -> None:
    path = write()
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(ScanUnreadable):
        read_metadata(path)


def test_a_file_that_is_not_there_is_not_a_scan(tmp_path: Path) -> None:
    with pytest.raises(ScanUnreadable, match="does not exist"):
        read_metadata(tmp_path / "none.h5")


@pytest.mark.parametrize("data", [None, np.ones((3, 4)), np.ones((0, 4, 5)), np.array([[[b"x"]]])])
def test_hdf5_without_projections_is_not_a_scan(write: Writer, data: object) -> None:
    with pytest.raises(ScanUnreadable, match="no projections"):
        read_metadata(write(at={"/exchange/data": data}))
