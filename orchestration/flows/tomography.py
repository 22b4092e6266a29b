"""Tomographic reconstruction as every site runs it: the job, where it puts its results, and the receipt of them."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from orchestration.config import Endpoint, LocalSite, Settings
from orchestration.errors import ConfigError, OutputMissing
from orchestration.flows.copying import Dataset
from orchestration.jobs import JobSpec, Output, OutputKind, Resources
from orchestration.ledger.copies import CopyRecord, Role
from orchestration.ledger.perform import Outcome
from orchestration.ledger.results import Receipt
from orchestration.ledger.service import Document, Json
from orchestration.paths import RelativePath
from orchestration.science.running.outputs import sha256

MIN_SECONDS = 900.0
FLOOR_BYTES_PER_SECOND = 0.5e6
"""Slowest reconstruction still thought healthy, in bytes of raw data per second of one core."""

QUALITY = ("center", "result", "device", "seconds", "peak_memory_bytes")
"""What a report says of the result itself, and is kept in its receipt."""


@dataclass(frozen=True, kw_only=True)
class Reconstruction:
    """One reconstruction of one raw file: its parameters, and where its results are below any scratch endpoint."""

    raw: RelativePath
    parameters: Mapping[str, Json] = field(default_factory=dict)
    request: str = ""
    """Tells a reconstruction that is asked for again, with equal parameters, from the first."""

    @property
    def base(self) -> RelativePath:
        """``<folder>/rec<stem>``: the folder of slices; the other results lie beside it under longer names."""
        return self.raw.beside(f"rec{self.raw.stem}")

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


def local_site(settings: Settings, name: str = "local") -> LocalSite:
    """Raises ConfigError if the site of that name is not this machine."""
    site = settings.site(name)
    if isinstance(site, LocalSite):
        return site
    raise ConfigError(
        f"compute site {name} is not this machine, but of kind {site.kind}",
        where=f"compute_sites.{name}",
        next_step="give it `kind: local`",
    )


def local_job(
    site: LocalSite, reconstruction: Reconstruction, raw: CopyRecord, *, at: Endpoint, to: Endpoint
) -> JobSpec:
    """The job at a site whose raw and scratch endpoints, `at` and `to`, are directories of this machine."""
    folder = to.local_path(reconstruction.base).parent
    arguments = ["-m", "orchestration.science", "tomography", "reconstruct", f"--out={folder}"]
    arguments += [_option(name, value) for name, value in sorted(reconstruction.parameters.items())]
    arguments += ["--", str(at.local_path(raw.path))]
    outputs = (
        Output(path=str(to.local_path(reconstruction.tiff)), kind=OutputKind.DIRECTORY, pattern="*.tiff"),
        Output(path=str(to.local_path(reconstruction.zarr)), kind=OutputKind.DIRECTORY),
        Output(path=str(to.local_path(reconstruction.preview)), kind=OutputKind.DIRECTORY, pattern="*.png"),
        Output(path=str(to.local_path(reconstruction.report)), kind=OutputKind.JSON),
    )
    return JobSpec(
        executable=site.python or sys.executable,
        arguments=tuple(arguments),
        directory=str(folder),
        duration=max(MIN_SECONDS, raw.size / FLOOR_BYTES_PER_SECOND),
        outputs=outputs,
        environment={"BEAMLINE_REQUEST": reconstruction.request} if reconstruction.request else {},
        resources=Resources(cores=site.cores or os.cpu_count() or 1, memory=site.memory),
        name=f"reconstruct {reconstruction.raw.name}",
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
    def read(cls, path: Path) -> Report:
        try:
            return cls(json.loads(path.read_text()))
        except (OSError, ValueError) as error:
            raise OutputMissing(
                f"the report of the reconstruction cannot be read: {error}",
                where=str(path),
                next_step="start the reconstruction again",
            ) from error

    @staticmethod
    def is_of(path: Path, outcome: Outcome) -> bool:
        """Whether the report there is the one that this job wrote: another may have used the same folder since."""
        outputs = outcome.evidence.get("outputs")
        for output in outputs if isinstance(outputs, list) else []:
            if isinstance(output, dict) and output.get("path") == str(path):
                return path.is_file() and sha256(path) == output.get("sha256")
        return False

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
