"""What a job makes: made once, known by its report, and brought to where it is kept."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from orchestration.config import ComputeSite, Endpoint
from orchestration.errors import OutputMissing, SourceChanged
from orchestration.flows.computing import compute
from orchestration.flows.copying import Dataset, copy, look, record_source, whole
from orchestration.flows.work import Work
from orchestration.jobs import JobSpec, OutputKind
from orchestration.ledger.copy import CopyRecord, CopyState
from orchestration.ledger.manifests import FileEvidence
from orchestration.ledger.operation import Operation, OperationState
from orchestration.ledger.perform import Outcome
from orchestration.ledger.results import Receipt, ResultRecord
from orchestration.ledger.scan import Scan
from orchestration.paths import RelativePath
from orchestration.science.running.outputs import sha256


class Product(Protocol):
    """Files that one job makes, below any scratch endpoint."""

    @property
    def base(self) -> RelativePath:
        """What people call it by."""

    @property
    def report(self) -> RelativePath:
        """The JSON file, one of the datasets, that tells this making from every other."""

    @property
    def datasets(self) -> tuple[Dataset, ...]:
        """All that is carried to where it is kept."""


@dataclass(frozen=True, kw_only=True)
class Making:
    """A product, and the job that makes it."""

    scan: Scan
    site: ComputeSite
    product: Product
    kind: str
    """Of the result: ``tomography``, ``xpcs``, ..."""
    operation: Operation[JobSpec]
    paths: Mapping[RelativePath, str]
    """What the job calls each of the datasets."""

    def at(self, work: Work) -> Endpoint:
        """Where the job writes."""
        return work.settings.endpoint(self.site.scratch_endpoint)


@dataclass(frozen=True, kw_only=True)
class Made:
    """What came of it: the result in the ledger, and the job's outcome."""

    making: Making
    result: ResultRecord
    outcome: Outcome

    @property
    def version(self) -> str:
        """Tells the files of this attempt from those of another that had the same names."""
        return f"{self.outcome.record.key[:12]}.{self.outcome.record.attempt}"

    def written(self, path: RelativePath) -> Mapping[str, Any]:
        """What is known of one dataset since the end of the job."""
        return written(self.outcome, self.making.paths[path])


def made_before(work: Work, making: Making) -> Made | None:
    """What an earlier run made and wrote down, whether or not it `stands` anywhere any more."""
    done = work.ledger.operations.among([making.operation.key])
    recorded = [
        each
        for each in work.ledger.results.of_scan(making.scan.id)
        if (each.operation_key, each.kind) == (making.operation.key, making.kind)
    ]
    if not recorded or done[0].state is not OperationState.SUCCEEDED:
        return None
    outcome = Outcome(record=done[0], evidence=done[0].evidence or {}, already_done=True)
    return Made(making=making, result=recorded[0], outcome=outcome)


def make(work: Work, making: Making, *, homes: Sequence[Endpoint], receipt: Callable[[Outcome], Receipt]) -> Made:
    """Run the job, unless what it made still stands at the site or at one of its homes, and write the receipt down."""
    made = _made(work, making, receipt)
    if not made.outcome.already_done or stands(work, made, homes=homes):
        return made
    work.logger.warning("%s was done, but its results are nowhere any more: done again", making.operation.step)
    work.ledger.operations.expire(making.operation.key)
    return _made(work, making, receipt)


def _made(work: Work, making: Making, receipt: Callable[[Outcome], Receipt]) -> Made:
    outcome = compute(work, making.operation, making.site)
    result = work.ledger.results.record(
        scan_id=making.scan.id,
        operation_key=outcome.record.key,
        kind=making.kind,
        endpoint=making.site.scratch_endpoint,
        path=making.product.base,
        receipt=receipt(outcome),
    )
    return Made(making=making, result=result, outcome=outcome)


def stands(work: Work, made: Made, *, homes: Sequence[Endpoint]) -> bool:
    """Whether it is there to be carried, at the site or where it was carried to."""
    return _at_site(work, made) or bool(_kept(work, made, homes))


