"""Faults on demand, for every service of the facility alike."""

from __future__ import annotations

import asyncio
import enum
import random
import re
import threading
import time
import uuid
from dataclasses import dataclass, replace

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from orchestration.ledger.service import Document
from orchestration.sandbox import connections, documents
from orchestration.sandbox.store import Store

_KIND = "fault"
CONTROL = "/_sandbox"
"""Below this path lies the control of the facility itself, which no fault touches."""
_LOOK = 0.02
"""Seconds between two looks whether a request is still to be kept waiting."""


class FaultKind(enum.StrEnum):
    STATUS = "status"
    """Answers this HTTP status instead of acting."""
    LATENCY = "latency"
    """Acts, late."""
    LOST_ANSWER = "lost_answer"
    """Acts, then closes the connection without an answer."""
    DROP = "drop"
    """Closes the connection without acting."""
    REPEAT = "repeat"
    """Acts twice and answers once, as when something on the way has sent the request again."""


@dataclass(frozen=True, kw_only=True)
class FaultRule:
    """Which requests fail, how, and how many of them.

    `match` is a regular expression searched in ``METHOD path``. The first `skip` matching requests pass unharmed,
    the next `times` fail (0: all that follow). `delay` (seconds) comes before whatever `kind` does, and is over at once
    when the rules are cleared.
    `retry_after` (seconds) becomes the header of a ``status`` fault. With a `chance` below 1, a request that would
    fail does so with that probability.
    """

    match: str
    kind: FaultKind = FaultKind.STATUS
    status: int = 503
    retry_after: int | None = None
    delay: float = 0.0
    times: int = 1
    skip: int = 0
    chance: float = 1.0
    id: str = ""
    hits: int = 0

    def __post_init__(self) -> None:
        re.compile(self.match)

    @property
    def spent(self) -> bool:
        return self.times > 0 and self.hits >= self.times

    def matches(self, method: str, path: str) -> bool:
        return re.search(self.match, f"{method} {path}") is not None

    def document(self) -> Document:
        return {
            "id": self.id,
            "match": self.match,
            "kind": self.kind.value,
            "status": self.status,
            "retry_after": self.retry_after,
            "delay": self.delay,
            "times": self.times,
            "skip": self.skip,
            "chance": self.chance,
            "hits": self.hits,
        }

    @classmethod
    def parse(cls, document: Document) -> FaultRule:
        """Raises ValueError (re.error is not one) on an unknown kind, KeyError where `match` is missing."""
        retry_after = document.get("retry_after")
        return cls(
            match=str(document["match"]),
            kind=FaultKind(documents.text(document, "kind", "status")),
            status=documents.whole(document, "status", 503),
            retry_after=int(retry_after) if isinstance(retry_after, int) else None,
            delay=documents.number(document, "delay"),
            times=documents.whole(document, "times", 1),
            skip=documents.whole(document, "skip"),
            chance=documents.number(document, "chance", 1.0),
            id=documents.text(document, "id"),
            hits=documents.whole(document, "hits"),
        )


class Faults:
    """The rules in force, oldest first; kept across restarts."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._rules = {key: FaultRule.parse(document) for key, document in store.every(_KIND)}

    def add(self, rule: FaultRule) -> FaultRule:
        named = replace(rule, id=rule.id or uuid.uuid4().hex, hits=0)
        with self._lock:
            self._keep(named)
        return named

    def clear(self) -> None:
        with self._lock:
            self._rules.clear()
            self._store.clear(_KIND)

    def every(self) -> list[FaultRule]:
        with self._lock:
            return list(self._rules.values())

    async def wait(self, rule: FaultRule) -> None:
        """The delay of a rule, as long as it is in force."""
        end = time.monotonic() + rule.delay
        while rule.id in self._rules and (left := end - time.monotonic()) > 0:
            await asyncio.sleep(min(left, _LOOK))

    def take(self, method: str, path: str) -> FaultRule | None:
        """The rule that this request falls under; counts it."""
        with self._lock:
            for rule in list(self._rules.values()):
                if rule.spent or not rule.matches(method, path):
                    continue
                if rule.skip > 0:
                    self._keep(replace(rule, skip=rule.skip - 1))
                    continue
                if rule.chance < 1.0 and random.random() >= rule.chance:  # noqa: S311 -- chance, no secret
                    continue
                self._keep(replace(rule, hits=rule.hits + 1))
                return rule
        return None

    def _keep(self, rule: FaultRule) -> None:
        self._rules[rule.id] = rule
        self._store.put(_KIND, rule.id, rule.document())


class FaultMiddleware:
    """Stands before all services and does what the rules say."""

    def __init__(self, app: ASGIApp, *, faults: Faults) -> None:
        self._app = app
        self._faults = faults

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        rule = self._rule(scope)
        if rule is None:
            await self._app(scope, receive, send)
            return
        if rule.delay:
            receive = await _received(receive)  # so that it is acted upon even if nobody waits any longer
            await self._faults.wait(rule)
        match rule.kind:
            case FaultKind.LATENCY:
                await self._app(scope, receive, send)
            case FaultKind.STATUS:
                await _refusal(rule, scope["path"])(scope, receive, send)
            case FaultKind.LOST_ANSWER:
                await self._app(scope, receive, _nowhere)
                await connections.close(scope, receive)
            case FaultKind.DROP:
                await _whole(receive)  # unread, it may turn the close into a reset
                await connections.close(scope, receive)
            case FaultKind.REPEAT:
                body = await _whole(receive)
                await self._app(dict(scope), _again(body, receive), _nowhere)
                await self._app(scope, _again(body, receive), send)

    def _rule(self, scope: Scope) -> FaultRule | None:
        if scope["type"] != "http" or scope["path"].startswith(CONTROL):
            return None
        return self._faults.take(scope["method"], scope["path"])


async def _received(receive: Receive) -> Receive:
    """Take in the whole request; what gives it out again."""
    messages = [await receive()]
    while messages[-1].get("more_body"):
        messages.append(await receive())

    async def given() -> Message:
        return messages.pop(0) if messages else await receive()

    return given


async def _whole(receive: Receive) -> bytes:
    """The body of a request."""
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), message.get("more_body", False)
    return body


def _again(body: bytes, receive: Receive) -> Receive:
    """The request's body once more; after it whatever comes on the connection."""
    rest = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def received() -> Message:
        message = next(rest, None)
        return await receive() if message is None else message

    return received


async def _nowhere(_: Message) -> None:
    """Takes the answer that gets lost."""


_CODES = {
    401: "AuthenticationFailed",
    403: "PermissionDenied",
    404: "ClientError.NotFound",
    409: "Conflict",
    429: "ClientError.TooManyRequests",
    500: "InternalError",
    502: "EndpointError",
    503: "ServiceUnavailable",
}


def _refusal(rule: FaultRule, path: str) -> JSONResponse:
    body = {
        "code": _CODES.get(rule.status, "Error"),
        "message": "injected by the sandbox",
        "request_id": "sandbox",
        "resource": path,
        "statusCode": rule.status,
    }
    if path.startswith("/iri/"):  # whose refusals are problem documents
        body |= {"type": "about:blank", "title": "Injected", "status": rule.status, "instance": path}
        body |= {"detail": "injected by the sandbox"}
    if path.startswith("/search/"):  # whose refusals are GError documents
        body |= {"@datatype": "GError", "@version": "2017-09-01", "status": rule.status}
    headers = {} if rule.retry_after is None else {"Retry-After": str(rule.retry_after)}
    return JSONResponse(body, status_code=rule.status, headers=headers)
