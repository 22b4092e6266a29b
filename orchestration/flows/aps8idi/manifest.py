"""Which datasets a batch has: the folders of an experiment, and the raw file of each."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from orchestration.config.xpcs import XpcsDeployment
from orchestration.errors import InvalidInput, SourceMissing
from orchestration.flows.work import Work
from orchestration.ledger.batches import BatchItem, BatchRecord, ItemState
from orchestration.ledger.operation import canonical
from orchestration.ledger.service import Document
from orchestration.paths import RelativePath

_MOST = 10_000
"""Batches among which one that was asked the same is looked for, the newest first."""


def datasets_of(
    work: Work, deployment: XpcsDeployment, folder: RelativePath, chosen: Sequence[str]
) -> Mapping[str, Document]:
    """The datasets of an experiment by the names of their folders, or those of them that were `chosen`.

    What is in them is looked at when their turn comes: what is wrong with one is its own failure.

    Raises:
        SourceMissing: if there is no such folder, or no folder in it.
        InvalidInput: if one that was chosen is not there.
    """
    source = work.settings.endpoint(deployment.source)
    names = work.services.folders(source, folder)
    if names is None:
        raise SourceMissing(f"there is no folder {folder}", where=f"{source.name}:{folder}")
    unknown = sorted(set(chosen) - set(names))
    if unknown:
        raise InvalidInput(
            f"{folder} has no dataset {', '.join(unknown)}",
            where=f"{source.name}:{folder}",
            next_step="choose among the folders that are there",
        )
    found = [name for name in sorted(names) if not chosen or name in chosen]
    if not found:
        raise SourceMissing(f"{folder} has no folders, which datasets are", where=f"{source.name}:{folder}")
    return {name: {"folder": (folder / name).text} for name in found}


def begin(work: Work, flow: str, deployment: XpcsDeployment, asked: Document, chosen: Sequence[str]) -> BatchRecord:
    """A batch with what is `asked` of its datasets.

    One that was asked the same and is not through is gone on with. Else there is a new one, of the datasets that have
    no result yet: those that have come since, and those that failed.
    """
    batches, folder = work.ledger.batches, RelativePath(str(asked["folder"]))
    alike = [each for each in batches.latest(limit=_MOST, flow=flow) if each.parameters == asked]
    unfinished = [each for each in alike if not chosen and _is_open(batches.counts(each.id))]
    if unfinished:
        record, items = unfinished[0], {}
        identity = record.id
    else:
        done = {item.name for each in alike for item in batches.items(each.id) if item.state is ItemState.DONE}
        found = datasets_of(work, deployment, folder, chosen)
        items = {name: inputs for name, inputs in found.items() if name not in done}
        if not items and alike:
            return alike[0]
        told = canonical([asked, [*items], len(alike)])
        identity = hashlib.sha256(told.encode()).hexdigest()[:16]
    return batches.begin(
        id=identity,
        flow=flow,
        beamline=deployment.beamline,
        name=str(asked["experiment"]) or folder.name,
        parameters=asked,
        run_id=work.run_id,
        items=items,
    )


def _is_open(counts: Mapping[ItemState, int]) -> bool:
    return counts[ItemState.WAITING] + counts[ItemState.RUNNING] > 0


def round_of(items: Sequence[BatchItem]) -> tuple[int, Sequence[BatchItem]]:
    """How often datasets of the batch have been tried, this time included; and which of them are, this time.

    It is told by the attempts alone, so that a run that goes on after a crash divides them into the same jobs.
    """
    turns = [item.attempts + (item.state is ItemState.WAITING) for item in items]
    last = max(turns, default=0)
    return last, [item for item, turn in zip(items, turns, strict=True) if turn == last]


def groups_of(items: Sequence[BatchItem], size: int) -> Sequence[Sequence[BatchItem]]:
    return [items[first : first + size] for first in range(0, len(items), size)]
