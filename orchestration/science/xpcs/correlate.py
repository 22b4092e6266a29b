"""A raw file and a qmap in, a result file out."""

from __future__ import annotations

import dataclasses
import os
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np

from orchestration.science.errors import NotPhotons, OutputFailed, ParametersInvalid, ResultInvalid, ScienceError
from orchestration.science.progress import Reporter, Style
from orchestration.science.staging import staging
from orchestration.science.timing import Stopwatch
from orchestration.science.xpcs import output, twotime
from orchestration.science.xpcs.behind import Behind, behind
from orchestration.science.xpcs.engines import Engine, engine
from orchestration.science.xpcs.frames import DenseRaw, SparseRaw
from orchestration.science.xpcs.measure import Measured, measure
from orchestration.science.xpcs.multitau import correlation
from orchestration.science.xpcs.naming import Names, find_metadata
from orchestration.science.xpcs.output import MULTITAU, TWOTIME, ResultFile, Scalar, result_file
from orchestration.science.xpcs.parameters import Parameters
from orchestration.science.xpcs.plan import Plan
from orchestration.science.xpcs.qmap import read_qmap
from orchestration.science.xpcs.read import open_raw
from orchestration.science.xpcs.receipt import Sources, receipt
from orchestration.science.xpcs.validate import demand_valid

_STRIP_BYTES = 2**28
"""Of a two-time function that is in memory at a time, where all of it is too large for one chunk of a file."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What is wanted, and where it goes."""

    raw: Path
    qmap: Path
    out: Path
    parameters: Parameters = field(default_factory=Parameters)
    prefix: str = ""
    suffix: str = ""
    overwrite: bool = False
    checksums: bool = True
    """Whether the receipt has those of the inputs."""


@dataclass(frozen=True, kw_only=True)
class Result:
    path: Path
    receipt: Path
    method: str
    frames: int
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """All that can be known before any frame is looked at."""

    names: Names
    metadata: Path
    plan: Plan


def prepare(request: Request, raw: DenseRaw | SparseRaw) -> Prepared:
    """Check everything that can be checked without the frames.

    Raises:
        ScienceError: for everything that can be wrong with the qmap, the metadata or the parameters.
    """
    _demand_text(request)
    metadata = find_metadata(raw.path)
    names = Names.of(metadata, request.out, prefix=request.prefix, suffix=request.suffix)
    plan = Plan.of(raw, read_qmap(request.qmap), request.parameters)
    return Prepared(names=names, metadata=metadata, plan=plan)


def _demand_text(request: Request) -> None:
    """The result says what it was made of, and has no way to write other names."""
    for path in (request.raw, request.qmap, request.out):
        try:
            str(path).encode()
        except UnicodeEncodeError as error:
            raise ParametersInvalid(f"{str(path)!a} is no text of UTF-8", where="parameters") from error


def correlate(request: Request, *, progress: Style = "none") -> Result:
    """Correlate; the result is put in place once it is complete and was found valid, or there is none.

    Where the choice of the method was left to us, and it turns out late that frames are none of single photons (as by a
    hot pixel outside the mask, now and then), they are correlated as a whole after all.

    Raises:
        ScienceError: for everything that can be wrong with the raw data, the qmap, the metadata, the parameters, the
            result, or the place for it.
    """
    try:
        return _correlated(request, progress)
    except NotPhotons:
        if request.parameters.method != "auto":
            raise
    whole = dataclasses.replace(request.parameters, method="dense")
    return _correlated(dataclasses.replace(request, parameters=whole), progress)


def _correlated(request: Request, progress: Style) -> Result:
    watch, started = Stopwatch(), datetime.now(tz=UTC)
    with watch.stage("total"), open_raw(request.raw) as raw, engine(request.parameters.gpu_id) as computing:
        with watch.stage("prepare"):
            prepared = prepare(request, raw)
        plan = prepared.plan
        with staging(request.out) as folder, ThreadPoolExecutor(1, thread_name_prefix="checksum") as helper:
            sources = helper.submit(Sources.of, [*raw.files, prepared.metadata], checksum=request.checksums)
            staged = folder / "result.hdf"
            try:
                _write(staged, request, prepared, computing, folder, watch, progress)
                checks = _checked(staged, raw, request)
                path = _publish(
                    staged, folder, request, prepared, sources, checks, watch, started, device=computing.name
                )
            except ScienceError:
                raise
            except OSError as error:
                why = os.strerror(error.errno) if error.errno else error
                what = f"the result cannot be written: {why}"
                raise OutputFailed(what, where=str(request.out)) from error
    seconds = (datetime.now(tz=UTC) - started).total_seconds()
    return Result(path=path, receipt=Names.receipt(path), method=plan.method, frames=plan.chosen.count, seconds=seconds)


