"""Reading a search index.

It is read as this service, which sees all that it has published: who shows that to others has to ask who they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import globus_sdk

from orchestration.config import SearchIndex
from orchestration.errors import CatalogueRefused
from orchestration.globus.search_clients import SearchClients
from orchestration.globus.search_queries import FoundEntry, Page, Query
from orchestration.ledger.service import Json

MOST_RESULTS = 10_000
"""As many can be had of one query, by pages."""

_SCROLL = 1000

Ask: TypeAlias = "Callable[[globus_sdk.SearchClient], globus_sdk.GlobusHTTPResponse]"


@dataclass(frozen=True)
class GlobusSearch:
    clients: SearchClients

    def entry(self, index: SearchIndex, *, subject: str, id: str = "metadata") -> Mapping[str, Json] | None:
        """The content of an entry; None if there is none, or it is not for this service to see."""
        answer = self.clients.read(lambda client: client.get_subject(index.uuid, subject), where=index.place.name)
        found = [] if answer is None else FoundEntry.parse(answer.data)
        return next((one.content for one in found if one.id == id), None)

    def page(self, index: SearchIndex, query: Query, *, limit: int = 50, offset: int = 0) -> Page:
        """Some of the result, and all of its facets.

        Raises:
            CatalogueRefused: if the index does not take the question; also for what is beyond `MOST_RESULTS`.
        """
        document: dict[str, Any] = query.document() | {"limit": limit, "offset": offset}
        answer = self._ask(index, lambda client: client.post_search(index.uuid, document))
        return Page.parse(answer)

    def every(self, index: SearchIndex, query: Query) -> Iterator[FoundEntry]:
        """All of the result, however much it is, in no particular order; it is asked for as it is used up."""
        body = {name: value for name, value in query.document().items() if name in {"q", "filters"}}
        document: dict[str, Any] = {**body, "@version": "scroll#1.0.0", "limit": _SCROLL}
        while True:
            answer = self._ask(index, lambda client: client.scroll(index.uuid, dict(document)))
            for result in answer["gmeta"]:
                yield from FoundEntry.parse(result)
            if not answer.get("has_next_page"):
                return
            document["marker"] = answer["marker"]

    def _ask(self, index: SearchIndex, ask: Ask) -> Mapping[str, Any]:
        answer = self.clients.read(ask, where=index.place.name)
        if answer is None:
            raise CatalogueRefused("there is no such search", where=index.place.name)
        found: Mapping[str, Any] = answer.data
        return found
