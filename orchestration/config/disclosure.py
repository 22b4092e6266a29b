"""Who may be told of the scans of a beamline, and when."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Literal

from pydantic import Field, PositiveFloat

from orchestration.config.base import Section
from orchestration.config.search import Principals, Words
from orchestration.policy import BeamlineRules, OwnerFolder, Owners, Readers


class ReaderSettings(Section):
    """Who may read the data of one proposal, besides those that `owners` names for all."""

    groups: tuple[Words, ...] = Field(default=(), description="Groups of the catalogue.")
    visible_to: Principals = Field(default=(), description="Principals of Globus Search.")

    @property
    def readers(self) -> Readers:
        return Readers(groups=frozenset(self.groups), visible_to=frozenset(self.visible_to))


class OwnerSettings(ReaderSettings):
    """Who may be told of data: for a proposal, those named here and its own."""

    groups: tuple[Words, ...] = Field(
        default=("{proposal}",),
        description="Groups of the catalogue that may own or read a record; `{proposal}` is that of the data.",
    )
    visible_to: tuple[str, ...] = Field(
        default=(), description="Principals of Globus Search that may see an entry of any proposal."
    )
    proposals: Mapping[str, ReaderSettings] = Field(
        default_factory=dict, description="By proposal: who else may be told of its data."
    )

    @property
    def owners(self) -> Owners:
        own = {proposal: readers.readers for proposal, readers in self.proposals.items()}
        return Owners(common=self.readers, proposals=own)


class Disclosure(Section):
    """When everybody may see something of a scan, and who may before that."""

    embargo_days: PositiveFloat | None = Field(
        default=None,
        description="So long after a scan was registered not everybody may see anything of it, unless the scan says "
        "something else; left out: there is no embargo but that of a scan itself.",
    )
    proposal_from: Literal["metadata", "folder"] = Field(
        default="metadata",
        description="What proposals are known by: what the metadata of a scan say, and where they say nothing its "
        "folder; or `folder` alone, that of acquisition (`owner_folder`), as where folders are called by experiments. "
        "What `beamline owner` says of a scan goes before both.",
    )
    owners: OwnerSettings | None = Field(
        default=None, description="Records and entries are for those alone who may read the data; left out: not asked."
    )

    def rules(self, folder: str | None, *, keeps: Collection[str] = ()) -> BeamlineRules:
        """`folder` is where acquisition puts the data of a proposal; `keeps` are the endpoints with its own paths."""
        return BeamlineRules(
            keeps=frozenset(keeps),
            embargo_days=self.embargo_days,
            owners=None if self.owners is None else self.owners.owners,
            folder=None if folder is None else OwnerFolder(folder),
            by_folder=self.proposal_from == "folder",
        )
