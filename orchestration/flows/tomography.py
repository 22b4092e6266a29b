"""Tomographic reconstruction as every site runs it: the job, where it puts its results, and the receipt of them."""

from __future__ import annotations

import hashlib
import posixpath
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from typing import Any

from orchestration.config import ComputeSite, Endpoint
from orchestration.flows.copying import Dataset
from orchestration.flows.jobs import job_at, job_seconds, option, path_at
from orchestration.flows.results import content
from orchestration.jobs import JobSpec, Output, OutputKind
from orchestration.ledger.copy import CopyRecord, Role
from orchestration.ledger.operation import canonical
from orchestration.ledger.perform import Outcome
from orchestration.ledger.results import Receipt
from orchestration.ledger.service import Document, Json
from orchestration.paths import MAX_NAME_BYTES, RelativePath

LOCAL = "local"
"""The site whose results, with default parameters, are called ``rec<stem>``, as they always were."""

USUAL_SUFFIX = ".h5"
OTHER_SUFFIX = ".hdf5"

MAX_BASE_BYTES = MAX_NAME_BYTES - len("_00000.tiff")
"""Longest name of a folder of slices in which these, and beside which the other results, have room for theirs."""

QUALITY = ("center", "result", "device", "seconds", "peak_memory_bytes")
"""What a report says of the result itself, and is kept in its receipt."""


