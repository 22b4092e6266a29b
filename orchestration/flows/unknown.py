"""Files below the root of an endpoint that the ledger does not know: listed, and never touched.

Folders are compared one by one, in the order of their names. Where the next pass goes on is in the ledger.
"""

from __future__ import annotations

import os
import posixpath
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from orchestration.config import Endpoint, RemoteSite
from orchestration.errors import ConfigError, InvalidPath, OperationFailed, ServiceUnavailable
from orchestration.flows.alarms import Alarms
from orchestration.flows.calendar import DAY
from orchestration.flows.inventory import PATIENCE_SECONDS
from orchestration.flows.work import Work
from orchestration.ledger.inventory import Round, UnknownFolder
from orchestration.ledger.service import Document, Json
from orchestration.paths import QUARANTINE, RelativePath
from orchestration.transfers import Listed

OWN = (QUARANTINE, ".checksums")
"""Folders below the root of an endpoint that this service fills itself."""

_SILENCE = (ServiceUnavailable, OperationFailed, ConfigError)


@dataclass
class Strangers:
    """What one pass has compared."""

    folders: int = 0
    silent: dict[str, str] = field(default_factory=dict)

    def document(self, known: Sequence[UnknownFolder]) -> Document:
        """`known` are all folders with files that nobody knows, the largest first."""
        silent: dict[str, Json] = {**self.silent}
        total = sum(each.size for each in known)
        return {"folders": self.folders, "with_unknown_files": len(known), "size": total, "silent": silent}


def look_for_strangers(work: Work, alarms: Alarms, *, until: float, only: str = "") -> Strangers:
    """Compare the next folders of each endpoint that wants it, until then by `time.monotonic`."""
    strangers = Strangers()
    for name, endpoint in work.settings.endpoints.items():
        if endpoint.inventory and (not only or name == only):
            found = _round(work, name)
            if found is not None:
                _go_on(work, strangers, endpoint, found, until)
    for name, why in strangers.silent.items():
        alarms.add(f"endpoint {name}", f"its folders cannot be listed: {why}")
    return strangers


def _round(work: Work, endpoint: str) -> Round | None:
    """The round that goes on, or a new one; None if the last began not long ago."""
    last, inventory = work.ledger.inventory.round_of(endpoint), work.ledger.inventory
    if last is None or last.folders_began_at is None:
        return inventory.begin_folders(endpoint)
    if last.folders_ended_at is None:
        return last
    if work.ledger.now() - last.folders_began_at < work.settings.watch.days * DAY:
        return None
    return inventory.begin_folders(endpoint)


def _go_on(work: Work, strangers: Strangers, endpoint: Endpoint, found: Round, until: float) -> None:
    book = _Book(work, endpoint)
    try:
        for folder, listed in _walk(work, endpoint, after=found.after_folder or None):
            if time.monotonic() > until:
                return
            work.ledger.inventory.compared(found, folder, book.unknown(folder, listed))
            strangers.folders += 1
    except _SILENCE as silence:
        strangers.silent[endpoint.name] = silence.what
        return
    work.ledger.inventory.end_folders(found)


def _walk(work: Work, endpoint: Endpoint, *, after: str | None) -> Iterator[tuple[str, Sequence[Listed]]]:
    """All folders behind `after`, each before those in it, with what lies directly in each."""
    tops = ("",) if isinstance(endpoint.inventory, bool) else endpoint.inventory
    pending = sorted(tops, key=_order, reverse=True)
    last = None if after is None else _order(after)
    private = _private(work, endpoint)
    while pending:
        folder = pending.pop()
        parts = _order(folder)
        seen = last is not None and parts <= last
        if last is not None and seen and last[: len(parts)] != parts:
            continue  # it and all in it are done
        listed = _listed(work, endpoint, folder)
        if listed is None:
            continue
        if not seen:
            yield folder, listed
        inner = (posixpath.join(folder, each.name) for each in listed if each.is_directory and not each.is_link)
        pending += sorted((each for each in inner if each not in private), key=_order, reverse=True)


def _order(folder: str) -> tuple[str, ...]:
    return tuple(folder.split("/")) if folder else ()


