"""One part that hangs or breaks does not keep the doctor from the others."""

from __future__ import annotations

import threading
import time

from orchestration.doctor.check import Check, Health, together


def test_parts_that_hang_are_waited_for_together_and_not_one_after_the_other() -> None:
    let_go = threading.Event()

    def hang() -> Check:
        let_go.wait(20.0)
        return Check(what="slow")

    began = time.monotonic()
    found = together([(f"part {number}", hang) for number in range(5)], seconds=0.3)
    lasted = time.monotonic() - began
    let_go.set()
    assert [check.health for check in found] == [Health.BROKEN] * 5
    assert lasted < 1.2


def test_a_part_that_breaks_is_told_among_the_others() -> None:
    def defect() -> Check:
        raise KeyError("no such field")

    broken, fine = together([("odd", defect), ("fine", lambda: Check(what="fine"))], seconds=5.0)
    assert (broken.health, fine.health) == (Health.BROKEN, Health.WORKS)
    assert "no such field" in broken.note
    assert broken.remedy
