"""The jobs of XPCS at a compute site: commands of ``orchestration.science xpcs``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

from orchestration.config import ComputeSite, RemoteSite, Settings
from orchestration.flows.aps8idi.options import Options
from orchestration.flows.aps8idi.products import Correlation, Pictures
from orchestration.flows.jobs import job_at, job_seconds, operation_at, option, path_at
from orchestration.flows.results import Making, Product
from orchestration.jobs import JobSpec, Output, OutputKind
from orchestration.ledger.scan import Scan
from orchestration.ledger.service import Document, Json
from orchestration.paths import RelativePath

PICTURES_SECONDS = 900.0

_PROGRAM = ("-m", "orchestration.science", "xpcs")

_RENAMED = {"save_g2": "save-G2"}


def correlating(settings: Settings, scan: Scan, site: ComputeSite, correlation: Correlation) -> Making:
    """The job that correlates a measurement whose files are staged at the site."""
    paths = paths_at(settings, site, correlation)
    arguments = [
        *_PROGRAM,
        "correlate",
        f"--raw={staged(settings, site, correlation.measurement.folder / correlation.measurement.raw)}",
        f"--qmap={staged(settings, site, correlation.staged_qmap)}",
        f"--output={written(settings, site, correlation.folder)}",
        "--overwrite",
        "--verbose",
        *([f"--suffix={correlation.suffix}"] if correlation.suffix else []),
        *science_arguments(correlation.options),
    ]
    spec = job(
        site,
        correlation.options,
        seconds=job_seconds(site, correlation.measurement.raw_size),
        arguments=tuple(arguments),
        directory=written(settings, site, correlation.folder),
        outputs=(
            Output(path=paths[correlation.result]),
            Output(path=paths[correlation.receipt], kind=OutputKind.JSON),
        ),
        environment={"BEAMLINE_REQUEST": correlation.request} if correlation.request else {},
        name=f"correlate {correlation.measurement.stem}",
    )
    return _making(settings, scan, site, correlation, spec, step="correlate", paths=paths)


def drawing(settings: Settings, scan: Scan, site: ComputeSite, pictures: Pictures, extra: Document) -> Making:
    """The job that fits and draws a correlation that lies at the site; `extra` is what the file does not know."""
    correlation, paths = pictures.correlation, paths_at(settings, site, pictures)
    metadata = written(settings, site, pictures.metadata)
    arguments = [
        *_PROGRAM,
        "plot",
        written(settings, site, correlation.result),
        f"--out={paths[pictures.folder]}",
        f"--files={paths[pictures.files]}",
        f"--fit={correlation.options.fit}",
        f"--extra={json.dumps(extra, sort_keys=True)}",
    ]
    spec = job(
        site,
        correlation.options,
        seconds=PICTURES_SECONDS,
        arguments=tuple(arguments),
        directory=written(settings, site, correlation.folder),
        outputs=(
            Output(path=paths[pictures.folder], kind=OutputKind.DIRECTORY, at_least=2),
            Output(path=paths[pictures.files], kind=OutputKind.JSON),
            Output(path=metadata, kind=OutputKind.JSON),
        ),
        environment={},
        name=f"draw {correlation.measurement.stem}",
    )
    return _making(settings, scan, site, pictures, spec, step="draw", paths=paths)


def job(site: ComputeSite, options: Options, *, seconds: float, **what: object) -> JobSpec:
    """With the queue, walltime and nodes that were asked for, where the site has such things."""
    spec = job_at(site, duration=options.walltime_seconds or seconds, **what)
    if not isinstance(site, RemoteSite):
        return spec
    nodes = replace(spec.resources, nodes=options.nodes or spec.resources.nodes)
    return replace(spec, queue=options.queue or spec.queue, resources=nodes)


def science_arguments(options: Options) -> list[str]:
    """``--type=Both --avg-frame=2``: what differs from the defaults."""
    return [_argument(name, value) for name, value in sorted(options.science.items())]


def _argument(name: str, value: Json) -> str:
    if name == "normalize_frame":
        return f"--normalize-frame={int(bool(value))}"
    if name in _RENAMED:
        return f"--{_RENAMED[name]}"
    return option(name, value)


def staged(settings: Settings, site: ComputeSite, path: RelativePath) -> str:
    """What a job calls an input."""
    return path_at(site, settings.endpoint(site.raw_endpoint), path)


def written(settings: Settings, site: ComputeSite, path: RelativePath) -> str:
    """What a job calls a result."""
    return path_at(site, settings.endpoint(site.scratch_endpoint), path)


def paths_at(settings: Settings, site: ComputeSite, product: Product) -> Mapping[RelativePath, str]:
    return {part.path: written(settings, site, part.path) for part in product.datasets}


def _making(
    settings: Settings,
    scan: Scan,
    site: ComputeSite,
    product: Correlation | Pictures,
    spec: JobSpec,
    *,
    step: str,
    paths: Mapping[RelativePath, str],
) -> Making:
    correlation = product if isinstance(product, Correlation) else product.correlation
    named = f"{step} at {site.name} ({correlation.folder.name})"
    operation = operation_at(settings, scan, site, spec, step=named)
    kind = "xpcs" if product is correlation else "xpcs pictures"
    return Making(scan=scan, site=site, product=product, kind=kind, operation=operation, paths=paths)
