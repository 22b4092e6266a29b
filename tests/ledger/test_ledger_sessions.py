"""A service that takes only so many operations at once never has more, whoever asks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from ledger_world import ELSEWHERE, Clock, Errand
from sessions_child import MOST

from orchestration.errors import LeaseLost
from orchestration.ledger import Ledger
from orchestration.ledger.operation import Operation
from orchestration.ledger.owner import Owner
from orchestration.paths import RelativePath

SERVICE = "test.books"


def planned(ledger: Ledger, name: str) -> Operation[Errand]:
    scan = ledger.scans.register(beamline="bl", path=RelativePath(name))
    return Operation(scan=scan, step="errand", request=Errand(name), destination=ELSEWHERE, deadline=60.0)


def claimed(ledger: Ledger, name: str, owner: Owner) -> str:
    operation = planned(ledger, name)
    assert ledger.operations.take(operation, owner, service=SERVICE, redo=True) is not None
    return operation.key


def test_many_processes_at_once_never_exceed_what_a_service_takes(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/ledger.sqlite"
    with Ledger(url):
        pass
    program = Path(__file__).with_name("sessions_child.py")
    path = os.pathsep.join([str(Path(__file__).parents[2]), str(program.parent)])
    children = [
        subprocess.Popen(
            [sys.executable, program, url, tmp_path / "books", f"scan{number}"], env={**os.environ, "PYTHONPATH": path}
        )
        for number in range(8)
    ]
    assert [child.wait(timeout=100) for child in children] == [0] * 8
    seen = [int(file.read_text()) for file in (tmp_path / "books" / "seen").iterdir()]
    assert len(seen) == 8
    assert max(seen) <= MOST


def test_places_are_held_by_what_was_submitted_and_by_what_is_about_to_be(tmp_path: Path) -> None:
    with Ledger(f"sqlite:///{tmp_path}/ledger.sqlite") as ledger:
        owner = Owner.here()
        one, other, third = (claimed(ledger, name, owner) for name in ("a", "b", "c"))
        assert ledger.operations.admit(one, owner, service=SERVICE, most=2)
        assert ledger.operations.admit(other, owner, service=SERVICE, most=2)
        assert not ledger.operations.admit(third, owner, service=SERVICE, most=2)
        assert ledger.operations.permitted(planned(ledger, "a"), owner, token="token") is not None
        assert not ledger.operations.admit(third, owner, service=SERVICE, most=2)
        ledger.operations.succeeded(one, owner, {})
        assert ledger.operations.admit(third, owner, service=SERVICE, most=2)
        assert ledger.operations.admit(third, owner, service=SERVICE, most=2)


def test_a_run_that_died_before_it_submitted_loses_its_place(tmp_path: Path) -> None:
    clock = Clock()
    with Ledger(f"sqlite:///{tmp_path}/ledger.sqlite", clock=clock, lease_seconds=10.0) as ledger:
        dead, owner = Owner("elsewhere", 1, "then", "there"), Owner.here()
        first = claimed(ledger, "a", dead)
        assert ledger.operations.admit(first, dead, service=SERVICE, most=1)
        clock.advance(11.0)
        second = claimed(ledger, "b", owner)
        assert ledger.operations.admit(second, owner, service=SERVICE, most=1)
        assert ledger.operations.take(planned(ledger, "a"), owner, service=SERVICE, redo=True) is not None
        assert not ledger.operations.admit(first, owner, service=SERVICE, most=1)
        with pytest.raises(LeaseLost):
            ledger.operations.admit(first, dead, service=SERVICE, most=1)