def _checked(staged: Path, raw: DenseRaw | SparseRaw, request: Request) -> list[str]:
    """See `demand_valid`. What is not valid will be gone: what it was made of is named in its place."""
    try:
        return demand_valid(staged, raw=raw)
    except ResultInvalid as error:
        raise ResultInvalid(error.what, where=f"{request.raw}, {request.qmap}") from error


def _publish(
    staged: Path,
    folder: Path,
    request: Request,
    prepared: Prepared,
    sources: Future[Sources],
    checks: list[str],
    watch: Stopwatch,
    started: datetime,
    *,
    device: str,
) -> Path:
    with watch.stage("checksums"):
        found = sources.result()

    def written(result: Path) -> Path:
        paper = folder / "receipt.json"
        text = receipt(
            prepared.plan, sources=found, checks=checks, watch=watch, started=started, output=result, device=device
        )
        paper.write_text(text, encoding="utf-8")
        return paper

    return prepared.names.put(staged, written, overwrite=request.overwrite)


def _write(
    path: Path,
    request: Request,
    prepared: Prepared,
    computing: Engine,
    folder: Path,
    watch: Stopwatch,
    progress: Style,
) -> None:
    plan = prepared.plan
    with (
        result_file(path, metadata=prepared.metadata, qmap=request.qmap) as file,
        Reporter(total=plan.chosen.count, style=progress, unit="frames") as reporter,
    ):
        measured = measure(plan, computing, folder=folder, watch=watch, advance=reporter.advance)
        with watch.stage("write"):
            _write_means(file, plan, measured)
            if measured.sums is not None:
                _write_multitau(file, plan, measured, request)
        if measured.sums is not None and plan.parameters.num_partial_g2:
            _write_partial(file, plan, computing, folder, watch)
        with watch.stage("write"):
            file.scalar(f"{output.ROOT}/rawdata_path", str(request.raw))
        if measured.twotime is not None:
            with watch.stage("twotime"):
                _write_twotime(file, plan, measured, request)


def _write_means(file: ResultFile, plan: Plan, measured: Measured) -> None:
    """The scattering averaged over time and over pixels, in counts to a pixel and frame."""
    mean = measured.survey.total / (plan.chosen.count * plan.chosen.average)
    static = plan.qmap.static.ravel()
    size = np.bincount(static)
    one = np.bincount(static, weights=mean)[1:][size[1:] > 0] / size[1:][size[1:] > 0]
    shown = np.where(plan.processed, mean, 0.0) * plan.qmap.blemish.ravel()
    file.array(output.SCATTERING_2D, shown.reshape(1, *plan.qmap.shape).astype(np.float32))
    file.array(output.SCATTERING_1D, one.reshape(1, -1).astype(np.float32))
    file.array(output.SEGMENTS_1D, measured.segments.astype(np.float32))
    means = measured.survey.means
    file.array(output.INTENSITY, np.stack([np.arange(len(means)), means]).astype(np.float32))


def _write_multitau(file: ResultFile, plan: Plan, measured: Measured, request: Request) -> None:
    if measured.sums is None:
        return
    found = correlation(measured.sums, plan.bins)
    file.array(f"{MULTITAU}/delay_list", plan.lags.delay)
    for name, values in (
        ("normalized_g2", found.g2),
        ("normalized_g2_err", found.err),
        ("normalized_g2_weighted", found.weighted),
        ("normalized_g2_jackknife_err", found.jackknife),
    ):
        file.array(f"{MULTITAU}/{name}", values.astype(np.float32))
    if measured.pixels is not None:
        shape = plan.qmap.shape
        name = f"{MULTITAU}/unnormalized_G2"
        file.empty(name, (len(plan.lags), 3, *shape), np.float32, chunks=(1, 1, *shape))
        for lag in range(len(plan.lags)):
            file.rows(name, lag, measured.pixels(lag).reshape(1, 3, *shape))
    file.scalars(f"{MULTITAU}/config", _config(request, "multitau"))


