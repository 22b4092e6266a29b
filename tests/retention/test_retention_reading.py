"""Checksums that are computed again: what they say holds for what was read, and for nothing that was written since."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field

from history_world import DAY, Checksums, World

from orchestration.flows.checksumming import verified_again
from orchestration.flows.pruning import prune_copies
from orchestration.jobs import JobSpec
from orchestration.ledger.copy import CopyRecord, CopyState
from orchestration.policy import Permitted
from orchestration.retention import unlike


@dataclass
class Slow(Checksums):
    """Each takes more than ten minutes, in which something happens: the next of these things."""

    world: World | None = None
    meanwhile: list[Callable[[], None]] = field(default_factory=list)

    def submit(self, permitted: Permitted[JobSpec], token: str) -> str:
        handle = super().submit(permitted, token)
        assert self.world is not None
        self.world.clock += 700.0
        if self.meanwhile:
            self.meanwhile.pop(0)()
        return handle


def carried(world: World) -> CopyRecord:
    world.acquire(1, b"scan")
    world.copy(1, "detector", "server")
    (copy,) = [each for each in world.copies(1) if each.endpoint == "server"]
    return copy


def test_what_was_written_while_checksums_were_computed_is_seen_by_the_next_look(world: World) -> None:
    copy = carried(world)
    file = world.file("server", copy.path)
    world.clock += 3600.0

    def written() -> None:
        file.write_bytes(b"SCAN")
        os.utime(file, (world.clock - 300.0, world.clock - 300.0))

    with world.work() as work:
        vars(work.services).update(local_jobs=Slow(world=world, meanwhile=[written]))
        read = verified_again(work, copy)
        facts = work.services.look(world.settings.endpoint("server"), copy.path)
    assert read.evidence_at > copy.evidence_at
    assert unlike(read, facts)[0] is CopyState.CHANGED


def due_together(world: World, *numbers: int) -> list[CopyRecord]:
    """Originals whose deletion is proved by checksums of their copies on the server."""
    for number in numbers:
        world.acquire(number, b"scan")
        world.copy(number, "detector", "server")
    world.clock += 3 * DAY
    return [each for number in numbers for each in world.copies(number) if each.endpoint == "detector"]


def test_a_scan_that_is_taken_again_while_checksums_for_others_are_computed_is_kept(world: World) -> None:
    copies = due_together(world, 1, 3)
    content = b"the next scan, of which this is all there is"
    slow = Slow(world=world, meanwhile=[lambda: None, lambda: world.acquire(1, content)])
    with world.work() as work:
        vars(work.services).update(local_jobs=slow)
        done = prune_copies(work, world.settings.endpoint("detector"), copies)
    assert world.file("detector", world.path(1)).read_bytes() == content
    assert [proof.copy.id for proof in done.deleted] == [copies[1].id]
    assert not world.file("detector", world.path(3)).exists()


def test_what_was_read_for_a_proof_is_not_read_a_second_time(world: World) -> None:
    copies = due_together(world, 1, 3)
    with world.work() as work:
        vars(work.services).update(local_jobs=Slow(world=world))
        done = prune_copies(work, world.settings.endpoint("detector"), copies)
    assert len(done.deleted) == 2
    read = [each.step for number in (1, 3) for each in world.ledger.operations.of_scan(world.scan(number).id)]
    assert sum(step.startswith("sha256 of raw at server") for step in read) == 2
