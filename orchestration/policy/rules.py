"""Each rule by itself: it raises, or tells on what ground it has nothing against it."""

from __future__ import annotations

import enum
import math
from collections.abc import Iterator, Sequence

from orchestration.errors import Embargoed, ExportControlled, NotTheOwner, Unpermitted
from orchestration.policy.folders import SEVERAL, OwnedTree
from orchestration.policy.places import Audience, Effect, Passage, Place, Zone
from orchestration.policy.subject import Owners, Subject
from orchestration.times import clock

TELLING = {Effect.CATALOGUE, Effect.PUBLISH}
"""By which others get to know of the data."""


class Rule(enum.StrEnum):
    """The ground on which an operation is permitted."""

    OPEN = "the scan is not restricted"
    AT_BEAMLINE = "the scan is export-controlled, and stays at the beamline"
    TAKEN_AWAY = "it takes data away, and carries none"
    STAYS = "it carries nothing away from where it is"
    OF_NO_SCAN = "it has nothing of a scan"
    NOT_FOR_EVERYBODY = "not everybody gets to see it"
    NO_EMBARGO = "no embargo stands on the scan"
    EMBARGO_OVER = "the embargo of the scan is over"
    TO_OWNERS = "only those get to see it who may read the data of its proposal"
    OWN_FOLDER = "it goes into no folder of another proposal"
    OWN_FILES = "it works in no folder of another proposal"


def export_control(effect: Effect, subject: Subject, places: Sequence[Place]) -> Rule:
    if not subject.scan:
        return Rule.OF_NO_SCAN
    if subject.export_controlled is False:
        return Rule.OPEN
    if effect is Effect.DELETE:
        return Rule.TAKEN_AWAY
    if effect is Effect.RENAME:
        return Rule.STAYS
    for place in places:
        if place.zone is not Zone.BEAMLINE:
            raise ExportControlled(
                f"scan {subject.name} is export-controlled and {place.name} is outside the beamline", where="policy"
            )
    return Rule.AT_BEAMLINE


def disclosure(effect: Effect, audience: object, subject: Subject, *, at: float) -> Iterator[Rule]:
    """Of what tells others about the data."""
    if effect not in TELLING:
        return
    if not isinstance(audience, Audience):
        raise Unpermitted(f"it is not said who gets to see what is told of {subject.name}", where="policy")
    yield _embargo(audience, subject, at)
    if subject.owners is not None:
        yield _readers(effect, audience, subject, subject.owners)


def folders(effect: Effect, passages: object, subject: Subject) -> Iterator[Rule]:
    """Of what puts data into folders."""
    if effect not in {Effect.MOVE, Effect.RENAME}:
        return
    if not isinstance(passages, tuple) or not all(isinstance(each, Passage) for each in passages):
        raise Unpermitted(f"it is not said into whose folder {subject.name} goes", where="policy")
    for passage in passages if effect is Effect.MOVE else ():
        _demand_taken_from_own(passage, subject)
    owned = [each for each in passages if each.destination is not None]
    for passage in owned:
        _demand_own(passage, subject)
    if owned:
        yield Rule.OWN_FOLDER


def files(effect: Effect, request: object, subject: Subject, places: Sequence[Place]) -> Iterator[Rule]:
    """Of what works on files where they are: all that it names is looked at, read or written."""
    if effect is not Effect.COMPUTE:
        return
    reads, writes, directory = (_paths(getattr(request, name, None)) for name in ("reads", "writes", "directory"))
    if reads is None or writes is None or directory is None:
        raise Unpermitted(f"it is not said which files a job of {subject.name} reads and writes", where="policy")
    trees = list(dict.fromkeys(tree for place in places for tree in place.owned))
    read, written = _owned(trees, reads), _owned(trees, writes)
    # To begin in a folder of several reads and writes nothing there.
    begun = [(path, owner) for path, owner in _owned(trees, directory) if owner != SEVERAL]
    whose = subject.proposals or tuple(sorted({owner for _, owner in read} - {SEVERAL}))
    for path, owner in (*read, *written, *begun):
        _demand_owner(path, owner, whose, subject)
    if read or written or begun:
        yield Rule.OWN_FILES


