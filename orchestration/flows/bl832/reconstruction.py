"""Reconstruction of an 8.3.2 scan at any compute site.

::

    data832 (or a nearer copy) ──> raw of the site ── reconstruct ──> scratch of the site ──> data832_scratch
                                                                             │                 └──> SciCat
                                                                             └──> NERSC, what was made there
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestration.config import ComputeSite, Endpoint, RemoteSite
from orchestration.errors import SourceChanged
from orchestration.flows.bl832.ingest import ingest_results
from orchestration.flows.bl832.move import BEAMLINE, register_scan
from orchestration.flows.computing import compute
from orchestration.flows.copying import RAW, Dataset, copy, look, record_source
from orchestration.flows.pruning import schedule_pruning
from orchestration.flows.starting import checked_parameters
from orchestration.flows.tomography import Reconstruction, Report, as_written, job, receipt, written
from orchestration.flows.work import Work, working
from orchestration.ledger.copies import CopyRecord, CopyState
from orchestration.ledger.operation import Operation
from orchestration.ledger.perform import Outcome
from orchestration.ledger.results import ResultRecord
from orchestration.ledger.scan import Scan
from orchestration.ledger.service import Document
from orchestration.paths import RelativePath
from orchestration.policy import Zone
from orchestration.science.running.outputs import sha256

LOCAL_QUEUE_SECONDS = 24 * 3600.0
"""How long a job may wait for its turn on this machine, on top of its own duration."""

CHECK_SECONDS = 1800.0
"""On top of a remote job's own time: until its results are checked and its report has been read."""


@dataclass(frozen=True, kw_only=True)
class Made:
    """What came of a job: the result in the ledger, and the job's outcome."""

    result: ResultRecord
    outcome: Outcome
    results: Mapping[RelativePath, str]
    """What the job calls each of its results."""

    def written(self, path: RelativePath) -> Mapping[str, Any]:
        """What is known of one result since the end of the job."""
        return written(self.outcome, self.results[path])


def run_reconstruction(
    flow: str, site: str, file_path: str, parameters: Mapping[str, Any] | None, request: str
) -> Document:
    """The body of every flow that reconstructs at one site."""
    given: Document = {"file_path": file_path, "parameters": dict(parameters or {}), "request": request}
    with working(flow, given) as work:
        checked_parameters(parameters or {})  # any other would be an option of the program, such as where it writes
        scan = register_scan(work, file_path)
        return reconstruct_at(work, scan, site, parameters=parameters or {}, request=request)


def reconstruct_at(
    work: Work, scan: Scan, site_name: str, *, parameters: Mapping[str, Any], request: str = ""
) -> Document:
    """Carry a scan to a site, reconstruct it there, bring the results back, catalogue them, and plan deletions."""
    site = work.settings.site(site_name)
    raw = stage_in(work, scan, site)
    reconstruction = Reconstruction(
        raw=raw.path,
        site=site.name,
        parameters=parameters,
        request=request,
        sites=tuple(work.settings.compute_sites),
    )
    made = reconstruct(work, scan, site, raw, reconstruction)
    copies = bring_back(work, scan, site, reconstruction, made)
    if scan.export_controlled:
        work.logger.warning("export-controlled: the results stay on the beamline and are not catalogued")
    else:
        ingest_results(work, scan, reconstruction, made.result, copies)
    for present in [raw, *copies]:
        schedule_pruning(work, scan, present)
    return {"scan": scan.id, "site": site.name, "results": [part.path.text for part in reconstruction.datasets]}


def stage_in(work: Work, scan: Scan, site: ComputeSite) -> CopyRecord:
    """The raw file where this site's jobs read it."""
    beamline = work.settings.beamline(BEAMLINE)
    _demand_newest(work, scan, beamline.server)
    server = work.settings.endpoint(beamline.raw)
    path = server.relative(work.settings.endpoint(beamline.server).full_path(scan.path))
    destination = work.settings.endpoint(site.raw_endpoint)
    source, found = _nearest(work, scan, destination) or (server, path)
    part = Dataset(name=RAW, path=found)
    return copy(work, scan, [part], source=source, destination=destination, to={found: path})[0]


