"""Checksums that are computed again: what they say holds for what was read, and for nothing that was written since."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from history_world import Checksums, World

from orchestration.flows.checksumming import verified_again
from orchestration.jobs import JobSpec
from orchestration.ledger.copies import CopyRecord, CopyState
from orchestration.policy import Permitted
from orchestration.retention import unlike


@dataclass
class Slow(Checksums):
    """It takes ten minutes, and five minutes before its end somebody writes to a file that was read already."""

    world: World | None = None
    file: Path | None = None

    def submit(self, permitted: Permitted[JobSpec], token: str) -> str:
        handle = super().submit(permitted, token)
        assert self.world is not None
        assert self.file is not None
        self.world.clock += 600.0
        self.file.write_bytes(b"SCAN")
        os.utime(self.file, (self.world.clock - 300.0, self.world.clock - 300.0))
        return handle


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    found = World(tmp_path / "world")
    yield found
    found.close()


def carried(world: World) -> CopyRecord:
    world.acquire(1, b"scan")
    world.copy(1, "detector", "server")
    (copy,) = [each for each in world.copies(1) if each.endpoint == "server"]
    return copy


def test_what_was_written_while_checksums_were_computed_is_seen_by_the_next_look(world: World) -> None:
    copy = carried(world)
    file = world.file("server", copy.path)
    world.clock += 3600.0
    with world.work() as work:
        vars(work.services).update(local_jobs=Slow(world=world, file=file))
        read = verified_again(work, copy)
        facts = work.services.look(world.settings.endpoint("server"), copy.path)
    assert read.evidence_at > copy.evidence_at
    assert unlike(read, facts)[0] is CopyState.CHANGED
