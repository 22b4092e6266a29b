"""A run that is killed with SIGKILL at every boundary there is, and started again: each thing happens exactly once."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import chaos_child
import pytest
from ledger_world import Books, attempts_of, errand

from orchestration.errors import DeadlinePassed
from orchestration.ledger import Ledger
from orchestration.ledger.operation import OperationState
from orchestration.ledger.runs import RunState

KILLED = -9


@pytest.fixture(scope="module")
def empty_ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger in which nothing has happened: making its schema takes longer than a whole run."""
    path = tmp_path_factory.mktemp("empty") / "ledger.sqlite"
    Ledger(f"sqlite:///{path}").close()
    return path


class Children:
    """Starts runs, each a process of its own, and says how they ended."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def run(self, folder: Path, *, kill_at: int = 0) -> tuple[int, int]:
        """Exit code and number of boundaries."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{kill_at} sqlite:///{folder}/ledger.sqlite {folder}/books\n")
        self.process.stdin.flush()
        code, seen = self.process.stdout.readline().split()
        return int(code), int(seen)


@contextmanager
def children() -> Iterator[Children]:
    here = Path(__file__).parent
    environment = {**os.environ, "PYTHONPATH": f"{here}:{here.parents[1]}"}
    with subprocess.Popen(
        [sys.executable, "-c", "from chaos_child import main; main()"],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield Children(process)
        assert process.stdin is not None
        process.stdin.close()


def check(folder: Path) -> None:
    """The books show each thing once, and the ledger knows it."""
    books = Books(folder / "books")
    with Ledger(f"sqlite:///{folder}/ledger.sqlite") as ledger:
        scan = ledger.scans.find("tooth")
        assert ledger.operations.open() == []
        for record in ledger.operations.of_scan(scan.id):
            history = [event.event for event in ledger.operations.history(record.key)]
            assert attempts_of_key(record.key, books) == [1] * record.attempt, history
            assert (record.owner, record.lease_until) == (None, None)
            if record.step == "do late":
                assert record.state is OperationState.FAILED
                assert isinstance(record.error, DeadlinePassed)
                continue
            assert (record.state, record.attempt) == (OperationState.SUCCEEDED, 1)
            assert history.count("succeeded") == 1
            assert record.evidence == {"handle": record.handle}
            assert record.handle in books.started()
        steps = {record.step for record in ledger.operations.of_scan(scan.id)}
        assert steps == {f"do {name}" for name in (*chaos_child.EVERYTHING, "late")}
        running = [handle for handle in books.started() if chaos_child.late(scan).key in handle]
        assert all((books.root / f"{handle}.cancelled").exists() for handle in running)
        assert [(copy.generation, copy.size) for copy in ledger.copies.of_scan(scan.id)] == [(1, 3)]
        assert len(ledger.results.of_scan(scan.id)) == 1
        run = ledger.runs.get("run")
        assert run is not None
        assert run.state is RunState.COMPLETED


def attempts_of_key(key: str, books: Books) -> list[int]:
    tokens = {handle.rpartition(".")[0] for handle in books.started() if key in handle}
    return [len(books.started(token)) for token in tokens]


def kill_and_restart(runs: Children, folder: Path, kills: Sequence[int], *, ledger: Path) -> None:
    folder.mkdir()
    shutil.copy(ledger, folder)
    for number in kills:
        code, _ = runs.run(folder, kill_at=number)
        assert code in {KILLED, 0}, f"boundary {number}"
    assert runs.run(folder)[0] == 0, f"killed at {kills}"
    check(folder)


@pytest.fixture(scope="module")
def boundaries(tmp_path_factory: pytest.TempPathFactory) -> int:
    with children() as runs:
        folder = tmp_path_factory.mktemp("unkilled")
        code, seen = runs.run(folder)
    assert code == 0
    check(folder)
    return seen


@pytest.mark.slow
def test_killed_at_every_second_boundary_and_started_again_each_thing_happens_once(
    boundaries: int, empty_ledger: Path, tmp_path: Path
) -> None:
    assert boundaries > 50

    def every_fourth(first: int) -> None:
        with children() as runs:
            for number in range(first, boundaries + 1, 4):
                kill_and_restart(runs, tmp_path / str(number), [number], ledger=empty_ledger)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(every_fourth, (1, 3)))


def test_killed_again_and_again_each_thing_still_happens_once(
    boundaries: int, empty_ledger: Path, tmp_path: Path
) -> None:
    chance = random.Random(832)
    with children() as runs:
        for number in range(8):
            kills = [chance.randint(1, boundaries) for _ in range(3)]
            kill_and_restart(runs, tmp_path / str(number), kills, ledger=empty_ledger)


def test_the_killing_is_real(boundaries: int, empty_ledger: Path, tmp_path: Path) -> None:
    """Killed at the last submission, the books hold work of which the ledger has no handle."""
    with children() as runs:
        found = False
        for number in range(10, boundaries):
            folder = tmp_path / str(number)
            folder.mkdir()
            shutil.copy(empty_ledger, folder)
            assert runs.run(folder, kill_at=number)[0] == KILLED
            books = Books(folder / "books")
            with Ledger(f"sqlite:///{folder}/ledger.sqlite") as ledger:
                scan = ledger.scans.find("tooth")
                key = errand(scan, "move", polls=1).key
                operations = {record.key: record for record in ledger.operations.of_scan(scan.id)}
            if attempts_of(errand(scan, "move", polls=1), books) and operations[key].handle is None:
                found = True
                break
        assert found
