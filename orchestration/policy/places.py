"""Where data can be taken, and what can be done with it there."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from orchestration.policy.folders import OwnedTree


class Zone(enum.StrEnum):
    """How far from the beamline a place is."""

    BEAMLINE = "beamline"
    """Computers and disks of the beamline itself; data may rest here whatever its classification."""
    EXTERNAL = "external"
    """Everything else: other facilities, catalogues, portals."""


@dataclass(frozen=True)
class Place:
    """Where an operation takes data (or something learnt from it)."""

    name: str
    zone: Zone
    owned: tuple[OwnedTree, ...] = ()
    """Of one where jobs run: the folders there that belong to proposals."""


class Effect(enum.StrEnum):
    """What an operation does with data."""

    MOVE = "move"
    """A copy is made: by a transfer, or into an archive. Such a request says out of whose folder it goes into whose
    (`passages`).
    """
    COMPUTE = "compute"
    """A job reads it, where the job runs. Such a request says which paths it names there: those that it begins in,
    writes and reads (`directory`, `writes`, `reads`).
    """
    CATALOGUE = "catalogue"
    """A record of it is made. Such a request says who gets to see that (`audience`)."""
    PUBLISH = "publish"
    """As a record, of what everybody may find."""
    DELETE = "delete"
    """A copy, or what was published of it, is taken away; nothing gets anywhere by that."""
    RENAME = "rename"
    """A copy gets another name where it is; nothing gets anywhere by that, but perhaps into a folder (`passages`)."""
    RUN = "run"
    """A flow of this service is started, or put into the calendar; it asks for its own operations itself."""


@dataclass(frozen=True, kw_only=True)
class Audience:
    """Who gets to see what is published."""

    readers: tuple[str, ...]
    """As the place calls them: groups of a catalogue, principals of an index."""
    everybody: bool
    """Anybody at all, or anybody who can log in somewhere."""


@dataclass(frozen=True, kw_only=True)
class Passage:
    """One path that is carried. Whose folder it comes from and goes to is as `OwnerFolder.owner` says it."""

    path: str
    source: str | None
    destination: str | None
    origin: tuple[str, str] | None = None
    """The endpoint that it comes from, and its path there."""
    asked: str = ""
    """By which path there it was asked for: that may be a link to `origin`."""
    aliases: tuple[tuple[str, str], ...] = ()
    """The same as other endpoints on that storage call it; of one that lies in it as a whole, the path is empty."""
