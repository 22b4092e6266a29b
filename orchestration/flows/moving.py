"""Doing a piece of work at the site that can take it; at the next one, where it is certain that it was not begun."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TypeVar

from orchestration.config import ComputeSite, RemoteSite
from orchestration.errors import (
    Cancelled,
    ChecksumMismatch,
    DeadlinePassed,
    JobFailed,
    JobLost,
    JobNotStarted,
    JobPreempted,
    NodeFailed,
    OperationFailed,
    SiteUnavailable,
    SourceChanged,
    SourceMissing,
    TransferFailed,
)
from orchestration.flows.choosing import Piece, choose
from orchestration.flows.guarding import Gate, Guard
from orchestration.flows.looking import Watch
from orchestration.flows.prospects import condition
from orchestration.flows.work import Work
from orchestration.ledger.operation import OperationState

T = TypeVar("T")

MOVES = 12
"""A piece of work that was taken back so often is not moved any more."""

_SOURCE = (SourceMissing, SourceChanged, ChecksumMismatch)
"""What is wrong with the data is wrong with it everywhere."""


def wherever(work: Work, piece: Piece, *, candidates: Sequence[str], do: Callable[[str], T], pin: str = "") -> T:
    """What `do` returns at the site that was chosen; `do` performs a copy to the site, and then a job there.

    Work that is pinned to a site stays there, whatever happens to the site.

    Raises:
        SiteUnavailable: if no site can take it, or none that it was not taken back from.
        OperationFailed: what `do` raised, if that is no reason to go elsewhere.
    """
    left: dict[str, str] = {}
    for _ in range(MOVES):
        site = work.settings.site(choose(work, piece, candidates=candidates, pin=pin, left=left).site)
        guard = _guard(work, site, piece.subject)
        try:
            with guarded(work, guard if not pin else None):
                return do(site.name)
        except OperationFailed as error:
            if pin or not movable(work, guard, error):
                raise
            left[site.name] = error.what
            work.logger.warning("%s: not at %s any more: %s", piece.step, site.name, error.what)
    raise SiteUnavailable(f"it was taken back {MOVES} times: {'; '.join(left.values())}", where=piece.scan.path.text)


@contextmanager
def guarded(work: Work, guard: Guard | None) -> Iterator[None]:
    before, work.guard = work.guard, guard
    try:
        yield
    finally:
        work.guard = before


def movable(work: Work, guard: Guard, error: OperationFailed) -> bool:
    """Whether the work may be done elsewhere now: it is certain that it does not go on where it was, and the error
    is one of the site rather than of the work.
    """
    if isinstance(error, JobNotStarted | SiteUnavailable | JobPreempted | NodeFailed | JobLost):
        return True
    if isinstance(error, (Cancelled, *_SOURCE)):
        return False
    if guard.job is None:
        return isinstance(error, TransferFailed | DeadlinePassed)  # the data did not come there
    if isinstance(error, JobFailed) and error.cause == "VersionMismatch":
        return True
    record = work.ledger.operations.get(guard.job)
    return record.state is OperationState.FAILED and record.handle is None  # the site refused the job


def _guard(work: Work, site: ComputeSite, subject: str) -> Guard:
    ask = partial(condition, work, site)
    watch = Watch(site=site.name, policy=work.settings.siting, ask=ask, clock=work.ledger.now)
    return Guard(work=work, site=site, watch=watch, gate=_gate(work, site), subject=subject)


def _gate(work: Work, site: ComputeSite) -> Gate | None:
    """By the folders of its jobs, where those are on a collection of Globus."""
    if not isinstance(site, RemoteSite):
        return None
    endpoint = work.settings.endpoint(site.scratch_endpoint)
    return None if endpoint.uuid is None else work.services.fence(site, endpoint)
