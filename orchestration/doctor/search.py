"""Search indexes: can this service read them, may it publish there, and are published files where it says?"""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from orchestration import config
from orchestration.config import SearchIndex
from orchestration.doctor.check import Check, attempt
from orchestration.doctor.once import once
from orchestration.errors import CatalogueRefused, OrchestrationError
from orchestration.globus.search import GlobusPublish, GlobusWithdraw
from orchestration.globus.search_clients import SearchClients
from orchestration.globus.search_entries import Entry, PublishRequest, WithdrawRequest
from orchestration.globus.search_queries import Query
from orchestration.globus.search_reader import GlobusSearch
from orchestration.ledger import Ledger

PATIENCE_SECONDS = 120.0
PREFIX = "urn:orchestration-check:"

_WRITERS = frozenset({"owner", "admin", "writer"})


def index_check(index: SearchIndex, *, ledger: Ledger | None) -> Check:
    """With a `ledger` for trials, an entry that only this service sees is published and withdrawn."""
    check = IndexCheck(SearchClients(config.credentials()), index)

    def ask() -> str:
        notes = [check.read(), check.writer()]
        return ", ".join([*notes, *([check.publish_and_withdraw(ledger)] if ledger is not None else [])])

    return attempt(f"index {index.name}", ask)


@dataclass(frozen=True)
class IndexCheck:
    """Of one index of the settings. Every method returns what was seen, and raises what is wrong."""

    clients: SearchClients
    index: SearchIndex

    def read(self) -> str:
        page = GlobusSearch(self.clients).page(self.index, Query(), limit=1)
        return f"{page.total} entries to be seen"

    def writer(self) -> str:
        """Whether this service has a role with which it may publish."""
        where = self.index.place.name
        answer = self.clients.read(lambda client: client.index_list(), where=where)
        rows = [] if answer is None else answer["index_list"]
        mine = next((row for row in rows if row["id"] == str(self.index.uuid)), None)
        if mine is None or _WRITERS.isdisjoint(mine["permissions"]):
            raise CatalogueRefused(
                "this service may not publish there",
                where=where,
                next_step=f"make {self.clients.identity} a writer of it (`globus search index role create "
                f"{self.index.uuid} writer ...`)",
            )
        return "may publish"

    def publish_and_withdraw(self, ledger: Ledger) -> str:
        """`ledger` is one of `trials`."""
        entry = Entry(
            subject=f"{PREFIX}{secrets.token_hex(8)}",
            visible_to=(self.clients.identity,),
            content={"title": "check of this index"},
        )
        place = self.index.place
        publish = PublishRequest(index=self.index, entry=entry)
        once(ledger, publish, GlobusPublish(self.clients), place=place, seconds=PATIENCE_SECONDS).run()
        withdraw = WithdrawRequest(index=self.index, subject=entry.subject)
        try:
            once(ledger, withdraw, GlobusWithdraw(self.clients), place=place, seconds=PATIENCE_SECONDS).run()
        except OrchestrationError as error:
            raise CatalogueRefused(
                f"an entry can be published, and not withdrawn: {error.what}",
                where=place.name,
                next_step=f"see that {entry.subject} is not there any more (`globus search subject delete`)",
            ) from error
        return "an entry was published and withdrawn"
