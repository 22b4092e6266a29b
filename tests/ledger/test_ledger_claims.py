"""The rules of claims, leases and attempts, against a model, for any order of what several runs may do."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from ledger_world import errand

from orchestration.errors import JobFailed, LeaseLost, NameTaken
from orchestration.ledger import Ledger
from orchestration.ledger.operation import OperationState
from orchestration.ledger.owner import Owner
from orchestration.paths import RelativePath

LEASE = 30.0
RUNS = [Owner("another-host", number, "1", f"run{number}") for number in range(3)]
runs = st.sampled_from(RUNS)


class Claims(RuleBasedStateMachine):
    """Three runs on machines that cannot see each other's processes, and one operation."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        shutil.copy(EMPTY, self.folder / "ledger.sqlite")
        self.clock = 1000.0
        self.ledger = Ledger(f"sqlite:///{self.folder}/ledger.sqlite", lease_seconds=LEASE, clock=lambda: self.clock)
        scan = self.ledger.scans.register(beamline="b", path=RelativePath("a.h5"))
        self.operation = errand(scan)
        self.key = self.operation.key
        self.rows = self.ledger.operations
        self.rows.plan(self.operation, service="s")
        self.state = OperationState.PLANNED
        self.holder: Owner | None = None
        self.until = 0.0
        self.attempt = 1
        self.token: str | None = None
        self.handle: str | None = None
        self.cancel = False
        self.lines = 1

    @rule(run=runs, redo=st.booleans(), at_once=st.booleans())
    def claim(self, run: Owner, redo: bool, at_once: bool) -> None:
        free = self.holder in {None, run} or self.until < self.clock
        redone = not self.state.open and self.state is not OperationState.SUCCEEDED
        expected = free and (self.state.open or (redone and redo))
        if at_once:
            record = self.rows.take(self.operation, run, service="s", redo=redo)
        else:
            record = self.rows.claim(self.key, run, redo=redo)
        assert (record is not None) == expected
        if expected:
            if redone:
                self.attempt += 1
                self.state, self.token, self.handle, self.cancel = OperationState.PLANNED, None, None, False
            self.holder, self.until = run, self.clock + LEASE
            self.lines += 1

    @rule(seconds=st.sampled_from([1.0, 20.0, 31.0]))
    def time_passes(self, seconds: float) -> None:
        self.clock += seconds

    @rule(run=runs)
    def renew(self, run: Owner) -> None:
        if self._mine(run):
            self.rows.renew(self.key, run)
            self.until = self.clock + LEASE
        else:
            with pytest.raises(LeaseLost):
                self.rows.renew(self.key, run)

    @rule(run=runs)
    def reserve(self, run: Owner) -> None:
        token = f"token-{self.attempt}"
        if self._mine(run):
            permitted = self.rows.permitted(self.operation, run, token=token)
            assert (permitted is None) == self.cancel
            if not self.cancel:
                self.token = token
                self.lines += 2
        else:
            with pytest.raises(LeaseLost):
                self.rows.permitted(self.operation, run, token=token)

    @rule(run=runs)
    def submit(self, run: Owner) -> None:
        handle = f"handle-{self.attempt}"
        if self._mine(run):
            self.rows.submitted(self.key, run, handle, adopted=False)
            self.handle, self.state = handle, OperationState.RUNNING
            self.lines += 1
        else:
            with pytest.raises(LeaseLost):
                self.rows.submitted(self.key, run, handle, adopted=False)

    @rule(run=runs, end=st.sampled_from(["succeeded", "failed", "cancelled"]))
    def finish(self, run: Owner, end: str) -> None:
        def write() -> None:
            if end == "succeeded":
                self.rows.succeeded(self.key, run, {"by": str(run)})
            else:
                getattr(self.rows, end)(self.key, run, JobFailed("cold"), {})

        if self._mine(run):
            write()
            self.state, self.holder = OperationState(end), None
            self.lines += 1
        else:
            with pytest.raises(LeaseLost):
                write()

    @rule(run=runs)
    def release(self, run: Owner) -> None:
        self.rows.release(self.key, run)
        if self.holder == run:
            self.holder = None

    @rule()
    def request_cancel(self) -> None:
        assert self.rows.request_cancel(self.key) == self.state.open
        if self.state.open and not self.cancel:
            self.cancel = True
            self.lines += 1

    @precondition(lambda self: not self.state.open)
    @rule()
    def expire(self) -> None:
        self.rows.expire(self.key)
        if self.state is OperationState.SUCCEEDED:
            self.state = OperationState.EXPIRED

    @invariant()
    def the_ledger_agrees(self) -> None:
        record = self.rows.get(self.key)
        assert (record.state, record.attempt) == (self.state, self.attempt)
        assert (record.token, record.handle) == (self.token, self.handle)
        assert record.cancel_requested == self.cancel
        assert record.owner == (None if self.holder is None else str(self.holder))
        if self.holder is not None:
            assert record.lease_until == self.until
        assert (record.finished_at is None) == self.state.open
        assert len(self.rows.history(self.key)) == self.lines

    def teardown(self) -> None:
        self.ledger.close()
        shutil.rmtree(self.folder)

    def _mine(self, run: Owner) -> bool:
        return self.holder == run


EMPTY = Path()


@pytest.fixture(autouse=True)
def empty_ledger(tmp_path: Path) -> None:
    global EMPTY
    EMPTY = tmp_path / "ledger.sqlite"
    Ledger(f"sqlite:///{EMPTY}").close()


def test_of_operations_that_are_the_only_ones_of_their_step_one_goes_on_at_a_time(tmp_path: Path) -> None:
    clock = [1000.0]
    one, other = RUNS[:2]
    with Ledger(f"sqlite:///{tmp_path}/ledger.sqlite", clock=lambda: clock[0]) as ledger:
        rows = ledger.operations
        scans = [ledger.scans.register(beamline="b", path=RelativePath(name)) for name in ("p", "p/a.h5")]
        first, second = (replace(errand(each), sole_since=clock[0]) for each in scans)
        assert rows.take(first, one, service="s", redo=True)
        with pytest.raises(NameTaken):
            rows.take(second, other, service="s", redo=True)
        assert not rows.among([second.key])
        rows.release(first.key, one)  # its run is dead: whoever comes may carry it on, and nothing else
        with pytest.raises(NameTaken):
            rows.take(second, other, service="s", redo=True)
        assert rows.take(first, other, service="s", redo=True)
        rows.failed(first.key, other, JobFailed("cold"), {})
        assert rows.take(second, other, service="s", redo=True)
        with pytest.raises(NameTaken):
            rows.take(first, one, service="s", redo=True)
        clock[0] += 10.0
        rows.succeeded(second.key, other, {})
        with pytest.raises(NameTaken):
            rows.take(first, one, service="s", redo=True)
        later = replace(first, sole_since=clock[0])  # what was done by then, whoever planned it has seen
        assert rows.take(later, one, service="s", redo=True)


class TestClaims(Claims.TestCase):  # type: ignore[misc, valid-type]
    settings = settings(
        max_examples=40, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck), database=None
    )
