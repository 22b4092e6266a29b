"""A scan file in, slices, a volume, pictures and a report out."""

from __future__ import annotations

import dataclasses
import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from platform import python_version

import numpy as np

from orchestration.science.arrays import CPU, choose_device
from orchestration.science.checksums.digest import file_checksum
from orchestration.science.errors import CenterNotFound, OutputFailed, ParametersInvalid
from orchestration.science.progress import Reporter, Style
from orchestration.science.staging import publish, staging
from orchestration.science.stopping import look
from orchestration.science.timing import Stopwatch, peak_memory
from orchestration.science.tomography.center import Center, binned, columns_to_bin, find_center, rows_to_use
from orchestration.science.tomography.correct import Normaliser
from orchestration.science.tomography.outputs import Names, Outputs
from orchestration.science.tomography.parameters import Parameters
from orchestration.science.tomography.pipeline import Recipe, normaliser, stream, thread_count
from orchestration.science.tomography.plan import Plan, Workload, make_plan
from orchestration.science.tomography.preview import Picture, write_png
from orchestration.science.tomography.read import Fallbacks, Scan, open_scan
from orchestration.science.tomography.volume import VolumeShape

_LIBRARIES = ("beamline-orchestration", "numpy", "scipy", "finufft", "h5py", "tifffile", "zarr", "cupy", "cufinufft")


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a reconstruction left."""

    outputs: tuple[Path, ...]
    report: Path
    center: float
    slices: int
    seconds: float


def fallbacks(parameters: Parameters) -> Fallbacks:
    """What the parameters say in place of the file."""
    return Fallbacks(
        angle_range=parameters.angle_range,
        pixel_size_mm=parameters.pixel_size_mm,
        flat_value=parameters.flat_value,
        dark_value=parameters.dark_value,
    )


def reconstruct(path: Path, out: Path, parameters: Parameters, *, name: str = "", progress: Style = "none") -> Result:
    """Reconstruct a scan into `out`, where the results are called `name`, or ``rec<stem>``.

    Existing results of the same name are replaced once the new ones are complete; on any failure they stay.

    Raises:
        ScienceError: for everything that can be wrong with the scan, the parameters, or the place for the result.
    """
    names = Names.of(path, out=out, name=name)
    watch = Stopwatch()
    started = datetime.now(tz=UTC)
    device = choose_device(parameters.device)
    with watch.stage("total"), open_scan(path, fallbacks=fallbacks(parameters)) as scan, staging(out) as folder:
        checksum_pool = ThreadPoolExecutor(1, thread_name_prefix="checksum")
        checksum = checksum_pool.submit(_sha256, path, watch)
        try:
            rows = _rows(scan, parameters)
            threads = thread_count(parameters.threads)
            plan = make_plan(_workload(scan, rows, parameters, threads), memory_gib=parameters.memory)
            with watch.stage("center"):
                fields = normaliser(scan, parameters)
                center = locate(scan, parameters, fields)
            recipe = Recipe.of(scan, parameters, fields=fields, center=center.column, device=device)
            outputs = _outputs(folder, names, scan, parameters, rows, plan)
            with Reporter(total=rows.stop - rows.start, style=progress) as reporter:

                def consume(first: int, slices: np.ndarray[tuple[int, int, int], np.dtype[np.float32]]) -> None:
                    outputs.write(first, slices)
                    reporter.advance(len(slices))

                try:
                    stream(scan, rows, plan=plan, recipe=recipe, threads=threads, watch=watch, consume=consume)
                    outputs.finish(pictures=pictures(scan, recipe, rows) if parameters.preview else [])
                finally:
                    outputs.close()
            digest = checksum.result()
        except OSError as error:
            raise OutputFailed(f"a result cannot be written: {error.strerror or error}", where=str(out)) from error
        finally:
            checksum_pool.shutdown(wait=True, cancel_futures=True)
        report = _Report(scan=scan, parameters=parameters, center=center, plan=plan, device=device.name, rows=rows)
        seconds = (datetime.now(tz=UTC) - started).total_seconds()
        outputs.publish(report.text(outputs, digest=digest, watch=watch, started=started, seconds=seconds))
    return Result(
        outputs=tuple(outputs.paths),
        report=names.report,
        center=center.column,
        slices=rows.stop - rows.start,
        seconds=seconds,
    )


def locate(scan: Scan, parameters: Parameters, fields: Normaliser) -> Center:
    """The given centre, or the one found in rows spread over the detector."""
    if parameters.center is not None:
        if not 0 <= parameters.center <= scan.width - 1:
            what = f"center is {parameters.center}, off the detector of {scan.width} columns"
            raise ParametersInvalid(what, where="parameters")
        given = parameters.center
        return Center(column=given, uncertainty=0.0, method="given", opposite=None, sinogram=None)
    rows = rows_to_use(scan.rows)
    bins = columns_to_bin(scan.width)
    sinograms = []
    for row in rows.tolist():
        look()
        values = fields.line_integrals(scan.read(slice(row, row + 1)), first_row=row, device=CPU)
        sinograms.append(binned(values, bins))
    try:
        return find_center(np.concatenate(sinograms), scan.angles, bins=bins)
    except CenterNotFound as error:
        raise CenterNotFound(error.what, where=str(scan.path)) from error


def pictures(scan: Scan, recipe: Recipe, rows: slice) -> list[Picture]:
    """The middle sinogram and the first projection."""
    row = (rows.start + rows.stop) // 2
    counts = scan.read(slice(row, row + 1))
    sinogram = recipe.normaliser.line_integrals(counts, first_row=row, device=CPU)[0]
    first = scan.read(slice(0, scan.rows), slice(0, 1))
    projection = recipe.normaliser.line_integrals(first, first_row=0, device=CPU)[:, 0]
    stem = scan.path.stem
    pixel_um = None if scan.pixel_size_mm is None else scan.pixel_size_mm * 1000
    angle = np.rad2deg(scan.angles[0])
    return [
        Picture(name="sinogram", title=f"{stem}  sinogram of row {row}", image=sinogram),
        Picture(name="projection", title=f"{stem}  projection at {angle:.1f}°", image=projection, pixel_um=pixel_um),
    ]


def preview(path: Path, out: Path, parameters: Parameters) -> Path:
    """Pictures of the middle slice, a sinogram and a projection only, into ``rec<stem>.preview``."""
    names = Names.of(path, out=out)
    device = choose_device(parameters.device)
    with open_scan(path, fallbacks=fallbacks(parameters)) as scan, staging(out) as folder:
        middle = slice(scan.rows // 2, scan.rows // 2 + 1)
        fields = normaliser(scan, parameters)
        center = locate(scan, parameters, fields)
        recipe = Recipe.of(scan, parameters, fields=fields, center=center.column, device=device)
        plan = Plan(block=1, slab=1, task=1, bytes=0)
        found: list[np.ndarray[tuple[int, int, int], np.dtype[np.float32]]] = []
        stream(
            scan, middle, plan=plan, recipe=recipe, threads=1, watch=Stopwatch(), consume=lambda _, s: found.append(s)
        )
        pixel_um = None if scan.pixel_size_mm is None else scan.pixel_size_mm * 1000
        title = f"{path.stem}  xy, row {middle.start}"
        staged = folder / names.preview.name
        staged.mkdir()
        slice_xy = Picture(name="slice_xy", title=title, image=found[0][0], pixel_um=pixel_um)
        for picture in [slice_xy, *pictures(scan, recipe, middle)]:
            write_png(staged, picture)
        publish(staged, names.preview)
    return names.preview


def _rows(scan: Scan, parameters: Parameters) -> slice:
    stop = scan.rows if parameters.last_row is None else parameters.last_row + 1
    if stop > scan.rows or parameters.first_row >= stop:
        what = f"rows {parameters.first_row} to {stop - 1} are not all among the scan's 0 to {scan.rows - 1}"
        raise ParametersInvalid(what, where=str(scan.path))
    return slice(parameters.first_row, stop)


def _workload(scan: Scan, rows: slice, parameters: Parameters, threads: int) -> Workload:
    return Workload(
        projections=scan.projections,
        width=scan.width,
        rows=rows.stop - rows.start,
        item_size=scan.data.dtype.itemsize,
        compressed=scan.data.compression is not None,
        volume=parameters.zarr,
        threads=threads,
    )


def _outputs(folder: Path, names: Names, scan: Scan, parameters: Parameters, rows: slice, plan: Plan) -> Outputs:
    voxel = None if scan.pixel_size_mm is None else scan.pixel_size_mm * 1000
    shape = (rows.stop - rows.start, scan.width, scan.width)
    volume = VolumeShape(shape=shape, voxel_um=voxel)
    return Outputs(folder, names, parameters=parameters, volume=volume, first_row=rows.start, slab=plan.slab)


def _sha256(path: Path, watch: Stopwatch) -> str:
    with watch.stage("checksum"):
        return file_checksum(path)[0]


@dataclass(frozen=True, kw_only=True)
class _Report:
    """What is written beside the results."""

    scan: Scan
    parameters: Parameters
    center: Center
    plan: Plan
    device: str
    rows: slice

    def text(self, outputs: Outputs, *, digest: str, watch: Stopwatch, started: datetime, seconds: float) -> str:
        scan = self.scan
        fields = {
            "scan": {
                "path": str(scan.path.absolute()),
                "sha256": digest,
                "bytes": scan.path.stat().st_size,
                "shape": [scan.projections, scan.rows, scan.width],
                "angle_range_deg": round(float(np.rad2deg(np.ptp(scan.angles))), 6),
                "pixel_size_mm": scan.pixel_size_mm,
                "energy_kev": scan.energy_kev,
                "distance_mm": scan.distance_mm,
            },
            "parameters": dataclasses.asdict(self.parameters),
            "center": dataclasses.asdict(self.center) | {"confidence": round(self.center.confidence, 4)},
            "result": {
                "shape": [self.rows.stop - self.rows.start, scan.width, scan.width],
                "unit": "1/px" if scan.pixel_size_mm is None else "1/cm",
                "orientation": "row 0 at the largest y; a ray passes x cos(theta) + y sin(theta) = column - center",
            },
            "outputs": [path.name for path in outputs.paths],
            "device": self.device,
            "slices_per_block": self.plan.block,
            "started": started.isoformat(),
            "seconds": round(seconds, 3),
            "stages_s": watch.seconds,
            "peak_memory_bytes": peak_memory(),
            "processors": os.cpu_count(),
            "versions": {"python": python_version()} | _versions(),
        }
        return json.dumps(fields, indent=2, ensure_ascii=False) + "\n"


def _versions() -> dict[str, str]:
    found = {}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


__all__ = ["Result", "fallbacks", "locate", "normaliser", "preview", "reconstruct"]
