"""The files of one reconstruction: slices as TIFF, a volume, pictures and a report."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray

from orchestration.science.errors import NameTooLong, ParametersInvalid
from orchestration.science.staging import publish
from orchestration.science.stopping import look
from orchestration.science.tomography.parameters import Parameters
from orchestration.science.tomography.pipeline import circle
from orchestration.science.tomography.preview import Picture, write_png
from orchestration.science.tomography.volume import VolumeShape, VolumeWriter

Float32 = NDArray[np.float32]

DIGITS = 5

MAX_NAME_BYTES = 255


def fits(stem: str) -> bool:
    """Whether the longest name that is made of it fits a file system."""
    return len(f"{stem}_00000.tiff".encode()) <= MAX_NAME_BYTES


def check_name(stem: str) -> None:
    """Raise `NameTooLong` when the longest name made of a scan's stem would not fit a file system."""
    longest = f"{stem}_00000.tiff"
    if not fits(stem):
        what = f"the results' name {longest[:40]!r}... has {len(longest.encode())} bytes, over {MAX_NAME_BYTES}"
        raise NameTooLong(what, where=stem[:60])


@dataclass(frozen=True, kw_only=True)
class Names:
    """Where results of a scan lie: in `out`, all called `name`: ``rec<stem>`` where nobody says otherwise."""

    out: Path
    name: str
    stem: str
    """Of the scan: slices and pictures are called after it, if that is not too long a name."""

    @classmethod
    def of(cls, scan: Path, *, out: Path, name: str = "") -> Names:
        """Raises ParametersInvalid if `name` is not that of a file, NameTooLong if no file can be called so."""
        if name and (name != Path(name).name or name.startswith(".")):
            raise ParametersInvalid(f"{name!r} cannot name a result: it must be one plain name", where="--name")
        if name:
            check_name(name)
            return cls(out=out, name=name, stem=scan.stem if fits(scan.stem) else name)
        check_name(scan.stem)
        return cls(out=out, name=f"rec{scan.stem}", stem=scan.stem)

    @property
    def tiff(self) -> Path:
        return self.out / self.name

    @property
    def zarr(self) -> Path:
        return self.out / f"{self.name}.zarr"

    @property
    def preview(self) -> Path:
        return self.out / f"{self.name}.preview"

    @property
    def report(self) -> Path:
        return self.out / f"{self.name}.json"


class Outputs:
    """Takes the slices in order and writes them below a staging folder; `publish` puts all in place."""

    def __init__(
        self, staging: Path, names: Names, *, parameters: Parameters, volume: VolumeShape, first_row: int, slab: int
    ) -> None:
        self._names = names
        self._staging = staging
        self._parameters = parameters
        self._first_row = first_row
        self._volume = volume
        self._orthogonal = _Orthogonal(volume.shape)
        self._zarr: VolumeWriter | None = None
        if parameters.tiff:
            self._staged(names.tiff).mkdir()
        if parameters.zarr:
            self._zarr = VolumeWriter(self._staged(names.zarr), volume, name=names.stem, slab=slab)
        if parameters.preview:
            self._staged(names.preview).mkdir()
        self._helpers = ThreadPoolExecutor(1, thread_name_prefix="tiff")

    def _staged(self, final: Path) -> Path:
        return self._staging / final.name

    def write(self, first_row: int, slices: Float32) -> None:
        """Store consecutive slices."""
        first = first_row - self._first_row
        tiffs = self._helpers.submit(self._write_tiffs, first, slices) if self._parameters.tiff else None
        if self._zarr is not None:
            self._zarr.append(slices)
        self._orthogonal.add(first, slices)
        if tiffs is not None:
            tiffs.result()

    def _write_tiffs(self, first: int, slices: Float32) -> None:
        folder, stem = self._staged(self._names.tiff), self._names.stem
        voxel = self._volume.voxel_um
        resolution = None if voxel is None else (1e4 / voxel, 1e4 / voxel)
        unit = None if voxel is None else "CENTIMETER"
        for index, image in enumerate(slices, start=first):
            look()
            tifffile.imwrite(
                folder / f"{stem}_{index:0{DIGITS}d}.tiff",
                image,
                photometric="minisblack",
                resolution=resolution,
                resolutionunit=unit,
            )

    def close(self) -> None:
        self._helpers.shutdown(wait=True, cancel_futures=True)

    def finish(self, *, pictures: list[Picture]) -> None:
        """Write what needs all slices: the last slabs and the pictures."""
        if self._zarr is not None:
            self._zarr.close()
        if self._parameters.preview:
            folder = self._staged(self._names.preview)
            slices = self._orthogonal.pictures(self._names.stem, self._volume.voxel_um, mask=self._parameters.mask)
            for picture in [*slices, *pictures]:
                write_png(folder, picture)

    @property
    def paths(self) -> list[Path]:
        """What there will be, the report last."""
        choices = (
            (self._parameters.tiff, self._names.tiff),
            (self._parameters.zarr, self._names.zarr),
            (self._parameters.preview, self._names.preview),
        )
        return [path for wanted, path in choices if wanted] + [self._names.report]

    def publish(self, report: str) -> None:
        """Put everything in place. The report goes first and comes last: where it is, all is of one run."""
        staged = self._staged(self._names.report)
        staged.write_text(report, encoding="utf-8")
        self._names.report.unlink(missing_ok=True)
        for path in self.paths:
            publish(self._staged(path), path)


class _Orthogonal:
    """The three planes through the middle, collected as slices come by."""

    def __init__(self, shape: tuple[int, int, int]) -> None:
        depth, height, width = shape
        self._middle = (depth // 2, height // 2, width // 2)
        self._xy = np.zeros((height, width), dtype=np.float32)
        self._xz = np.zeros((depth, width), dtype=np.float32)
        self._yz = np.zeros((depth, height), dtype=np.float32)

    def add(self, first: int, slices: Float32) -> None:
        z, y, x = self._middle
        self._xz[first : first + len(slices)] = slices[:, y, :]
        self._yz[first : first + len(slices)] = slices[:, :, x]
        if first <= z < first + len(slices):
            self._xy[:] = slices[z - first]

    def pictures(self, stem: str, voxel_um: float | None, *, mask: bool) -> list[Picture]:
        z, y, x = self._middle
        valid = circle(self._xy.shape[0]) if mask else None
        return [
            Picture(name="slice_xy", title=f"{stem}  xy, z = {z}", image=self._xy, pixel_um=voxel_um, valid=valid),
            Picture(name="slice_xz", title=f"{stem}  xz, y = {y}", image=self._xz, pixel_um=voxel_um),
            Picture(name="slice_yz", title=f"{stem}  yz, x = {x}", image=self._yz, pixel_um=voxel_um),
        ]
