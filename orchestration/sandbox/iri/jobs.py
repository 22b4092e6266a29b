"""The jobs of the stand-in: what was asked for, kept here, and how the scheduler says they are."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from orchestration.ledger.service import Document
from orchestration.sandbox import documents
from orchestration.sandbox.effects import Effects
from orchestration.sandbox.iri.jobspec import JobSpec, script
from orchestration.sandbox.iri.problems import Problem
from orchestration.sandbox.store import Store
from orchestration.sandbox.superfacility.scheduler import JobRow, Query, Refused, Scheduler, Script

_KIND = "iri-job"
LIVE = frozenset({"new", "queued", "held", "active"})


@dataclass(frozen=True, kw_only=True)
class Kept:
    """One accepted job. `submitted` is in seconds since the epoch."""

    id: str
    resource: str
    user: str
    account: str
    spec: JobSpec
    submitted: float

    @property
    def name(self) -> str:
        return self.spec.name or ""

    def document(self) -> Document:
        return {
            "id": self.id,
            "resource": self.resource,
            "user": self.user,
            "account": self.account,
            "spec": self.spec.model_dump(exclude_unset=True),
            "submitted": self.submitted,
        }

    @classmethod
    def parse(cls, document: Document) -> Kept:
        words = {name: documents.text(document, name) for name in ("id", "resource", "user", "account")}
        spec = JobSpec.model_validate(documents.object_at(document, "spec"))
        return cls(**words, spec=spec, submitted=documents.number(document, "submitted"))


@dataclass(frozen=True, kw_only=True)
class Standing:
    """How a job is; `time` is since when, in seconds since the epoch."""

    state: str
    time: float
    message: str = ""
    exit_code: int | None = None
    scheduler_state: str = ""

    def document(self, account: str) -> Document:
        meta: Document = {"account": account, "scheduler_state": self.scheduler_state}
        return {
            "state": self.state,
            "time": self.time,
            "message": self.message,
            "exit_code": self.exit_code,
            "meta_data": meta,
        }


class Jobs:
    def __init__(self, store: Store, effects: Effects, scheduler: Scheduler, *, account: str) -> None:
        """`account` is what the scheduler's own accounting knows; the projects of the API are another matter."""
        self._store = store
        self._effects = effects
        self._scheduler = scheduler
        self._account = account
        self._lock = threading.Lock()

    def submit(self, spec: JobSpec, *, resource: str, user: str, account: str, key: str) -> Kept:
        """Raises: Problem 400 with the scheduler's own words."""
        if any("\0" in word for word in (*spec.arguments, *spec.environment, *spec.environment.values())):
            raise Problem(400, "a NUL character in the command or environment")
        try:
            accepted = self._scheduler.submit(user, Script(text=script(spec, account=self._account)))
        except Refused as refusal:
            raise Problem(400, refusal.text.strip()) from refusal
        kept = Kept(id=accepted.id, resource=resource, user=user, account=account, spec=spec, submitted=time.time())
        self._store.put(_KIND, kept.id, kept.document())
        self._effects.happened("job", kept.id, key=key or kept.name, label=kept.name)
        return kept

    def rename(self, kept: Kept, spec: JobSpec) -> Kept:
        renamed = Kept(**{**vars(kept), "spec": spec})
        self._store.put(_KIND, kept.id, renamed.document())
        return renamed

    def get(self, resource: str, id_: str) -> Kept | None:
        found = self._store.get(_KIND, id_)
        kept = None if found is None else Kept.parse(found)
        return kept if kept and kept.resource == resource else None

    def every(self) -> list[Kept]:
        """Newest first, as schedulers list them."""
        return [Kept.parse(document) for _, document in reversed(self._store.every(_KIND))]

    def cancel(self, kept: Kept) -> None:
        try:
            self._scheduler.cancel(kept.user, kept.id)
        except Refused as refusal:
            raise Problem(400, refusal.text.strip()) from refusal

    def standings(self, wanted: Iterable[Kept]) -> dict[str, Standing]:
        """By identifier, with one question to the scheduler; a job that it does not list yet is new."""
        jobs = {each.id: each for each in wanted}
        if not jobs:
            return {}
        user = next(iter(jobs.values())).user
        rows = self._scheduler.accounting(user, Query(jobs=tuple(jobs)))
        found = {row.fields.get("jobid", ""): standing(row) for row in rows}
        return {id_: found.get(id_) or Standing(state="new", time=kept.submitted) for id_, kept in jobs.items()}

    def node_hours(self, account: str) -> float:
        """What the jobs of an account have used, running ones included."""
        mine = [each for each in self.every() if each.account == account]
        if not mine:
            return 0.0
        rows = self._scheduler.accounting(mine[0].user, Query(jobs=tuple(each.id for each in mine)))
        nodes = {each.id: each.spec.nodes for each in mine}
        return sum(_ran(row) * nodes.get(row.fields.get("jobid", ""), 1) for row in rows) / 3600.0


def standing(row: JobRow) -> Standing:
    """A row of sacct as the API tells it."""
    full = row.fields.get("state", "")
    word = full.split()[0] if full else ""
    code, _, signalled = row.fields.get("exitcode", "").partition(":")
    exit_code = int(code) if code.isdigit() else None
    if exit_code == 0 and signalled.isdigit() and int(signalled):
        exit_code = 128 + int(signalled)
    began = _epoch(row.fields.get("start", "")) or row.submitted
    match word:
        case "PENDING" | "REQUEUED" | "REQUEUE_HOLD" | "SUSPENDED":
            held = "Held" in row.fields.get("reason", "")
            return Standing(state="held" if held else "queued", time=row.submitted, message=full, scheduler_state=word)
        case "RUNNING" | "COMPLETING" | "CONFIGURING":
            return Standing(state="active", time=began, message=full, scheduler_state=word)
    state = {"COMPLETED": "completed", "CANCELLED": "canceled"}.get(word, "failed")
    ended = row.ended or time.time()
    return Standing(state=state, time=ended, message=full, exit_code=exit_code, scheduler_state=word)


def _ran(row: JobRow) -> float:
    began = _epoch(row.fields.get("start", ""))
    return 0.0 if began is None else max(0.0, (row.ended or time.time()) - began)


def _epoch(text: str) -> float | None:
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return None  # "Unknown", "None": it has not begun


class Unseen:
    """Counts how often a new job is still not found, as happens where the accounting is late."""

    def __init__(self) -> None:
        self._asked: Counter[str] = Counter()
        self._lock = threading.Lock()

    def hides(self, question: str, times: int) -> bool:
        """Whether this is one of the first `times` times that this is asked."""
        with self._lock:
            self._asked[question] += 1
            return self._asked[question] <= times
