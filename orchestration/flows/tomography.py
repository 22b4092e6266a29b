"""Tomographic reconstruction as every site runs it: the job, where it puts its results, and the receipt of them."""

from __future__ import annotations

import hashlib
import os
import posixpath
import re
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import version
from typing import Any

from orchestration.config import ComputeSite, Endpoint, LocalSite, RemoteSite
from orchestration.errors import OutputMissing
from orchestration.flows.copying import Dataset
from orchestration.jobs import JobSpec, Output, OutputKind, Resources
from orchestration.ledger.copies import CopyRecord, FileEvidence, Role
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

MIN_SECONDS = 900.0
FLOOR_BYTES_PER_SECOND = 0.5e6
"""Slowest reconstruction still thought healthy, in bytes of raw data per second of one core."""

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
    seen = partial(_path, site, to)
    results = {part.path: seen(part.path) for part in reconstruction.datasets}
    folder = posixpath.dirname(seen(reconstruction.base))
    arguments = ["-m", "orchestration.science", "tomography", "reconstruct", f"--out={folder}"]
    arguments.append(f"--name={reconstruction.base.name}")
    arguments += [_option(name, value) for name, value in sorted(reconstruction.parameters.items())]
    arguments += ["--", _path(site, at, reconstruction.raw)]
    common = {
        "arguments": tuple(arguments),
        "directory": folder,
        "outputs": _outputs(reconstruction, results),
        "environment": {"BEAMLINE_REQUEST": reconstruction.request} if reconstruction.request else {},
        "name": f"reconstruct {reconstruction.raw.name}",
    }
    spec = _local(site, size, common) if isinstance(site, LocalSite) else _remote(site, size, common)
    return spec, results


def _path(site: ComputeSite, endpoint: Endpoint, path: RelativePath) -> str:
    """What a job at the site calls a file of the endpoint."""
    return str(endpoint.local_path(path)) if isinstance(site, LocalSite) else site.path(endpoint, path)


def _outputs(reconstruction: Reconstruction, results: Mapping[RelativePath, str]) -> tuple[Output, ...]:
    return (
        Output(path=results[reconstruction.tiff], kind=OutputKind.DIRECTORY, pattern="*.tiff"),
        Output(path=results[reconstruction.zarr], kind=OutputKind.DIRECTORY),
        Output(path=results[reconstruction.preview], kind=OutputKind.DIRECTORY, pattern="*.png"),
        Output(path=results[reconstruction.report], kind=OutputKind.JSON),
    )


def job_seconds(site: LocalSite | RemoteSite, size: int) -> float:
    """How long the job of a scan of so many bytes may take at a site."""
    if isinstance(site, LocalSite):
        return max(MIN_SECONDS, size / FLOOR_BYTES_PER_SECOND)
    return site.walltime.seconds(size)


def _local(site: LocalSite, size: int, common: dict[str, Any]) -> JobSpec:
    return JobSpec(
        executable=site.python or sys.executable,
        duration=job_seconds(site, size),
        resources=Resources(cores=site.cores or os.cpu_count() or 1, memory=site.memory),
        **common,
    )


def _remote(site: RemoteSite, size: int, common: dict[str, Any]) -> JobSpec:
    return remote_job(site, duration=job_seconds(site, size), **common)


def remote_job(site: RemoteSite, *, start_within: float | None = None, **what: Any) -> JobSpec:
    """A job with all that a site asks its jobs with: what they occupy, where they wait, who pays."""
    return JobSpec(
        executable=site.python,
        resources=Resources(
            nodes=site.nodes, cores=site.cores, gpus=site.gpus, memory=site.memory, exclusive=site.exclusive
        ),
        queue=site.queue,
        account=site.account,
        constraint=site.constraint,
        reservation=site.reservation,
        container=site.container.image if site.container else "",
        start_within=start_within or site.start_within_seconds,
        **what,
    )


def _option(name: str, value: Json) -> str:
    """``--ring-sigma=3``; with ``=`` so that a value that begins with a dash stays a value."""
    flag = name.replace("_", "-")
    if isinstance(value, bool):
        return f"--{flag}" if value else f"--no-{flag}"
    return f"--{flag}={value}"


@dataclass(frozen=True)
class Report:
    """What the program wrote about its own work."""

    document: Mapping[str, Any]

    @classmethod
    def of(cls, outcome: Outcome, path: str) -> Report:
        """The report that this job wrote at `path`, as it was when the job's outputs were checked."""
        content = written(outcome, path).get("content")
        if not isinstance(content, dict):
            raise OutputMissing(
                "the report of the reconstruction did not come back with its job",
                where=path,
                next_step="start the reconstruction again",
            )
        return cls(content)

    def part(self, name: str) -> Document:
        found = self.document.get(name, {})
        return dict(found) if isinstance(found, dict) else {"value": found}


def written(outcome: Outcome, path: str) -> Mapping[str, Any]:
    """What is known of one output of a job since its end: size, checksum, ...; empty if it had no such output."""
    outputs = outcome.evidence.get("outputs")
    found = (each for each in outputs if isinstance(each, dict)) if isinstance(outputs, list) else ()
    return next((each for each in found if each.get("path") == path), {})


def as_written(files: Sequence[FileEvidence], output: Mapping[str, Any]) -> bool:
    """Whether a copy of a result has the `files` that were there when the outputs of the job were checked.

    Told by their number and their bytes; by their content as well where the copy has their SHA-256. Files without any
    checksum were listed where the copy lies, where there may be others: they tell nothing.
    """
    if "size" not in output or not all(file.checksum for file in files):
        return True
    if (len(files), sum(file.size for file in files)) != (output.get("files", 1), output["size"]):
        return False
    digests = [(file.checksum or "").partition("sha256:")[2] for file in files]
    known = str(output.get("sha256") or "")
    if not known or not all(digests):
        return True
    if output.get("kind") != OutputKind.DIRECTORY.value:
        return digests == [known]
    lines = sorted(f"{digest} {file.size} {file.path}" for digest, file in zip(digests, files, strict=True))
    return known == hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()


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
