from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from watch_room import Clock, Room

from orchestration.ledger import Ledger


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make_room(tmp_path: Path, clock: Clock) -> Iterator[Callable[..., Room]]:
    """A room with settings of one's own."""
    with Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}", clock=clock) as ledger:

        def make(**sections: Any) -> Room:
            return Room.at(tmp_path, ledger, clock, **sections)

        yield make


@pytest.fixture
def room(make_room: Callable[..., Room]) -> Room:
    return make_room()
