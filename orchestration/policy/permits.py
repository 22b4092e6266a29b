"""What an adapter takes: a request, and the decision by which it may be submitted."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import InitVar, dataclass
from typing import Generic, NoReturn, Protocol, TypeVar

from orchestration.errors import Unpermitted
from orchestration.policy import rules
from orchestration.policy.places import Effect, Place, Zone
from orchestration.policy.rules import Rule
from orchestration.policy.subject import Subject


class Asked(Protocol):
    """What the policy has to know of a request. Where it takes data it says itself (`place`), or its service does."""

    @property
    def effect(self) -> Effect: ...


@dataclass(frozen=True, kw_only=True)
class Decision:
    """That something is permitted: what, of which scan, at which places, on which grounds, and when.

    `at` is in seconds since the epoch.
    """

    subject: Subject
    effect: Effect
    places: tuple[Place, ...]
    rules: tuple[Rule, ...]
    at: float


R_co = TypeVar("R_co", bound=Asked, covariant=True)
R = TypeVar("R", bound=Asked)

_SEAL = object()
_ISSUED: dict[int, tuple[weakref.ref[Permitted[Asked]], Asked, Decision]] = {}
"""All that `permit` has returned and nobody has opened, by identity, with what it was about: nothing else is taken for
it, whatever that says of itself, and each is good for one submission.
"""


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
        Embargoed: if everybody would get to see something of it too early.
        NotTheOwner: if others than those of its proposal would get it, or get to know of it, or a job would work in
            their folders.
        Unpermitted: if it is not said what it does, or where, on what, or for whom.
    """
    stated = [place for place in (getattr(request, "place", None), site) if place is not None]
    _demand_stated(request, stated, subject)
    found = tuple(dict.fromkeys([*stated, *([] if destination is None else [destination])]))
    grounds = (
        rules.export_control(request.effect, subject, found),
        *rules.disclosure(request.effect, getattr(request, "audience", None), subject, at=at),
        *rules.folders(request.effect, getattr(request, "passages", None), subject),
        *rules.files(request.effect, request, subject, found),
    )
    decision = Decision(subject=subject, effect=request.effect, places=found, rules=grounds, at=at)
    permitted = Permitted(request=request, decision=decision, seal=_SEAL)
    key = id(permitted)
    _ISSUED[key] = (weakref.ref(permitted, lambda _: _forget(key)), request, decision)
    return permitted


def _forget(key: int) -> None:
    _ISSUED.pop(key, None)


def opened(permitted: Permitted[R], kind: type[R], *, at: Place | None = None) -> R:
    """The request, for the adapter that is about to submit it; `at` is where that works, if the request does not say.

    Raises:
        Unpermitted: if `permit` did not return this, or it was opened before, or it is for another kind of request, or
            for other places.
    """
    reference, request, decision = _ISSUED.pop(id(permitted), (None, None, None))
    if reference is None or reference() is not permitted or decision is None:
        raise Unpermitted("something was to be submitted that nobody permitted, or once more", where=_kind(permitted))
    if not isinstance(request, kind):
        raise Unpermitted(f"this takes a {kind.__name__}, not what was permitted", where=_kind(request))
    if at is not None and at not in decision.places:
        named = ", ".join(place.name for place in decision.places)
        told = "" if at.name not in named.split(", ") else " with the zone and the folders of proposals that it has"
        raise Unpermitted(f"it was permitted for {named}, not for {at.name}{told}", where=_kind(request))
    return request


def _kind(value: object) -> str:
    return type(value).__name__


def _demand_stated(request: Asked, places: Sequence[object], subject: Subject) -> None:
    """What is not said cannot be permitted."""
    if not isinstance(getattr(request, "effect", None), Effect):
        raise Unpermitted(f"a {type(request).__name__} does not say what it does with {subject.name}", where="policy")
    if not places:
        raise Unpermitted(f"a {type(request).__name__} does not say where it takes {subject.name}", where="policy")
    for place in places:
        if not isinstance(place, Place) or not isinstance(place.zone, Zone):
            raise Unpermitted(f"{place} is no place of a known zone; {subject.name} does not go there", where="policy")
