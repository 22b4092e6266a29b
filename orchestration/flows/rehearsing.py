"""What a deletion would do, for a person who thinks of starting it."""

from __future__ import annotations

from collections.abc import Sequence

from orchestration.config import Endpoint
from orchestration.errors import DeletionUnproven
from orchestration.flows.inspecting import Inspection
from orchestration.flows.proving import demand_due, proof_of
from orchestration.flows.pruning import present_at
from orchestration.flows.quarantining import to_be_set_aside
from orchestration.flows.work import Work
from orchestration.ledger.copy import CopyRecord
from orchestration.ledger.service import Document, Json
from orchestration.paths import RelativePath
from orchestration.retention import Proof

_DELETE, _SET_ASIDE, _KEEP = "would be deleted", "would be set aside", "would be kept"


def rehearse(work: Work, endpoint: Endpoint, path: RelativePath, *, generation: int | None = None) -> Document:
    """What `prune` would do there now, of each copy with its proof, or with all that is missing for one.

    Copies and witnesses are looked at; nothing is deleted, computed, planned or written down.

    Raises:
        DeletionUnproven: if the ledger knows nothing there.
    """
    found: dict[str, list[Json]] = {_DELETE: [], _SET_ASIDE: [], _KEEP: []}
    for copy in present_at(work, endpoint, path, generation):
        missing, proof = _verdict(work, copy)
        where = f"{copy.dataset} at {copy.endpoint}:{copy.lies_at}"
        if proof is None:
            work.logger.info("%s would be kept: %s", where, "; ".join(missing))
            found[_KEEP].append({"dataset": copy.dataset, "generation": copy.generation, "missing": [*missing]})
            continue
        fate = _SET_ASIDE if to_be_set_aside(work, copy) else _DELETE
        places = ", ".join(f"{witness.copy.endpoint}:{witness.copy.path}" for witness in proof.witnesses)
        work.logger.info("%s %s: proved by %s", where, fate, places)
        found[fate].append(proof.document())
    return {"endpoint": endpoint.name, "path": path.text, **found}


def _verdict(work: Work, copy: CopyRecord) -> tuple[Sequence[str], Proof | None]:
    """All that is missing for its deletion, or the proof."""
    missing: list[str] = []
    proof = None
    try:
        demand_due(work, copy)
    except DeletionUnproven as refusal:
        missing.append(refusal.what)
    try:
        proof = proof_of(work, copy, inspection=Inspection(work, computes=False))
    except DeletionUnproven as refusal:
        missing.append(refusal.what)
    return missing, None if missing else proof