def _write_partial(file: ResultFile, plan: Plan, computing: Engine, folder: Path, watch: Stopwatch) -> None:
    """g2 of equal parts of the frames; NaN at lags too long for a part. A part is called by its middle frame."""
    parts = plan.parameters.num_partial_g2
    shape = (parts, len(plan.lags), plan.qmap.dynamic_bins)
    values = {"g2_partial": np.full(shape, np.nan), "g2_partial_err": np.full(shape, np.nan)}
    labels = np.zeros(parts)
    for number in range(parts):
        part = plan.partial(number)
        sums = measure(part, computing, folder=folder, watch=watch, advance=lambda _: None).sums
        if sums is not None:
            found = correlation(sums, part.bins)
            values["g2_partial"][number, : len(part.lags)] = found.g2
            values["g2_partial_err"][number, : len(part.lags)] = found.err
        labels[number] = (number + 0.5) * part.chosen.count
    for name, each in values.items():
        file.array(f"{MULTITAU}/normalized_{name}", each.astype(np.float32))
    file.array(f"{MULTITAU}/normalized_g2_partial_labels", labels)


def _write_twotime(file: ResultFile, plan: Plan, measured: Measured, request: Request) -> None:
    if measured.twotime is None:
        return
    frames = plan.chosen.count
    g2, segments = [], []
    with behind() as write:
        for number, (_, pixel) in enumerate(plan.selected, start=1):
            name = f"{TWOTIME}/correlation_map/c2_{number:05d}"
            diagonals = _write_map(file, name, measured.twotime(pixel), write)
            g2.append(diagonals.g2)
            segments.append(diagonals.segments)
    file.array(f"{TWOTIME}/normalized_g2", np.stack(g2, axis=-1))
    file.array(f"{TWOTIME}/normalized_g2_segments", np.stack(segments, axis=-1))
    file.array(f"{TWOTIME}/delay_list", np.arange(frames, dtype=np.int64))
    file.array(f"{TWOTIME}/processed_bins", np.array([number for number, _ in plan.selected], dtype=np.int32))
    file.scalars(f"{TWOTIME}/config", _config(request, "twotime"))


def _write_map(file: ResultFile, name: str, one: twotime.Bin, write: Behind) -> twotime.Diagonals:
    """Strips are compressed and written while the next ones are computed, unless two would take too much memory."""
    frames = one.frames
    whole = 4 * frames**2 <= output.LARGEST_CHUNK
    height = frames if whole else max(1, _STRIP_BYTES // (4 * frames))
    diagonals = twotime.Diagonals(frames)

    def put(first: int, strip: twotime.Float32) -> None:
        if first == 0:
            file.empty(name, (frames, frames), np.float32, chunks=(height, frames))
        file.triangle(name, first, strip)

    for first, strip in twotime.strips(one, height):
        write(partial(put, first, strip))
        diagonals.add(first, strip)
        if strip.nbytes > _STRIP_BYTES:
            write.wait()
    return diagonals


def _config(request: Request, kind: str) -> dict[str, Scalar]:
    """The parameters as boost_corr stores them."""
    parameters, frames = request.parameters, request.parameters.frames
    chosen: dict[str, Scalar] = {
        "raw": str(request.raw),
        "qmap": str(request.qmap),
        "output": str(request.out),
        "begin_frame": frames.begin,
        "end_frame": frames.end,
        "stride_frame": frames.stride,
        "avg_frame": frames.average,
        "normalize_frame": int(parameters.normalize_frame),
        "overwrite": request.overwrite,
        "analysis_type": kind,
    }
    rest = {
        each.name: getattr(parameters, each.name)
        for each in dataclasses.fields(parameters)
        if each.name not in {"frames", "normalize_frame", "memory"}
    }
    given = {name: value for name, value in (("prefix", request.prefix), ("suffix", request.suffix)) if value}
    return chosen | rest | given
