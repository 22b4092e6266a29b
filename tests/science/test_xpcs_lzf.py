"""Streams of LZF, as the filter of HDF5 unpacks them."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from orchestration.science.xpcs import lzf
from orchestration.science.xpcs.output import ResultFile

FRAMES = st.one_of(st.integers(1, 12), st.integers(60, 75), st.integers(130, 140), st.integers(200, 210))
"""A run of zeros and a stretch of values end within, at and behind the longest that can be named."""


def upper(frames: int) -> NDArray[np.float32]:
    """Noise from the diagonal on, as two-time functions have it."""
    return np.triu(np.random.default_rng(frames).normal(1.0, 0.1, (frames, frames)).astype(np.float32))


def stored(path: Path, rows: NDArray[np.float32], first: int, height: int) -> NDArray[np.float32]:
    """What HDF5 reads of the chunk that begins with row `first`."""
    frames = rows.shape[1]
    with h5py.File(path, "w") as file:
        size = (first // height + 1) * height
        dataset = file.create_dataset("c2", (size, frames), np.float32, chunks=(height, frames), compression="lzf")
        stream = lzf.pack(first, rows, height=height)
        dataset.id.write_direct_chunk((first, 0), stream.tobytes())
    with h5py.File(path, "r") as file:
        return np.asarray(file["c2"][first : first + height])


@settings(deadline=None, max_examples=60)
@given(frames=FRAMES, share=st.integers(1, 5), number=st.integers(0, 4))
def test_hdf5_reads_back_what_was_packed(
    frames: int, share: int, number: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    height = -(-frames // share)
    first = min(number, (frames - 1) // height) * height
    rows = upper(frames)[first : first + height]
    rows[np.tril_indices(len(rows), k=-1)] = np.nan  # what lies below the diagonal is not looked at
    found = stored(tmp_path_factory.mktemp("lzf") / "a.h5", rows, first, height)
    right = np.zeros((height, frames), dtype=np.float32)
    right[: len(rows)] = upper(frames)[first : first + height]
    np.testing.assert_array_equal(found, right)


def test_a_function_of_noise_takes_no_more_room_than_the_filter_makes_of_it(tmp_path: Path) -> None:
    function = upper(600)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        dataset = file.create_dataset("c2", data=function, chunks=function.shape, compression="lzf")
        room = dataset.id.get_storage_size()
    assert len(lzf.pack(0, function, height=600)) <= 1.03 * room


def test_few_photons_are_left_to_the_filter(tmp_path: Path) -> None:
    """Between frames without a common photon C2 is 0: the filter makes a tenth of that."""
    function = upper(600) * (np.random.default_rng(0).random((600, 600)) < 0.02)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        result = ResultFile(file)
        result.empty("c2", function.shape, np.float32, chunks=function.shape)
        result.triangle("c2", 0, function)
        assert file["c2"].id.get_storage_size() < function.nbytes / 10
        np.testing.assert_array_equal(file["c2"][()], function)
