"""Computing the checksums of a copy again, where it lies, to see whether it is what was verified once."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from orchestration.config import Endpoint, GlobusComputeSite, IriSite, LocalSite, NerscSite, state_directory
from orchestration.errors import ChecksumMismatch, ConfigError, DeletionUnproven
from orchestration.flows.jobs import LOCAL_QUEUE_SECONDS, job_seconds, operation_at, remote_job
from orchestration.flows.results import content
from orchestration.flows.work import Work
from orchestration.jobs import JobSpec, Output, OutputKind
from orchestration.ledger.copies import CopyRecord, CopyState
from orchestration.ledger.manifests import COMPARED, FileEvidence
from orchestration.ledger.operation import Operation
from orchestration.ledger.scan import Scan
from orchestration.paths import RelativePath

_Reader: TypeAlias = NerscSite | GlobusComputeSite | IriSite

BYTES_PER_SECOND = 20e6
"""Slowest reading still thought healthy."""

MIN_SECONDS = 900.0

_FOLDER = RelativePath(".checksums")
"""On the scratch endpoint of a site: where its jobs leave their answers."""


def verified_again(work: Work, copy: CopyRecord) -> CopyRecord:
    """The copy with new evidence: all its files have the checksums that they had.

    A copy of which only a service has seen the checksums is compared with another one.

    Raises:
        ChecksumMismatch: if it is not what it was. It counts as changed then, and proves nothing any more.
        DeletionUnproven: if nothing computes checksums where it lies, or there is nothing to compare with.
    """
    expected = expected_digest(copy.manifest)
    if expected is None:
        return _compared(work, copy)
    algorithm, value = expected
    found = _digest(work, copy, algorithm)
    if found != value:
        raise _changed(work, copy, f"its {algorithm} checksums are not what they were")
    return work.ledger.copies.verified(copy, method=f"{algorithm} computed again")


def expected_digest(manifest: Sequence[FileEvidence]) -> tuple[str, str] | None:
    """The algorithm, and what `orchestration.science checksums` says of a copy with these files.

    None if the checksums of some are not known.
    """
    sums = [(entry.checksum or "").partition(":") for entry in manifest]
    algorithms = {algorithm.lower() for algorithm, _, _ in sums}
    if len(algorithms) != 1 or algorithms & {"", COMPARED}:
        return None
    values = [value.lower() for _, _, value in sums]
    algorithm = algorithms.pop()
    if [entry.path for entry in manifest] == [""]:
        return algorithm, values[0]
    lines = sorted(f"{value} {entry.size} {entry.path}" for value, entry in zip(values, manifest, strict=True))
    return algorithm, hashlib.sha256("\n".join(lines).encode(errors="surrogateescape")).hexdigest()


def _compared(work: Work, copy: CopyRecord) -> CopyRecord:
    """With the first other copy of the same bytes whose checksums can be had."""
    mine = _digest(work, copy, "sha256")
    for other in work.ledger.copies.of_scan(copy.scan_id):
        alike = (other.dataset, other.version, other.state) == (copy.dataset, copy.version, CopyState.PRESENT)
        if other.id == copy.id or not alike or _place(work, other) is None:
            continue
        if _digest(work, other, "sha256") != mine:
            # Which of the two has changed cannot be told: neither proves anything for the other.
            raise ChecksumMismatch(
                f"its checksums are not those of the copy at {other.endpoint}",
                where=f"{copy.endpoint}:{copy.path}",
                next_step="compare both with the detector's own file, if there is one, and copy the right one anew",
            )
        return work.ledger.copies.verified(copy, method=f"sha256 equal to that at {other.endpoint}")
    raise DeletionUnproven(
        "only the service that copied it has seen its checksums, and no other copy can be compared with it",
        where=f"{copy.endpoint}:{copy.path}",
        next_step="start the scan's flow again with another destination, or delete by hand what is certain to be kept",
    )


def _changed(work: Work, copy: CopyRecord, what: str) -> ChecksumMismatch:
    work.ledger.copies.found(copy, CopyState.CHANGED)
    return ChecksumMismatch(
        what,
        where=f"{copy.endpoint}:{copy.path}",
        next_step="copy it there anew from another copy; until then it proves nothing",
    )


def _digest(work: Work, copy: CopyRecord, algorithm: str) -> str:
    """Computed where the copy lies; the same evidence is asked for once, whoever asks again after a crash."""
    endpoint = work.settings.endpoint(copy.endpoint)
    scan = work.ledger.scans.get(copy.scan_id)
    step = f"{algorithm} of {copy.dataset} at {endpoint.name}, last seen {copy.verified_at:.0f}"
    if endpoint.mount is not None:
        operation = _here(work, scan, endpoint, copy, algorithm, step)
        outcome = work.perform(operation, work.services.local_jobs)
    else:
        site = _place(work, copy)
        if site is None or isinstance(site, Endpoint):
            raise DeletionUnproven(
                "nothing computes checksums there",
                where=endpoint.name,
                next_step="mount it on this machine, or add a compute site whose `raw_endpoint` is on its collection",
            )
        operation = _there(work, scan, site, copy, algorithm, step)
        outcome = work.perform(operation, work.services.jobs(site))
    report = content(outcome, operation.request.outputs[0].path)
    return _value(report, copy)


def _value(report: Mapping[str, object], copy: CopyRecord) -> str:
    if (report.get("files"), report.get("size")) != (copy.files, copy.size):
        return f"{report.get('files')} files of {report.get('size')} bytes"
    return str(report.get("value"))


def _place(work: Work, copy: CopyRecord) -> Endpoint | _Reader | None:
    """Who can read it: this machine (its endpoint), or a site on whose collection it is."""
    endpoint = work.settings.endpoint(copy.endpoint)
    if endpoint.mount is not None:
        return endpoint
    for site in work.settings.compute_sites.values():
        if isinstance(site, LocalSite) or endpoint.uuid is None:
            continue
        if work.settings.endpoint(site.raw_endpoint).uuid == endpoint.uuid:
            return site
    return None


def _here(
    work: Work, scan: Scan, endpoint: Endpoint, copy: CopyRecord, algorithm: str, step: str
) -> Operation[JobSpec]:
    answer = state_directory() / "checksums" / f"{copy.id}-{copy.generation}.json"
    answer.parent.mkdir(parents=True, exist_ok=True)
    seconds = max(MIN_SECONDS, copy.size / BYTES_PER_SECOND)
    spec = JobSpec(
        executable=sys.executable,
        arguments=_arguments(str(endpoint.local_path(copy.path)), algorithm, str(answer), links=True),
        directory=str(answer.parent),
        duration=seconds,
        outputs=(Output(path=str(answer), kind=OutputKind.JSON),),
        name=f"checksums of {copy.path.name}",
    )
    return Operation(
        scan=scan, step=step, request=spec, destination=endpoint.place, deadline=seconds + LOCAL_QUEUE_SECONDS
    )


def _there(work: Work, scan: Scan, site: _Reader, copy: CopyRecord, algorithm: str, step: str) -> Operation[JobSpec]:
    scratch = work.settings.endpoint(site.scratch_endpoint)
    answer = site.path(scratch, _FOLDER / f"{copy.id}-{copy.generation}.json")
    read = site.path(work.settings.endpoint(copy.endpoint), copy.path)
    spec = remote_job(
        site,
        arguments=_arguments(read, algorithm, answer, links=False),
        directory=site.below_root(scratch.root_path),
        duration=max(MIN_SECONDS, job_seconds(site, copy.size)),
        outputs=(Output(path=answer, kind=OutputKind.JSON),),
        name=f"checksums of {copy.path.name}",
    )
    return operation_at(work.settings, scan, site, spec, step=step)


def _arguments(path: str, algorithm: str, answer: str, *, links: bool) -> tuple[str, ...]:
    if algorithm not in {"md5", "sha1", "sha256", "sha512"}:
        raise ConfigError(f"checksums by {algorithm} cannot be computed again", where="orchestration.science checksums")
    wanted = (f"--algorithm={algorithm}", "--links" if links else "--no-links", f"--output={answer}")
    return ("-m", "orchestration.science", "checksums", *wanted, "--", path)
