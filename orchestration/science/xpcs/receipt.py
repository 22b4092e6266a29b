"""How a result came about: inputs with their checksums, parameters, versions, times."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from platform import python_version

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
        return cls(path=path, bytes=path.stat().st_size, sha256=_sha256(path) if checksum else None)


def inputs(paths: Sequence[Path], *, checksum: bool) -> list[Input]:
    return [Input.of(path, checksum=checksum) for path in paths]


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def receipt(
    plan: Plan,
    *,
    found: Sequence[Input],
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
        "inputs": [dataclasses.asdict(each) | {"path": str(each.path)} for each in found],
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
        "versions": {"python": python_version()} | {name: _version(name) for name in _LIBRARIES},
    }
    return json.dumps(fields, indent=2, ensure_ascii=False) + "\n"


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
