"""Publishing in a search index as an operation: the same entry once, however often and from wherever it is asked for.

An index changes some time after it was asked to, one task after the other. Whether a request whose answer was lost has
arrived is known once all tasks that were open when its answer was lost have ended: then the entry is there, or it never
will be.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from orchestration.config import Credentials, SearchIndex
from orchestration.errors import CatalogueRefused, OperationFailed, ServiceUnavailable
from orchestration.globus.search_clients import SearchClients
from orchestration.globus.search_entries import Publication, PublishRequest, WithdrawRequest, mark_of
from orchestration.globus.search_reader import GlobusSearch
from orchestration.globus.search_tasks import IndexTask, IndexTasks
from orchestration.ledger.service import (
    CancelAnswer,
    Document,
    Failed,
    Json,
    PollSchedule,
    Progress,
    Running,
    Status,
    Succeeded,
)
from orchestration.policy import Permitted, opened

T = TypeVar("T")

logger = logging.getLogger(__name__)

POLLS = PollSchedule(first=0.25)
"""For `perform`: Globus Search lets a client ask ten times a second, and answers 429 to more."""

DONE = "done:"
"""Begins the handle of what was found done: there is no task of it that we know."""

_LOOK_SECONDS = 0.5
_PATIENCE_SECONDS = 60.0
"""How long an entry may be read as it was before, after the index has said that it is changed."""
_SURELY_SHOWN_SECONDS = 3600.0
"""As long after, by the clock of the service, nobody has to be patient any more: far more than clocks differ."""


@dataclass(frozen=True)
class _Tracks:
    """What both services know of the index, and remember between two questions; lost with the process."""

    clients: SearchClients
    patience: float = _PATIENCE_SECONDS
    clock: Callable[[], float] = time.monotonic
    _ahead: dict[str, frozenset[str]] = field(default_factory=dict, init=False, repr=False, compare=False)
    _since: dict[str, float] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def tasks(self) -> IndexTasks:
        return IndexTasks(self.clients)

    def mark(self, index: SearchIndex, subject: str, id_: str) -> Document | None:
        """Of the entry as it is now; None if there is no entry, and empty if it is not one of ours."""
        content = GlobusSearch(self.clients).entry(index, subject=subject, id=id_)
        return None if content is None else mark_of(content)

    def ours(self, index: SearchIndex, subject: str, id_: str) -> Document | None:
        """As `mark`, of an entry that is about to be changed.

        Raises:
            CatalogueRefused: if somebody else wrote it.
        """
        mark = self.mark(index, subject, id_)
        if mark is not None and not mark:
            raise CatalogueRefused(
                f"{index.place.name} has an entry {id_!r} of {subject} that this service did not write",
                where=index.place.name,
                next_step="publish under another entry id, or have its owner delete it (`globus search subject "
                "delete`); nothing was changed",
            )
        return mark

    def settled(self, index: SearchIndex, token: str) -> bool:
        """Whether all that this index was asked for when this question was first put has been dealt with."""
        now = self.tasks.open(index)
        left = self._ahead.get(token, now) & now
        self._ahead[token] = left
        if not left:
            del self._ahead[token]
        return not left

    def lags(self, handle: str, task: IndexTask | None) -> bool:
        """Whether what is read may still be from before the change."""
        if task is not None and task.ended_seconds_ago() > _SURELY_SHOWN_SECONDS:
            return False
        now = self.clock()
        return now - self._since.setdefault(handle, now) < self.patience

    def cancel(self, handle: str) -> CancelAnswer:
        """The service has no way to take a task back."""
        if handle.startswith(DONE):
            return CancelAnswer.ALREADY_FINISHED
        task = self.tasks.get(handle)
        if task is None:
            return CancelAnswer.UNKNOWN
        return CancelAnswer.REFUSED if task.open else CancelAnswer.ALREADY_FINISHED


class GlobusPublish:
    """The service ``globus.publish``; its handle is the id of the task, unless the entry was there already."""

    name = "globus.publish"

    def __init__(self, clients: SearchClients, *, patience: float = _PATIENCE_SECONDS) -> None:
        self._clients = clients
        self._tracks = _Tracks(clients, patience)

    @classmethod
    def connect(cls, credentials: Credentials) -> GlobusPublish:
        """Without asking anything of Globus yet."""
        return cls(SearchClients(credentials))

    def reserve(self, key: str) -> str:
        return key

    def find(self, request: Publication, token: str) -> str | None:
        # What is there now may still be replaced by a task that is ahead: only when there is none is it certain.
        if not _told(request.index, lambda: self._tracks.settled(request.index, token)):
            raise _undecided(request.index)
        return _done(request) if self._is_there(request) else None

    def submit(self, permitted: Permitted[PublishRequest], token: str) -> str:
        request = opened(permitted, PublishRequest)
        mark = self._tracks.ours(request.index, request.subject, request.id)
        if mark is not None and mark["digest"] == request.digest and not self._tracks.tasks.open(request.index):
            return _done(request)
        body: Document = {
            "ingest_type": "GMetaEntry",
            "ingest_data": request.payload(token, reader=self._clients.identity),
        }
        answer = self._clients.call(
            lambda client: client.ingest(request.index.uuid, body), where=request.index.place.name
        )
        return str(answer["task_id"])

    def poll(self, request: Publication, handle: str) -> Status:
        task = None if handle.startswith(DONE) else _told(request.index, lambda: self._tracks.tasks.get(handle))
        if task is not None and task.open:
            return _running(task)
        if task is not None and task.state != "SUCCESS":
            return Failed(error=task.failure(request.index, request.subject), evidence={"task_id": handle})
        if self._is_there(request):
            return Succeeded(evidence=self._evidence(request, handle, task))
        if self._tracks.lags(handle, task):
            return Running(progress=Progress(note="the index has taken it, and does not show it yet"))
        return Failed(error=_displaced(request), evidence={"handle": handle})

    def cancel(self, handle: str) -> CancelAnswer:
        return self._tracks.cancel(handle)

    def _is_there(self, request: Publication) -> bool:
        mark = _told(request.index, lambda: self._tracks.mark(request.index, request.subject, request.id))
        return mark is not None and mark.get("digest") == request.digest

    @staticmethod
    def _evidence(request: Publication, handle: str, task: IndexTask | None) -> Document:
        visible: list[Json] = [*request.visible_to]
        return {
            "index": request.index.name,
            "index_id": str(request.index.uuid),
            "subject": request.subject,
            "entry_id": request.id,
            "visible_to": visible,
            "digest": request.digest,
            "task_id": None if handle.startswith(DONE) else handle,
            "completed": task.completed if task else "",
        }


class GlobusWithdraw:
    """The service ``globus.withdraw``: takes entries of this service out of an index, and sees that they are gone."""

    name = "globus.withdraw"

    def __init__(self, clients: SearchClients, *, patience: float = _PATIENCE_SECONDS) -> None:
        self._clients = clients
        self._tracks = _Tracks(clients, patience)

    @classmethod
    def connect(cls, credentials: Credentials) -> GlobusWithdraw:
        """Without asking anything of Globus yet."""
        return cls(SearchClients(credentials))

    def reserve(self, key: str) -> str:
        return key

    def find(self, request: WithdrawRequest, token: str) -> str | None:
        # An entry that is gone may come back by a task that is still ahead: only when there is none is it certain.
        if not _told(request.index, lambda: self._tracks.settled(request.index, token)):
            raise _undecided(request.index)
        return None if self._is_there(request) else _done(request)

    def submit(self, permitted: Permitted[WithdrawRequest], token: str) -> str:
        request = opened(permitted, WithdrawRequest)
        # Asked for even if it is not there: what was published a moment ago may still wait for its turn.
        self._tracks.ours(request.index, request.subject, request.id)
        answer = self._clients.call(
            lambda client: client.delete_entry(request.index.uuid, request.subject, entry_id=request.id),
            where=request.index.place.name,
        )
        return str(answer["task_id"])

    def poll(self, request: WithdrawRequest, handle: str) -> Status:
        task = None if handle.startswith(DONE) else _told(request.index, lambda: self._tracks.tasks.get(handle))
        if task is not None and task.open:
            return _running(task)
        if task is not None and task.state != "SUCCESS":
            return Failed(error=task.failure(request.index, request.subject), evidence={"task_id": handle})
        if not self._is_there(request):
            return Succeeded(evidence={**request.document(), "task_id": task.id if task else None})
        if self._tracks.lags(handle, task):
            return Running(progress=Progress(note="the index has removed it, and still shows it"))
        error = OperationFailed(
            f"{request.subject} was withdrawn from {request.index.place.name} and is there again, or still",
            where=request.index.place.name,
            next_step="see that nothing publishes it, then start the flow again",
        )
        return Failed(error=error, evidence=request.document())

    def cancel(self, handle: str) -> CancelAnswer:
        return self._tracks.cancel(handle)

    def _is_there(self, request: WithdrawRequest) -> bool:
        mark = _told(request.index, lambda: self._tracks.mark(request.index, request.subject, request.id))
        return mark is not None


def _done(request: Publication | WithdrawRequest) -> str:
    document: Mapping[str, Json] = request.document()
    return f"{DONE}{document.get('digest') or document['subject']}"


def _told(index: SearchIndex, ask: Callable[[], T]) -> T:
    """The answer to a question about what was asked for before.

    Raises:
        ServiceUnavailable: also if the question is refused, which says nothing about that.
    """
    try:
        return ask()
    except OperationFailed as refusal:
        said = f"Globus Search does not tell how things are: {refusal.what}"
        raise ServiceUnavailable(said, where=index.place.name, next_step=refusal.next_step) from refusal


def _running(task: IndexTask) -> Running:
    return Running(progress=Progress(note="" if task.began else "waits for its turn"), queued=not task.began)


def _undecided(index: SearchIndex) -> ServiceUnavailable:
    return ServiceUnavailable(
        "what was asked for before may still wait for its turn", where=index.place.name, retry_after=_LOOK_SECONDS
    )


def _displaced(request: Publication) -> CatalogueRefused:
    return CatalogueRefused(
        f"{request.subject} was published in {request.index.place.name}, and something else is there now",
        where=request.index.place.name,
        next_step="find the run that published it since (the field `orchestration` of the entry names its operation); "
        "start this flow again if its own record is the right one",
    )
