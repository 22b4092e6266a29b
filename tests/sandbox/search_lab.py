"""A facility whose search indexes several people use, with unmodified clients of it, for tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import globus_sdk
from globus_sdk import SearchClient
from globus_sdk.response import GlobusHTTPResponse
from sandbox_lab import until

from orchestration.sandbox.search.settings import INDEX, IndexSettings, SearchSettings, index_id
from orchestration.sandbox.settings import CLIENT_ID, CLIENT_SECRET, Settings
from orchestration.sandbox.testing import RunningFacility, running_facility

ADA, BOB = "99999999-0000-4000-8000-00000000000a", "99999999-0000-4000-8000-00000000000b"
TEAM = "88888888-0000-4000-8000-000000000001"
IDENTITY, GROUP = "urn:globus:auth:identity:", "urn:globus:groups:id:"
GUARDED = "guarded"
"""An index that Ada owns and the service writes to."""


@dataclass(frozen=True)
class SearchLab:
    facility: RunningFacility
    client: SearchClient
    index: str = index_id(INDEX)

    def ingest(self, *entries: dict[str, Any], index: str = "") -> GlobusHTTPResponse:
        """The task of it, once it is over."""
        body = {"ingest_type": "GMetaList", "ingest_data": {"gmeta": [*entries]}}
        return self.ended(self.client.ingest(index or self.index, body)["task_id"])

    def ended(self, task: str) -> GlobusHTTPResponse:
        until(lambda: self.client.get_task(task)["state"] in {"SUCCESS", "FAILED"})
        return self.client.get_task(task)

    def search(self, **query: Any) -> GlobusHTTPResponse:
        return self.client.post_search(self.index, globus_sdk.SearchQueryV1(**({"q": "*"} | query)))

    def found(self, **query: Any) -> list[str]:
        """The subjects, in the order of the result."""
        return [result["subject"] for result in self.search(**({"limit": 100} | query))["gmeta"]]

    def facet(self, facet: dict[str, Any], **query: Any) -> Any:
        """The buckets as pairs, or the value."""
        (found,) = self.search(facets=[facet], **query)["facet_results"]
        buckets = found.get("buckets")
        return found["value"] if buckets is None else [(row["value"], row["count"]) for row in buckets]


def entry(
    subject: str, content: dict[str, Any], *, visible_to: tuple[str, ...] = ("public",), id: str | None = None
) -> Any:
    return {"subject": subject, "id": id, "visible_to": [*visible_to], "content": content}


def search_settings(state: Path) -> Settings:
    guarded = IndexSettings(name=GUARDED, owners=(f"{IDENTITY}{ADA}",), writers=(f"{IDENTITY}{CLIENT_ID}",))
    return Settings(
        state=state,
        clients={CLIENT_ID: CLIENT_SECRET, ADA: "a", BOB: "b"},
        search=SearchSettings(
            indexes=(IndexSettings(name=INDEX), guarded), groups={TEAM: frozenset({ADA})}, delay=0.01
        ),
    )


def search_client(facility: RunningFacility, who: str = CLIENT_ID, *, scope: str = "all") -> SearchClient:
    """As a program makes it whose environment leads to the facility; nobody's without an identity."""
    before = dict(os.environ)
    os.environ.update(facility.environment())
    try:
        authorizer: globus_sdk.authorizers.GlobusAuthorizer = globus_sdk.NullAuthorizer()
        if who:
            auth = globus_sdk.ConfidentialAppAuthClient(who, facility.settings.clients[who])
            scopes = [str(getattr(SearchClient.scopes, scope))]
            authorizer = globus_sdk.ClientCredentialsAuthorizer(auth, scopes)
        client = SearchClient(authorizer=authorizer)
    finally:
        os.environ.clear()
        os.environ.update(before)
    client.retry_config.max_retries = 0
    return client


@contextmanager
def running_search(state: Path) -> Iterator[SearchLab]:
    with running_facility(state, (), settings=search_settings(state)) as facility, search_client(facility) as client:
        yield SearchLab(facility, client)
