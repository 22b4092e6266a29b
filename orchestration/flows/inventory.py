"""Looking at every copy from time to time, and saying which are not what, or where, they should be.

A pass looks at so many copies; where the next goes on is in the ledger. What it finds is written down copy by copy: a
pass that is killed has done what it has done.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from orchestration.config import Endpoint
from orchestration.errors import ConfigError, InvalidInput, OperationFailed, ServiceUnavailable
from orchestration.flows.alarms import Alarms, named
from orchestration.flows.calendar import DAY
from orchestration.flows.proving import HARMLESS
from orchestration.flows.work import Work
from orchestration.ledger.copy import CopyRecord, CopyState
from orchestration.ledger.inventory import Round
from orchestration.ledger.service import Document, Json
from orchestration.retention import unlike
from orchestration.transfers import FileFacts

AT_ONCE = 100
"""Copies of one endpoint that are looked at before the next endpoint has its turn, and that are forgotten by a kill."""

PATIENCE_SECONDS = 30.0
"""How long an endpoint may be silent before this pass leaves it."""

NAMED = 20
"""Copies that one alarm names; all are counted, and in the ledger."""

AGAIN = 1000
"""Of an endpoint, the copies that are missing or changed and that each pass looks at again, those found last first. The
others have their turn in the round."""


@dataclass
class Looks:
    """What one pass has found. Copies are named ``endpoint:path``."""

    looked: int = 0
    found: dict[CopyState, list[str]] = field(default_factory=dict)
    """News, by what the copies are now."""
    silent: dict[str, str] = field(default_factory=dict)
    """Endpoints that did not answer, and what was said instead: nothing is known of their copies."""
    doubtful: list[str] = field(default_factory=list)
    """Copies that could not be looked at, at endpoints that answer."""
    behind: list[str] = field(default_factory=list)
    """Endpoints of which this round takes too long."""

    def news(self, state: CopyState) -> Sequence[str]:
        return self.found.get(state, [])

    def document(self) -> Document:
        told: Document = {
            name: [*self.news(state)[:NAMED]]
            for name, state in (
                ("missing", CopyState.MISSING),
                ("changed", CopyState.CHANGED),
                ("back", CopyState.PRESENT),
            )
        }
        silent: dict[str, Json] = {**self.silent}
        doubtful: list[Json] = [*self.doubtful[:NAMED]]
        behind: list[Json] = [*self.behind]
        return {"looked": self.looked, **told, "silent": silent, "doubtful": doubtful, "behind": behind}


@dataclass(frozen=True, kw_only=True)
class Budget:
    """`until` is by `time.monotonic`."""

    copies: int
    until: float

    @property
    def over(self) -> bool:
        return time.monotonic() > self.until


def look_through(
    work: Work, alarms: Alarms, budget: Budget, *, only: str = "", unread: Sequence[CopyRecord] = ()
) -> Looks:
    """One pass over the copies of all endpoints, or of one; endpoints take turns.

    Those that could not be read are looked at whatever their turn: they may be missing.
    """
    looks = Looks()
    names = [name for name in work.ledger.inventory.endpoints() if not only or name == only]
    known = [name for name in names if name in work.settings.places]
    for name in set(names) - set(known):
        alarms.add(f"endpoint {name}", "the ledger has copies there, and config.yml has no such endpoint any more")
    _look_again(work, looks, known, unread)
    going = {name: found for name in known if (found := _round(work, name)) is not None}
    while going and looks.looked < budget.copies and not budget.over:
        for name, found in list(going.items()):
            if not _go_on(work, looks, found, limit=min(AT_ONCE, budget.copies - looks.looked)):
                del going[name]
            if looks.looked >= budget.copies or budget.over:
                break
    _tell(work, alarms, looks, known)
    return looks


def _round(work: Work, endpoint: str) -> Round | None:
    """The round that goes on, or a new one; None if the last began not long ago."""
    last, inventory = work.ledger.inventory.round_of(endpoint), work.ledger.inventory
    if last is not None and last.ended_at is None:
        return last
    if last is not None and work.ledger.now() - last.began_at < work.settings.watch.days * DAY:
        return None
    return inventory.begin(endpoint)


def _go_on(work: Work, looks: Looks, found: Round, *, limit: int) -> bool:
    """The next copies of the round; whether there are more."""
    if found.endpoint in looks.silent:
        return False
    inventory = work.ledger.inventory
    now = inventory.round_of(found.endpoint) or found
    ids = inventory.page(found.endpoint, after_id=now.after_id, limit=limit)
    if not ids:
        inventory.end(found)
        return False
    done = _look_at(work, looks, work.settings.endpoint(found.endpoint), ids)
    if done:
        inventory.looked(found, after_id=done[-1], number=len(done))
        looks.looked += len(done)
    return len(done) == len(ids)


def _look_again(work: Work, looks: Looks, endpoints: Sequence[str], unread: Sequence[CopyRecord]) -> None:
    """At what was lost: a disk may be back. And at what could not be read."""
    lost: dict[str, list[int]] = {}
    for copy in unread:
        lost.setdefault(copy.endpoint, []).append(copy.id)
    for found in work.ledger.inventory.findings():
        lost.setdefault(found.endpoint, []).append(found.copy_id)
    for name in endpoints:
        _look_at(work, looks, work.settings.endpoint(name), lost.get(name, [])[:AGAIN])


def _look_at(work: Work, looks: Looks, endpoint: Endpoint, ids: Sequence[int]) -> Sequence[int]:
    """Those that were looked at, in order, until the endpoint fell silent. What is in use is passed over."""
    done: list[int] = []
    busy = work.ledger.due.busy(harmless=HARMLESS)
    try:
        for copy in sorted(work.ledger.copies.among(ids), key=lambda each: each.id):
            if copy.scan_id not in busy:
                _look(work, looks, endpoint, copy)
            done.append(copy.id)
    except (ServiceUnavailable, OperationFailed, ConfigError) as silence:
        looks.silent[endpoint.name] = silence.what
    return done


def _look(work: Work, looks: Looks, endpoint: Endpoint, copy: CopyRecord) -> None:
    """One copy that cannot be looked at keeps no other from it, unless nothing of its endpoint can be.

    Raises:
        ServiceUnavailable: (or OperationFailed, ConfigError) if the endpoint does not answer.
    """
    try:
        _settle(work, looks, endpoint, copy)
    except (OperationFailed, InvalidInput) as doubt:
        work.services.is_empty(endpoint, patience=PATIENCE_SECONDS)
        where = named(work, copy)
        work.logger.warning("%s cannot be looked at: %s", where, doubt)
        looks.doubtful.append(f"{where}: {doubt.what}")


def _settle(work: Work, looks: Looks, endpoint: Endpoint, copy: CopyRecord) -> None:
    state, why = unlike(copy, _seen(work, endpoint, copy))
    if state is not CopyState.PRESENT and state is not copy.state:
        # It may have been written, moved or deleted by us since it was read from the ledger: both are asked again.
        (copy,) = work.ledger.copies.among([copy.id])
        state, why = unlike(copy, _seen(work, endpoint, copy))
        if state is CopyState.MISSING:
            _demand_mounted(work, endpoint)
    if work.ledger.copies.found(copy, state, why=why):
        where = named(work, copy)
        looks.found.setdefault(state, []).append(where)
        said = "is there again, as it was verified" if state is CopyState.PRESENT else f"is {state.value}: {why}"
        work.logger.warning("%s (%s of scan %s) %s", where, copy.dataset, copy.scan_id, said)


def _seen(work: Work, endpoint: Endpoint, copy: CopyRecord) -> FileFacts | None:
    return work.services.look(endpoint, copy.path, patience=PATIENCE_SECONDS)


def _demand_mounted(work: Work, endpoint: Endpoint) -> None:
    """Nothing is missing from a disk that is not there: where one is not mounted, there is an empty folder.

    Raises:
        ServiceUnavailable: if the root of the endpoint is empty.
    """
    if work.services.is_empty(endpoint, patience=PATIENCE_SECONDS):
        raise ServiceUnavailable(f"{endpoint.name} is empty: its disk is not mounted, or all of it is lost")


def _tell(work: Work, alarms: Alarms, looks: Looks, endpoints: Sequence[str]) -> None:
    for name, why in looks.silent.items():
        alarms.add(f"endpoint {name}", f"its copies cannot be looked at: {why}")
    if looks.doubtful:
        alarms.add("copies that cannot be looked at", _listed(looks.doubtful))
    for state in (CopyState.MISSING, CopyState.CHANGED):
        places = looks.news(state)
        if places:
            text = f"{len(places)} copies are {state.value}: {_listed(places)} (`beamline copies` lists all)"
            alarms.add(f"copies that are {state.value}", text)
    for name, text in _behind(work, endpoints):
        looks.behind.append(name)
        alarms.add(f"inventory of {name}", text)


def _behind(work: Work, endpoints: Sequence[str]) -> Iterator[tuple[str, str]]:
    days = work.settings.watch.days
    for name in endpoints:
        found = work.ledger.inventory.round_of(name)
        if found is not None and found.ended_at is None and work.ledger.now() - found.began_at > days * DAY:
            number = work.ledger.inventory.number(name)
            seen = f"{found.looked} of {number} copies were looked at in {days:g} days"
            yield name, f"{seen}: raise `watch.copies_per_pass` or `watch.seconds_per_pass`, or start more passes"


def _listed(names: Sequence[str]) -> str:
    return "; ".join(names[:NAMED]) + (f"; and {len(names) - NAMED} more" if len(names) > NAMED else "")
