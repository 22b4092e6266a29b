"""Nothing is deleted without proof, and what is deleted is deleted once, whoever is killed meanwhile."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

import pytest
from trial_room import LOCAL, NEW_FILE, Room

from orchestration.flows.deleting import delete
from orchestration.flows.proving import proof_of
from orchestration.flows.quarantining import set_aside
from orchestration.flows.services import Services
from orchestration.flows.suspending import Suspension
from orchestration.flows.work import Work
from orchestration.ledger.audit import AuditRecord, Verdict
from orchestration.ledger.copy import CopyState
from orchestration.sandbox.trials.kills import Ended, Kill

PRUNE = "orchestration.flows.bl832.prune:prune_"
FILESYSTEM = f"{PRUNE}filesystem_endpoint"


def kept(room: Room, endpoint: str, file_path: str, ended: Ended, error_type: str = "DeletionUnproven") -> str:
    """The sentence with which a deletion was refused; the file and the ledger are as before."""
    assert ended.error_type == error_type, ended
    assert ended.error is not None
    assert room.file(endpoint, file_path).exists()
    assert state(room, endpoint, file_path) is CopyState.PRESENT
    return ended.error.sentence


def state(room: Room, endpoint: str, file_path: str) -> CopyState:
    return next(copy.state for copy in room.overview(file_path).copies if copy.endpoint == endpoint)


def hold(room: Room, file_path: str) -> None:
    with room.world.ledger() as ledger:
        ledger.holds.place(room.overview(file_path).scan.id, why="paper", who="ada")


def audit(room: Room, file_path: str) -> Sequence[AuditRecord]:
    with room.world.ledger() as ledger:
        return ledger.audit.of_scan(room.overview(file_path).scan.id)


def due_scan(room: Room) -> str:
    file_path = room.moved_scan()
    room.let_time_pass(file_path)
    return file_path


def shorten(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def rewrite(file: Path) -> None:
    """Other bytes, as many as before, an hour later."""
    file.write_bytes(b"x" * file.stat().st_size)
    os.utime(file, (time.time() + 3600, time.time() + 3600))


@pytest.mark.parametrize("spoil", [shorten, rewrite, Path.unlink], ids=["shorter", "rewritten", "missing"])
def test_a_copy_is_kept_when_the_other_is_not_what_it_was(room: Room, spoil: Callable[[Path], None]) -> None:
    file_path = due_scan(room)
    spoil(room.file("nersc832", file_path))
    sentence = kept(room, "data832", file_path, room.prune("data832", file_path))
    assert "nersc832" in sentence
    assert [str(refusal) for refusal in room.overview(file_path).refusals] == [sentence]
    assert "delete" not in room.effects(file_path)


def test_what_is_written_in_place_of_a_copy_at_a_collection_after_its_proof_is_kept(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    file_path = due_scan(room)
    for name, value in room.world.environment.items():
        monkeypatch.setenv(name, value)
    settings = room.world.settings()
    with closing(Services(settings)) as services, room.world.ledger() as ledger:
        suspension = Suspension(ledger, "test", None, 60.0)
        work = Work(settings, ledger, services, "test", logging.getLogger(__name__), suspension)
        (copy,) = [each for each in room.overview(file_path).copies if each.endpoint == "data832"]
        proof = proof_of(work, copy)
        rewrite(room.file("data832", file_path))
        endpoint = settings.endpoint("data832")
        for refused in (delete(work, endpoint, [proof.proven]), {copy.id: set_aside(work, endpoint, proof.proven)}):
            why = refused[copy.id]
            assert why is not None
            assert "written to while" in why.what
    assert state(room, "data832", file_path) is CopyState.PRESENT
    assert "delete" not in room.effects(file_path)


def test_a_copy_is_kept_when_there_is_no_other(room: Room) -> None:
    file_path = room.scan()
    assert room.run(NEW_FILE, file_path=file_path, send_to_nersc=False).completed
    room.let_time_pass(file_path)
    kept(room, "data832", file_path, room.prune("data832", file_path))


def test_a_copy_is_kept_until_it_is_due(room: Room) -> None:
    file_path = room.moved_scan()
    assert "due" in kept(room, "spot832", file_path, room.prune("spot832", file_path))


def test_a_person_is_told_what_would_be_deleted_and_nothing_is_until_they_say_so(room: Room) -> None:
    file_path = room.moved_scan()
    path = file_path.removeprefix("/global/")
    told = room.run(f"{PRUNE}spot832", relative_path=path)
    assert told.completed, told
    (kept_copy,) = told.value["would be kept"]
    assert "due" in str(kept_copy["missing"])
    room.let_time_pass(file_path)
    told = room.run(f"{PRUNE}spot832", relative_path=path)
    (would,) = told.value["would be deleted"]
    assert [witness["endpoint"] for witness in would["witnesses"]] == ["data832"]
    assert room.file("spot832", file_path).exists()
    assert state(room, "spot832", file_path) is CopyState.PRESENT
    assert (audit(room, file_path), "delete" in room.effects(file_path)) == ([], False)
    told = room.run(f"{PRUNE}spot832", relative_path=path, generation=1, dry_run=True)
    assert told.value["would be deleted"]
    shorten(room.file("data832", file_path))
    told = room.run(f"{PRUNE}spot832", relative_path=path)
    assert "data832" in str(told.value["would be kept"])
    assert room.file("spot832", file_path).exists()


@pytest.mark.slow
def test_what_is_on_a_directory_of_this_machine_is_deleted_by_the_general_flow_for_those(room: Room) -> None:
    file_path = room.moved_scan()
    assert room.run(LOCAL, file_path=file_path).completed
    room.let_time_pass(file_path)
    copy = next(copy for copy in room.overview(file_path).copies if copy.endpoint == "local832_raw")
    path, here = copy.path.text, "local832_raw"
    told = room.run(FILESYSTEM, relative_path=path, source_endpoint=here)
    assert told.completed, told
    assert told.value["would be deleted"]
    assert (room.world.root(here) / path).exists()
    done = room.run(FILESYSTEM, relative_path=path, source_endpoint=here, generation=1)
    assert done.value["deleted"], done
    assert not (room.world.root(here) / path).exists()
    refused = room.run(FILESYSTEM, relative_path=path, source_endpoint="spot832")
    assert refused.error_type == "InvalidInput", refused
    assert "prune_globus_endpoint" in str(refused.error)


def test_a_copy_is_kept_while_the_scan_is_in_use(room: Room) -> None:
    file_path = due_scan(room)
    step = "copy raw from data832_raw to local832_raw"
    assert room.run(LOCAL, file_path=file_path, kill=Kill(at=f"before-submit of {step}")).killed
    assert "in use" in kept(room, "data832", file_path, room.prune("data832", file_path))
    assert room.run(LOCAL, file_path=file_path).completed
    assert room.prune("data832", file_path).completed


def test_a_copy_is_kept_while_somebody_holds_the_scan_and_goes_afterwards(room: Room) -> None:
    file_path = due_scan(room)
    hold(room, file_path)
    assert "held by ada" in kept(room, "spot832", file_path, room.prune("spot832", file_path))
    scheduled = room.run(f"{PRUNE}spot832", relative_path=file_path.removeprefix("/global/"), generation=1)
    assert scheduled.completed, scheduled
    assert "held by ada" in str(scheduled.value["put off"])
    assert room.file("spot832", file_path).exists()
    with room.world.ledger() as ledger:
        ledger.holds.release(room.overview(file_path).scan.id, who="ada")
    room.let_time_pass(file_path)
    assert room.prune("spot832", file_path).completed
    lines = audit(room, file_path)
    assert [line.verdict for line in lines] == [Verdict.REFUSED, Verdict.PUT_OFF, Verdict.PROVED, Verdict.DELETED]
    assert "held by ada" in lines[0].reason
    assert str(lines[2].evidence["witnesses"]).count("data832") == 1


def test_a_hold_comes_in_time_until_a_deletion_begins(room: Room) -> None:
    file_path = due_scan(room)
    ended = room.prune("spot832", file_path, kill=Kill(at="before-write of copies, after the beginning"))
    assert ended.killed
    hold(room, file_path)
    kept(room, "spot832", file_path, room.prune("spot832", file_path))
    assert "delete" not in room.effects(file_path)


def test_a_copy_that_could_not_be_deleted_is_still_there(room: Room) -> None:
    file_path = due_scan(room)
    spot832 = room.collection("spot832")
    room.world.facility.collections.set(spot832, writable=False)
    kept(room, "spot832", file_path, room.prune("spot832", file_path), "AccessDenied")
    room.calm()
    room.let_time_pass(file_path)
    assert room.prune("spot832", file_path).completed
    assert not room.file("spot832", file_path).exists()
    told = [line.verdict for line in audit(room, file_path)]
    assert told == [Verdict.PROVED, Verdict.FAILED, Verdict.PROVED, Verdict.DELETED]


def test_what_this_service_did_not_put_there_is_left_alone(room: Room) -> None:
    file_path = room.scan()
    ended = room.prune("spot832", file_path)
    assert ended.error_type == "DeletionUnproven", ended
    assert room.file("spot832", file_path).exists()


@pytest.mark.slow
def test_a_deletion_that_is_killed_at_every_kind_of_boundary_happens_once(room: Room) -> None:
    file_path = due_scan(room)
    spared: list[str] = []
    ended = Ended(killed=True)
    while ended.killed and len(spared) < 100:
        ended = room.prune("spot832", file_path, kill=Kill(spared=tuple(spared)))
        spared.append(ended.killed_at)
    assert ended.completed, ended
    assert len(spared) > 8
    assert room.effects(file_path).count("delete") == 1
    assert not room.file("spot832", file_path).exists()
    assert state(room, "spot832", file_path) is CopyState.DELETED
    assert [line.verdict for line in audit(room, file_path)].count(Verdict.DELETED) == 1


def test_a_deletion_that_is_asked_for_twice_happens_once(room: Room) -> None:
    file_path = due_scan(room)
    assert room.prune("spot832", file_path).completed
    assert room.prune("spot832", file_path).completed
    assert room.effects(file_path).count("delete") == 1


def test_both_copies_of_a_pair_are_never_deleted(room: Room) -> None:
    file_path = due_scan(room)
    path = file_path.removeprefix("/global/")
    children = [
        room.start(f"orchestration.flows.bl832.prune:prune_{name}", relative_path=path, dry_run=False)
        for name in ("spot832", "data832")
    ]
    for child in children:
        child.wait()
    assert room.file("nersc832", file_path).exists()


def test_what_was_deleted_is_carried_again_when_the_scan_comes_again(room: Room) -> None:
    file_path = due_scan(room)
    assert room.prune("data832", file_path).completed
    assert not room.file("data832", file_path).exists()
    room.keep_copies(None)
    again = room.run(NEW_FILE, file_path=file_path)
    assert again.completed, again
    assert room.file("data832", file_path).read_bytes() == room.file("spot832", file_path).read_bytes()
    aside, copy = (copy for copy in room.overview(file_path).copies if copy.endpoint == "data832")
    assert (aside.state, aside.generation) == (CopyState.QUARANTINED, 1)
    assert (copy.state, copy.generation) == (CopyState.PRESENT, 2)
    assert copy.delete_after is not None
    assert copy.delete_after > time.time()