@dataclass(frozen=True, kw_only=True)
class Reconstruction:
    """One reconstruction of one raw file: its parameters, and where its results are below any scratch endpoint."""

    raw: RelativePath
    site: str = LOCAL
    parameters: Mapping[str, Json] = field(default_factory=dict)
    request: str = ""
    """Tells a reconstruction that is asked for again, with equal parameters, from the first."""
    sites: Collection[str] = ()
    """All that there are: a scan may be called like the result of another scan at one of them."""

    @property
    def base(self) -> RelativePath:
        """``<folder>/rec<stem>``: the folder of slices; the other results lie beside it under longer names.

        What comes from another site, has other parameters or is asked for again is called after that as well: no two
        reconstructions write to the same place, whether they run one after the other or at once. Where that would not
        keep two scans apart, or be too long, the name ends with a digest of the raw file's path.
        """
        suffix = self._suffix.lstrip(".") if self._suffix != USUAL_SUFFIX else ""
        tail = [suffix, "" if self.site == LOCAL else self.site, self.variant]
        name = "_".join(part for part in (f"rec{self.raw.stem}", *tail) if part)
        if self._ambiguous or len(name.encode()) > MAX_BASE_BYTES:
            tail.append(_digest("r", self.raw.text))
            end = "".join(f"_{part}" for part in tail if part)[-MAX_BASE_BYTES // 2 :]
            room = MAX_BASE_BYTES - len(end.encode())
            name = f"rec{self.raw.stem}".encode()[:room].decode(errors="ignore") + end
        return self._folder / name if self._folder else RelativePath(name)

    @property
    def _folder(self) -> RelativePath | None:
        """That of the raw file; beside it where its name is one that results of another scan could have."""
        parts = self.raw.pure.parts[:-1]
        names = [f"_{part}" if part.startswith("rec") else part for part in parts]
        return RelativePath("/".join(names)) if names else None

    @property
    def _suffix(self) -> str:
        return self.raw.name.removeprefix(self.raw.stem)

    @property
    def _ambiguous(self) -> bool:
        """Whether the results of another scan could have the name that these would have.

        ``a_nersc.h5`` would be at home what ``a.h5`` is at NERSC, ``a_p0a1b2c3d.h5`` what it is with parameters of that
        digest, ``a.zarr.h5`` what belongs to ``a.h5``, and a scan in the folder ``reca`` lies among its slices.
        """
        named = "|".join(map(re.escape, {*self.sites, OTHER_SUFFIX.lstrip(".")}))
        taken = re.search(rf"(_({named}|[pr][0-9a-f]{{8}})|\.zarr|\.preview|\.json)$", self.raw.stem)
        inside = any(part.startswith(("rec", "_rec")) for part in self.raw.pure.parts[:-1])
        return taken is not None or inside or self._suffix not in (USUAL_SUFFIX, OTHER_SUFFIX)

    @property
    def variant(self) -> str:
        """A digest of the parameters and the request; empty for the defaults, asked for the first time."""
        if not self.parameters and not self.request:
            return ""
        return _digest("p", canonical([dict(self.parameters), self.request]))

    @property
    def tiff(self) -> RelativePath:
        return self.base

    @property
    def zarr(self) -> RelativePath:
        return self.base.beside(f"{self.base.name}.zarr")

    @property
    def preview(self) -> RelativePath:
        return self.base.beside(f"{self.base.name}.preview")

    @property
    def report(self) -> RelativePath:
        return self.base.beside(f"{self.base.name}.json")

    @property
    def datasets(self) -> tuple[Dataset, ...]:
        """What is carried back, all of which a receipt can make again."""
        parts = {"rec.tiff": self.tiff, "rec.zarr": self.zarr, "rec.preview": self.preview, "rec.report": self.report}
        return tuple(Dataset(name=name, path=path, role=Role.CACHE) for name, path in parts.items())


def _digest(kind: str, text: str) -> str:
    """Part of a name; `kind` keeps it from being taken for a date, with which many scans end."""
    return kind + hashlib.sha256(text.encode()).hexdigest()[:8]


def job(
    site: ComputeSite, reconstruction: Reconstruction, *, size: int, at: Endpoint, to: Endpoint
) -> tuple[JobSpec, Mapping[RelativePath, str]]:
    """The job at a site, with raw and scratch endpoints `at` and `to`; and what it calls each of its results.

    `size` is that of the raw file, in bytes.
    """
    seen = partial(path_at, site, to)
    results = {part.path: seen(part.path) for part in reconstruction.datasets}
    folder = posixpath.dirname(seen(reconstruction.base))
    arguments = ["-m", "orchestration.science", "tomography", "reconstruct", f"--out={folder}"]
    arguments.append(f"--name={reconstruction.base.name}")
    arguments += [option(name, value) for name, value in sorted(reconstruction.parameters.items())]
    arguments += ["--", path_at(site, at, reconstruction.raw)]
    common = {
        "arguments": tuple(arguments),
        "directory": folder,
        "outputs": _outputs(reconstruction, results),
        "environment": {"BEAMLINE_REQUEST": reconstruction.request} if reconstruction.request else {},
        "name": f"reconstruct {reconstruction.raw.name}",
    }
    return job_at(site, duration=job_seconds(site, size), **common), results


def _outputs(reconstruction: Reconstruction, results: Mapping[RelativePath, str]) -> tuple[Output, ...]:
    return (
        Output(path=results[reconstruction.tiff], kind=OutputKind.DIRECTORY, pattern="*.tiff"),
        Output(path=results[reconstruction.zarr], kind=OutputKind.DIRECTORY),
        Output(path=results[reconstruction.preview], kind=OutputKind.DIRECTORY, pattern="*.png"),
        Output(path=results[reconstruction.report], kind=OutputKind.JSON),
    )


@dataclass(frozen=True)
class Report:
    """What the program wrote about its own work."""

    document: Mapping[str, Any]

    @classmethod
    def of(cls, outcome: Outcome, path: str) -> Report:
        """The report that this job wrote at `path`, as it was when the job's outputs were checked."""
        return cls(content(outcome, path))

    def part(self, name: str) -> Document:
        found = self.document.get(name, {})
        return dict(found) if isinstance(found, dict) else {"value": found}


def receipt(report: Report, raw: CopyRecord, outcome: Outcome, *, site: str) -> Receipt:
    """Enough to make the result again."""
    source: Document = {
        "dataset": raw.dataset,
        "endpoint": raw.endpoint,
        "path": raw.path.text,
        "size": raw.size,
        "checksum": raw.manifest[0].checksum if raw.manifest else None,
    }
    return Receipt(
        inputs=(source,),
        parameters=report.part("parameters"),
        code_version=version("beamline-orchestration"),
        environment=report.part("versions"),
        site=site,
        job=outcome.record.handle or "",
        timings=report.part("stages_s"),
        quality={name: report.document[name] for name in QUALITY if name in report.document},
    )
