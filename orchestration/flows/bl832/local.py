"""Reconstruction of an 8.3.2 scan on this machine.

::

    data832 ──> local832_raw ── reconstruct ──> local832_scratch ──> data832_scratch
                                                                └──> SciCat (tiff and zarr, derived from raw)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from prefect import flow

from orchestration.errors import SourceChanged
from orchestration.flows.bl832.ingest import ingest_results
from orchestration.flows.bl832.move import BEAMLINE, register_scan
from orchestration.flows.cancelling import say_cancelled
from orchestration.flows.copying import RAW, Dataset, copy, record_source
from orchestration.flows.main import command
from orchestration.flows.pruning import schedule_pruning
from orchestration.flows.starting import checked_parameters
from orchestration.flows.tomography import Reconstruction, Report, local_job, local_site, receipt
from orchestration.flows.work import Work, working
from orchestration.ledger.copies import CopyRecord, CopyState
from orchestration.ledger.operation import Operation
from orchestration.ledger.perform import Outcome
from orchestration.ledger.results import ResultRecord
from orchestration.ledger.scan import Scan
from orchestration.ledger.service import Document
from orchestration.policy import Zone

SITE = "local"
QUEUE_SECONDS = 24 * 3600.0
"""How long a job may wait for its turn on this machine, on top of its own duration."""


@flow(name="local_recon_flow", flow_run_name="local_recon: {file_path}", on_failure=[say_cancelled])
def local_recon_flow(file_path: str, parameters: dict[str, Any] | None = None, request: str = "") -> Document:
    """Reconstruct a scan on this machine, bring the results to the beamline's server, and catalogue them.

    `parameters` are those of ``python -m orchestration.science tomography reconstruct``: ``{"center": 1021.5}``.
    A new `request` has the same parameters computed again; without it, what was done is not done twice.
    """
    given: Document = {"file_path": file_path, "parameters": dict(parameters or {}), "request": request}
    with working("local_recon_flow", given) as work:
        checked_parameters(parameters or {})  # any other would be an option of the program, such as where it writes
        scan = register_scan(work, file_path)
        raw = stage_in(work, scan)
        reconstruction = Reconstruction(raw=raw.path, parameters=parameters or {}, request=request)
        result, outcome = reconstruct(work, scan, raw, reconstruction)
        copies = bring_back(work, scan, reconstruction, outcome)
        if scan.export_controlled:
            work.logger.warning("export-controlled: the results stay on the beamline and are not catalogued")
        else:
            ingest_results(work, scan, reconstruction, result, copies)
        for present in [raw, *copies]:
            schedule_pruning(work, scan, present)
        return {"scan": scan.id, "results": [part.path.text for part in reconstruction.datasets]}


def stage_in(work: Work, scan: Scan) -> CopyRecord:
    """The raw file where this site's jobs read it."""
    beamline = work.settings.beamline(BEAMLINE)
    source = work.settings.endpoint(beamline.raw)
    path = source.relative(work.settings.endpoint(beamline.server).full_path(scan.path))
    _demand_newest(work, scan, beamline.server)
    destination = work.settings.endpoint(work.settings.site(SITE).raw_endpoint)
    return copy(work, scan, [Dataset(name=RAW, path=path)], source=source, destination=destination)[0]


def _demand_newest(work: Work, scan: Scan, server: str) -> None:
    """What is reconstructed is the version that acquisition has, if it has one."""
    for known in work.ledger.copies.of_scan(scan.id):
        at_server = known.dataset == RAW and known.endpoint == server and known.state is CopyState.PRESENT
        if at_server and scan.fingerprint and known.version != scan.fingerprint:
            raise SourceChanged(
                f"{scan.path} was written anew, and {server} has the file as it was before",
                where=f"{server}:{known.path}",
                next_step="start new_832_file_flow for it, then this one again",
            )


def reconstruct(
    work: Work, scan: Scan, raw: CopyRecord, reconstruction: Reconstruction
) -> tuple[ResultRecord, Outcome]:
    """Run the job, and write down the receipt of what it made."""
    site = local_site(work.settings)
    at, to = work.settings.endpoint(site.raw_endpoint), work.settings.endpoint(site.scratch_endpoint)
    spec = local_job(site, reconstruction, raw, at=at, to=to)
    operation = Operation(
        scan=scan,
        step=f"reconstruct at {site.name}{_variant(reconstruction.parameters)}",
        request=spec,
        destination=site.place if to.place.zone is Zone.BEAMLINE else to.place,
        deadline=spec.duration + QUEUE_SECONDS,
    )
    path = to.local_path(reconstruction.report)
    outcome = work.perform(operation, work.services.local_jobs)
    if outcome.already_done and not Report.is_of(path, outcome):
        work.logger.warning("%s was done, but its results are not there any more: done again", operation.step)
        work.ledger.operations.expire(outcome.record.key)
        outcome = work.perform(operation, work.services.local_jobs)
    report = Report.read(path)
    result = work.ledger.results.record(
        scan_id=scan.id,
        operation_key=outcome.record.key,
        kind="tomography",
        endpoint=to.name,
        path=reconstruction.base,
        receipt=receipt(report, raw, outcome, site=site.name),
    )
    return result, outcome


def bring_back(work: Work, scan: Scan, reconstruction: Reconstruction, outcome: Outcome) -> Sequence[CopyRecord]:
    """The results on the beamline's server, and those here, which are now known to be as good."""
    site = work.settings.site(SITE)
    here = work.settings.endpoint(site.scratch_endpoint)
    server = work.settings.endpoint(work.settings.beamline(BEAMLINE).scratch)
    version = f"{outcome.record.key[:12]}.{outcome.record.attempt}"
    there = copy(work, scan, reconstruction.datasets, source=here, destination=server, version=version)
    if not Report.is_of(here.local_path(reconstruction.report), outcome):
        raise SourceChanged(
            "another reconstruction of this scan wrote its results to the same folder meanwhile",
            where=f"{here.name}:{reconstruction.base}",
            next_step="wait for the other one, then start this one again",
        )
    sources = [
        record_source(work, scan, copied, source=here, path=part.path, role=part.role, verified_by=outcome.record.key)
        for copied, part in zip(there, reconstruction.datasets, strict=True)
    ]
    return [*there, *sources]


def _variant(parameters: Mapping[str, Any]) -> str:
    """What was asked for beyond the defaults, for people who read the list of stages."""
    return f" ({', '.join(f'{name}={value}' for name, value in sorted(parameters.items()))})" if parameters else ""


if __name__ == "__main__":
    command(local_recon_flow)