def source_of(work: Work, made: Made, *, homes: Sequence[Endpoint]) -> Endpoint:
    """From where it can be had: its site or, where that was cleared since, one of its homes.

    Raises:
        OutputMissing: if it is nowhere any more.
    """
    here = made.making.at(work)
    if _at_site(work, made):
        return here
    kept = _kept(work, made, homes)
    if not kept:
        raise _gone(work, made, f"{here.name}:{made.making.product.base}")
    return work.settings.endpoint(next(iter(kept)))


def bring_back(work: Work, made: Made, *, homes: Sequence[Endpoint]) -> Sequence[CopyRecord]:
    """The results at each of their homes, and those at the site, now known to be as good.

    Where one of them lost its copies, they come from another.

    Raises:
        SourceChanged: if somebody wrote to them since the job ended.
        OutputMissing: if they are nowhere any more.
    """
    making, here = made.making, made.making.at(work)
    kept = _kept(work, made, homes)
    at_site = _at_site(work, made)
    if not at_site and not kept:
        raise _gone(work, made, f"{here.name}:{making.product.base}")
    source = here if at_site else work.settings.endpoint(next(iter(kept)))
    datasets = making.product.datasets
    found: list[CopyRecord] = []
    for home in homes:
        found += kept.get(home.name) or copy(
            work, making.scan, datasets, source=source, destination=home, version=made.version
        )
    if not at_site:
        _warn_of_others(work, made)
        return found
    same = all(as_written(copied.manifest, made.written(copied.path)) for copied in found)
    if not same or not _at_site(work, made):
        work.ledger.operations.expire(made.outcome.record.key)
        raise SourceChanged(
            "somebody else wrote to the folder of these results meanwhile",
            where=f"{here.name}:{making.product.base}",
            next_step="find out who, then start this one again: it makes them anew",
        )
    parts = list(zip(found, datasets, strict=False))  # the copies at the first home come first
    return found + [
        record_source(work, making.scan, copied, source=here, path=part.path, role=part.role) for copied, part in parts
    ]


def _kept(work: Work, made: Made, homes: Sequence[Endpoint]) -> Mapping[str, Sequence[CopyRecord]]:
    """The copies at each home that has all of the results, as they were when they came there; by endpoint."""
    known = {
        (each.endpoint, each.path): each
        for each in work.ledger.copies.of_scan(made.making.scan.id)
        if each.version == made.version and each.state is CopyState.PRESENT
    }
    kept: dict[str, Sequence[CopyRecord]] = {}
    for home in homes:
        found = [known.get((home.name, part.path)) for part in made.making.product.datasets]
        copies = [each for each in found if each is not None and whole(work, home, each)]
        if len(copies) == len(found):
            kept[home.name] = copies
    return kept


def _warn_of_others(work: Work, made: Made) -> None:
    """What is at the site ought to be the results, and is something else. Those that are kept are as they were."""
    here, product = made.making.at(work), made.making.product
    present = [
        each.path
        for each in work.ledger.copies.of_scan(made.making.scan.id)
        if (each.endpoint, each.state) == (here.name, CopyState.PRESENT)
    ]
    if product.report in present:
        work.logger.warning("what lies at %s:%s is not what was made there", here.name, product.base)


def _at_site(work: Work, made: Made) -> bool:
    """Whether the report that stands there is the one that the job wrote, as far as can be told from here."""
    at, path = made.making.at(work), made.making.product.report
    facts, report = look(work, at, path), made.written(path)
    if facts is None or facts.size != report.get("size"):
        return False
    return at.mount is None or sha256(at.local_path(path)) == report.get("sha256")


def _gone(work: Work, made: Made, where: str) -> OutputMissing:
    work.ledger.operations.expire(made.outcome.record.key)
    return OutputMissing(
        "the results were removed, or written over, before they were carried",
        where=where,
        next_step="find out by whom, then start this one again: it makes them anew",
    )


def content(outcome: Outcome, path: str) -> Mapping[str, Any]:
    """The JSON document that this job wrote at `path`, as it was when the job's outputs were checked.

    Raises:
        OutputMissing: if it did not come back with the job.
    """
    found = written(outcome, path).get("content")
    if not isinstance(found, dict):
        raise OutputMissing(
            "the report of the job did not come back with it", where=path, next_step="start the flow again"
        )
    return found


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
