"""Computing the checksums of a copy again, where it lies, to see whether it is what was verified once."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeAlias

from orchestration.config import (
    Endpoint,
    GlobusComputeSite,
    IriSite,
    LocalSite,
    NerscSite,
    Settings,
    state_directory,
)
from orchestration.errors import ChecksumMismatch, ConfigError, DeletionUnproven
from orchestration.flows.computing import asked_at, compute
from orchestration.flows.jobs import LOCAL_QUEUE_SECONDS, job_seconds, operation_at, remote_job
from orchestration.flows.results import content
from orchestration.flows.work import Work
from orchestration.jobs import JobSpec, Output, OutputKind
from orchestration.ledger.copy import CopyRecord, CopyState
from orchestration.ledger.manifests import COMPARED, FileEvidence
from orchestration.ledger.operation import Operation, OperationRecord
from orchestration.ledger.scan import Scan
from orchestration.paths import RelativePath

_Site: TypeAlias = NerscSite | GlobusComputeSite | IriSite

BYTES_PER_SECOND = 20e6
"""Slowest reading still thought healthy."""

MIN_SECONDS = 900.0

SOON_SECONDS = 6 * 3600.0
"""For so long what a job has found is told again to a run that carries on."""

_SEEN = "last seen"

ANSWERS = RelativePath(".checksums")
"""On the scratch endpoint of a site: where its jobs leave their answers."""

LOCAL_ANSWERS = "checksums"
"""The same in the state of this machine."""


def verified_again(work: Work, copy: CopyRecord) -> CopyRecord:
    """The copy with new evidence: all its files have the checksums that they had.

    A copy of which only a service has seen the checksums is compared with others.

    Raises:
        ChecksumMismatch: if it is not what it was. It counts as changed then, and proves nothing any more.
        DeletionUnproven: if nothing computes checksums where it lies, or there is nothing to compare with.
    """
    expected = expected_digest(copy.manifest)
    if expected is None:
        return _compared(work, copy)
    algorithm, value = expected
    found = _digest(work, copy, algorithm)
    if found.value != value:
        raise _changed(work, copy, found, f"its {algorithm} checksums are not what they were")
    return work.ledger.copies.verified(copy, method=f"{algorithm} computed again", at=found.at)


def can_be_computed(settings: Settings, endpoint: Endpoint) -> bool:
    """Whether anything computes checksums of what lies there."""
    return _reader(settings, endpoint) is not None


def only_reads(operation: OperationRecord) -> bool:
    """Whether it computes checksums of a copy, and uses its scan for nothing else."""
    return f", {_SEEN} " in operation.step


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
    """With the other copies of the same bytes whose checksums can be had, until one is equal.

    One that differs from two that are equal has changed. Of two that differ, and no third, it cannot be told which has:
    neither is to be the last of its bytes, so both count as changed.
    """
    mine = _digest(work, copy, "sha256")
    seen: dict[str, tuple[CopyRecord, _Digest]] = {}
    for other in _comparable(work, copy):
        found = _digest(work, other, "sha256")
        if found.value == mine.value:
            return work.ledger.copies.verified(copy, method=f"sha256 equal to that at {other.endpoint}", at=mine.at)
        if found.value in seen:
            places = f"{seen[found.value][0].endpoint} and {other.endpoint}"
            raise _changed(work, copy, mine, f"its checksums are not those that the copies at {places} have")
        seen[found.value] = other, found
    if seen:
        for other, found in seen.values():
            _changed(work, other, found, f"its checksums are not those of the copy at {copy.endpoint}")
        places = " or ".join(other.endpoint for other, _ in seen.values())
        raise _changed(work, copy, mine, f"its checksums are not those of the copy at {places}")
    raise DeletionUnproven(
        "only the service that copied it has seen its checksums, and no other copy can be compared with it",
        where=f"{copy.endpoint}:{copy.path}",
        next_step="start the scan's flow again with another destination, or delete by hand what is certain to be kept",
    )


def _comparable(work: Work, copy: CopyRecord) -> Sequence[CopyRecord]:
    """Other copies of the same bytes, on other storage, that can be read."""
    here = work.settings.endpoint(copy.endpoint)
    return [
        other
        for other in work.ledger.copies.of_scan(copy.scan_id)
        if (other.dataset, other.version, other.state) == (copy.dataset, copy.version, CopyState.PRESENT)
        and other.id != copy.id
        and can_be_computed(work.settings, work.settings.endpoint(other.endpoint))
        and not here.shares_storage_with(work.settings.endpoint(other.endpoint))
    ]


def _changed(work: Work, copy: CopyRecord, found: _Digest, what: str) -> ChecksumMismatch:
    """Once that is written down, what was found is of no more use: asked again, it is computed again."""
    work.ledger.copies.found(copy, CopyState.CHANGED, why=what, by_checksum=True)
    work.ledger.operations.expire(found.key)
    return ChecksumMismatch(
        what,
        where=f"{copy.endpoint}:{copy.path}",
        next_step="copy it there anew from another copy; until then it proves nothing",
    )


@dataclass(frozen=True, kw_only=True)
class _Digest:
    """`value` is of bytes that were read after `at` (seconds since the epoch): what was written since was not seen."""

    value: str
    at: float
    key: str
    """Of the operation."""


def _digest(work: Work, copy: CopyRecord, algorithm: str) -> _Digest:
    """Computed where the copy lies; whoever asks again soon, as after a crash, is told what was found then."""
    endpoint = work.settings.endpoint(copy.endpoint)
    scan = work.ledger.scans.get(copy.scan_id)
    seen = datetime.fromtimestamp(round(copy.evidence_at), UTC)
    step = f"{algorithm} of {copy.dataset} at {endpoint.name}, {_SEEN} {seen:%Y-%m-%d %H:%M:%S} UTC"
    reader = _reader(work.settings, endpoint)
    if reader is None:
        raise DeletionUnproven(
            "nothing computes checksums there",
            where=endpoint.name,
            next_step="mount it on this machine, or add a compute site whose `raw_endpoint` is on its collection, "
            "or which names it under `reads`",
        )
    if isinstance(reader, Endpoint):
        operation = _here(work, scan, endpoint, copy, algorithm, step)
        _forget_old(work, operation.key)
        outcome = work.perform(operation, work.services.local_jobs)
    else:
        operation = _there(work, scan, reader, copy, algorithm, step)
        _forget_old(work, operation.key)
        outcome = compute(work, operation, reader)
    report = content(outcome, operation.request.outputs[0].path)
    return _Digest(value=_value(report, copy), at=asked_at(work, outcome), key=operation.key)


def _forget_old(work: Work, key: str) -> None:
    """What was found long ago, and led to nothing, says nothing of what is there now."""
    for known in work.ledger.operations.among([key]):
        if work.ledger.now() - (known.finished_at or work.ledger.now()) > SOON_SECONDS:
            work.ledger.operations.expire(key)


def _value(report: Mapping[str, object], copy: CopyRecord) -> str:
    if (report.get("files"), report.get("size")) != (copy.files, copy.size):
        return f"{report.get('files')} files of {report.get('size')} bytes"
    return str(report.get("value"))


def _reader(settings: Settings, endpoint: Endpoint) -> Endpoint | _Site | None:
    """Who can read it: this machine (its endpoint), or a site whose jobs see it."""
    if endpoint.mount is not None:
        return endpoint
    for site in settings.compute_sites.values():
        if isinstance(site, LocalSite):
            continue
        own = endpoint.uuid is not None and settings.endpoint(site.raw_endpoint).uuid == endpoint.uuid
        if own or endpoint.name in site.reads:
            return site
    return None


def _here(
    work: Work, scan: Scan, endpoint: Endpoint, copy: CopyRecord, algorithm: str, step: str
) -> Operation[JobSpec]:
    answer = state_directory() / LOCAL_ANSWERS / _answer(copy, step)
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


def _there(work: Work, scan: Scan, site: _Site, copy: CopyRecord, algorithm: str, step: str) -> Operation[JobSpec]:
    scratch = work.settings.endpoint(site.scratch_endpoint)
    answer = site.path(scratch, ANSWERS / _answer(copy, step))
    read = site.path(work.settings.endpoint(copy.endpoint), copy.path)
    spec = remote_job(
        site,
        arguments=_arguments(read, algorithm, answer, links=False),
        directory=site.path(scratch, ANSWERS),
        duration=max(MIN_SECONDS, job_seconds(site, copy.size)),
        outputs=(Output(path=answer, kind=OutputKind.JSON),),
        name=f"checksums of {copy.path.name}",
    )
    return operation_at(work.settings, scan, site, spec, step=step)


def _answer(copy: CopyRecord, step: str) -> str:
    """Each step has its own, which nobody else reads or removes."""
    return f"{copy.id}-{copy.generation}-{hashlib.sha256(step.encode()).hexdigest()[:12]}.json"


def _arguments(path: str, algorithm: str, answer: str, *, links: bool) -> tuple[str, ...]:
    if algorithm not in {"md5", "sha1", "sha256", "sha512"}:
        raise ConfigError(f"checksums by {algorithm} cannot be computed again", where="orchestration.science checksums")
    wanted = (f"--algorithm={algorithm}", "--links" if links else "--no-links", f"--output={answer}")
    return ("-m", "orchestration.science", "checksums", *wanted, "--", path)
