"""Reconstruction of an 8.3.2 scan at any compute site.

::

    data832 (or another copy) ──> raw of the site ── reconstruct ──> scratch of the site ──> data832_scratch
                                                                             │                 └──> SciCat
                                                                             └──> NERSC, what was made there
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestration.config import ComputeSite, RemoteSite
from orchestration.flows.bl832.ingest import demand_metadata, ingest_results
from orchestration.flows.bl832.move import register_scan
from orchestration.flows.bl832.results import Made, bring_back, stands_somewhere
from orchestration.flows.bl832.staging import known_size, path_at, stage_in
from orchestration.flows.computing import compute
from orchestration.flows.pruning import schedule_pruning
from orchestration.flows.starting import checked_parameters
from orchestration.flows.tomography import Reconstruction, Report, job, receipt
from orchestration.flows.work import Work, working
from orchestration.jobs import JobSpec
from orchestration.ledger.copies import CopyRecord
from orchestration.ledger.operation import Operation, OperationState
from orchestration.ledger.perform import Outcome
from orchestration.ledger.scan import Scan
from orchestration.ledger.service import Document
from orchestration.paths import RelativePath
from orchestration.policy import Zone

LOCAL_QUEUE_SECONDS = 24 * 3600.0
"""How long a job may wait for its turn on this machine, on top of its own duration."""

CHECK_SECONDS = 1800.0
"""On top of a remote job's own time: until its results are checked and its report has been read."""


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
    made = _made_before(work, scan, site, reconstruction) or _make(work, scan, site, reconstruction)
    copies = bring_back(work, scan, site, reconstruction, made)
    if scan.export_controlled:
        work.logger.warning("export-controlled: the results stay on the beamline and are not catalogued")
    else:
        ingest_results(work, scan, reconstruction, made.result, copies)
    for present in copies:
        schedule_pruning(work, scan, present)
    return {"scan": scan.id, "site": site.name, "results": [part.path.text for part in reconstruction.datasets]}


def _made_before(work: Work, scan: Scan, site: ComputeSite, reconstruction: Reconstruction) -> Made | None:
    """What an earlier run made, if it still stands somewhere: then the raw file need not be at the site any more."""
    size = known_size(work, scan)
    operation, results = _job(work, scan, site, reconstruction, size=size or 0)
    done = work.ledger.operations.among([operation.key])
    recorded = [each for each in work.ledger.results.of_scan(scan.id) if each.operation_key == operation.key]
    if not recorded or done[0].state is not OperationState.SUCCEEDED:
        return None
    outcome = Outcome(record=done[0], evidence=done[0].evidence or {}, already_done=True)
    made = Made(result=recorded[0], outcome=outcome, results=results)
    return made if stands_somewhere(work, scan, site, reconstruction, made) else None


def _make(work: Work, scan: Scan, site: ComputeSite, reconstruction: Reconstruction) -> Made:
    """Carry the raw file to the site, run the job, and write down the receipt of what it made."""
    raw = stage_in(work, scan, site)
    schedule_pruning(work, scan, raw)  # now: it is to go one day, whatever becomes of the job
    operation, results = _job(work, scan, site, reconstruction, size=raw.size)
    made = _made(work, raw, reconstruction, results, compute(work, operation, site))
    if not made.outcome.already_done or stands_somewhere(work, scan, site, reconstruction, made):
        return made
    work.logger.warning("%s was done, but its results are nowhere any more: done again", operation.step)
    work.ledger.operations.expire(operation.key)
    return _made(work, raw, reconstruction, results, compute(work, operation, site))


def _made(
    work: Work, raw: CopyRecord, reconstruction: Reconstruction, results: Mapping[RelativePath, str], outcome: Outcome
) -> Made:
    site = work.settings.site(reconstruction.site)
    report = Report.of(outcome, results[reconstruction.report])
    result = work.ledger.results.record(
        scan_id=raw.scan_id,
        operation_key=outcome.record.key,
        kind="tomography",
        endpoint=site.scratch_endpoint,
        path=reconstruction.base,
        receipt=receipt(report, raw, outcome, site=site.name),
    )
    return Made(result=result, outcome=outcome, results=results)


def _job(
    work: Work, scan: Scan, site: ComputeSite, reconstruction: Reconstruction, *, size: int
) -> tuple[Operation[JobSpec], Mapping[RelativePath, str]]:
    """The job of a reconstruction of so many bytes, and what it calls each of its results."""
    at, to = work.settings.endpoint(site.raw_endpoint), work.settings.endpoint(site.scratch_endpoint)
    spec, results = job(site, reconstruction, size=size, at=at, to=to)
    remote = isinstance(site, RemoteSite)
    # The farther of both places: a site of the beamline may write its results to a disk that is not the beamline's.
    at_site = to.place.zone is Zone.BEAMLINE or (remote and site.place.zone is Zone.EXTERNAL)
    operation = Operation(
        scan=scan,
        step=step_at(site.name, reconstruction.parameters),
        request=spec,
        destination=site.place if at_site else to.place,
        deadline=spec.duration + (CHECK_SECONDS + (spec.start_within or 0.0) if remote else LOCAL_QUEUE_SECONDS),
    )
    return operation, results


def step_at(site: str, parameters: Mapping[str, Any]) -> str:
    """What the ledger calls the job of a reconstruction at a site."""
    return f"reconstruct at {site}{variant(parameters)}"


def variant(parameters: Mapping[str, Any]) -> str:
    """What was asked for beyond the defaults, for people who read the list of stages."""
    return f" ({', '.join(f'{name}={value}' for name, value in sorted(parameters.items()))})" if parameters else ""
