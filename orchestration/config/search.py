"""Settings of the search indexes in which results are published (Globus Search)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated
from urllib.parse import urlsplit
from uuid import UUID

from pydantic import AfterValidator, Field, StringConstraints, field_validator

from orchestration.config.base import EntryKey, Section, unknown
from orchestration.policy import Place, Zone

PUBLIC = "public"

_UUID = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_PRINCIPAL = re.compile(rf"public|all_authenticated_users|urn:globus:(auth:identity|groups:id):{_UUID}")

Words = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


def is_principal(text: str) -> bool:
    """Whether Globus Search knows this as somebody who may see an entry."""
    return _PRINCIPAL.fullmatch(text) is not None


def _known(value: tuple[str, ...]) -> tuple[str, ...]:
    for one in value:
        if not is_principal(one):
            raise ValueError(
                f"`{one}` is nobody: write `public`, `all_authenticated_users`, `urn:globus:groups:id:<uuid>` "
                "or `urn:globus:auth:identity:<uuid>`"
            )
    return value


Principals = Annotated[tuple[str, ...], AfterValidator(_known)]
"""Who may see an entry of Globus Search."""


class SearchIndex(Section):
    """An index, and what is the same in all that this service publishes there. It is outside the beamline."""

    name: EntryKey = ""
    uuid: UUID = Field(description="The index at Globus Search.")
    visible_to: Principals = Field(
        min_length=1,
        description="Who sees an entry that says nothing else: `public`, `all_authenticated_users`, "
        "`urn:globus:groups:id:<uuid>` or `urn:globus:auth:identity:<uuid>`.",
    )
    publisher: Words = Field(description="The organisation that publishes.")
    creators: tuple[Words, ...] = Field(min_length=1, description="Creators of a record that names none itself.")
    endpoint: str | None = Field(default=None, description="Endpoint, on a Globus collection, of published files.")
    https_host: str | None = Field(
        default=None, description="Where that collection is served by HTTPS, such as `g-1a2b3.data.globus.org`."
    )

    @field_validator("https_host")
    @classmethod
    def _is_a_host(cls, value: str | None) -> str | None:
        """Without the scheme, with the port if there is one."""
        if value is None:
            return None
        try:
            parts = urlsplit(value if "://" in value else f"https://{value}")
            usable = parts.scheme == "https" and bool(parts.hostname) and not (parts.path.strip("/") or parts.query)
            usable = usable and "@" not in parts.netloc and parts.port != 0
        except ValueError:
            usable = False
        if not usable:
            raise ValueError("must be a host, such as `g-1a2b3.data.globus.org` or `data.example.org:8443`")
        return parts.netloc

    def known_as(self, key: str) -> SearchIndex:
        return self.model_copy(update={"name": key})

    @property
    def place(self) -> Place:
        return Place(name=f"the search index {self.name}", zone=Zone.EXTERNAL)


class SearchSettings(Section):
    indexes: Mapping[str, SearchIndex] = Field(default_factory=dict, description="Search indexes by name.")

    @field_validator("indexes", mode="after")
    @classmethod
    def _named(cls, value: Mapping[str, SearchIndex]) -> Mapping[str, SearchIndex]:
        return {key: index.known_as(key) for key, index in value.items()}

    def index(self, name: str) -> SearchIndex:
        """Raises: UnknownName if there is none of that name."""
        found = self.indexes.get(name)
        if found is None:
            raise unknown("search index", name, self.indexes, section="search.indexes")
        return found
