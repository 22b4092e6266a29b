"""Nobody but the policy permits anything, and what is not said is not permitted."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from dataclasses import dataclass
from typing import Any

import pytest
from policy_ground import HERE, PATH, THERE

from orchestration.errors import ExportControlled, Unpermitted
from orchestration.jobs import JobSpec
from orchestration.policy import Effect, Permitted, Place, Rule, Subject, Zone, opened, permit
from orchestration.transfers import DeleteRequest, TransferRequest

SCAN = Subject(scan="1", name=PATH.text)
SECRET = Subject(scan="1", name=PATH.text, export_controlled=True)
MOVE = TransferRequest.of(PATH, source=HERE, destination=THERE)
JOB = JobSpec(executable="/bin/true", directory="/tmp", duration=1.0)


@dataclass(frozen=True)
class Odd:
    """Says of itself what a test wants it to."""

    effect: Any = Effect.COMPUTE
    place: Any = HERE.place
    audience: Any = None
    passages: Any = None
    directory: Any = "/tmp"
    reads: Any = ()
    writes: Any = ()


def test_what_is_permitted_is_opened_with_its_decision() -> None:
    permitted = permit(MOVE, subject=SCAN, at=17.0)
    assert opened(permitted, TransferRequest) is MOVE
    decision = permitted.decision
    assert (decision.effect, decision.places, decision.rules) == (Effect.MOVE, (THERE.place,), (Rule.OPEN,))
    assert (decision.subject, decision.at) == (SCAN, 17.0)


def test_a_permission_is_made_by_nobody_else() -> None:
    true = permit(MOVE, subject=SCAN, at=0.0)
    other = DeleteRequest(endpoint=THERE, paths=(PATH,))
    with pytest.raises(Unpermitted, match="made up"):
        Permitted(request=other, decision=true.decision)
    with pytest.raises(Unpermitted, match="made up"):
        dataclasses.replace(true, request=other)  # type: ignore[arg-type]
    for make in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(Unpermitted, match="cannot be copied"):
            make(true)
    with pytest.raises(dataclasses.FrozenInstanceError):
        true.request = other  # type: ignore[misc, assignment]
    assert opened(true, TransferRequest) is MOVE


@pytest.mark.parametrize("effect", [None, "move", "sneak", 1])
def test_an_unknown_effect_is_refused(effect: object) -> None:
    with pytest.raises(Unpermitted, match="does not say what it does"):
        permit(Odd(effect=effect), subject=SCAN, at=0.0)


@pytest.mark.parametrize("place", [None, "here", Place("here", "beamline"), Place("here", None)])  # type: ignore[arg-type]
def test_an_unknown_place_is_refused_also_of_a_scan_that_nothing_restricts(place: object) -> None:
    with pytest.raises(Unpermitted):
        permit(Odd(place=place), subject=SCAN, at=0.0)


def test_what_a_caller_says_of_the_place_is_not_enough() -> None:
    with pytest.raises(Unpermitted, match="does not say where"):
        permit(JOB, subject=SCAN, at=0.0, destination=HERE.place)
    with pytest.raises(ExportControlled, match="there is outside"):
        permit(JOB, subject=SECRET, at=0.0, site=THERE.place, destination=HERE.place)
    with pytest.raises(ExportControlled, match="there is outside"):
        permit(JOB, subject=SECRET, at=0.0, site=HERE.place, destination=THERE.place)


@pytest.mark.parametrize("flag", [True, None, "no", 0, 1])
def test_a_flag_that_is_not_a_plain_no_keeps_the_scan_at_the_beamline(flag: Any) -> None:
    odd = Subject(scan="1", name="raw/odd.h5", export_controlled=flag)
    with pytest.raises(ExportControlled):
        permit(MOVE, subject=odd, at=0.0)
    assert permit(JOB, subject=odd, at=0.0, site=HERE.place).decision.rules == (Rule.AT_BEAMLINE,)


@pytest.mark.parametrize("effect", [Effect.PUBLISH, Effect.CATALOGUE])
def test_what_does_not_say_for_whom_it_is_tells_nobody_anything(effect: Effect) -> None:
    with pytest.raises(Unpermitted, match="who gets to see"):
        permit(Odd(effect=effect, audience=("public",)), subject=SCAN, at=0.0)


def test_what_does_not_say_into_whose_folder_it_goes_goes_nowhere() -> None:
    with pytest.raises(Unpermitted, match="into whose folder"):
        permit(Odd(effect=Effect.MOVE), subject=SCAN, at=0.0)


def test_a_permission_is_for_the_place_that_was_asked_about() -> None:
    assert opened(permit(JOB, subject=SCAN, at=0.0, site=THERE.place), JobSpec, at=THERE.place) is JOB
    for place in (HERE.place, Place(THERE.place.name, Zone.BEAMLINE)):
        permitted = permit(JOB, subject=SCAN, at=0.0, site=THERE.place)
        with pytest.raises(Unpermitted, match="permitted for there"):
            opened(permitted, JobSpec, at=place)
