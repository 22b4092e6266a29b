"""How many slices at once, so that a scan of any size fits the memory it is given."""

from __future__ import annotations

import resource
from dataclasses import dataclass
from pathlib import Path

from orchestration.science.errors import ParametersInvalid

GIB = 2**30
_PROGRAM = 0.2 * GIB
"""Of the interpreter and its libraries."""
_MOST_SLICES = 32
_DEEPEST_SLAB = 128


@dataclass(frozen=True, kw_only=True)
class Workload:
    """What determines the memory of a reconstruction."""

    projections: int
    width: int
    rows: int
    item_size: int
    """Bytes of one count in the file."""
    compressed: bool
    """Whole frames are unpacked for every block: few large blocks are better."""
    volume: bool
    threads: int


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Slices per block, slices per slab of shards, slices per task of one thread, and the memory all this takes."""

    block: int
    slab: int
    task: int
    bytes: int


def make_plan(work: Workload, *, memory_gib: float | None) -> Plan:
    """Blocks within the budget.

    Raises:
        ParametersInvalid: when not even two slices fit.
    """
    budget = memory_gib * GIB if memory_gib is not None else available_memory() / 2
    image = work.width**2 * 4
    slab = 1
    while work.volume and slab < min(_DEEPEST_SLAB, work.rows) and 2 * slab * image * 1.4 < budget / 6:
        slab *= 2
    length = work.width * 1.3
    tables = work.projections * length * 24
    # Of each thread: counts to line integrals, spectra and their copy, pixels; the transform's fine grid and sorting.
    per_thread = work.projections * (work.width * 24 + length * 28) + work.width**2 * (8 + 16 + 16)
    fixed = _PROGRAM + tables + work.threads * per_thread + (slab * image * 1.4 if work.volume else 0)
    # Counts: one block in use, one being read. Slices: one being computed, one being written.
    per_slice = 2 * work.projections * work.width * work.item_size + 2 * image
    fitting = int((budget - fixed) // per_slice)
    if fitting < min(2, work.rows):
        need = (fixed + 2 * per_slice) / GIB
        what = f"memory of {budget / GIB:.2f} GiB is too little for this scan, which needs {need:.2f} GiB"
        raise ParametersInvalid(what, next_step="give more with --memory, or use fewer --threads")
    block = min(work.rows, fitting if work.compressed else min(fitting, max(_MOST_SLICES, 4 * work.threads)))
    if block > 2 * work.threads:
        block -= block % (2 * work.threads)
    return Plan(block=block, slab=slab, task=2, bytes=int(fixed + per_slice * block))


def available_memory() -> float:
    """Bytes that can be had without swapping, within the limit and the control group of this process."""
    available, limit = _meminfo(), resource.getrlimit(resource.RLIMIT_DATA)[0]
    if limit != resource.RLIM_INFINITY:
        available = min(available, limit)
    for most, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        try:
            folder = Path("/sys/fs/cgroup")
            room = int((folder / most).read_text()) - int((folder / used).read_text())
        except (OSError, ValueError):
            continue
        available = min(available, max(room, 0.25 * GIB))
    return available


def _meminfo() -> float:
    try:
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return float(line.split()[1]) * 1024
    except (OSError, ValueError):
        return 2.0 * GIB
    return 2.0 * GIB
