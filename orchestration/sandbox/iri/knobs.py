"""What can be changed about the stand-in while it runs, to make it behave as real facilities sometimes do."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from orchestration.ledger.service import Document
from orchestration.sandbox import documents
from orchestration.sandbox.store import Store

_KIND = "iri-knobs"


@dataclass
class Knobs:
    """Kept across restarts.

    The first `unseen_polls` questions about a new job are answered with 404, and lists leave it out as often.
    `submit_delay` seconds pass between the acceptance of a job and the answer, `task_delay` before a task on files
    begins. `idempotent` false: no memory of keys, so that one is answered with 501. `filters` false: a list of jobs
    with conditions is answered with 501. `idempotency_seconds` and `node_hours` replace the settings' where not None,
    `token` the accepted token where not empty.
    """

    unseen_polls: int = 0
    submit_delay: float = 0.0
    task_delay: float = 0.0
    idempotent: bool = True
    filters: bool = True
    idempotency_seconds: float | None = None
    node_hours: float | None = None
    token: str = ""
    _store: Store | None = field(default=None, repr=False, compare=False)

    @classmethod
    def kept(cls, store: Store) -> Knobs:
        knobs = cls(_store=store)
        knobs.turn(store.get(_KIND, "all") or {})
        return knobs

    def turn(self, changes: Document) -> None:
        """Raises: NotADocument for a name that there is not."""
        for name in changes:
            if name not in self.names():
                raise documents.NotADocument(f"there is no knob {name!r}; there are {', '.join(self.names())}")
            setattr(self, name, changes[name])
        if self._store is not None:
            self._store.put(_KIND, "all", self.document())

    def forget(self) -> None:
        """All as at the beginning."""
        self.turn(Knobs().document())

    def document(self) -> Document:
        return {name: getattr(self, name) for name in self.names()}

    @classmethod
    def names(cls) -> tuple[str, ...]:
        return tuple(each.name for each in fields(cls) if not each.name.startswith("_"))
