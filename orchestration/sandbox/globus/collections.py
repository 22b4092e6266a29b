"""Collections: directories of this machine, with the rules of their administrators."""

from __future__ import annotations

import fnmatch
import os
import posixpath
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from orchestration.ledger.service import Document, Json
from orchestration.sandbox import documents
from orchestration.sandbox.globus.answers import ApiError
from orchestration.sandbox.settings import CollectionSettings
from orchestration.sandbox.store import Store

_SWITCHES = "collection-switches"
_ACCESS = "collection-access"
_CORRUPT = "collection-corrupt"


@dataclass(frozen=True, kw_only=True)
class Switches:
    """What the sandbox can be told about a collection.

    `deny` are patterns of paths that nobody may touch; `volumes` are folders that are file systems of their own;
    `full` is "", ``space`` or ``quota``; `paused` is the administrator's message, or ""; `expired` makes credentials
    expire, so tasks become INACTIVE.
    """

    connected: bool = True
    writable: bool = True
    deny: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    bandwidth: float = 0.0
    paused: str = ""
    full: str = ""
    expired: bool = False

    def document(self) -> Document:
        return {
            "connected": self.connected,
            "writable": self.writable,
            "deny": list[Json](self.deny),
            "volumes": list[Json](self.volumes),
            "bandwidth": self.bandwidth,
            "paused": self.paused,
            "full": self.full,
            "expired": self.expired,
        }

    def changed(self, document: Document) -> Switches:
        """With the values of a document put in; `paused` and `full` may be plain booleans."""
        return Switches(
            connected=documents.flag(document, "connected", default=self.connected),
            writable=documents.flag(document, "writable", default=self.writable),
            deny=tuple(documents.strings(document, "deny")) if "deny" in document else self.deny,
            volumes=tuple(documents.strings(document, "volumes")) if "volumes" in document else self.volumes,
            bandwidth=documents.number(document, "bandwidth", self.bandwidth if "bandwidth" not in document else 0.0),
            paused=_word(document, "paused", self.paused, yes="Paused by the administrator"),
            full=_word(document, "full", self.full, yes="space"),
            expired=documents.flag(document, "expired", default=self.expired),
        )


def _word(document: Document, key: str, now: str, *, yes: str) -> str:
    value = document.get(key, now)
    return value if isinstance(value, str) else (yes if value else "")


@dataclass
class Bandwidth:
    """A shared limit in bytes per second: who takes part of it waits its turn."""

    free_at: float = 0.0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def reserve(self, size: int, *, rate: float) -> float:
        """Seconds to wait before `size` bytes more may be sent."""
        with self.lock:
            moment = time.monotonic()
            self.free_at = max(self.free_at, moment) + (size / rate if rate > 0 else 0.0)
            return self.free_at - moment if rate > 0 else 0.0

    def clear(self) -> None:
        """Nobody has to wait for what was reserved under another limit."""
        with self.lock:
            self.free_at = 0.0


class Collection:
    """One collection: paths in it are absolute, ``/`` is its directory, ``~`` too."""

    def __init__(self, settings: CollectionSettings, store: Store) -> None:
        self.settings = settings
        self.id = settings.identity
        self.name = settings.name
        self.root = settings.root.resolve()
        self.root.mkdir(parents=True, exist_ok=True)
        self.bandwidth = Bandwidth()
        self._store = store
        initial = Switches(writable=settings.writable, bandwidth=settings.bandwidth)
        kept = store.get(_SWITCHES, self.id)
        self.switches = initial.changed(kept) if kept else initial

    @property
    def guest(self) -> bool:
        return self.settings.kind == "guest"

    @property
    def personal(self) -> bool:
        return self.settings.kind == "personal"

    def switch(self, document: Document) -> Switches:
        before, self.switches = self.switches, self.switches.changed(document)
        if self.switches.bandwidth != before.bandwidth:
            self.bandwidth.clear()
        self._store.put(_SWITCHES, self.id, self.switches.document())
        return self.switches

    def reset(self) -> None:
        self.switches = Switches(writable=self.settings.writable, bandwidth=self.settings.bandwidth)
        self._store.remove(_SWITCHES, self.id)

    def normal(self, path: str) -> str:
        """An absolute path without ``..``; nothing leads above the root."""
        below = path.removeprefix("/~").removeprefix("~")
        return posixpath.normpath("/" + below.lstrip("/"))

    def local(self, path: str) -> Path:
        """Where that path lies on this machine.

        Raises:
            PermissionError: if a link leads out of the collection, as GridFTP refuses.
        """
        place = self.root / self.normal(path).lstrip("/")
        if place != self.root and not Path(os.path.realpath(place.parent)).is_relative_to(self.root):
            raise PermissionError(f"{path} leads out of the collection")
        return place

    def volume(self, path: str) -> str:
        """The file system that has a path: the folder that it begins with."""
        inside = [
            each for each in self.switches.volumes if posixpath.join(self.normal(path), "").startswith(each + "/")
        ]
        return max(inside, key=len, default="/")

    def allows(self, subject: str, path: str, *, write: bool) -> bool:
        normal = self.normal(path)
        if any(fnmatch.fnmatchcase(normal, pattern) for pattern in self.switches.deny):
            return False
        if write and not self.switches.writable:
            return False
        if not self.guest or subject == self.settings.owner:
            return True
        return any(_grants(rule, subject, normal, write=write) for _, rule in self.access())

    def access(self) -> list[tuple[str, Document]]:
        """Access rules of a guest collection as (id, document)."""
        return self._store.every(f"{_ACCESS}/{self.id}")

    def put_access(self, rule_id: str, rule: Document) -> None:
        self._store.put(f"{_ACCESS}/{self.id}", rule_id, rule)

    def remove_access(self, rule_id: str) -> None:
        self._store.remove(f"{_ACCESS}/{self.id}", rule_id)


def _grants(rule: Document, subject: str, path: str, *, write: bool) -> bool:
    if rule["principal_type"] not in {"anonymous", "all_authenticated_users"} and rule["principal"] != subject:
        return False
    inside = (path.rstrip("/") + "/").startswith(documents.text(rule, "path"))
    return inside and (not write or rule["permissions"] == "rw")


class Collections:
    """All collections of the facility, and bytes that will be corrupted on their way."""

    def __init__(self, settings: Iterable[CollectionSettings], store: Store) -> None:
        self._by_id = {one.identity: Collection(one, store) for one in settings}
        self._store = store
        self._lock = threading.Lock()

    def get(self, collection_id: str) -> Collection:
        """Raises: ApiError 404."""
        found = self._by_id.get(collection_id)
        if found is None:
            raise ApiError(404, "EndpointNotFound", f"No endpoint found with id '{collection_id}'")
        return found

    def every(self) -> list[Collection]:
        return list(self._by_id.values())

    def corrupt(self, collection: Collection, path: str, *, times: int) -> None:
        """Flip a byte of the next `times` copies that arrive at this path."""
        with self._lock:
            self._store.put(_CORRUPT, f"{collection.id}{collection.normal(path)}", {"times": times})

    def is_corrupted(self, collection: Collection, path: str) -> bool:
        """Whether this copy is to be corrupted; counts it."""
        key = f"{collection.id}{collection.normal(path)}"
        with self._lock:
            left = documents.whole(self._store.get(_CORRUPT, key) or {}, "times")
            if left > 0:
                self._store.put(_CORRUPT, key, {"times": left - 1})
            return left > 0

    def reset(self) -> None:
        self._store.clear(_CORRUPT)
        for collection in self._by_id.values():
            collection.reset()
