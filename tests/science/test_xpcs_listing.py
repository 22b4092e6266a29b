"""What the names of a folder tell of a measurement, and that this is what the readers make of the files themselves."""

from __future__ import annotations

from pathlib import Path

import pytest

from orchestration.science.errors import FormatUnknown, MetadataMissing, ScanMissing, ScienceError
from orchestration.science.xpcs.listing import find_raw, metadata_name, raw_parts
from orchestration.science.xpcs.naming import find_metadata
from orchestration.science.xpcs.read import open_raw

SIX = tuple(f"A001.bin.00{number}" for number in range(6))


@pytest.mark.parametrize(
    ("names", "raw"),
    [
        (["A001.h5", "A001_metadata.hdf", "A001_results.hdf", "A001_results_1.hdf", "eiger_qmap.hdf"], "A001.h5"),
        (["A001.bin", "A001_metadata.hdf", "notes.txt", ".A001.bin.part.h5"], "A001.bin"),
        ([*SIX, "A001_metadata.hdf"], "A001.bin.000"),
        (["A001.imm", "Qmap.h5", "A001_metadata.hdf"], "A001.imm"),
        (["A001.hdf5"], "A001.hdf5"),
        (["A001.hdf"], "A001.hdf"),
    ],
)
def test_the_raw_file_of_a_folder_is_found(names: list[str], raw: str) -> None:
    assert find_raw(names) == raw


@pytest.mark.parametrize(
    ("names", "kind", "words"),
    [
        ([], ScanMissing, "which are none"),
        (["A001_metadata.hdf", *SIX[1:3]], ScanMissing, "A001.bin.001, A001.bin.002, A001_metadata.hdf"),
        ([f"{number:02}.txt" for number in range(15)], ScanMissing, "11.txt, and 3 others"),
        (["B.h5", "A.imm", "A_metadata.hdf"], FormatUnknown, "each of A.imm, B.h5 may be the raw file"),
    ],
)
def test_a_folder_without_one_raw_file_is_refused_with_what_there_is(
    names: list[str], kind: type[ScienceError], words: str
) -> None:
    with pytest.raises(kind) as raised:
        find_raw(names, where="/data/A001")
    assert words in raised.value.what
    assert raised.value.where == "/data/A001"


def test_raw_data_is_one_file_or_six() -> None:
    assert raw_parts("A001.h5", ["A001.h5", "B"]) == ("A001.h5",)
    assert raw_parts("A001.bin.000", reversed(SIX)) == SIX


@pytest.mark.parametrize(
    ("raw", "there", "words"),
    [
        ("A001.bin.000", {*SIX} - {"A001.bin.002", "A001.bin.004"}, "no A001.bin.002, A001.bin.004 of the six files"),
        ("A001.h5", set(), "no A001.h5, the raw file"),
        ("A001.bin.003", {*SIX}, "not the first of the six"),
    ],
)
def test_a_missing_part_is_named_in_the_error_of_the_reader(
    tmp_path: Path, raw: str, there: set[str], words: str
) -> None:
    for name in there:
        (tmp_path / name).write_bytes(bytes(8))
    with pytest.raises(ScienceError) as told:
        raw_parts(raw, there)
    with pytest.raises(ScienceError) as read, open_raw(tmp_path / raw):
        pass
    assert words in told.value.what
    assert type(told.value) is type(read.value)
    assert told.value.where == Path(read.value.where).name


@pytest.mark.parametrize("names", [[], ["b_metadata.hdf", "c_metadata.hdf"]])
def test_metadata_is_missed_by_name_as_on_the_disk(tmp_path: Path, names: list[str]) -> None:
    for name in names:
        (tmp_path / name).write_bytes(b"")
    with pytest.raises(MetadataMissing) as told:
        metadata_name("a.h5", names, where=str(tmp_path))
    with pytest.raises(MetadataMissing) as found:
        find_metadata(tmp_path / "a.h5")
    assert told.value.sentence == found.value.sentence


def test_metadata_is_that_of_the_longest_name_that_fits_or_the_only_one() -> None:
    names = ["a_metadata.hdf", "a_01_metadata.hdf", "b_metadata.hdf", "a_01.h5"]
    assert metadata_name("a_01.h5", names) == "a_01_metadata.hdf"
    assert metadata_name("raw.h5", ["sample_metadata.hdf"]) == "sample_metadata.hdf"
