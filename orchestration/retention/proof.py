"""The proof that a copy may go, made at that moment.

A copy is deleted only if enough other copies of the same bytes are proved: the ledger holds the evidence that each was
verified, they lie on other storage, and a look at the endpoint finds them as they were. Where the rule says so,
evidence that is old is made anew, by checksums; and what can be computed again may go if that is proved of what it was
computed from.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from orchestration.config import Endpoint, RetentionRule, Settings
from orchestration.errors import Cancelled, DeletionUnproven, InvalidInput, OperationFailed
from orchestration.ledger.copy import CopyRecord, CopyState, Proven, Role
from orchestration.ledger.holds import HoldRecord
from orchestration.ledger.operation import OperationRecord
from orchestration.ledger.results import ResultRecord
from orchestration.ledger.service import Document, Json
from orchestration.paths import RelativePath
from orchestration.retention.likeness import change, difference, unlike
from orchestration.transfers import FileFacts, shown

_DAY = 24 * 3600.0

_STATES = {
    CopyState.DELETED: "that copy was deleted",
    CopyState.QUARANTINED: "that copy is in quarantine",
    CopyState.CHANGED: "it is not what was verified",
    CopyState.MISSING: "it is not there any more",
}
"""Of what does not count, as people say it."""


class Inspector(Protocol):
    """Looks at what is there now. Each method may raise `ServiceUnavailable`: then nothing is proved."""

    def look(self, endpoint: Endpoint, path: RelativePath) -> FileFacts | None:
        """What stands at a path of an endpoint; None if nothing does."""
        ...

    def is_empty(self, endpoint: Endpoint) -> bool:
        """Whether nothing at all stands at its root, as where a disk is not mounted."""
        ...

    def checked(self, copy: CopyRecord) -> CopyRecord:
        """The copy with new evidence, once the checksums of all its files were computed again.

        Raises:
            OperationFailed: (one of its subclasses) if they are not what they were, or cannot be computed.
        """
        ...

    def catalogued(self, scan_id: str) -> bool:
        """Whether the catalogue has a record of the scan."""
        ...


@dataclass(frozen=True, kw_only=True)
class Case:
    """A copy that is to be deleted, and what the ledger knows around it."""

    copy: CopyRecord
    rule: RetentionRule | None
    others: Sequence[CopyRecord]
    """All copies of its scan."""
    holds: Sequence[HoldRecord]
    """Those that keep it."""
    open_operations: Sequence[OperationRecord]
    """What is still going on with it."""
    results: Sequence[ResultRecord]
    """Of the scan, with their receipts."""
    now: float
    """Seconds since the epoch."""

    @property
    def where(self) -> str:
        return f"{self.copy.endpoint}:{self.copy.path}"


@dataclass(frozen=True, kw_only=True)
class Witness:
    """Another copy that was found to be whole, and how."""

    copy: CopyRecord
    looked_at: float

    def document(self) -> Document:
        return {
            "dataset": self.copy.dataset,
            "endpoint": self.copy.endpoint,
            "path": self.copy.path.text,
            "size": self.copy.size,
            "files": self.copy.files,
            "method": self.copy.method,
            "verified_at": self.copy.evidence_at,
            "looked_at": self.looked_at,
        }


@dataclass(frozen=True, kw_only=True)
class Proof:
    """Enough witnesses that a copy is not the last one, or that it can be made again (`recreated_by`, a receipt)."""

    copy: CopyRecord
    witnesses: tuple[Witness, ...]
    began_at: float
    """What was looked at for it was looked at after that (seconds since the epoch)."""
    recreated_by: Document | None = None
    seen: str = ""
    """What stood at its place (`transfers.shown`)."""

    @property
    def proven(self) -> Proven:
        """For the ledger."""
        witnesses = tuple(witness.copy for witness in self.witnesses)
        return Proven(copy=self.copy, witnesses=witnesses, evidence=self.document(), seen=self.seen)

    def document(self) -> Document:
        witnesses: list[Json] = [witness.document() for witness in self.witnesses]
        copy: Document = {"endpoint": self.copy.endpoint, "path": self.copy.path.text, "size": self.copy.size}
        receipt: Document = {} if self.recreated_by is None else {"receipt": self.recreated_by}
        return {"copy": copy, "witnesses": witnesses, **receipt}


def prove(case: Case, *, settings: Settings, inspector: Inspector) -> Proof:
    """The proof that the copy may be deleted now.

    Raises:
        DeletionUnproven: naming what is wrong with the copy itself or, for each copy that might have been a witness,
            why it is none. Nothing was deleted.
    """
    copy, rule = case.copy, case.rule
    if rule is None:
        raise DeletionUnproven(
            "no retention rule allows deletions there",
            where=case.where,
            next_step=f"add `retention.{copy.endpoint}` to config.yml if its copies may be deleted",
        )
    if case.holds:
        raise case.holds[0].refusal(copy.scan_id, where=case.where)
    if case.open_operations:
        busy = ", ".join(operation.step for operation in case.open_operations[:3])
        raise DeletionUnproven(
            f"the scan is in use ({busy})", where=case.where, next_step="start the deletion again when that has ended"
        )
    if copy.state in {CopyState.CHANGED, CopyState.MISSING}:
        raise DeletionUnproven(
            "what stands there is not what was verified" if copy.state is CopyState.CHANGED else "it is missing",
            where=case.where,
            next_step="find out what happened to it; `beamline retention explain` shows the other copies",
        )
    endpoint = settings.endpoint(copy.endpoint)
    facts = _seen(case, endpoint, inspector)
    if facts is None and inspector.is_empty(endpoint):
        raise DeletionUnproven(
            f"neither it nor anything else is at {copy.endpoint}: is its disk mounted?",
            where=case.where,
            next_step="mount it; the next night tries again",
        )
    if written := change(copy, facts):
        raise DeletionUnproven(
            written,
            where=case.where,
            next_step="find out who wrote there; if it is a scan, start its flow to carry it anew",
        )
    if rule.catalogued and not inspector.catalogued(copy.scan_id):
        raise DeletionUnproven(
            "the catalogue does not have its scan",
            where=case.where,
            next_step="start the scan's flow again: it catalogues what the catalogue does not have",
        )
    return replace(_Hearing(case, rule, settings, inspector).proof(), seen=shown(facts))


def _seen(case: Case, endpoint: Endpoint, inspector: Inspector) -> FileFacts | None:
    """What stands there. What cannot be looked at is not proved; if nothing there can be, the endpoint is to blame."""
    try:
        return inspector.look(endpoint, case.copy.goes_with)
    except Cancelled:
        raise
    except (OperationFailed, InvalidInput) as error:
        inspector.is_empty(endpoint)
        raise DeletionUnproven(
            f"it cannot be looked at: {error.what}", where=case.where, next_step=error.next_step
        ) from error


@dataclass(frozen=True)
class _Hearing:
    """Of the witnesses."""

    case: Case
    rule: RetentionRule
    settings: Settings
    inspector: Inspector

    def proof(self) -> Proof:
        copy, wanted = self.case.copy, self.rule.requires
        witnesses, doubts = self._heard(copy, [other for other in self.case.others if other.id != copy.id])
        if len(witnesses) >= wanted.min_copies:
            return Proof(copy=copy, witnesses=witnesses, began_at=self.case.now)
        if copy.role is Role.CACHE and self.rule.recreatable:
            return self._recreation()
        places = " or ".join(wanted.any_of)
        found = "; ".join(doubts) or f"the ledger knows none at {places}"
        needed = "1 verified copy is" if wanted.min_copies == 1 else f"{wanted.min_copies} verified copies are"
        raise DeletionUnproven(
            f"{needed} needed at {places}, {len(witnesses)} proved: {found}",
            where=self.case.where,
        )

    def _recreation(self) -> Proof:
        """That all it was made from is where the rule wants copies, as it was then."""
        copy, wanted = self.case.copy, self.rule.requires
        made = [each for each in self.case.results if (each.endpoint, each.path) == (copy.endpoint, copy.path)]
        sources = [self._source(row) for row in made[-1].receipt.inputs] if made else []
        if not sources:
            raise self._unrecreatable("the ledger has no receipt of it, with what it was made from")
        witnesses: tuple[Witness, ...] = ()
        for source in sources:
            heard, doubts = self._heard(source, self.case.others)
            if len(heard) < wanted.min_copies:
                what = "; ".join(doubts) or f"the ledger knows no copy of it at {' or '.join(wanted.any_of)}"
                raise self._unrecreatable(f"{source.dataset}, of which it was made: {what}")
            witnesses += heard
        receipt = made[-1].receipt.document()
        return Proof(copy=copy, witnesses=witnesses, began_at=self.case.now, recreated_by=receipt)

    def _source(self, row: Document) -> CopyRecord:
        """What the ledger knows of one input: it may be deleted there by now, but not be of another version."""
        for other in self.case.others:
            checksums = {entry.checksum for entry in other.manifest}
            same_place = (other.dataset, other.endpoint, other.path.text) == (
                row.get("dataset"),
                row.get("endpoint"),
                row.get("path"),
            )
            if same_place and other.size == row.get("size") and row.get("checksum") in {None, *checksums}:
                return other
        raise self._unrecreatable(f"what it was made of, {row.get('endpoint')}:{row.get('path')}, is not what it was")

    def _unrecreatable(self, why: str) -> DeletionUnproven:
        return DeletionUnproven(f"it has no other copy, and cannot be made again: {why}", where=self.case.where)

    def _heard(self, copy: CopyRecord, others: Iterable[CopyRecord]) -> tuple[tuple[Witness, ...], Sequence[str]]:
        """Those that hold the same bytes as `copy`, each on storage of its own; and why the others do not.

        Checksums are computed again only where the rest are not enough.
        """
        doubts: list[str] = []
        witnesses: list[Witness] = []
        old: list[CopyRecord] = []
        for other in others:
            if other.dataset != copy.dataset or other.endpoint not in self.rule.requires.any_of:
                continue
            doubt = self._doubt(copy, other) or self._counted(other, witnesses)
            if doubt:
                doubts.append(f"{other.endpoint}: {doubt}")
            elif self._old(other):
                old.append(other)
            else:
                witnesses.append(Witness(copy=other, looked_at=self.case.now))
        for other in old:
            if len(witnesses) >= self.rule.requires.min_copies:
                break
            doubt = self._counted(other, witnesses)
            renewed, doubt = (other, doubt) if doubt else self._checked(copy, other)
            if doubt:
                doubts.append(f"{other.endpoint}: {doubt}")
            else:
                witnesses.append(Witness(copy=renewed, looked_at=self.case.now))
        return tuple(witnesses), doubts

    def _old(self, other: CopyRecord) -> bool:
        """Of a tape, a look sees only what its index says: its bytes are read again from time to time in any case."""
        archive = self.settings.archives.get(other.endpoint)
        limits = (self.rule.evidence_days, None if archive is None else archive.read_again_days)
        age = self.case.now - other.evidence_at
        return any(days is not None and age >= days * _DAY for days in limits)

    def _checked(self, copy: CopyRecord, other: CopyRecord) -> tuple[CopyRecord, str]:
        try:
            renewed = self.inspector.checked(other)
        except Cancelled:
            raise
        except OperationFailed as error:
            return other, f"its checksums are {(self.case.now - other.evidence_at) / _DAY:.0f} days old: {error.what}"
        return renewed, difference(copy.manifest, renewed.manifest)

    def _doubt(self, copy: CopyRecord, other: CopyRecord) -> str:
        """Why `other` does not prove that there is another copy of these bytes; empty if it does."""
        endpoint = self.settings.endpoint(other.endpoint)
        if other.state is not CopyState.PRESENT:
            return _STATES.get(other.state, f"that copy is {other.state.value}")
        if other.version != copy.version:
            return "it is a copy of another version"
        if endpoint.shares_storage_with(self.settings.endpoint(self.case.copy.endpoint)):
            return "it is the same storage"
        if unequal := difference(copy.manifest, other.manifest):
            return unequal
        try:
            facts = self.inspector.look(endpoint, other.path)
        except (OperationFailed, InvalidInput) as error:
            return f"it cannot be looked at: {error.what}"
        return unlike(other, facts)[1]

    def _counted(self, other: CopyRecord, witnesses: Sequence[Witness]) -> str:
        """Whether a witness on the same storage, which may be the same file, has been counted already."""
        endpoint = self.settings.endpoint(other.endpoint)
        for witness in witnesses:
            if endpoint.shares_storage_with(self.settings.endpoint(witness.copy.endpoint)):
                return f"it is the same storage as {witness.copy.endpoint}"
        return ""
