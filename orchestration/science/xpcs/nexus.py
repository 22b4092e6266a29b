"""Frames in HDF5 files of NeXus: ``/entry/data/data``, (frames, rows, columns), of any numbers and filters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from orchestration.science import filters, hdf5
from orchestration.science.errors import FormatUnknown, FramesNotFinite, ScanMissing, ScanUnreadable, ShapeMismatch
from orchestration.science.xpcs.binary import Witness
from orchestration.science.xpcs.frames import Counts

DATA = "/entry/data/data"


@contextmanager
def open_nexus(path: Path) -> Iterator[Nexus]:
    """Open a file, and those that it takes its frames from.

    Raises:
        ScanUnreadable: or one of its kinds, naming the file that it is about.
    """
    with hdf5.open_file(path) as file:
        with hdf5.reading(path):
            dataset = _dataset(file, path)
        # A file behind an external link is open for as long as its dataset, unless it is closed itself.
        with dataset.file:
            files = (path, *_sources(dataset, path))
            _demand_together(files)
            witness = Witness.of(*files)
            yield Nexus(path, files, dataset)
            witness.demand_unchanged()


def _dataset(file: h5py.File, path: Path) -> h5py.Dataset:
    try:
        found = file[DATA]
    except KeyError as error:
        _demand_links(file, path)
        raise _missing(path) from error
    if not isinstance(found, h5py.Dataset):
        raise _missing(path)
    if found.ndim != 3 or 0 in found.shape:
        raise ShapeMismatch(f"{DATA} has shape {found.shape}, not (frames, rows, columns)", where=str(path))
    if found.dtype.kind not in "iuf":
        raise ShapeMismatch(f"{DATA} holds {found.dtype}, not numbers", where=str(path))
    filters.make_available(found)
    return found


def _missing(path: Path) -> FormatUnknown:
    next_step = f"give a NeXus file with its frames in {DATA}"
    return FormatUnknown(f"there is no dataset {DATA}", where=str(path), next_step=next_step)


def _demand_links(file: h5py.File, path: Path) -> None:
    """Say what is wrong with another file that it should be in: HDF5 only says that there is no such dataset."""
    group: h5py.Group = file
    for name in DATA.strip("/").split("/"):
        link = group.get(name, getlink=True)
        if isinstance(link, h5py.ExternalLink):
            target = path.parent / link.filename
            if not target.exists():
                raise ScanMissing(f"{target} with the frames is missing", where=f"{path}, link {group.name}/{name}")
            with hdf5.open_file(target):
                pass
        found = group.get(name)
        if not isinstance(found, h5py.Group):
            return
        group = found


def _sources(dataset: h5py.Dataset, path: Path) -> list[Path]:
    """Other files that the frames are in: of an external link, of a virtual dataset, or raw ones."""
    holder = Path(dataset.file.filename)
    names = [source.file_name for source in dataset.virtual_sources()] if dataset.is_virtual else []
    # HDF5 calls the file itself "."; "%b" stands for the numbers of a series.
    found = [other for name in dict.fromkeys(names) if name != "." for other in _series(holder.parent, name)]
    if not holder.samefile(path):
        found.insert(0, holder)
    for other in found:
        # HDF5 reads zeros from a source of a virtual dataset that is not there.
        if not other.exists():
            raise ScanMissing(f"{other} with some of the frames is missing", where=f"{path}, {DATA}")
        hdf5.check_bytes(other)
    return found + [holder.parent / name for name, _, _ in dataset.external or []]


def _demand_together(files: Sequence[Path]) -> None:
    """Frames come from the folder of the dataset alone: what lies elsewhere may be somebody else's."""
    folder = files[0].resolve().parent
    for other in files[1:]:
        if not other.resolve().is_relative_to(folder):
            raise ScanUnreadable(
                f"{other} with some of the frames is not in the folder of the dataset",
                where=f"{files[0]}, {DATA}",
                next_step="put all files of the dataset into its folder",
            )


def _series(folder: Path, name: str) -> list[Path]:
    return sorted(folder.glob(name.replace("%b", "*"))) if "%b" in name else [folder / name]


class Nexus:
    """An open file."""

    def __init__(self, path: Path, files: tuple[Path, ...], dataset: h5py.Dataset) -> None:
        self.path = path
        self.files = files
        self._dataset = dataset
        self.frames, self.rows, self.columns = (int(size) for size in dataset.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """That of the file in this machine's byte order; floats of all sizes are read as float32."""
        stored: np.dtype[Any] = self._dataset.dtype
        return np.dtype(np.float32) if stored.kind == "f" else stored.newbyteorder("=")

    def read(self, frames: slice, out: Counts) -> None:
        """See `DenseRaw`.

        Raises:
            FramesNotFinite: on NaN or infinite values, naming the first bad frame.
        """
        with hdf5.reading(self.path):
            self._dataset.read_direct(out, source_sel=np.s_[frames.start : frames.stop : frames.step])
        if out.dtype.kind == "f":
            self._demand_finite(frames, out)

    def _demand_finite(self, frames: slice, out: Counts) -> None:
        for frame, values in zip(range(frames.start, frames.stop, frames.step), out, strict=True):
            if not np.isfinite(values).all():
                raise FramesNotFinite("a frame holds values that are not finite", where=f"{self.path}, frame {frame}")
