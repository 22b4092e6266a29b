"""Ways by which somebody might try to take data where it must not go, each of them tried."""

from __future__ import annotations

from typing import Any

import pytest
from policy_ground import HERE, PATH, THERE

from orchestration.errors import Unpermitted
from orchestration.ledger import Ledger
from orchestration.paths import RelativePath
from orchestration.policy import Permitted, Subject, opened, permit
from orchestration.transfers import TransferRequest

OPEN = Subject(scan="1", name="raw/open.h5")
HARMLESS = TransferRequest.of(PATH, source=HERE, destination=HERE)
HARMFUL = TransferRequest.of(PATH, source=HERE, destination=THERE)


# ----- permissions ---------------------------------------------------------------------------------------------------


def test_a_permission_that_says_that_it_is_another_is_not_taken_for_it() -> None:
    true = permit(HARMLESS, subject=OPEN, at=0.0)

    class Twin(Permitted[Any]):
        def __hash__(self) -> int:
            return hash(true)

        def __eq__(self, other: object) -> bool:
            return True

    forged = object.__new__(Twin)
    vars(forged).update(request=HARMFUL, decision=true.decision)
    with pytest.raises(Unpermitted):
        opened(forged, TransferRequest)
    assert opened(true, TransferRequest) is HARMLESS


def test_what_was_put_into_a_permission_afterwards_is_not_what_is_submitted() -> None:
    true = permit(HARMLESS, subject=OPEN, at=0.0)
    object.__setattr__(true, "request", HARMFUL)
    assert opened(true, TransferRequest) is HARMLESS


def test_a_permission_is_good_for_one_submission() -> None:
    true = permit(HARMLESS, subject=OPEN, at=0.0)
    opened(true, TransferRequest)
    with pytest.raises(Unpermitted, match="once more"):
        opened(true, TransferRequest)


def test_a_permission_that_nobody_holds_any_more_is_forgotten() -> None:
    """Another object may get its address."""
    for _ in range(1000):
        held = permit(HARMLESS, subject=OPEN, at=0.0)
        del held
        forged = object.__new__(Permitted)
        vars(forged).update(request=HARMFUL, decision=None)
        with pytest.raises(Unpermitted):
            opened(forged, TransferRequest)


# ----- folders -------------------------------------------------------------------------------------------------------


def test_what_is_in_a_flagged_folder_is_flagged_whenever_it_became_known(ledger: Ledger) -> None:
    def register(path: str, *, flag: bool = False, beamline: str = "bl832") -> str:
        return ledger.scans.register(beamline=beamline, path=RelativePath(path), export_controlled=flag).id

    before = [register("raw/secret/a.h5"), register("raw/secret/deep/er/b.h5")]
    others = [register("raw/secret2/a.h5"), register("raw/secre_/a.h5"), register("raw/secret/a.h5", beamline="bl733")]
    folder = register("raw/secret", flag=True)
    after = [register("raw/secret/c.h5"), register("raw/secret/new/d.h5")]
    others += [register("raw/open/a.h5"), register("raw")]
    flagged = {scan: ledger.scans.get(scan).export_controlled for scan in [*before, folder, *after, *others]}
    assert flagged == dict.fromkeys([*before, folder, *after], True) | dict.fromkeys(others, False)
    assert ledger.scans.register(beamline="bl832", path=RelativePath("raw/secret/a.h5")).export_controlled
