"""Measurements that were never taken: raw files of all formats, metadata, qmaps, and the g2 that must come out of them.

The movie itself, and why its g2 is known, is in `movie`.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO, Literal

import h5py
import hdf5plugin
import numpy as np
from numpy.typing import NDArray

from orchestration.science.errors import ParametersInvalid, ResultInvalid
from orchestration.science.xpcs import imm, movie, rigaku
from orchestration.science.xpcs.compiling import compiled
from orchestration.science.xpcs.movie import Counts16, Float64, MovieDescription
from orchestration.science.xpcs.nexus import DATA
from orchestration.science.xpcs.qmap import Qmap
from orchestration.science.xpcs.simulated_qmap import write_qmap
from orchestration.science.xpcs.threads import in_threads
from orchestration.science.xpcs.words import FRAME_SHIFT, PIXEL_SHIFT, Words

__all__ = ("MovieDescription", "RawFormat", "expected_g2", "write_metadata", "write_qmap", "write_raw")

RawFormat = Literal["rigaku500k", "rigaku3m", "imm", "imm-sparse", "nexus"]

DESCRIPTION = "simulated_movie"
"""Root attribute of simulated metadata: the description as JSON."""

Write = Callable[[int, Counts16], None]
"""Takes the number of a frame and the counts of it and the next ones, (frames, pixels)."""


def write_raw(path: Path, description: MovieDescription, raw_format: RawFormat, *, compressed: bool = False) -> None:
    """Write the raw file, or the six of a Rigaku 3M (`path` is the first); they appear whole, or not at all.

    Frames without a photon at the end of a movie leave no trace in a file of Rigaku's.

    Args:
        compressed: with bitshuffle and LZ4, as an EIGER's are; in a NeXus file only.

    Raises:
        ParametersInvalid: if the format does not have such a detector, or so many frames.
        ResultInvalid: if a pixel counts more than the format can say.
    """
    _demand_possible(description, raw_format, compressed=compressed)
    pixels = np.flatnonzero(description.active)
    with _published(path, raw_format) as files, ExitStack() as stack:
        if raw_format == "nexus":
            write, largest = _nexus(stack, files[0], description, pixels, compressed=compressed)
        elif raw_format == "imm":
            write, largest = _imm(stack, files[0], description, pixels), np.iinfo(np.uint16).max
        elif raw_format == "imm-sparse":
            write, largest = _imm_sparse(stack, files[0], description, pixels), np.iinfo(np.uint16).max
        else:
            write, largest = _rigaku(stack, files, pixels), rigaku.COUNTS
        first = 0
        for counts in movie.blocks(description, pixels=pixels):
            if counts.max() > largest:
                what = f"a pixel counts {counts.max()} photons, more than the {largest} that {raw_format} can hold"
                raise ResultInvalid(what, where=str(path), next_step="simulate fewer photons")
            write(first, counts)
            first += len(counts)


def _demand_possible(description: MovieDescription, raw_format: RawFormat, *, compressed: bool) -> None:
    layout = {"rigaku500k": rigaku.LAYOUT_500K, "rigaku3m": rigaku.LAYOUT_3M}.get(raw_format)
    if layout is not None and (layout.rows, layout.columns) != (description.rows, description.columns):
        what = (
            f"{raw_format} has {layout.rows} x {layout.columns} pixels, not {description.rows} x {description.columns}"
        )
        raise ParametersInvalid(what, where="simulated movie")
    if layout is not None and description.frames > rigaku.FRAMES:
        what = f"{description.frames} frames are more than the {rigaku.FRAMES} of {raw_format}"
        raise ParametersInvalid(what, where="simulated movie")
    if compressed and raw_format != "nexus":
        raise ParametersInvalid(f"{raw_format} has no compression", where="simulated movie")


@contextmanager
def _published(path: Path, raw_format: RawFormat) -> Iterator[tuple[Path, ...]]:
    """Where to write the files, which are put in their places in the end."""
    finals = rigaku.files_3m(path) if raw_format == "rigaku3m" else (path,)
    folder = Path(tempfile.mkdtemp(prefix=".simulating-", dir=path.parent))
    try:
        staged = tuple(folder / final.name for final in finals)
        yield staged
        for source, final in zip(staged, finals, strict=True):
            source.replace(final)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _rigaku(stack: ExitStack, files: tuple[Path, ...], pixels: NDArray[np.int64]) -> Write:
    layout = rigaku.LAYOUT_500K if len(files) == 1 else rigaku.LAYOUT_3M
    streams = [stack.enter_context(file.open("wb")) for file in files]
    row, column = np.divmod(pixels, layout.columns)
    members = []
    for top, left in layout.corners:
        down, right = row - top, column - left
        inside = (down >= 0) & (down < rigaku.MODULE_ROWS) & (right >= 0) & (right < rigaku.MODULE_COLUMNS)
        members.append((np.flatnonzero(inside), (down * rigaku.MODULE_COLUMNS + right)[inside]))

    def write(first: int, counts: Counts16) -> None:
        for stream, (member, pixel) in zip(streams, members, strict=True):
            _events(counts, first, member, pixel).tofile(stream)

    return write


def _events(counts: Counts16, first: int, member: NDArray[np.int64], pixel: NDArray[np.int64]) -> Words:
    """The events of some columns of the counts, in the order of frames and then of these columns.

    Args:
        counts: (frames, A).
        first: the number of the first frame.
        member: (B,): which columns.
        pixel: (B,): how each is called.
    """
    total = np.zeros(len(counts) + 1, dtype=np.int64)
    in_threads(len(counts), lambda low, high: _number(low, high, counts, member, total))
    ends = np.cumsum(total)
    words = np.empty(ends[-1], dtype=np.uint64)
    in_threads(len(counts), lambda low, high: _pack(low, high, counts, first, member, pixel, ends, words))
    return words


@compiled()
def _number(low, high, counts, member, total):  # type: ignore[no-untyped-def]
    for frame in range(low, high):
        found = 0
        for column in member:
            found += counts[frame, column] > 0
        total[frame + 1] = found


@compiled()
def _pack(low, high, counts, first, member, pixel, ends, words):  # type: ignore[no-untyped-def]
    for frame in range(low, high):
        place = ends[frame]
        for i in range(len(member)):
            count = counts[frame, member[i]]
            if count > 0:
                number = np.uint64(first + frame) << FRAME_SHIFT
                words[place] = number | (np.uint64(pixel[i]) << PIXEL_SHIFT) | np.uint64(count)
                place += 1


def _imm(stack: ExitStack, file: Path, description: MovieDescription, pixels: NDArray[np.int64]) -> Write:
    stream = stack.enter_context(file.open("wb"))
    frame = np.zeros(description.rows * description.columns, dtype="<u2")

    def write(first: int, counts: Counts16) -> None:
        for number, values in enumerate(counts, start=first):
            frame[pixels] = values
            stream.write(_imm_header(description, number, compression=0, values=len(frame)))
            frame.tofile(stream)

    return write


def _imm_sparse(stack: ExitStack, file: Path, description: MovieDescription, pixels: NDArray[np.int64]) -> Write:
    stream: IO[bytes] = stack.enter_context(file.open("wb"))

    def write(first: int, counts: Counts16) -> None:
        words = _events(counts, 0, np.arange(len(pixels)), pixels)
        bounds = np.searchsorted(words >> FRAME_SHIFT, np.arange(len(counts) + 1))
        pixel = ((words >> PIXEL_SHIFT) & np.uint64(0xFFFFFF)).astype("<u4")
        count = words.astype("<u2")
        for i in range(len(counts)):
            low, high = bounds[i], bounds[i + 1]
            stream.write(_imm_header(description, first + i, compression=imm.SPARSE, values=int(high - low)))
            stream.write(pixel[low:high].tobytes() + count[low:high].tobytes())

    return write


def _imm_header(description: MovieDescription, frame: int, *, compression: int, values: int) -> bytes:
    head = bytearray(imm.HEADER)
    imm.FIELDS.pack_into(head, 0, compression, description.rows, description.columns, values)
    head[116:120] = (2).to_bytes(4, "little")
    head[160:164] = frame.to_bytes(4, "little")
    return bytes(head)


def _nexus(
    stack: ExitStack, path: Path, description: MovieDescription, pixels: NDArray[np.int64], *, compressed: bool
) -> tuple[Write, int]:
    file = stack.enter_context(h5py.File(path, "w"))
    dtype = np.dtype(description.dtype)
    shape = (description.rows, description.columns)
    filters = dict(hdf5plugin.Bitshuffle(cname="lz4")) if compressed else {}
    dataset = file.create_dataset(
        DATA, (description.frames, *shape), dtype=dtype, chunks=(1, *shape), track_times=False, **filters
    )

    def write(first: int, counts: Counts16) -> None:
        frame = np.zeros((len(counts), description.rows * description.columns), dtype=dtype)
        frame[:, pixels] = counts
        dataset.write_direct(frame.reshape(len(counts), *shape), dest_sel=np.s_[first : first + len(counts)])

    return write, np.iinfo(dtype).max if dtype.kind in "iu" else 1 << 24


def write_metadata(path: Path, description: MovieDescription) -> None:
    """Write the ``<name>_metadata.hdf`` that an acquisition leaves beside its raw file, with what viewers ask for."""
    row, column = description.beam
    detector = {
        "frame_time": (description.frame_time_s, "s"),
        "count_time": (description.count_time_s, "s"),
        "x_pixel_size": (description.pixel_size_m, "m"),
        "y_pixel_size": (description.pixel_size_m, "m"),
        "beam_center_x": (column, "pixel"),
        "beam_center_y": (row, "pixel"),
        "distance": (description.distance_m, "m"),
    }
    with h5py.File(path, "w") as file:
        entry = _group(file, "entry", "NXentry")
        entry["schema_version"] = "0.1.0"
        entry["start_time"] = "2026-01-01 00:00:00"
        instrument = _group(entry, "instrument", "NXinstrument")
        part = _group(instrument, "detector_1", "NXdetector")
        for name, (value, units) in detector.items():
            part[name] = value
            part[name].attrs["units"] = units
        beam = _group(instrument, "incident_beam", "NXbeam")
        beam["incident_energy"] = description.energy_kev
        beam["incident_energy"].attrs["units"] = "keV"
        _group(_group(instrument, "bluesky", "NXnote"), "metadata", "NXnote")["plan_name"] = "simulated"
        file.attrs[DESCRIPTION] = json.dumps(dataclasses.asdict(description))


def _group(parent: h5py.Group, name: str, kind: str) -> h5py.Group:
    group = parent.create_group(name)
    group.attrs["NX_class"] = kind
    return group


def expected_g2(
    description: MovieDescription, qmap: Qmap, delays: NDArray[np.int64], *, levels: NDArray[np.int64] | None = None
) -> Float64:
    """The g2 of each dynamic bin, (delays, bins): the mean over its static bins of the means over their pixels.

    Exact but for the scatter of a movie of so many pixels and frames, and for the division of frames by their means,
    which takes out about contrast / pixels of it.

    Args:
        delays: in frames, above 0.
        levels: of each delay, where frames are summed 2^level at a time before they are correlated, whose pairs then
            are up to 2^level - 1 frames closer together, or further apart; none, if it is not given. Delays are longer
            than that.
    """
    static, dynamic, tau = (values[qmap.dynamic > 0] for values in (qmap.static, qmap.dynamic, description.tau))
    numbers, place = np.unique(static, return_inverse=True)
    sizes = np.bincount(place)
    parent = np.zeros(len(numbers), dtype=np.int64)
    parent[place] = dynamic
    expected = np.empty((len(delays), qmap.dynamic_bins))
    summed = np.zeros(len(delays), dtype=np.int64) if levels is None else levels
    for i, (delay, level) in enumerate(zip(delays, summed, strict=True)):
        per_static = np.bincount(place, weights=_correlated(2 / tau, int(delay), 1 << int(level))) / sizes
        bins = np.bincount(parent, weights=per_static) / np.maximum(np.bincount(parent), 1)
        expected[i] = 1 + description.contrast * bins[1:]
    return expected


def _correlated(rate: Float64, delay: int, size: int) -> Float64:
    """The mean of ``exp(-rate * (delay + j - i))`` over all i and j below `size`."""
    with np.errstate(invalid="ignore"):
        mean = np.where(rate > 0, np.expm1(-rate * size) / (size * np.expm1(-rate)), 1.0)
    # The mean over i, with the opposite sign, is the same but for this shift of the delay.
    return np.asarray(np.exp(-rate * (delay - size + 1)) * mean**2)
