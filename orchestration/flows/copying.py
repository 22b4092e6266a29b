"""Moving the data of a scan, and writing down where it now is and how that was verified."""

from __future__ import annotations

from collections.abc import Collection, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass

from orchestration.config import Endpoint
from orchestration.errors import ConfigError, SourceMissing
from orchestration.flows.work import Work
from orchestration.ledger.copy import LOST, RAW, CopyRecord, Role
from orchestration.ledger.manifests import COMPARED, FileEvidence
from orchestration.ledger.operation import Operation, OperationRecord
from orchestration.ledger.perform import Outcome
from orchestration.ledger.scan import Scan
from orchestration.ledger.service import Json, Service
from orchestration.paths import RelativePath
from orchestration.transfers import FileFacts, TransferItem, TransferRequest


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Part of a scan that is copied as a whole: its name in the ledger, and its path at the source."""

    name: str
    path: RelativePath
    role: Role = Role.REPLICA


def look(work: Work, endpoint: Endpoint, path: RelativePath) -> FileFacts | None:
    """What stands there now; None if nothing does."""
    return work.services.look(endpoint, path)


def fingerprint(work: Work, endpoint: Endpoint, path: RelativePath) -> str:
    """Tells this version of a file from the next; empty if it is not there (any more)."""
    facts = look(work, endpoint, path)
    return "" if facts is None else facts.version


def copy(
    work: Work,
    scan: Scan,
    datasets: Sequence[Dataset],
    *,
    source: Endpoint,
    destination: Endpoint,
    to: Mapping[RelativePath, RelativePath] | None = None,
    version: str = "",
) -> Sequence[CopyRecord]:
    """Copy datasets from one endpoint to another in one verified transfer, and record each copy that is now there.

    `to` maps paths that are called otherwise at the destination. `version` tells results that are written to the same
    place again (another reconstruction) from those that are already there.

    Raises:
        PolicyRefused: if the scan may not go there; nothing was sent.
        TransferFailed: (one of its subclasses) if the data did not arrive whole.
    """
    names = to or {}
    items = tuple(TransferItem(source=part.path, destination=names.get(part.path, part.path)) for part in datasets)
    request = TransferRequest(source=source, destination=destination, items=items, label=scan.path.stem)
    what = datasets[0].name if len(datasets) == 1 else "results"
    operation = Operation(
        scan=scan,
        step=_step(what, source, destination) + (f" [{version}]" if version else ""),
        request=request,
        destination=destination.place,
        deadline=_deadline(work, datasets, source),
    )
    service = mover(work, scan, source, destination)
    outcome = work.perform(operation, service)
    if outcome.already_done and not all(_stands(work, outcome, item, destination) for item in items):
        work.logger.warning("%s was done, but what arrived is not there as it was: done again", operation.step)
        work.ledger.operations.expire(outcome.record.key)
        outcome = work.perform(operation, service)
    return [
        _record(work, scan, part, item, outcome, destination, version)
        for part, item in zip(datasets, items, strict=True)
    ]


def record_arrived(work: Work, scan: Scan, record: OperationRecord, *, at: Collection[str]) -> Sequence[CopyRecord]:
    """What a transfer of the raw file has brought to one of these endpoints, if its run did not write it down.

    Nothing if it was a transfer of something else, or of another version of the file.
    """
    request = work.services.request_of(record)
    if not isinstance(request, TransferRequest) or request.destination.name not in at:
        return []
    place, raw = request.destination, _step(RAW, request.source, request.destination)
    same = Operation(scan=scan, step=raw, request=request, destination=place.place, deadline=0.0)
    if same.key != record.key:
        return []
    outcome = Outcome(record=record, evidence=record.evidence or {}, already_done=True)
    return [
        _record(work, scan, Dataset(name=RAW, path=item.source), item, outcome, place, "")
        for item in request.items
        if not work.ledger.copies.at(place.name, item.destination)
    ]


def _step(what: str, source: Endpoint, destination: Endpoint) -> str:
    return f"copy {what} from {source.name} to {destination.name}"


def _stands(work: Work, outcome: Outcome, item: TransferItem, destination: Endpoint) -> bool:
    """Whether what was copied before this run is still there, as far as its sizes tell, and was not found changed or
    missing since.
    """
    known = work.ledger.copies.at(destination.name, item.destination)
    if any(each.state in LOST and each.verified_by == outcome.record.key for each in known):
        return False
    facts = look(work, destination, item.destination)
    if facts is None or not outcome.evidence.get("manifest_complete", False):
        return facts is not None
    return has(facts, manifest_of(work, outcome, item, destination))


def whole(work: Work, endpoint: Endpoint, known: CopyRecord) -> bool:
    """Whether a copy is still there, as far as its sizes tell."""
    facts = look(work, endpoint, known.path)
    return facts is not None and has(facts, known.manifest)


def has(facts: FileFacts, manifest: Sequence[FileEvidence]) -> bool:
    """Whether all of these files are there, as far as their sizes tell."""
    found = facts.sizes
    return all(found.get(entry.path) == entry.size for entry in manifest)


def mover(work: Work, scan: Scan, source: Endpoint, destination: Endpoint) -> Service[TransferRequest]:
    """Globus where both ends are collections, plain files where both are mounted here.

    Even the name of an export-controlled file stays here where it can.
    """
    mounted = source.mount is not None and destination.mount is not None
    if mounted and scan.export_controlled:
        return work.services.local_transfer
    if source.uuid is not None and destination.uuid is not None:
        return work.services.globus_transfer
    if mounted:
        return work.services.local_transfer
    raise ConfigError(
        f"nothing moves data from {source.name} to {destination.name}",
        where="globus.globus_endpoints",
        next_step="give both a `uuid` (Globus) or both a `mount` (directories of this machine)",
    )


def _deadline(work: Work, datasets: Sequence[Dataset], source: Endpoint) -> float:
    """From the size of what is there. What is missing gets the shortest: the transfer itself will say so."""
    found = [look(work, source, part.path) for part in datasets]
    return work.settings.transfer.deadline_seconds(sum(facts.size for facts in found if facts is not None))


def _record(
    work: Work, scan: Scan, part: Dataset, item: TransferItem, outcome: Outcome, destination: Endpoint, version: str
) -> CopyRecord:
    manifest = manifest_of(work, outcome, item, destination)
    return work.ledger.copies.record(
        scan_id=scan.id,
        dataset=part.name,
        endpoint=destination.name,
        path=item.destination,
        role=part.role,
        manifest=manifest,
        method=outcome.record.service,
        verified_by=outcome.record.key,
        version=version or scan.fingerprint,
        verified_at=outcome.record.finished_at,
    )


def record_source(
    work: Work,
    scan: Scan,
    copied: CopyRecord,
    *,
    source: Endpoint,
    path: RelativePath,
    role: Role = Role.ORIGINAL,
) -> CopyRecord:
    """What a copy was made from is as good as the copy, which was just verified against it."""
    return work.ledger.copies.record(
        scan_id=scan.id,
        dataset=copied.dataset,
        endpoint=source.name,
        path=path,
        role=role,
        manifest=copied.manifest,
        method=f"source of a verified copy ({copied.method})",
        verified_by=None,
        version=copied.version,
        verified_at=copied.verified_at,
    )


def manifest_of(work: Work, outcome: Outcome, item: TransferItem, destination: Endpoint) -> Sequence[FileEvidence]:
    """The files of one item of a transfer, from the evidence that the mover left.

    A list too long for the evidence is looked up at the destination: without checksums, it will prove no deletion.
    """
    return manifests_of(work, outcome, [item], destination)[0]


def manifests_of(
    work: Work, outcome: Outcome, items: Sequence[TransferItem], destination: Endpoint
) -> Sequence[Sequence[FileEvidence]]:
    """`manifest_of` for several items; the evidence is read once for all.

    Its paths are below the root of the endpoint for which it was written. That may be another one of the same disk than
    `destination`: who looks after a transfer of which he has only the row takes the endpoint with the longest root.
    """
    if "manifest" not in outcome.evidence or not outcome.evidence.get("manifest_complete", False):
        return [_looked_up(work, item, destination) for item in items]
    root = str(outcome.evidence.get("root") or destination.root_path).rstrip("/")
    found: dict[str, list[FileEvidence]] = {destination.full_path(item.destination): [] for item in items}
    for entry in work.ledger.manifests.listed(outcome.evidence):
        path = f"{root}/{entry['path']}"
        for prefix in _prefixes(path, found):
            found[prefix].append(_evidence(entry, path.removeprefix(prefix).removeprefix("/"), outcome))
    return [found[destination.full_path(item.destination)] or _looked_up(work, item, destination) for item in items]


def _looked_up(work: Work, item: TransferItem, destination: Endpoint) -> Sequence[FileEvidence]:
    facts = look(work, destination, item.destination)
    if facts is None:
        raise SourceMissing(
            "what was copied is not there any more",
            where=f"{destination.name}:{item.destination}",
            next_step="find out who removed it, then start the flow again",
        )
    if not facts.is_directory:
        return [FileEvidence(path="", size=facts.size)]
    return [FileEvidence(path=path, size=size) for path, size in facts.manifest]


def _prefixes(path: str, known: Container[str]) -> Iterator[str]:
    """Those that are known of a path and the folders that it lies in."""
    while path:
        if path in known:
            yield path
        path = path.rpartition("/")[0]


def _evidence(entry: Mapping[str, Json], name: str, outcome: Outcome) -> FileEvidence:
    """A file that was there already has no digest in the evidence: Globus compared it, and keeps that to itself."""
    if entry.get("sha256"):
        checksum = f"sha256:{entry['sha256']}"
    elif entry.get("checksum"):
        checksum = f"{str(entry.get('algorithm') or 'md5').lower()}:{entry['checksum']}"
    else:
        checksum = f"{COMPARED}:{outcome.record.handle}"
    return FileEvidence(path=name, size=int(str(entry["size"])), checksum=checksum)
