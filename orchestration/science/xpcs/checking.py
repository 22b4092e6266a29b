"""Whether a correlation can be begun: everything that can be known before the frames are looked at."""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path

from orchestration.science.errors import RawUnsettled, ScanMissing
from orchestration.science.stopping import pause
from orchestration.science.xpcs.correlate import Request, prepare
from orchestration.science.xpcs.documents import Document, Json
from orchestration.science.xpcs.frames import DenseRaw, SparseRaw
from orchestration.science.xpcs.listing import metadata_name, part_names
from orchestration.science.xpcs.read import open_raw

_Look = dict[Path, tuple[int, int]]
"""Size in bytes and time of change in nanoseconds."""


def check(request: Request, *, settle: float) -> Document:
    """What would be done, once raw data and metadata have been left alone for `settle` seconds.

    Raises:
        RawUnsettled: if they were not.
        ScienceError: for everything that can be wrong with the raw data but its frames, the qmap, the metadata or the
            parameters.
    """
    # Before they are opened: half a file is refused for other reasons, of which none is the true one.
    began = _settled(_named(request.raw), seconds=settle)
    with open_raw(request.raw) as raw:
        found = _outlook(request, raw)
        files = dict.fromkeys([*began, *raw.files])
    _settled([path for path in files if path not in began], seconds=settle)
    # Some clocks are behind: what is written to all the time may look old.
    _demand_same(began)
    paths: list[Json] = [str(path) for path in files]
    return {**found, "files": paths, "settled": True}


def outlook(request: Request) -> Document:
    """What would be done. Raises ScienceError for everything that can be wrong, but for the frames."""
    with open_raw(request.raw) as raw:
        return _outlook(request, raw)


def _outlook(request: Request, raw: DenseRaw | SparseRaw) -> Document:
    prepared = prepare(request, raw)
    plan = prepared.plan
    return {
        "result": str(prepared.names.result()),
        "metadata": str(prepared.metadata),
        "frames": plan.chosen.count,
        "detector": [raw.rows, raw.columns],
        "dynamic_bins": plan.qmap.dynamic_bins,
        "static_bins": len(plan.qmap.static_bins),
        "lags": len(plan.lags),
        "method": plan.method,
        "occupancy": round(plan.share, 6),
    }


def _named(raw: Path) -> list[Path]:
    """The files that the name of the raw file, and the names beside it, tell of."""
    parts = part_names(raw.name, where=str(raw))
    try:
        names = [path.name for path in raw.parent.iterdir() if path.is_file()]
    except OSError as error:
        raise ScanMissing(f"the folder of the raw file cannot be read: {error.strerror}", where=str(raw)) from error
    return [raw.with_name(name) for name in (*parts, metadata_name(raw.name, names, where=str(raw.parent)))]


def _settled(paths: Iterable[Path], *, seconds: float) -> _Look:
    """The files as they are, if they stay so until they have been left alone for so long."""
    before = _look(paths)
    age = min((time.time() - changed / 1e9 for _, changed in before.values()), default=seconds)
    # A time of change in the future is that of another clock.
    pause(min(seconds, max(0.0, seconds - age)))
    _demand_same(before)
    return before


def _look(paths: Iterable[Path]) -> _Look:
    found = {}
    for path in paths:
        try:
            stat = path.stat()
        except OSError as error:
            raise ScanMissing(f"the raw data cannot be read: {error.strerror}", where=str(path)) from error
        found[path] = stat.st_size, stat.st_mtime_ns
    return found


def _demand_same(before: _Look) -> None:
    for path, (size, changed) in _look(before).items():
        was, changed_then = before[path]
        if size != was:
            raise RawUnsettled(f"{path.name} is still being written to: {was} bytes, then {size}", where=str(path))
        if changed != changed_then:
            raise RawUnsettled(f"{path.name} is still being written to", where=str(path))
