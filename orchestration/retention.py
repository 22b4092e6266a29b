"""When a copy may go, and under which proof.

A copy is deleted only if, at that moment, enough other copies of the same bytes are proved: the ledger holds the
evidence that each was verified, they lie on other storage, and a look at the endpoint finds them as they were.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from orchestration.config import Endpoint, RetentionRule, Settings
from orchestration.errors import DeletionUnproven
from orchestration.ledger.copies import CopyRecord, CopyState, Proven, Role
from orchestration.ledger.holds import HoldRecord
from orchestration.ledger.manifests import COMPARED, FileEvidence
from orchestration.ledger.operation import OperationRecord
from orchestration.ledger.service import Document
from orchestration.paths import RelativePath
from orchestration.transfers import FileFacts

Look = Callable[[Endpoint, RelativePath], FileFacts | None]
"""What stands at a path of an endpoint now; None if nothing does."""

CLOCK_SLACK_SECONDS = 120.0
"""How far the clock of an endpoint may be off when its time of change is compared with ours."""


@dataclass(frozen=True, kw_only=True)
class Witness:
    """Another copy that was found to be whole, and how."""

    copy: CopyRecord
    looked_at: float

    def document(self) -> Document:
        return {
            "endpoint": self.copy.endpoint,
            "path": self.copy.path.text,
            "size": self.copy.size,
            "files": self.copy.files,
            "method": self.copy.method,
            "verified_at": self.copy.verified_at,
            "looked_at": self.looked_at,
        }


@dataclass(frozen=True, kw_only=True)
class Proof:
    """Enough witnesses that a copy is not the last one."""

    copy: CopyRecord
    witnesses: tuple[Witness, ...]

    @property
    def proven(self) -> Proven:
        """For the ledger."""
        witnesses = tuple(witness.copy for witness in self.witnesses)
        return Proven(copy=self.copy, witnesses=witnesses, evidence=self.document())

    def document(self) -> Document:
        return {
            "copy": {"endpoint": self.copy.endpoint, "path": self.copy.path.text, "size": self.copy.size},
            "witnesses": [witness.document() for witness in self.witnesses],
        }


def prove(
    copy: CopyRecord,
    *,
    rule: RetentionRule | None,
    others: Iterable[CopyRecord],
    holds: Sequence[HoldRecord],
    open_operations: Sequence[OperationRecord],
    settings: Settings,
    look: Look,
) -> Proof:
    """The proof that `copy` may be deleted now.

    `others` are all copies of its scan, `holds` those that stand on the scan, `open_operations` what is still going on
    with it.

    Raises:
        DeletionUnproven: naming what is wrong with the copy itself or, for each copy that might have been a witness,
            why it is none. Nothing was deleted.
    """
    where = f"{copy.endpoint}:{copy.path}"
    if rule is None:
        raise DeletionUnproven(
            "no retention rule allows deletions there",
            where=where,
            next_step=f"add `retention.{copy.endpoint}` to config.yml if its copies may be deleted",
        )
    if holds:
        raise holds[0].refusal(where=where)
    if open_operations:
        busy = ", ".join(operation.step for operation in open_operations[:3])
        raise DeletionUnproven(
            f"the scan is in use ({busy})", where=where, next_step="start the deletion again when that has ended"
        )
    if change := _change(copy, look(settings.endpoint(copy.endpoint), copy.path)):
        raise DeletionUnproven(
            change, where=where, next_step="find out who wrote there; if it is a scan, start its flow to carry it anew"
        )
    doubts: list[str] = []
    witnesses: list[Witness] = []
    for other in others:
        if other.id == copy.id or other.dataset != copy.dataset or other.endpoint not in rule.requires.any_of:
            continue
        doubt = _doubt(copy, other, settings=settings, look=look) or _counted(other, witnesses, settings)
        if doubt:
            doubts.append(f"{other.endpoint}: {doubt}")
        else:
            witnesses.append(Witness(copy=other, looked_at=time.time()))
    if len(witnesses) < rule.requires.min_copies:
        places = " or ".join(rule.requires.any_of)
        found = "; ".join(doubts) or f"the ledger knows none at {places}"
        raise DeletionUnproven(
            f"{rule.requires.min_copies} verified copies are needed at {places}, {len(witnesses)} proved: {found}",
            where=where,
        )
    return Proof(copy=copy, witnesses=tuple(witnesses))


def _change(copy: CopyRecord, facts: FileFacts | None) -> str:
    """Whether more than the copy would be deleted: what stands there was written since; empty if not.

    Files that are missing are no loss: the rest of a deletion that was interrupted may go on.
    """
    if facts is None:
        return ""
    known, found = _sizes(copy.manifest), facts.sizes
    if any(known.get(path) != size for path, size in found.items()):
        return "what stands there is not what was verified"
    # The version of an original is that of its file. Elsewhere, the time of change must do.
    if copy.role is Role.ORIGINAL and copy.version:
        return "" if facts.version == copy.version else "the file was written anew after it was carried"
    if found and facts.modified > copy.verified_at + CLOCK_SLACK_SECONDS:
        return "it was changed after it was verified"
    return ""


def _counted(other: CopyRecord, witnesses: Sequence[Witness], settings: Settings) -> str:
    """Whether a witness on the same storage, which may be the same file, has been counted already."""
    endpoint = settings.endpoint(other.endpoint)
    for witness in witnesses:
        if endpoint.shares_storage_with(settings.endpoint(witness.copy.endpoint)):
            return f"it is the same storage as {witness.copy.endpoint}"
    return ""


def _doubt(copy: CopyRecord, other: CopyRecord, *, settings: Settings, look: Look) -> str:
    """Why `other` does not prove that `copy` is not the last one; empty if it does."""
    endpoint = settings.endpoint(other.endpoint)
    if other.state is not CopyState.PRESENT:
        return "that copy was deleted"
    if other.version != copy.version:
        return "it is a copy of another version"
    if endpoint.shares_storage_with(settings.endpoint(copy.endpoint)):
        return "it is the same storage"
    if difference := _difference(copy.manifest, other.manifest):
        return difference
    facts = look(endpoint, other.path)
    if facts is None:
        return "it is not there any more"
    if _sizes(other.manifest) != facts.sizes:
        return "its files are not those that were verified"
    if facts.modified > other.verified_at + CLOCK_SLACK_SECONDS:
        return "it was changed after it was verified"
    return ""


def _difference(one: Sequence[FileEvidence], other: Sequence[FileEvidence]) -> str:
    """Whether two copies of a dataset hold the same bytes, as far as their evidence goes."""
    if _sizes(one) != _sizes(other):
        return "its sizes differ"
    sums = {entry.path: entry.checksum for entry in one}
    for entry in other:
        mine, theirs = sums[entry.path], entry.checksum
        if mine is None or theirs is None:
            return "it has no checksum"
        if COMPARED != _algorithm(mine) == _algorithm(theirs) and mine != theirs:
            return f"the checksum of {entry.path or 'the file'} differs"
    return ""


def _algorithm(checksum: str) -> str:
    return checksum.partition(":")[0].lower()


def _sizes(manifest: Sequence[FileEvidence]) -> dict[str, int]:
    return {entry.path: entry.size for entry in manifest}
