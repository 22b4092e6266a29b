"""The files of one measurement, as their source lists them, once all of them are there and nobody writes any more."""

from __future__ import annotations

import time
from dataclasses import dataclass

from orchestration.config import Endpoint
from orchestration.errors import ScanUnreadable, SourceChanged, SourceMissing
from orchestration.flows.copying import look
from orchestration.flows.work import Work
from orchestration.ledger.waiting import pause
from orchestration.paths import RelativePath
from orchestration.science.errors import ScienceError
from orchestration.science.xpcs.listing import find_raw, metadata_name, raw_parts
from orchestration.transfers import FileFacts

_METADATA_ENDING = "_metadata.hdf"


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """Raw data and its metadata in one folder, complete and settled."""

    folder: RelativePath
    raw: str
    """Name of the raw file, or of the first of several."""
    parts: tuple[str, ...]
    """Names of all of them."""
    metadata: str
    facts: FileFacts
    """Of the whole folder."""

    @property
    def stem(self) -> str:
        """With which the names of its results begin."""
        return self.metadata.removesuffix(_METADATA_ENDING)

    @property
    def raw_size(self) -> int:
        return sum(self.facts.sizes[name] for name in self.parts)


def settled(work: Work, source: Endpoint, folder: RelativePath, raw: str) -> Measurement:
    """The measurement in a folder; what is late or still written to is waited for.

    Raises:
        SourceMissing: if there is no such folder, or nothing in it.
        ScanUnreadable: if its raw data or metadata do not become complete.
        SourceChanged: if its files do not come to rest.
    """
    quiet = work.settings.xpcs.settle_seconds
    until = time.monotonic() + quiet + work.settings.xpcs.patience_seconds
    before: FileFacts | None = None
    while True:
        facts = look(work, source, folder)
        late = time.monotonic() > until
        # Clocks differ: what has changed lately by ours is looked at again, and must be as it was.
        resting = facts is not None and (time.time() - facts.modified > quiet or _same(before, facts))
        if facts is not None and (resting or late):
            try:
                found = _measurement(source, folder, raw, facts)
            except ScanUnreadable:
                if late:
                    raise
            else:
                if resting:
                    return found
                raise SourceChanged(
                    f"{folder} is still being written to",
                    where=f"{source.name}:{folder}",
                    next_step="wait until acquisition has closed its files, then start the flow again",
                )
        elif facts is None and (late or before is None):
            raise SourceMissing(f"there is no folder {folder}", where=f"{source.name}:{folder}")
        before = facts
        pause(min(max(quiet, 0.05), 5.0), f"files of {folder}")


def _same(before: FileFacts | None, now: FileFacts) -> bool:
    return before is not None and (before.manifest, before.version) == (now.manifest, now.version)


def _measurement(source: Endpoint, folder: RelativePath, raw: str, facts: FileFacts) -> Measurement:
    where = f"{source.name}:{folder}"
    if not facts.is_directory:
        raise ScanUnreadable(
            f"{folder} is a file, and a dataset is a folder", where=where, next_step="name its raw file, or its folder"
        )
    names = [name for name, _ in facts.manifest if "/" not in name]
    if not names:
        raise ScanUnreadable(
            f"the folder {folder} is empty", where=where, next_step="check that the detector has written, and where"
        )
    try:
        chosen = raw or find_raw(names)
        parts = raw_parts(chosen, names)
        metadata = metadata_name(chosen, names)
    except ScienceError as error:
        raise ScanUnreadable(error.what, where=where) from error
    missing = [name for name in parts if name not in names]
    if missing:
        raise ScanUnreadable(f"{folder} has no {', '.join(missing)}", where=where)
    empty = [name for name in parts if not facts.sizes[name]]
    if empty:
        raise ScanUnreadable(f"{', '.join(empty)} of {folder} has no bytes", where=where)
    return Measurement(folder=folder, raw=chosen, parts=parts, metadata=metadata, facts=facts)
