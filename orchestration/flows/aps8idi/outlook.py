"""What would be done: everything is looked at, and nothing is changed anywhere."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from functools import partial

from orchestration.errors import Cancelled, OrchestrationError
from orchestration.flows.aps8idi.checking import check, distinguished
from orchestration.flows.aps8idi.payload import Payload
from orchestration.flows.work import Work
from orchestration.ledger.service import Document


def outlook(work: Work, payload: Payload) -> Document:
    """What a run with this payload would do. Raises what that run would raise before it began."""
    found = check(work, distinguished(work, payload), thorough=True).document()
    _say(work, found)
    return found


def outlooks(work: Work, payloads: Mapping[str, Payload], *, at_once: int) -> Document:
    """Of many: what would be done with each, or why it cannot be."""
    turns = threading.Semaphore(at_once)

    def look(payload: Payload) -> Document:
        with turns:
            try:
                return check(work, payload, thorough=True).document()
            except Cancelled:
                raise
            except OrchestrationError as error:
                return {"error": type(error).__name__, "reason": error.sentence}

    seen = work.side_by_side([partial(look, each) for each in payloads.values()])
    found: Document = dict(zip(payloads, seen, strict=True))
    _say(work, found)
    return found


def _say(work: Work, found: Document) -> None:
    work.logger.info("nothing is done, as this is a dry run; it would be:\n%s", json.dumps(found, indent=2))
