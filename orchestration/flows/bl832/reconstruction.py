"""Reconstruction of an 8.3.2 scan at any compute site.

::

    data832 (or another copy) ──> raw of the site ── reconstruct ──> scratch of the site ──> data832_scratch
                                                                             │                 └──> SciCat
                                                                             └──> NERSC, what was made there
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from orchestration.config import ComputeSite, Endpoint
from orchestration.flows.bl832.ingest import demand_metadata, ingest_results
from orchestration.flows.bl832.move import BEAMLINE, register_scan
from orchestration.flows.bl832.staging import known_size, path_at, stage_in
from orchestration.flows.calendar import schedule_pruning
from orchestration.flows.jobs import operation_at
from orchestration.flows.results import Made, Making, bring_back, made_before, make, stands
from orchestration.flows.starting import checked_parameters
from orchestration.flows.tomography import Reconstruction, Report, job, receipt
from orchestration.flows.work import Work, working
from orchestration.ledger.perform import Outcome
from orchestration.ledger.results import Receipt
from orchestration.ledger.scan import Scan
from orchestration.ledger.service import Document


def run_reconstruction(
    flow: str,
    site: str,
    file_path: str,
    parameters: Mapping[str, Any] | None,
    request: str,
    *,
    is_export_control: bool = False,
) -> Document:
    """The body of every flow that reconstructs at one site."""
    given: Document = {
        "file_path": file_path,
        "parameters": dict(parameters or {}),
        "request": request,
        "is_export_control": is_export_control,
    }
    with working(flow, given) as work:
        chosen = checked_parameters(parameters or {})  # any other would be an option of the program
        scan = register_scan(work, file_path, is_export_control=is_export_control)
        return reconstruct_at(work, scan, site, parameters=chosen, request=request)


def reconstruct_at(
    work: Work, scan: Scan, site_name: str, *, parameters: Mapping[str, Any], request: str = ""
) -> Document:
    """Carry a scan to a site, reconstruct it there, bring the results back, catalogue them, and plan deletions.

    What was made before, and still stands somewhere, is not made again.
    """
    site = work.settings.site(site_name)
    if not scan.export_controlled:
        demand_metadata(work, scan, site)
    reconstruction = Reconstruction(
        raw=path_at(work, scan),
        site=site.name,
        parameters=parameters,
        request=request,
        sites=tuple(work.settings.compute_sites),
    )
    homes = homes_of(work, site)
    made = _made_before(work, scan, site, reconstruction, homes) or _make(work, scan, site, reconstruction, homes)
    copies = bring_back(work, made, homes=homes)
    if scan.export_controlled:
        work.logger.warning("export-controlled: the results stay on the beamline and are not catalogued")
    else:
        ingest_results(work, scan, reconstruction, made.result, copies)
    for present in copies:
        schedule_pruning(work, scan, present)
    return {"scan": scan.id, "site": site.name, "results": [part.path.text for part in reconstruction.datasets]}


def homes_of(work: Work, site: ComputeSite) -> list[Endpoint]:
    """Where results of a site are kept: on the beamline's server; at NERSC as well, if they were made there."""
    beamline, here = work.settings.beamline(BEAMLINE), work.settings.endpoint(site.scratch_endpoint)
    homes = [work.settings.endpoint(beamline.scratch)]
    second = None if beamline.nersc_results is None else work.settings.endpoint(beamline.nersc_results)
    if second is not None and second.uri and second.uri == here.uri:
        homes.append(second)
    return homes


def _made_before(
    work: Work, scan: Scan, site: ComputeSite, reconstruction: Reconstruction, homes: Sequence[Endpoint]
) -> Made | None:
    """What an earlier run made, if it still stands somewhere: then the raw file need not be at the site any more."""
    made = made_before(work, _making(work, scan, site, reconstruction, size=known_size(work, scan) or 0))
    return made if made is not None and stands(work, made, homes=homes) else None


def _make(work: Work, scan: Scan, site: ComputeSite, reconstruction: Reconstruction, homes: Sequence[Endpoint]) -> Made:
    """Carry the raw file to the site, run the job, and write down the receipt of what it made."""
    raw = stage_in(work, scan, site)
    schedule_pruning(work, scan, raw)  # now: it is to go one day, whatever becomes of the job
    making = _making(work, scan, site, reconstruction, size=raw.size)

    def made_of_raw(outcome: Outcome) -> Receipt:
        return receipt(Report.of(outcome, making.paths[reconstruction.report]), raw, outcome, site=site.name)

    return make(work, making, homes=homes, receipt=made_of_raw)


def _making(work: Work, scan: Scan, site: ComputeSite, reconstruction: Reconstruction, *, size: int) -> Making:
    """The job of a reconstruction of so many bytes."""
    at, to = work.settings.endpoint(site.raw_endpoint), work.settings.endpoint(site.scratch_endpoint)
    spec, paths = job(site, reconstruction, size=size, at=at, to=to)
    step = step_at(site.name, reconstruction.parameters)
    operation = operation_at(work.settings, scan, site, spec, step=step)
    return Making(scan=scan, site=site, product=reconstruction, kind="tomography", operation=operation, paths=paths)


def step_at(site: str, parameters: Mapping[str, Any]) -> str:
    """What the ledger calls the job of a reconstruction at a site."""
    return f"reconstruct at {site}{variant(parameters)}"


def variant(parameters: Mapping[str, Any]) -> str:
    """What was asked for beyond the defaults, for people who read the list of stages."""
    return f" ({', '.join(f'{name}={value}' for name, value in sorted(parameters.items()))})" if parameters else ""