def _listed(work: Work, endpoint: Endpoint, folder: str) -> Sequence[Listed] | None:
    """None where there is no such folder any more, or its name is none that we could have written."""
    try:
        path = RelativePath(folder) if folder else None
    except InvalidPath as odd:
        work.logger.warning("%s: %s is passed over: %s", endpoint.name, folder, odd.what)
        return None
    return work.services.listing(endpoint, path, patience=PATIENCE_SECONDS)


def _private(work: Work, endpoint: Endpoint) -> frozenset[str]:
    """Folders of this service itself, which it clears by itself."""
    own = set(OWN)
    for site in work.settings.compute_sites.values():
        if isinstance(site, RemoteSite):
            root = site.below_root(endpoint.root_path).rstrip("/")
            if site.job_folder.startswith(f"{root}/"):
                own.add(site.job_folder.removeprefix(f"{root}/"))
    return frozenset(own)


@dataclass(frozen=True, kw_only=True)
class _Name:
    """An endpoint on the same storage. Its root is at `below` here (``raw/``), or the root here at `above` there."""

    endpoint: str
    below: str = ""
    above: str = ""

    def theirs(self, path: str) -> str | None:
        """What it calls a path of this endpoint; None if it does not see it."""
        return self.above + path.removeprefix(self.below) if path.startswith(self.below) else None

    def mine(self, path: str) -> str:
        return self.below + path.removeprefix(self.above)


class _Book:
    """What should be in the folders of one endpoint, by whatever name the ledger knows its storage."""

    def __init__(self, work: Work, endpoint: Endpoint) -> None:
        self._work, self._endpoint = work, endpoint
        others = (each for each in work.settings.endpoints.values() if each.name != endpoint.name)
        names = (_name(endpoint, other) for other in others if other.shares_storage_with(endpoint))
        self._names = [_Name(endpoint=endpoint.name), *filter(None, names)]

    def unknown(self, folder: str, listed: Sequence[Listed]) -> UnknownFolder | None:
        """The files directly in a folder that no copy accounts for, without those that are young."""
        known = self._known(folder, [each.name for each in listed])
        now = self._work.ledger.now()
        young = now - self._work.settings.watch.unknown_after_days * DAY
        files = [
            each
            for each in listed
            if not each.is_directory and not each.is_link and each.modified < young and each.name not in known
        ]
        if not files:
            return None
        return UnknownFolder(
            endpoint=self._endpoint.name,
            folder=folder,
            files=len(files),
            size=sum(each.size for each in files),
            oldest=min(each.modified for each in files),
            newest=max(each.modified for each in files),
            example=min(each.name for each in files),
            seen_at=now,
        )

    def _known(self, folder: str, names: Sequence[str]) -> frozenset[str]:
        """Of these names: copies that are one file, and files of copies that are a folder, this one or one above."""
        parts = _order(folder)
        above = ["/".join(parts[:length]) for length in range(1, len(parts) + 1)]
        inside = [posixpath.join(folder, name) for name in names]
        known: set[str] = set()
        for path, files in self._copies([*above, *inside]).items():
            known |= {posixpath.relpath(posixpath.join(path, file), folder or ".") for file in files}
        return frozenset(known)

    def _copies(self, paths: Sequence[str]) -> Mapping[str, frozenset[str]]:
        """By path below this endpoint."""
        found: dict[str, frozenset[str]] = {}
        for name in self._names:
            theirs = [their for path in paths if (their := name.theirs(path))]
            for path, files in self._work.ledger.inventory.accounted_for(name.endpoint, theirs).items():
                here = name.mine(path)
                found[here] = found.get(here, frozenset()) | files
        return found


def _name(endpoint: Endpoint, other: Endpoint) -> _Name | None:
    """What `other` is of the storage of `endpoint`; None if neither root is below the other's."""
    roots = [(endpoint.root_path, other.root_path)] if endpoint.uuid == other.uuid is not None else []
    if endpoint.mount is not None and other.mount is not None:
        roots.append((os.path.realpath(endpoint.mount), os.path.realpath(other.mount)))
    for root, theirs in roots:
        here, there = root.rstrip("/") + "/", theirs.rstrip("/") + "/"
        if there.startswith(here):
            return _Name(endpoint=other.name, below=there.removeprefix(here))
        if here.startswith(there):
            return _Name(endpoint=other.name, above=here.removeprefix(there))
    return None
