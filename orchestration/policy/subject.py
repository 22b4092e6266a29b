"""What an operation is about, and what its beamline demands for that."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from orchestration.policy.folders import PROPOSAL, OwnerFolder
from orchestration.policy.places import Effect

EMBARGO_UNTIL = "embargo_until"
"""The fact of a scan that tells when its embargo ends: seconds since the epoch, or an ISO date (in UTC), or time."""

EMBARGO_WHY = "embargo_why"
"""The fact that tells what somebody has put it under embargo for."""

PROPOSAL_FACT = "proposal"
OWNED_BY = "owned_by"
"""The fact of a scan that tells what an operator has said of its proposal."""

_DAY = 24 * 3600.0


@dataclass(frozen=True, kw_only=True)
class Readers:
    """To whom data may be told of: groups of the catalogue, principals of search indexes."""

    groups: frozenset[str] = frozenset()
    visible_to: frozenset[str] = frozenset()

    def of(self, effect: Effect) -> frozenset[str]:
        return self.visible_to if effect is Effect.PUBLISH else self.groups


@dataclass(frozen=True, kw_only=True)
class Owners:
    """Who may be told of the data of a proposal. ``{proposal}`` in the name of a common group is that of the data."""

    common: Readers
    proposals: Mapping[str, Readers] = field(default_factory=dict)

    def readers(self, effect: Effect, proposal: str | None) -> frozenset[str]:
        """Of what belongs to nobody known, only those that read everything."""
        common = self.common.of(effect)
        if proposal is None:
            return frozenset(one for one in common if PROPOSAL not in one)
        own = self.proposals.get(proposal, Readers()).of(effect)
        return frozenset(one.replace(PROPOSAL, proposal) for one in common) | own


@dataclass(frozen=True, kw_only=True)
class BeamlineRules:
    """What one beamline demands. None: it does not."""

    embargo_days: float | None = None
    """Counted from when a scan was registered, if the scan itself says nothing else."""
    owners: Owners | None = None
    folder: OwnerFolder | None = None
    """Where acquisition puts the data of a proposal."""
    keeps: frozenset[str] = frozenset()
    """The endpoints where its scans have the paths that they are known by."""
    by_folder: bool = False
    """Proposals are known by these folders, whatever the metadata of a scan call them."""


@dataclass(frozen=True, kw_only=True)
class Embargo:
    until: float
    """Seconds since the epoch; infinite if it cannot be told."""
    why: str


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What an operation is about: a scan, as the ledger has it now."""

    scan: str
    """Its id; empty for what has nothing of any scan: a run that was started by hand, which asks for itself."""
    name: str
    """For people: its path."""
    export_controlled: bool = False
    """Also if something in it is: one file of a folder is enough."""
    embargoes: tuple[Embargo, ...] = ()
    """Of the scan, and of those in it."""
    proposals: tuple[str, ...] = ()
    """Whose data it is, as far as it is known; mostly one."""
    owners: Owners | None = None


def embargo(facts: Mapping[str, object], registered_at: float, rules: BeamlineRules) -> Embargo | None:
    """Of one scan. What the scan says itself goes before the rule of its beamline."""
    said = facts.get(EMBARGO_UNTIL)
    if said is not None:
        until, why = _seconds(said), facts.get(EMBARGO_WHY)
        known = isinstance(why, str) and math.isfinite(until)
        return Embargo(until=until, why=str(why) if known else f"{EMBARGO_UNTIL} is {said}")
    if rules.embargo_days is None:
        return None
    why = f"its beamline keeps scans for {rules.embargo_days:g} days"
    return Embargo(until=registered_at + rules.embargo_days * _DAY, why=why)


def proposal(facts: Mapping[str, object], path: str, rules: BeamlineRules) -> str | None:
    """Of one scan: what an operator has said; else from its metadata, or from the folder where acquisition put it."""
    folder = (rules.folder.owner(path) if rules.folder else None) or None
    told = None if rules.by_folder else _name(facts.get(PROPOSAL_FACT))
    return _name(facts.get(OWNED_BY)) or told or folder


def _name(said: object) -> str | None:
    return (said.strip() or None) if isinstance(said, str) else None


def moment(text: str) -> float:
    """Seconds since the epoch of an ISO date or time; without a time zone it is meant in UTC.

    Raises:
        ValueError: if it is neither.
    """
    found = datetime.fromisoformat(text.strip())
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def _seconds(said: object) -> float:
    if isinstance(said, int | float) and not isinstance(said, bool) and math.isfinite(said):
        return float(said)
    try:
        return moment(said) if isinstance(said, str) else math.inf
    except ValueError:
        return math.inf
