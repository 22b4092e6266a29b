"""How a result came about: inputs with their checksums, parameters, versions, times."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from platform import python_version

from orchestration.science.checksums.digest import file_checksum
from orchestration.science.timing import Stopwatch, peak_memory
from orchestration.science.xpcs.plan import Plan

_LIBRARIES = ("beamline-orchestration", "numpy", "numba", "h5py", "hdf5plugin", "scipy", "cupy")


@dataclass(frozen=True, kw_only=True)
class Input:
    path: Path
    bytes: int
    sha256: str | None
    """None where it was not asked for."""

    @classmethod
    def of(cls, path: Path, *, checksum: bool) -> Input:
        return cls(path=path, bytes=path.stat().st_size, sha256=file_checksum(path)[0] if checksum else None)


@dataclass(frozen=True, kw_only=True)
class Sources:
    """What a result is made of, and by."""

    inputs: list[Input]
    versions: dict[str, str | None]
    """Of Python and of the libraries; None for those that are not there."""

    @classmethod
    def of(cls, paths: Sequence[Path], *, checksum: bool) -> Sources:
        return cls(inputs=[Input.of(path, checksum=checksum) for path in paths], versions=_versions())


def _versions() -> dict[str, str | None]:
    # To import it takes as long as to correlate hundreds of frames, at the same time as which this is done.
    from importlib.metadata import PackageNotFoundError, version

    found: dict[str, str | None] = {"python": python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = None
    return found


def receipt(
    plan: Plan,
    *,
    sources: Sources,
    checks: Sequence[str],
    watch: Stopwatch,
    started: datetime,
    output: Path,
    device: str,
) -> str:
    """The receipt as JSON text."""
    chosen = dataclasses.asdict(plan.chosen) | {"count": plan.chosen.count}
    fields = {
        "program": "orchestration.science xpcs correlate",
        "output": output.name,
        "started": started.isoformat(),
        "finished": datetime.now(tz=UTC).isoformat(),
        "inputs": [dataclasses.asdict(each) | {"path": str(each.path)} for each in sources.inputs],
        "qmap": {"path": str(plan.qmap.path), "sha256": plan.qmap.digest, "hash": plan.qmap.hash},
        "parameters": dataclasses.asdict(plan.parameters),
        "frames": chosen,
        "detector": {"rows": plan.raw.rows, "columns": plan.raw.columns, "cropped": plan.cropped},
        "method": plan.method,
        "device": device,
        "occupancy": round(plan.share, 6),
        "checks": list(checks),
        "seconds": watch.seconds,
        "peak_memory_bytes": peak_memory(),
        "versions": sources.versions,
    }
    return json.dumps(fields, indent=2, ensure_ascii=False) + "\n"
