"""The deletion of many copies at one endpoint that were scheduled together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from orchestration.config import Endpoint
from orchestration.errors import Cancelled, DeletionUnproven, OrchestrationError
from orchestration.flows.pruning import Pruned, aside, present_at, prune_copies, put_off, waits
from orchestration.flows.rehearsing import rehearse
from orchestration.flows.work import Work
from orchestration.ledger.copy import CopyRecord
from orchestration.ledger.service import Document, Json
from orchestration.ledger.slices import batched
from orchestration.paths import RelativePath

AT_ONCE = 100
"""Copies that are deleted in one task: so many proofs are not older than a few minutes when it begins."""

FAILURES = 3
"""After so many tasks in a row that failed none is begun."""

NAMED = 10
"""Copies that an error names; the rest are in the log."""


@dataclass
class _Told:
    deleted: list[Json] = field(default_factory=list)
    quarantined: list[Json] = field(default_factory=list)
    refused: list[DeletionUnproven] = field(default_factory=list)
    errors: list[OrchestrationError] = field(default_factory=list)

    def add(self, done: Pruned) -> None:
        self.deleted += [proof.document() for proof in done.deleted]
        self.quarantined += [aside(copy) for copy in done.quarantined]
        self.refused += done.refused


def prune_together(work: Work, endpoint: Endpoint, copies: Mapping[str, int]) -> Document:
    """`prune` for many, each in its generation by its path: what is wrong with one keeps no other from its deletion.

    Raises:
        DeletionUnproven: if some are not deleted, in the end, naming them.
        OperationFailed: (or another error of the endpoint) if a task failed: what is left is as it was before.
    """
    told = _Told()
    present = _present(work, endpoint, copies, told)
    later = put_off(work, [copy for copy in present if not waits(work, copy)])
    failures = 0
    for some in batched([copy for copy in present if copy.id not in later], AT_ONCE):
        if failures == FAILURES:
            break
        try:
            told.add(prune_copies(work, endpoint, some))
            failures = 0
        except Cancelled:
            raise
        except OrchestrationError as error:
            work.logger.warning("%s: %s", endpoint.name, error)
            told.errors.append(error)
            failures += 1
    _demand_all(work, endpoint, copies, told)
    return {
        "endpoint": endpoint.name,
        "copies": len(copies),
        "deleted": told.deleted,
        "quarantined": told.quarantined,
        "put off": [*later.values()],
    }


def rehearse_together(work: Work, endpoint: Endpoint, copies: Mapping[str, int]) -> Document:
    """What `prune_together` would do now; nothing is done."""
    told: list[Json] = [
        rehearse(work, endpoint, RelativePath.parse(path), generation=generation) for path, generation in copies.items()
    ]
    return {"endpoint": endpoint.name, "copies": told}


def _present(work: Work, endpoint: Endpoint, copies: Mapping[str, int], told: _Told) -> Sequence[CopyRecord]:
    found: list[CopyRecord] = []
    for path, generation in copies.items():
        try:
            found += present_at(work, endpoint, RelativePath.parse(path), generation)
        except DeletionUnproven as refusal:
            told.refused.append(refusal)
    return found


def _demand_all(work: Work, endpoint: Endpoint, copies: Mapping[str, int], told: _Told) -> None:
    for refusal in told.refused:
        work.logger.warning("not deleted: %s", refusal.sentence)
    if told.errors:
        raise told.errors[0]
    if told.refused:
        named = "; ".join(f"{each.where}: {each.what}" for each in told.refused[:NAMED])
        more = f"; and {len(told.refused) - NAMED} more" if len(told.refused) > NAMED else ""
        raise DeletionUnproven(
            f"{len(told.refused)} of {len(copies)} copies are not deleted: {named}{more}",
            where=endpoint.name,
            next_step=told.refused[0].next_step,
        ) from told.refused[0]