def _paths(said: object) -> tuple[str, ...] | None:
    """None if it is no absolute path, and not several."""
    found = said if isinstance(said, tuple) else (said,)
    return found if all(isinstance(path, str) and path.startswith("/") for path in found) else None


def _owned(trees: Sequence[OwnedTree], paths: Sequence[str]) -> list[tuple[str, str]]:
    """Those that lie in somebody's folder, and whose that is."""
    found = ((f"{tree.endpoint}:{path}", tree.owner(path)) for path in paths for tree in trees)
    return [(path, owner) for path, owner in found if owner is not None]


def _embargo(audience: Audience, subject: Subject, at: float) -> Rule:
    if not audience.everybody:
        return Rule.NOT_FOR_EVERYBODY
    for each in subject.embargoes:
        if math.isinf(each.until):
            raise Embargoed(
                f"it cannot be read until when scan {subject.name} is under embargo: {each.why}",
                where="policy",
                next_step="say it with `beamline embargo SCAN --until DATE`, then start the flow again",
            )
        if at < each.until:
            until = f"{clock(each.until)} ({each.why})"
            raise Embargoed(
                f"everybody would see scan {subject.name}, which is under embargo until {until}", where="policy"
            )
    return Rule.EMBARGO_OVER if subject.embargoes else Rule.NO_EMBARGO


def _readers(effect: Effect, audience: Audience, subject: Subject, owners: Owners) -> Rule:
    if effect is Effect.PUBLISH and not subject.proposals:
        raise NotTheOwner(
            f"it is not known to which proposal scan {subject.name} belongs, so nothing of it is published",
            where="policy",
            next_step="catalogue the scan, which reads its proposal, or set `owner_folder` of the endpoint on which "
            "it was acquired",
        )
    for proposal in subject.proposals or (None,):
        strangers = sorted(set(audience.readers) - owners.readers(effect, proposal))
        if strangers:
            whose = f"proposal {proposal}" if proposal else "no known proposal"
            raise NotTheOwner(
                f"scan {subject.name} belongs to {whose}, of which {', '.join(strangers)} may not be told",
                where="policy",
            )
    return Rule.TO_OWNERS


def _demand_taken_from_own(passage: Passage, subject: Subject) -> None:
    """Also where it goes into a folder of nobody."""
    if passage.source and any(one != passage.source for one in subject.proposals):
        whence = passage.path if passage.origin is None else ":".join(passage.origin)
        whose = ", ".join(subject.proposals)
        raise NotTheOwner(
            f"{subject.name} belongs to proposal {whose}, and {whence} is in a folder of proposal {passage.source}",
            where="policy",
        )


def _demand_own(passage: Passage, subject: Subject) -> None:
    whose = subject.proposals or ((passage.source,) if passage.source else ())
    _demand_owner(passage.path, str(passage.destination), whose, subject)


def _demand_owner(path: str, owner: str, whose: Sequence[str], subject: Subject) -> None:
    if owner == SEVERAL:
        raise NotTheOwner(
            f"{path} is a folder of several proposals, and cannot be read or written as one",
            where="policy",
            next_step=f"name the part of it that is of {subject.name}; nothing was sent",
        )
    if not whose:
        raise NotTheOwner(
            f"it is not known to which proposal {subject.name} belongs, and {path} is a folder of proposal {owner}",
            where="policy",
            next_step="set `owner_folder` of the endpoint that it comes from, then start the flow again",
        )
    if any(one != owner for one in whose):
        raise NotTheOwner(
            f"{subject.name} belongs to proposal {', '.join(whose)}, and {path} is a folder of proposal {owner}",
            where="policy",
        )
