"""Steering the stand-in for Globus Search."""

from __future__ import annotations

import httpx

from orchestration.ledger.service import Document
from orchestration.sandbox import documents
from orchestration.sandbox.faults import CONTROL


class SearchControlClient:
    """Indexes by id."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http

    def hold(self, index: str, *, held: bool = True) -> None:
        """Let the tasks of an index stand still: what is ingested meanwhile waits."""
        self._http.post(f"{CONTROL}/search/indexes/{index}", json={"held": held}).raise_for_status()

    def entries(self, index: str) -> list[Document]:
        """All entries, whoever may see them: subject, id, visible_to and content, in the order in which they came."""
        answer = self._http.get(f"{CONTROL}/search/indexes/{index}/entries")
        answer.raise_for_status()
        return documents.objects(documents.decode(answer.content), "entries")