def _nearest(work: Work, scan: Scan, destination: Endpoint) -> tuple[Endpoint, RelativePath] | None:
    """A verified copy on the same host as the destination: it spares the way over the network."""
    for known in work.ledger.copies.of_scan(scan.id):
        place = work.settings.endpoints.get(known.endpoint)
        if known.dataset != RAW or known.state is not CopyState.PRESENT or place is None or place == destination:
            continue
        same = known.version == scan.fingerprint and place.uri and place.uri == destination.uri
        if same and place.reaches(destination) and look(work, place, known.path) is not None:
            return place, known.path
    return None


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


def reconstruct(work: Work, scan: Scan, site: ComputeSite, raw: CopyRecord, reconstruction: Reconstruction) -> Made:
    """Run the job, and write down the receipt of what it made."""
    at, to = work.settings.endpoint(site.raw_endpoint), work.settings.endpoint(site.scratch_endpoint)
    spec, results = job(site, reconstruction, raw, at=at, to=to)
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
    outcome = compute(work, operation, site)
    report = results[reconstruction.report]
    if outcome.already_done and not _stands(work, to, reconstruction, written(outcome, report)):
        work.logger.warning("%s was done, but its results are not there any more: done again", operation.step)
        work.ledger.operations.expire(outcome.record.key)
        outcome = compute(work, operation, site)
    result = work.ledger.results.record(
        scan_id=scan.id,
        operation_key=outcome.record.key,
        kind="tomography",
        endpoint=to.name,
        path=reconstruction.base,
        receipt=receipt(Report.of(outcome, report), raw, outcome, site=site.name),
    )
    return Made(result=result, outcome=outcome, results=results)


def _stands(work: Work, at: Endpoint, reconstruction: Reconstruction, report: Mapping[str, Any]) -> bool:
    """Whether the report that stands there is the one that the job wrote, as far as can be told from here."""
    facts = look(work, at, reconstruction.report)
    if facts is None or facts.size != report.get("size"):
        return False
    return at.mount is None or sha256(at.local_path(reconstruction.report)) == report.get("sha256")


def bring_back(
    work: Work, scan: Scan, site: ComputeSite, reconstruction: Reconstruction, made: Made
) -> Sequence[CopyRecord]:
    """The results on the beamline's server and at their second home, and those at the site, now known to be as good."""
    here = work.settings.endpoint(site.scratch_endpoint)
    version = f"{made.outcome.record.key[:12]}.{made.outcome.record.attempt}"
    found: list[CopyRecord] = []
    for destination in _homes(work, here):
        found += copy(work, scan, reconstruction.datasets, source=here, destination=destination, version=version)
    same = all(as_written(copied.manifest, made.written(copied.path)) for copied in found)
    if not same or not _stands(work, here, reconstruction, made.written(reconstruction.report)):
        work.ledger.operations.expire(made.outcome.record.key)
        raise SourceChanged(
            "somebody else wrote to the folder of these results meanwhile",
            where=f"{here.name}:{reconstruction.base}",
            next_step="find out who, then start this one again: it makes them anew",
        )
    by = made.outcome.record.key
    parts = zip(found, reconstruction.datasets, strict=False)  # the copies on the server come first
    found += [
        record_source(work, scan, copied, source=here, path=part.path, role=part.role, verified_by=by)
        for copied, part in list(parts)
    ]
    return found


def _homes(work: Work, here: Endpoint) -> list[Endpoint]:
    """Where results of a site are kept: on the beamline's server; at NERSC as well, if they were made there."""
    beamline = work.settings.beamline(BEAMLINE)
    homes = [work.settings.endpoint(beamline.scratch)]
    second = None if beamline.nersc_results is None else work.settings.endpoint(beamline.nersc_results)
    if second is not None and second.uri and second.uri == here.uri:
        homes.append(second)
    return homes


def step_at(site: str, parameters: Mapping[str, Any]) -> str:
    """What the ledger calls the job of a reconstruction at a site."""
    return f"reconstruct at {site}{variant(parameters)}"


def variant(parameters: Mapping[str, Any]) -> str:
    """What was asked for beyond the defaults, for people who read the list of stages."""
    return f" ({', '.join(f'{name}={value}' for name, value in sorted(parameters.items()))})" if parameters else ""
