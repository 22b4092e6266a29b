"""May this be done with that data? The one question, asked before each thing that cannot be taken back.

`permit` answers it, and what it returns is all that an adapter takes: no transfer, job, publication, record or deletion
is asked of the outside world without a decision about the scan as the ledger has it at that moment.
"""

from __future__ import annotations

import enum
import weakref
from collections.abc import Sequence
from dataclasses import InitVar, dataclass
from typing import Generic, NoReturn, Protocol, TypeVar

from orchestration.errors import ExportControlled, Unpermitted


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


class Effect(enum.StrEnum):
    """What an operation does with data."""

    MOVE = "move"
    """A copy is made: by a transfer, or into an archive."""
    COMPUTE = "compute"
    """A job reads it, where the job runs."""
    CATALOGUE = "catalogue"
    PUBLISH = "publish"
    DELETE = "delete"
    """A copy, or what was published of it, is taken away; nothing gets anywhere by that."""
    RENAME = "rename"
    """A copy gets another name where it is; nothing gets anywhere by that."""
    RUN = "run"
    """A flow of this service is started, or put into the calendar; it asks for its own operations itself."""


class Asked(Protocol):
    """What the policy has to know of a request. Where it takes data it says itself (`place`), or its service does."""

    @property
    def effect(self) -> Effect: ...


class Rule(enum.StrEnum):
    """By which an operation is permitted."""

    OPEN = "the scan is not restricted"
    AT_BEAMLINE = "the scan is export-controlled, and stays at the beamline"
    TAKEN_AWAY = "it takes data away, and carries none"
    STAYS = "it carries nothing away from where it is"
    OF_NO_SCAN = "it has nothing of a scan"


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What an operation is about: a scan, as the ledger has it now."""

    scan: str
    """Its id; empty for what has nothing of any scan: a trial of `beamline doctor`, or a run started by hand."""
    name: str
    """For people: its path."""
    export_controlled: bool = False
    """Also if something in it is: one file of a folder is enough."""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """That something is permitted: what, of which scan, at which places, by which rule, and when (`at`: seconds since
    the epoch).
    """

    subject: Subject
    effect: Effect
    places: tuple[Place, ...]
    rule: Rule
    at: float


R_co = TypeVar("R_co", bound=Asked, covariant=True)
R = TypeVar("R", bound=Asked)

_SEAL = object()
_ISSUED: weakref.WeakSet[Permitted[Asked]] = weakref.WeakSet()
"""All that `permit` has returned: nothing else is taken for it, however it was made."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Permitted(Generic[R_co]):
    """A request, and the decision by which it may be submitted now. Only `permit` makes one."""

    request: R_co
    decision: Decision
    seal: InitVar[object] = None

    def __post_init__(self, seal: object) -> None:
        if seal is not _SEAL:
            raise Unpermitted("a permission was made up", where=type(self.request).__name__)

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        """Neither is it copied, nor does it leave the process: what it says is true of one moment."""
        raise Unpermitted("a permission cannot be copied", where=type(self.request).__name__)


def permit(
    request: R, *, subject: Subject, at: float, site: Place | None = None, destination: Place | None = None
) -> Permitted[R]:
    """The request, to be submitted at once, if its effect on the scan is permitted at all its places.

    Where it takes data it says itself, or its service says it (`site`) for all that it runs. A `destination` is where
    else data goes by it, as a caller says: that alone is not enough.

    Raises:
        ExportControlled: if the data may not leave the beamline, and one of the places is elsewhere.
        Unpermitted: if it is not said what it does, or where.
    """
    stated = [place for place in (getattr(request, "place", None), site) if place is not None]
    _demand_stated(request, stated, subject)
    found = tuple(dict.fromkeys([*stated, *([] if destination is None else [destination])]))
    decision = Decision(
        subject=subject,
        effect=request.effect,
        places=found,
        rule=_export_control(request.effect, subject, found),
        at=at,
    )
    permitted = Permitted(request=request, decision=decision, seal=_SEAL)
    _ISSUED.add(permitted)
    return permitted


def opened(permitted: Permitted[R], kind: type[R], *, at: Place | None = None) -> R:
    """The request, for the adapter that is about to submit it; `at` is where that works, if the request does not say.

    Raises:
        Unpermitted: if `permit` did not return this, or did for another kind of request, or for other places.
    """
    if not isinstance(permitted, Permitted) or permitted not in _ISSUED:
        raise Unpermitted("something was to be submitted that nobody permitted", where=type(permitted).__name__)
    request = permitted.request
    if not isinstance(request, kind):
        raise Unpermitted(f"this takes a {kind.__name__}, not what was permitted", where=type(request).__name__)
    if at is not None and at not in permitted.decision.places:
        named = ", ".join(place.name for place in permitted.decision.places)
        raise Unpermitted(f"it was permitted for {named}, not for {at.name}", where=type(request).__name__)
    return request


def _demand_stated(request: Asked, places: Sequence[object], subject: Subject) -> None:
    """What is not said cannot be permitted."""
    if not isinstance(getattr(request, "effect", None), Effect):
        raise Unpermitted(f"a {type(request).__name__} does not say what it does with {subject.name}", where="policy")
    if not places:
        raise Unpermitted(f"a {type(request).__name__} does not say where it takes {subject.name}", where="policy")
    for place in places:
        if not isinstance(place, Place) or not isinstance(place.zone, Zone):
            raise Unpermitted(f"{place} is no place of a known zone; {subject.name} does not go there", where="policy")


def _export_control(effect: Effect, subject: Subject, places: tuple[Place, ...]) -> Rule:
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
