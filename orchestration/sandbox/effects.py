"""The append-only log of what really happened at the facility: what tests of "exactly once" count."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import cast

from orchestration.ledger.service import Document
from orchestration.sandbox import clock, documents
from orchestration.sandbox.store import Store

_KIND = "effect"


@dataclass(frozen=True, kw_only=True)
class Effect:
    """One thing done.

    `kind` is ``transfer`` or ``delete`` (a task accepted), ``copied`` or ``removed`` (one path of it), ``renamed``,
    ``dataset``, ``origdatablock``, ``attachment``, ``patch``, ``dataset-delete``, ``task`` (accepted by Globus
    Compute), ``task-start`` (given to a process), ``job`` (accepted by the Superfacility API), ``job-start`` (begun by
    the batch system of this machine), ``ingest`` or ``unindex`` (a task accepted by Globus Search), ``indexed`` or
    ``unindexed`` (one entry of it). `key` is what the client chose: a submission id, a task group, a pid, a path (of
    what was renamed the old one), the name of a job, the subject of an entry.
    """

    kind: str
    id: str
    key: str
    label: str = ""
    paths: tuple[str, ...] = ()
    time: str = ""

    def document(self) -> Document:
        return cast(Document, asdict(self) | {"paths": list(self.paths)})

    @classmethod
    def parse(cls, document: Document) -> Effect:
        words = {name: documents.text(document, name) for name in ("kind", "id", "key", "label", "time")}
        return cls(**words, paths=tuple(documents.strings(document, "paths")))


class Effects:
    def __init__(self, store: Store) -> None:
        self._store = store

    def happened(self, kind: str, id_: str, *, key: str, label: str = "", paths: Sequence[str] = ()) -> None:
        effect = Effect(kind=kind, id=id_, key=key, label=label, paths=tuple(paths), time=clock.now().isoformat())
        self._store.add(_KIND, uuid.uuid4().hex, effect.document())

    def every(self) -> list[Effect]:
        """Oldest first."""
        return [Effect.parse(document) for _, document in self._store.every(_KIND)]
