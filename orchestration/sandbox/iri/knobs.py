"""What can be changed about the stand-in while it runs, to make it behave as real facilities sometimes do."""

from __future__ import annotations

import threading
import time
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
    begins; both are looked at again while they pass, so that a long one can be cut short. `idempotent` false: no memory
    of keys, so that one is answered with 501. `filters` false: a list of jobs with conditions is answered with 501;
    `heeds_filters` false: as if it had none. `job_names` false: no answer shows what a job is called.
    `idempotency_seconds` and `node_hours` replace the settings' where not None, and `own_node_hours` what the user may
    have of the latter; `token` replaces the accepted token where not empty.
    """

    unseen_polls: int = 0
    submit_delay: float = 0.0
    task_delay: float = 0.0
    idempotent: bool = True
    filters: bool = True
    heeds_filters: bool = True
    job_names: bool = True
    idempotency_seconds: float | None = None
    node_hours: float | None = None
    own_node_hours: float | None = None
    token: str = ""
    _store: Store | None = field(default=None, repr=False, compare=False)
    _turned: threading.Condition = field(default_factory=threading.Condition, init=False, repr=False, compare=False)
    _closed: bool = field(default=False, init=False, repr=False, compare=False)

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
        with self._turned:
            for name, value in changes.items():
                setattr(self, name, value)
            self._turned.notify_all()
        if self._store is not None:
            self._store.put(_KIND, "all", self.document())

    def pass_by(self, knob: str) -> bool:
        """Let the seconds go by that a knob says, however it is turned meanwhile; False if all is over before that."""
        began = time.monotonic()
        with self._turned:
            while not self._closed and (left := began + getattr(self, knob) - time.monotonic()) > 0:
                self._turned.wait(left)
            return not self._closed

    def close(self) -> None:
        with self._turned:
            self._closed = True
            self._turned.notify_all()

    def forget(self) -> None:
        """All as at the beginning."""
        self.turn(Knobs().document())

    def document(self) -> Document:
        return {name: getattr(self, name) for name in self.names()}

    @classmethod
    def names(cls) -> tuple[str, ...]:
        return tuple(each.name for each in fields(cls) if not each.name.startswith("_"))
