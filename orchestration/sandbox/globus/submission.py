"""Accepting a transfer or delete request, once."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta

from orchestration.ledger.service import Document
from orchestration.sandbox import clock, documents
from orchestration.sandbox.effects import Effects
from orchestration.sandbox.globus.answers import ApiError, bad_request, new_id
from orchestration.sandbox.globus.collections import Collection, Collections
from orchestration.sandbox.globus.engine import Engine
from orchestration.sandbox.globus.tasks import Task, Tasks
from orchestration.sandbox.globus.tokens import Token

_LONGEST_LABEL = 128


@dataclass(frozen=True, kw_only=True)
class Submissions:
    """Judges requests and starts the tasks of those accepted."""

    tasks: Tasks
    collections: Collections
    engine: Engine
    effects: Effects
    deadline: timedelta

    def submit(self, token: Token, kind: str, body: Document) -> tuple[Task, bool]:
        """The task of this request, and whether it is new.

        Raises:
            ApiError: 400, 403, 404, or 409 if another active task has the same paths.
        """
        submission = _submission_id(kind, body)
        with self.tasks.lock:
            known = self.tasks.of_submission(submission)
            if known is not None:
                return known, False
            task = self._judge(token, kind, body | {"submission_id": submission})
            self.tasks.add(task)
            paths = [path for item in task.items for path in (item.source, item.destination) if path]
            self.effects.happened(kind.lower(), task.id, key=submission, label=task.label, paths=paths)
        self.engine.start(task)
        return task, True

    def _judge(self, token: Token, kind: str, body: Document) -> Task:
        if not documents.objects(body, "DATA"):
            raise bad_request(f"A {kind.lower()} requires at least one item", f".No{kind.title()}Items")
        transfer = kind == "TRANSFER"
        source = self.collections.get(documents.text(body, "source_endpoint" if transfer else "endpoint"))
        destination = self.collections.get(documents.text(body, "destination_endpoint")) if transfer else source
        require_consent(token, source, destination)
        requested = clock.now()
        task = Task(
            id=new_id(),
            kind=kind,
            body=body,
            owner=token.subject,
            source=source.id,
            destination=destination.id if transfer else "",
            requested=requested,
            deadline=_deadline(body, requested + self.deadline),
            label=_label(body),
        )
        task.numbers.pending = len(task.items)
        _require_paths(task)
        self._refuse_conflict(task)
        return task

    def _refuse_conflict(self, task: Task) -> None:
        for other in self.tasks:
            same = other.owner == task.owner and other.signature == task.signature
            if same and not other.status.ended:
                raise ApiError(
                    409, "Conflict", f"A {task.kind.lower()} with identical paths has not yet completed: {other.id}"
                )


def require_consent(token: Token, *ends: Collection) -> None:
    """Raises: ApiError 403 ConsentRequired, naming the scopes to ask for."""
    wanting = [one for one in ends if one.settings.data_access and not _consented(token, one)]
    if wanting:
        needed = " ".join(f"*https://auth.globus.org/scopes/{one.id}/data_access" for one in wanting)
        scope = f"urn:globus:auth:scope:transfer.api.globus.org:all[{needed}]"
        extra: Document = {"required_scopes": [scope]}
        raise ApiError(403, "ConsentRequired", "Missing required data_access consent", extra)


def _consented(token: Token, collection: Collection) -> bool:
    return any(f"{collection.id}/data_access" in scope for scope in token.scopes)


def _submission_id(kind: str, body: Document) -> str:
    if body.get("DATA_TYPE") != kind.lower():
        raise bad_request(f"DATA_TYPE must be '{kind.lower()}'")
    try:
        return str(uuid.UUID(documents.text(body, "submission_id")))
    except ValueError as error:
        raise bad_request("submission_id is required and must be a UUID") from error


def _require_paths(task: Task) -> None:
    for item in task.items:
        if not item.source or (task.is_transfer and not item.destination):
            raise bad_request("Every item needs its paths")


def _label(body: Document) -> str:
    label = documents.text(body, "label")
    if len(label) > _LONGEST_LABEL or label != label.strip() or not label.isprintable():
        raise bad_request("Invalid label")
    return label


def _deadline(body: Document, default: datetime) -> datetime:
    given = documents.text(body, "deadline")
    if not given:
        return default
    return parse_deadline(given)


def parse_deadline(given: str) -> datetime:
    """Raises: ApiError 400 if it is no time, or in the past."""
    try:
        deadline = clock.parse(given)
    except ValueError as error:
        raise bad_request(f"deadline is not a time: {given!r}") from error
    if deadline <= clock.now():
        raise bad_request("deadline must be in the future")
    return deadline
