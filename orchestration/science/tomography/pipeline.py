"""Slices from an open scan, block by block: the next is read and the last is handed on while one is computed."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from orchestration.science.arrays import Array, Device
from orchestration.science.stopping import look
from orchestration.science.timing import Stopwatch
from orchestration.science.tomography.correct import Normaliser
from orchestration.science.tomography.kernel import Backprojector, Filter, Geometry, Tables
from orchestration.science.tomography.parameters import Parameters
from orchestration.science.tomography.plan import Plan
from orchestration.science.tomography.read import Frames, Scan
from orchestration.science.tomography.rings import RingRemoval

Float32 = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """All that turns counts into slices."""

    normaliser: Normaliser
    rings: RingRemoval
    filter: Filter
    center: float
    scale: float
    """From 1/pixel to the unit of the result."""
    mask: bool
    device: Device

    @classmethod
    def of(cls, scan: Scan, parameters: Parameters, *, fields: Normaliser, center: float, device: Device) -> Recipe:
        return cls(
            normaliser=fields,
            rings=RingRemoval(
                method=parameters.rings,
                level=parameters.ring_level,
                sigma=parameters.ring_sigma,
                size=parameters.ring_size,
            ),
            filter=Filter(
                window=parameters.filter,
                cutoff=parameters.filter_cutoff,
                order=parameters.filter_order,
                padding=parameters.padding,
            ),
            center=center,
            scale=1.0 if scan.pixel_size_mm is None else 10.0 / scan.pixel_size_mm,
            mask=parameters.mask,
            device=device,
        )


def normaliser(scan: Scan, parameters: Parameters) -> Normaliser:
    """From the scan's flats and darks."""
    return Normaliser.of(
        flat=scan.field("flats", method=parameters.normalisation),
        dark=scan.field("darks", method=parameters.normalisation),
        floor=parameters.transmission_floor,
        zinger_threshold=parameters.zinger_threshold,
    )


def circle(width: int) -> NDArray[np.bool_]:
    """The pixels, (width, width), that a scan of a full turn sees from all sides."""
    distance = np.arange(width) - (width - 1) / 2
    return np.asarray(distance[:, None] ** 2 + distance[None, :] ** 2 <= (width / 2) ** 2)


class Reconstructor:
    """Computes blocks of slices on a pool of threads, each with a plan of its own."""

    def __init__(self, scan: Scan, recipe: Recipe, *, threads: int, task: int, watch: Stopwatch) -> None:
        self._recipe = recipe
        self._watch = watch
        self._threads = 1 if recipe.device.name == "gpu" else threads
        self._task = max(task, 16) if recipe.device.name == "gpu" else task
        with watch.stage("tables"):
            geometry = Geometry(angles=scan.angles, width=scan.width, center=recipe.center)
            self._tables = Tables(geometry, filter_=recipe.filter, device=recipe.device)
        gain = circle(scan.width) if recipe.mask else np.ones((scan.width, scan.width))
        self._gain = recipe.device.asarray((gain * recipe.scale).astype(np.float32))
        self._local = threading.local()
        self._pool = ThreadPoolExecutor(self._threads, thread_name_prefix="reconstruct")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def block(self, counts: Frames, first_row: int) -> Float32:
        """Slices (rows, width, width) of counts (projections, rows, width)."""
        rows = counts.shape[1]
        slices = np.empty((rows, counts.shape[2], counts.shape[2]), dtype=np.float32)

        def compute(start: int) -> None:
            look()
            stop = min(start + self._task, rows)
            slices[start:stop] = self._some(counts[:, start:stop], first_row + start)

        tasks = [self._pool.submit(compute, start) for start in range(0, rows, self._task)]
        _wait_for_all(tasks)
        return slices

    def _some(self, counts: Frames, first_row: int) -> Float32:
        recipe, device = self._recipe, self._recipe.device
        with self._watch.stage("normalise (threads)"):
            values = recipe.normaliser.line_integrals(device.asarray(counts), first_row=first_row, device=device)
        with self._watch.stage("ring removal (threads)"):
            recipe.rings.apply(values, device=device)
        with self._watch.stage("backprojection (threads)"):
            images = self._backproject(values)
            images *= self._gain
            host: Float32 = device.to_host(images)
        return host

    def _backproject(self, sinograms: Array) -> Array:
        backprojector: Backprojector | None = getattr(self._local, "backprojector", None)
        if backprojector is None:
            backprojector = self._local.backprojector = Backprojector(self._tables, pairs=max(1, self._task // 2))
        return backprojector(sinograms)


def _wait_for_all(tasks: list[Future[None]]) -> None:
    """Raise the first failure, after those tasks that cannot be cancelled have ended."""
    try:
        for task in tasks:
            task.result()
    except BaseException:
        for task in tasks:
            task.cancel()
        raise


def stream(
    scan: Scan,
    rows: slice,
    *,
    plan: Plan,
    recipe: Recipe,
    threads: int,
    watch: Stopwatch,
    consume: Callable[[int, Float32], None],
) -> None:
    """Reconstruct `rows` and hand every block, with its first row, to `consume` in order.

    Reading, computing and consuming each run beside the others; no more than two blocks of each exist at a time.
    """

    def read(block: slice) -> Frames:
        with watch.stage("read"):
            return scan.read(block)

    def hand_on(first: int, slices: Float32) -> None:
        with watch.stage("write"):
            consume(first, slices)

    blocks = list(_blocks(rows, plan.block))
    with (
        ThreadPoolExecutor(1, thread_name_prefix="read") as reader,
        ThreadPoolExecutor(1, thread_name_prefix="write") as writer,
        Reconstructor(scan, recipe, threads=threads, task=plan.task, watch=watch) as reconstructor,
    ):
        coming = reader.submit(read, blocks[0])
        going: Future[None] | None = None
        for index, block in enumerate(blocks):
            look()
            counts = coming.result()
            if index + 1 < len(blocks):
                coming = reader.submit(read, blocks[index + 1])
            with watch.stage("compute"):
                slices = reconstructor.block(counts, block.start)
            if going is not None:
                going.result()
            going = writer.submit(hand_on, block.start, slices)
        if going is not None:
            going.result()


def _blocks(rows: slice, size: int) -> Iterator[slice]:
    for start in range(rows.start, rows.stop, size):
        yield slice(start, min(start + size, rows.stop))


def thread_count(wanted: int) -> int:
    """The given number, or that of the processors this process may use."""
    return wanted or len(os.sched_getaffinity(0))
