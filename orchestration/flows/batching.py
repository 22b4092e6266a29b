"""Many arrivals in one transfer: of one run, and of all runs that have some for the same way at the same time.

Each batch is one operation, planned in the ledger with all that it carries, and done once, whichever of its runs does
it. What may not go with the others, or fails by itself, is left out and named; the others go on without it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from orchestration.config import Endpoint
from orchestration.errors import (
    Cancelled,
    InvalidInput,
    InvalidPath,
    OperationFailed,
    OrchestrationError,
    PolicyRefused,
    SourceMissing,
)
from orchestration.flows.copying import Dataset, copy, has, manifests_of, mover
from orchestration.flows.work import Work
from orchestration.ledger.arrivals import Arrival, Limits, Route, Waiting
from orchestration.ledger.cancel import cancel
from orchestration.ledger.copy import CopyRecord, Verified
from orchestration.ledger.operation import Operation, OperationRecord, OperationState
from orchestration.ledger.perform import Outcome
from orchestration.ledger.scan import Scan
from orchestration.ledger.service import Service
from orchestration.ledger.waiting import pause
from orchestration.paths import RelativePath
from orchestration.transfers import OF_ONE, TransferItem, TransferRequest

MOST_BAD = 20
"""So many that fail for a reason of their own are looked for; with more it is the endpoint that is not well."""

LOOK_SECONDS = 0.5
"""How often it is looked whether a batch is due."""


@dataclass(frozen=True, kw_only=True)
class Sent:
    """One scan, and what of it is carried."""

    scan: Scan
    dataset: Dataset
    size: int | None = None
    """Bytes, if it was just seen at the source; else it is looked at."""


@dataclass(kw_only=True)
class Together:
    """What came of arrivals, by the id of their scan."""

    scans: dict[str, Scan] = field(default_factory=dict)
    """Also those that were taken over from a run that has died."""
    copies: dict[str, CopyRecord] = field(default_factory=dict)
    failed: dict[str, OrchestrationError] = field(default_factory=dict)
    """Of those that are not there: why."""


def copy_together(work: Work, sent: Sequence[Sent], *, source: Endpoint, destination: Endpoint) -> Together:
    """Carry datasets of many scans (of each scan one) in as few transfers as the settings allow, and record each copy.

    What a run that has died had wanted to carry there is carried with them. A scan under export control goes alone, or
    not at all.

    Raises:
        OperationFailed: if a transfer failed for a reason that concerns all of it; what had arrived before stays.
    """
    return _Batching(work, source, destination).run(sent)


class _Batching:
    def __init__(self, work: Work, source: Endpoint, destination: Endpoint) -> None:
        self._work = work
        self._source, self._destination = source, destination
        self._route = Route(source=source.name, destination=destination.name)
        self._rows = work.ledger.arrivals
        self._sent: dict[str, Sent] = {}
        self._found = Together()

    def run(self, sent: Sequence[Sent]) -> Together:
        self._sent = {each.scan.id: each for each in sent}
        for left in self._rows.take_over(self._route, run_id=self._work.run_id):
            if left.scan_id not in self._sent:
                self._sent[left.scan_id] = _taken_over(self._work, left)
        self._found.scans = {scan_id: each.scan for scan_id, each in self._sent.items()}
        self._find_copies()
        self._enter([each for each in self._left() if not each.scan.export_controlled])
        for each in [each for each in self._left() if each.scan.export_controlled]:
            self._alone(each)
        while waiting := [each.scan.id for each in self._left()]:
            self._step(waiting)
        return self._found

    def _left(self) -> list[Sent]:
        """Of which it is not known yet what came of them."""
        over = self._found.copies.keys() | self._found.failed.keys()
        return [each for scan_id, each in self._sent.items() if scan_id not in over]

    def _find_copies(self) -> None:
        """What is there already, as an earlier run has carried it."""
        left = {each.scan.id: each for each in self._left()}
        known = {
            copied.scan_id: copied
            for copied in self._work.ledger.copies.there(self._destination.name, left)
            if _same(left[copied.scan_id], copied)
        }
        there = self._work.services.look_at(self._destination, [copied.path for copied in known.values()])
        for scan_id, copied in known.items():
            facts = there.get(copied.path)
            if facts is not None and (copied.manifest or not facts.size) and has(facts, copied.manifest):
                self._found.copies[scan_id] = copied

    def _enter(self, sent: Sequence[Sent]) -> None:
        unseen = [each.dataset.path for each in sent if each.size is None]
        sizes = {path: facts.size for path, facts in self._work.services.look_at(self._source, unseen).items()}
        sizes |= {each.dataset.path: each.size for each in sent if each.size is not None}
        waiting = [_waiting(each, sizes[each.dataset.path]) for each in sent if each.dataset.path in sizes]
        for each in sent:
            if each.dataset.path not in sizes:
                self._found.failed[each.scan.id] = gone = _gone(self._source, each.dataset.path)
                for row in self._rows.among(self._route, [each.scan.id]):
                    self._rows.fail(row, gone)
        self._rows.enter(self._route, waiting, run_id=self._work.run_id)

    def _step(self, left: Sequence[str]) -> None:
        """Carry one batch, or wait until there is one."""
        mine = {each.scan_id: each for each in self._rows.among(self._route, left)}
        scans = self._work.ledger.scans.among(left)
        over = {scan_id: row.error for scan_id, row in mine.items() if row.error is not None}
        alone = {scan_id for scan_id, error in over.items() if isinstance(error, PolicyRefused)}
        alone |= {each for each in left if each not in mine}
        alone |= {each for each, row in mine.items() if row.operation_key is None and scans[each].export_controlled}
        self._found.failed |= {scan_id: error for scan_id, error in over.items() if scan_id not in alone}
        for scan_id in sorted(alone):
            self._alone(self._sent[scan_id])
        if over or alone:
            return
        key = next((each.operation_key for each in mine.values() if each.operation_key is not None), None)
        key = key or self._gather()
        if key is not None:
            self._carry(key)
            return
        self._work.ledger.runs.demand_wanted(self._work.run_id)
        pause(min(LOOK_SECONDS, self._limits.seconds), f"copy from {self._source.name} to {self._destination.name}")

    @property
    def _limits(self) -> Limits:
        policy = self._work.settings.transfer
        return Limits(
            files=policy.batch_files,
            bytes=policy.batch_bytes,
            seconds=policy.batch_seconds,
            by_folder=self._destination.has_owners,
        )

    @property
    def _service(self) -> Service[TransferRequest]:
        one = next(iter(self._sent.values())).scan
        return mover(self._work, replace(one, export_controlled=False), self._source, self._destination)

    def _gather(self) -> str | None:
        chosen: list[Arrival] = []

        def make(members: Sequence[Arrival], scans: Mapping[str, Scan]) -> Operation[TransferRequest]:
            chosen[:] = members
            return self._planned(members, scans)

        try:
            return self._rows.gather(
                self._route, self._limits, make, service=self._service.name, run_id=self._work.run_id
            )
        except PolicyRefused as refusal:
            self._refused(refusal, chosen)
            return None

    def _planned(self, members: Sequence[Arrival], scans: Mapping[str, Scan]) -> Operation[TransferRequest]:
        """The step tells the versions of the files; otherwise the operation is as it can be read back."""
        versions = sorted((each.scan_id, each.dataset, each.path.text, each.version) for each in members)
        which = hashlib.sha256(repr(versions).encode()).hexdigest()[:8]
        items = tuple(TransferItem(source=each.path, destination=each.path) for each in members)
        more = f" and {len(members) - 1} more" if len(members) > 1 else ""
        label = f"{members[0].path.stem}{more}"
        request = TransferRequest(source=self._source, destination=self._destination, items=items, label=label)
        step = f"copy {len(members)} new files from {self._source.name} to {self._destination.name} [{which}]"
        return self._operation(step, members, request, scans)

    def _operation(
        self, step: str, members: Sequence[Arrival], request: TransferRequest, scans: Mapping[str, Scan]
    ) -> Operation[TransferRequest]:
        first, *others = (replace(scans[each], fingerprint="") for each in dict.fromkeys(m.scan_id for m in members))
        return Operation(
            scan=first,
            others=tuple(others),
            step=step,
            request=request,
            destination=self._destination.place,
            deadline=self._work.settings.transfer.deadline_seconds(sum(each.size for each in members)),
        )

    def _again(self, record: OperationRecord, members: Sequence[Arrival]) -> Operation[TransferRequest]:
        """The operation of a batch, as the ledger has it; that does not say which endpoint of a disk was meant."""
        request = self._work.services.request_of(record)
        if not isinstance(request, TransferRequest):
            raise InvalidInput(
                "what it was to carry cannot be read back",
                where=record.step,
                next_step=f"put {self._source.name} and {self._destination.name} back into config.yml as they were",
            )
        filed = [each for each in members if each.scan_id == record.scan_id]
        ordered = [*filed, *(each for each in members if each not in filed)]
        scans = self._work.ledger.scans.among([each.scan_id for each in members])
        return self._operation(record.step, ordered, request.between(self._source, self._destination), scans)

    def _carry(self, key: str) -> None:
        members = self._rows.of_operation(key)
        record = self._work.ledger.operations.get(key)
        if record.state is OperationState.EXPIRED or not members:
            self._rows.release(key)  # one of its copies was deleted on purpose, before this was written down
            return
        operation = self._again(record, members)
        try:
            outcome = self._work.perform(operation, self._service)
        except PolicyRefused as refusal:
            self._taken_apart(operation, refusal)
        except Cancelled:
            self._work.ledger.runs.demand_wanted(self._work.run_id)
            if self._work.ledger.operations.get(key).run_id == self._work.run_id:
                raise
            self._rows.release(key)  # of another run, which was cancelled
        except OF_ONE as error:
            self._without_bad(key, members, error)
        else:
            self._record(outcome, members)

    def _without_bad(self, key: str, members: Sequence[Arrival], error: OperationFailed | InvalidPath) -> None:
        """The others wait for another batch: with what is missing left out, or in halves, until one fails alone."""
        bad = members if len(members) == 1 else self._missing(members)
        for each in bad:
            self._rows.fail(each, error if len(members) == 1 else _gone(self._source, each.path))
            self._work.logger.warning("%s is left out: %s", each.path, error.what)
        if sum(isinstance(each, OF_ONE) for each in self._found.failed.values()) > MOST_BAD:
            raise error
        self._rows.release(key, at_most=None if bad else (len(members) + 1) // 2)

    def _missing(self, members: Sequence[Arrival]) -> Sequence[Arrival]:
        there = self._work.services.look_at(self._source, [each.path for each in members])
        return [each for each in members if each.path not in there]

    def _taken_apart(self, operation: Operation[TransferRequest], refusal: PolicyRefused) -> None:
        """One of the scans may not go (any more): nothing of this batch does, unless it had arrived before."""
        said = cancel(self._work.ledger, operation.key, self._service, operation.request)
        record = self._work.ledger.operations.get(operation.key)
        if record.state is OperationState.SUCCEEDED:
            outcome = Outcome(record=record, evidence=record.evidence or {}, already_done=True)
            self._record(outcome, self._rows.of_operation(operation.key))
            return
        if record.state.open:
            raise OperationFailed(
                f"{refusal.what}; it may still be on its way: {said.why or said.answer.value}",
                where=operation.step,
                next_step="look at the task, then start the flow again: it is stopped before anything else goes",
            ) from refusal
        members = self._rows.of_operation(operation.key)
        self._rows.release(operation.key)
        self._refused(refusal, members)

    def _refused(self, refusal: PolicyRefused, members: Sequence[Arrival]) -> None:
        """What may not go with the others goes alone, if at all: of that the policy is asked by itself."""
        scan_id = refusal.scan or (members[0].scan_id if len(members) == 1 else "")
        if not scan_id:
            raise refusal
        for each in self._rows.among(self._route, [scan_id]):
            self._rows.fail(each, refusal)
        self._work.logger.warning("%s is left out: %s", scan_id, refusal.what)

    def _alone(self, each: Sent) -> None:
        scan = replace(self._work.ledger.scans.get(each.scan.id), fingerprint=each.scan.fingerprint)
        try:
            copied = copy(self._work, scan, [each.dataset], source=self._source, destination=self._destination)
        except (PolicyRefused, *OF_ONE) as error:
            self._found.failed[scan.id] = error
        else:
            self._found.copies[scan.id] = copied[0]

    def _record(self, outcome: Outcome, members: Sequence[Arrival]) -> None:
        stands = self._standing(outcome, members) if outcome.already_done else members
        items = [TransferItem(source=each.path, destination=each.path) for each in stands]
        manifests = manifests_of(self._work, outcome, items, self._destination)
        verified = [
            Verified(
                scan_id=each.scan_id,
                dataset=each.dataset,
                endpoint=self._destination.name,
                path=each.path,
                role=self._sent[each.scan_id].dataset.role if each.scan_id in self._sent else Dataset.role,
                manifest=manifest,
                method=outcome.record.service,
                verified_by=outcome.record.key,
                version=each.version,
                verified_at=outcome.record.finished_at,
            )
            for each, manifest in zip(stands, manifests, strict=True)
        ]
        for copied in self._work.ledger.copies.record_all(verified):
            if copied.scan_id in self._sent:
                self._found.copies[copied.scan_id] = copied
        if len(stands) < len(members):
            self._work.logger.warning("%s was done, but not all of it is there: done again", outcome.record.step)
            self._work.ledger.operations.expire(outcome.record.key)
            self._rows.release(outcome.record.key)

    def _standing(self, outcome: Outcome, members: Sequence[Arrival]) -> Sequence[Arrival]:
        """What was carried before this run, is there in the size that it had, and was not found changed or missing
        since.
        """
        there = self._work.services.look_at(self._destination, [each.path for each in members])
        known = self._work.ledger.copies.lost(self._destination.name, [each.scan_id for each in members])
        lost = {(each.scan_id, each.path) for each in known if each.verified_by == outcome.record.key}
        whole = [each for each in members if each.path in there and there[each.path].size == each.size]
        return [each for each in whole if (each.scan_id, each.path) not in lost]


def _same(each: Sent, copied: CopyRecord) -> bool:
    wanted = (each.dataset.name, each.dataset.path, each.scan.fingerprint)
    return (copied.dataset, copied.path, copied.version) == wanted


def _taken_over(work: Work, left: Arrival) -> Sent:
    """As it was when the run that has died found it."""
    scan = replace(work.ledger.scans.get(left.scan_id), fingerprint=left.version)
    return Sent(scan=scan, dataset=Dataset(name=left.dataset, path=left.path))


def _waiting(each: Sent, size: int) -> Waiting:
    return Waiting(
        scan_id=each.scan.id,
        dataset=each.dataset.name,
        path=each.dataset.path,
        version=each.scan.fingerprint,
        size=size,
    )


def _gone(source: Endpoint, path: RelativePath) -> SourceMissing:
    return SourceMissing(f"there is nothing at {source.full_path(path)}", where=source.name)
