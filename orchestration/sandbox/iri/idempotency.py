"""The memory of Idempotency-Keys: the same request under the same key has been made once."""

from __future__ import annotations

import hashlib
import json
import threading
import time
from collections.abc import Callable

from orchestration.ledger.service import Document
from orchestration.sandbox import documents
from orchestration.sandbox.iri.knobs import Knobs
from orchestration.sandbox.iri.problems import Problem
from orchestration.sandbox.store import Store

_KIND = "iri-key"


class Keys:
    """Answers are remembered across restarts, for `lifetime` seconds."""

    def __init__(self, store: Store, knobs: Knobs, *, lifetime: float) -> None:
        self._store = store
        self._knobs = knobs
        self._lifetime = lifetime
        self._lock = threading.Lock()
        self._in_flight: set[str] = set()

    def once(self, scope: str, key: str, body: Document, act: Callable[[], Document]) -> tuple[Document, bool]:
        """The answer, and whether it was given before. What fails is not remembered.

        Raises:
            Problem: 409 while the first request is still at work, 422 for another body, 501 without a memory.
        """
        if not self._knobs.idempotent:
            raise Problem(501, "Idempotency-Key provided but no idempotency store is configured.")
        name = hashlib.sha256(f"{scope}:{key}".encode()).hexdigest()
        digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
        with self._lock:
            if name in self._in_flight:
                raise Problem(
                    409, "A request with this Idempotency-Key is already in progress.", headers={"Retry-After": "1"}
                )
            known = self._known(name)
            if known is not None:
                if known["body"] != digest:
                    raise Problem(422, "Idempotency-Key reused with a different request body.")
                return documents.object_at(known, "answer"), True
            self._in_flight.add(name)
        try:
            answer = act()
            self._store.put(_KIND, name, {"at": time.time(), "body": digest, "answer": answer})
            return answer, False
        finally:
            with self._lock:
                self._in_flight.discard(name)

    def _known(self, name: str) -> Document | None:
        found = self._store.get(_KIND, name)
        limit = self._lifetime if self._knobs.idempotency_seconds is None else self._knobs.idempotency_seconds
        return None if found is None or time.time() - documents.number(found, "at") > limit else found
