"""One small world for all tests of this folder: every test takes a scan of its own through it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from siting_world import SITING, Place

from orchestration.ledger import Ledger
from orchestration.sandbox.trials.world import World


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with Ledger(f"sqlite:///{tmp_path}/ledger.sqlite") as ledger:
        yield ledger


@pytest.fixture
def one_place(once: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Place:
    found: Place = once("place", lambda: _place(Path(tmp_path_factory.mktemp("siting")) / "world"))
    return found


@contextmanager
def _place(directory: Path) -> Iterator[Place]:
    with World(directory) as world, world.nursery() as nursery:
        place = Place(world, nursery)
        place.deploy()
        yield place


@pytest.fixture
def place(one_place: Place) -> Iterator[Place]:
    one_place.calm()
    one_place.prefer("nersc", "local", **SITING)
    yield one_place
    one_place.calm()
