"""What is deleted in two steps lies in quarantine between them: out of sight, and to be had back until the second."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import httpx
import pytest
import yaml
from trial_room import LOCAL, NEW_FILE, Room

from orchestration.ledger.audit import Verdict
from orchestration.ledger.copies import CopyRecord, CopyState
from orchestration.ledger.service import Json
from orchestration.paths import QUARANTINE
from orchestration.sandbox.trials.audit import Audit
from orchestration.sandbox.trials.kills import Ended, Kill

PRUNE = "orchestration.flows.bl832.prune:prune_"
RESTORE = "orchestration.commands.retention:restore_command"
SWEEP = "orchestration.flows.bl832.sweep:sweep_deletions"
RECONCILE = "orchestration.flows.bl832.reconcile:reconcile"
GRACE = 3.0
DAY = 24 * 3600.0
HOUR = 3600.0


@pytest.fixture
def room(one_room: Room) -> Iterator[Room]:
    """With three days of grace at two collections, and at a directory of this machine."""
    one_room.calm()
    config = one_room.world.layout.config_file
    before = config.read_text()
    for endpoint in ("spot832", "data832", "local832_raw"):
        settle(one_room, "retention", endpoint, grace_days=GRACE)
    yield one_room
    config.write_text(before)
    for collection in one_room.world.facility.collections.every():
        one_room.world.facility.collections.set(str(collection["id"]), volumes=[])
    one_room.calm()


def settle(room: Room, section: str, endpoint: str, **values: object) -> None:
    """Change the settings of an endpoint, or of its rule."""
    config = room.world.layout.config_file
    document = yaml.safe_load(config.read_text())
    where = document["retention"] if section == "retention" else document["globus"]["globus_endpoints"]
    where[endpoint] |= values
    config.write_text(yaml.safe_dump(document, sort_keys=False))


def copies(room: Room, endpoint: str, file_path: str) -> Sequence[CopyRecord]:
    return [copy for copy in room.overview(file_path).copies if copy.endpoint == endpoint]


def the_copy(room: Room, endpoint: str, file_path: str) -> CopyRecord:
    (found,) = copies(room, endpoint, file_path)
    return found


def aside(room: Room, copy: CopyRecord) -> Path:
    """Where it lies in quarantine."""
    assert copy.quarantine_path is not None
    return room.world.root(copy.endpoint) / copy.quarantine_path.text


def set_aside(room: Room, endpoint: str, file_path: str) -> CopyRecord:
    room.let_time_pass(file_path)
    ended = room.prune(endpoint, file_path)
    assert ended.completed, ended
    copy = the_copy(room, endpoint, file_path)
    assert copy.state is CopyState.QUARANTINED
    return copy


def grace_is_over(room: Room, file_path: str, *, since: float = 60.0) -> None:
    """The time of grace of what lies in quarantine ended that many seconds ago."""
    scan = room.overview(file_path).scan
    with closing(sqlite3.connect(room.world.layout.root / "ledger.sqlite")) as database, database:
        database.execute(
            "update copies set delete_after = ?, quarantined_at = ? where scan_id = ? and state = 'quarantined'",
            (time.time() - since, time.time() - since - GRACE * DAY, scan.id),
        )


def overdue(room: Room, file_path: str) -> None:
    """What the night deletes: at the detector, since two hours."""
    scan = room.overview(file_path).scan
    with closing(sqlite3.connect(room.world.layout.root / "ledger.sqlite")) as database, database:
        database.execute(
            "update copies set delete_after = ?, verified_at = verified_at - 8000"
            " where scan_id = ? and endpoint = 'spot832'",
            (time.time() - 2 * HOUR, scan.id),
        )


def second_step(room: Room, copy: CopyRecord, *, kill: Kill | None = None) -> Ended:
    """The run that Prefect starts when the time of grace is over."""
    path, name = copy.lies_at.text, f"{PRUNE}{copy.endpoint}"
    return room.run(name, kill=kill, relative_path=path, generation=copy.generation)


def restore(room: Room, file_path: str, *options: str, kill: Kill | None = None) -> Ended:
    """What the command does, in a process of its own."""
    words: list[Json] = [file_path.removeprefix("/global/"), *options]
    return room.run(RESTORE, kill=kill, args=words, standalone_mode=False)


def command(room: Room, *words: str) -> subprocess.CompletedProcess[str]:
    variables = {**os.environ, **room.world.environment}
    whole = [sys.executable, "-m", "orchestration.cli", *words]
    return subprocess.run(whole, env=variables, cwd=room.world.layout.root, capture_output=True, text=True, check=False)


def cancelled(room: Room, copy: CopyRecord) -> list[bool]:
    """Of the entries in the calendar for the second step of a copy, whether each was cancelled."""
    named = {"flow_runs": {"name": {"like_": copy.path.name}}}
    with httpx.Client(base_url=room.world.prefect_url, trust_env=False, timeout=30.0) as client:
        runs = client.post("/flow_runs/filter", json=named).raise_for_status().json()
    mine = [run for run in runs if run["parameters"].get("relative_path") == copy.lies_at.text]
    return [run["state"]["type"] == "CANCELLED" for run in mine]


def verdicts(room: Room, file_path: str) -> list[Verdict]:
    with room.world.ledger() as ledger:
        return [line.verdict for line in ledger.audit.of_scan(room.overview(file_path).scan.id)]


def timers(room: Room, copy: CopyRecord) -> int:
    """How often its second step stands in Prefect's calendar."""
    return [at for name, at in Audit(room.world).calendar if name == f"prune_{copy.endpoint}"].count(copy.lies_at.text)


def renewed(room: Room) -> list[tuple[str, str]]:
    """What `reconcile` plans again, here and for other tests."""
    ended = room.run(RECONCILE)
    assert ended.completed, ended
    return [(each["endpoint"], each["path"]) for each in ended.value["renewed_deletions"]]


def test_a_copy_is_set_aside_first_and_deleted_when_it_is_proved_again(room: Room) -> None:
    file_path = room.moved_scan()
    home = room.file("spot832", file_path)
    content = home.read_bytes()
    copy = set_aside(room, "spot832", file_path)
    assert (home.exists(), aside(room, copy).read_bytes()) == (False, content)
    assert copy.lies_at.text.startswith(f"{QUARANTINE}/")
    assert copy.lies_at.text.endswith(f"/{copy.id}-1/{home.name}")
    assert copy.delete_after is not None
    assert abs(copy.delete_after - time.time() - GRACE * DAY) < HOUR
    assert verdicts(room, file_path) == [Verdict.PROVED, Verdict.QUARANTINED]
    assert room.effects(file_path).count("renamed") == 1
    assert timers(room, copy) == 1
    again = room.prune("spot832", file_path)
    assert again.completed, again
    assert again.value["quarantined"]
    assert second_step(room, copy).value["quarantined"]
    assert (aside(room, copy).exists(), timers(room, copy)) == (True, 1)
    grace_is_over(room, file_path)
    ended = second_step(room, copy)
    assert ended.value["deleted"], ended
    assert not aside(room, copy).parent.exists()
    assert the_copy(room, "spot832", file_path).state is CopyState.DELETED
    assert verdicts(room, file_path) == [Verdict.PROVED, Verdict.QUARANTINED, Verdict.PROVED, Verdict.DELETED]
    assert room.effects(file_path).count("delete") == 1


@pytest.mark.slow
def test_a_copy_in_a_directory_of_this_machine_is_set_aside_as_well(room: Room) -> None:
    file_path = room.moved_scan()
    assert room.run(LOCAL, file_path=file_path).completed
    room.let_time_pass(file_path)
    copy = the_copy(room, "local832_raw", file_path)
    home = room.world.root("local832_raw") / copy.path.text
    ended = room.run(f"{PRUNE}local832_raw", relative_path=copy.path.text, generation=1)
    assert ended.completed, ended
    copy = the_copy(room, "local832_raw", file_path)
    assert (copy.state, home.exists(), aside(room, copy).exists()) == (CopyState.QUARANTINED, False, True)
    assert timers(room, copy) == 1
    grace_is_over(room, file_path)
    assert second_step(room, copy).value["deleted"]
    assert not aside(room, copy).parent.exists()


@pytest.mark.slow
@pytest.mark.parametrize("spoil", ["shorter", "missing", "held"])
def test_what_is_not_proved_a_second_time_stays_in_quarantine(room: Room, spoil: str) -> None:
    file_path = room.moved_scan()
    copy = set_aside(room, "spot832", file_path)
    grace_is_over(room, file_path)
    witness = room.file("data832", file_path)
    if spoil == "shorter":
        witness.write_bytes(witness.read_bytes()[:-1])
    elif spoil == "missing":
        witness.unlink()
    else:
        with room.world.ledger() as ledger:
            ledger.holds.place(room.overview(file_path).scan.id, why="paper", who="ada")
    ended = second_step(room, copy)
    if spoil == "held":
        assert "held by ada" in str(ended.value["put off"]), ended
        assert timers(room, copy) == 2
    else:
        assert ended.error_type == "DeletionUnproven", ended
        assert "data832" in str(ended.error)
    assert aside(room, copy).exists()
    assert the_copy(room, "spot832", file_path).state is CopyState.QUARANTINED
    assert "delete" not in room.effects(file_path)


@pytest.mark.slow
def test_what_was_changed_in_quarantine_stays_there(room: Room) -> None:
    file_path = room.moved_scan()
    copy = set_aside(room, "spot832", file_path)
    grace_is_over(room, file_path)
    (aside(room, copy).parent / "somebody's notes.txt").write_text("precious")
    ended = second_step(room, copy)
    assert ended.error_type == "DeletionUnproven", ended
    assert "not what was verified" in str(ended.error)
    assert (aside(room, copy).parent / "somebody's notes.txt").exists()


def test_a_copy_in_quarantine_proves_nothing(room: Room) -> None:
    file_path = room.moved_scan()
    set_aside(room, "data832", file_path)
    ended = room.prune("spot832", file_path)
    assert ended.error_type == "DeletionUnproven", ended
    assert "data832: that copy is in quarantine" in str(ended.error)
    assert room.file("spot832", file_path).exists()


def test_what_is_carried_anew_is_another_copy_than_what_lies_in_quarantine(room: Room) -> None:
    file_path = room.moved_scan()
    old = set_aside(room, "data832", file_path)
    room.keep_copies(None)
    assert room.run(NEW_FILE, file_path=file_path).completed
    first, second = copies(room, "data832", file_path)
    assert (first.id, first.state, first.path) == (old.id, CopyState.QUARANTINED, old.lies_at)
    assert (second.state, second.generation, second.path) == (CopyState.PRESENT, 2, old.path)
    assert room.file("data832", file_path).exists()
    assert aside(room, first).exists()
    room.keep_copies(0.0)
    grace_is_over(room, file_path)
    assert second_step(room, first).value["deleted"]
    assert not aside(room, first).exists()
    assert room.file("data832", file_path).exists()
    assert [copy.state for copy in copies(room, "data832", file_path)] == [CopyState.DELETED, CopyState.PRESENT]


@pytest.mark.slow
def test_a_scan_that_comes_again_while_its_original_is_in_quarantine_is_not_said_to_be_there(room: Room) -> None:
    file_path = room.moved_scan()
    aside_copy = set_aside(room, "spot832", file_path)
    assert room.run(NEW_FILE, file_path=file_path).completed
    assert the_copy(room, "spot832", file_path) == aside_copy
    assert room.run(LOCAL, file_path=file_path).completed


@pytest.mark.slow
def test_a_scan_that_is_taken_again_while_the_first_was_being_set_aside_is_another_one(room: Room) -> None:
    file_path = room.moved_scan()
    room.let_time_pass(file_path)
    step = "quarantine raw at spot832"
    assert room.prune("spot832", file_path, kill=Kill(at=f"after-submit of {step}")).killed
    home = room.file("spot832", file_path)
    assert not home.exists()
    old = the_copy(room, "spot832", file_path)
    assert old.state is CopyState.DELETING
    home.write_bytes(room.file("data832", file_path).read_bytes() + b"\0")
    os.utime(home, (time.time() + 7, time.time() + 7))
    room.keep_copies(None)
    room.run(NEW_FILE, file_path=file_path)  # the catalogue does not let its record be replaced
    first, second = copies(room, "spot832", file_path)
    assert (first.id, second.generation, second.state) == (old.id, 2, CopyState.PRESENT)
    room.keep_copies(0.0)
    assert ("spot832", first.path.text) in renewed(room)
    ended = room.run(f"{PRUNE}spot832", relative_path=first.path.text, generation=1)
    assert ended.completed, ended
    first, second = copies(room, "spot832", file_path)
    assert (first.state, second.state) == (CopyState.QUARANTINED, CopyState.PRESENT)
    assert (aside(room, first).exists(), home.exists()) == (True, True)
    assert room.effects(file_path).count("renamed") == 1


@pytest.mark.slow
def test_a_second_timer_that_prefect_has_lost_is_renewed(room: Room) -> None:
    file_path = room.moved_scan()
    room.let_time_pass(file_path)
    step = "schedule deletion of raw from quarantine at spot832"
    assert room.prune("spot832", file_path, kill=Kill(at=f"before-reserve of {step}")).killed
    copy = the_copy(room, "spot832", file_path)
    assert (copy.state, timers(room, copy)) == (CopyState.QUARANTINED, 0)
    grace_is_over(room, file_path)
    assert ("spot832", copy.path.text) in renewed(room)
    assert timers(room, copy) == 1
    assert second_step(room, copy).value["deleted"]


@pytest.mark.slow
def test_a_night_sets_aside_and_another_deletes_whoever_is_killed_meanwhile(room: Room) -> None:
    scans = [room.moved_scan() for _ in range(2)]
    for file_path in scans:
        room.let_time_pass(file_path)
        overdue(room, file_path)
    assert room.run(SWEEP, dry_run=False, kill=Kill(at="after-submit of quarantine raw at spot832")).killed
    night = room.run(SWEEP, dry_run=False)
    assert night.completed, night
    found = [the_copy(room, "spot832", file_path) for file_path in scans]
    assert [copy.state for copy in found] == [CopyState.QUARANTINED] * 2
    assert [room.effects(file_path).count("renamed") for file_path in scans] == [1, 1]
    assert [timers(room, copy) for copy in found] == [1, 1]
    assert room.run(SWEEP, dry_run=False).completed  # the time of grace goes on
    assert all(aside(room, copy).exists() for copy in found)
    for file_path in scans:
        grace_is_over(room, file_path, since=2 * HOUR)
    night = room.run(SWEEP, dry_run=False)
    assert night.completed, night
    assert [the_copy(room, "spot832", each).state for each in scans] == [CopyState.DELETED] * 2
    assert not any(aside(room, copy).parent.exists() for copy in found)
    together = [each for each in room.overview(scans[0]).operations if each.step.startswith("delete 2 copies at spot")]
    assert len(together) == 1


@pytest.mark.slow
def test_what_a_timer_and_the_night_set_aside_at_the_same_time_is_set_aside_once(room: Room) -> None:
    file_path = room.moved_scan()
    room.let_time_pass(file_path)
    overdue(room, file_path)
    path = file_path.removeprefix("/global/")
    children = [room.start(f"{PRUNE}spot832", relative_path=path, generation=1), room.start(SWEEP, dry_run=False)]
    assert [child.wait().killed for child in children] == [False, False]
    copy = the_copy(room, "spot832", file_path)
    assert (copy.state, aside(room, copy).exists()) == (CopyState.QUARANTINED, True)
    assert room.effects(file_path).count("renamed") == 1
    assert verdicts(room, file_path).count(Verdict.QUARANTINED) == 1


@pytest.mark.slow
def test_a_copy_that_is_brought_back_while_its_second_step_begins_is_whole_or_gone(room: Room) -> None:
    file_path = room.moved_scan()
    copy = set_aside(room, "spot832", file_path)
    grace_is_over(room, file_path)
    step = room.start(f"{PRUNE}spot832", relative_path=copy.lies_at.text, generation=1)
    words: list[Json] = [file_path.removeprefix("/global/")]
    back = room.start(RESTORE, args=words, standalone_mode=False).wait()
    step.wait()
    state = the_copy(room, "spot832", file_path).state
    assert state is (CopyState.PRESENT if back.completed else CopyState.DELETED), back
    assert room.file("spot832", file_path).exists() is back.completed
    assert not aside(room, copy).exists()


@pytest.mark.slow
@pytest.mark.parametrize("asked", ["cancel", "reconcile"])
def test_a_rename_that_no_run_waits_for_is_seen_to_its_end(room: Room, asked: str) -> None:
    file_path = room.moved_scan()
    room.let_time_pass(file_path)
    step = "quarantine raw at spot832"
    assert room.prune("spot832", file_path, kill=Kill(at=f"after-submit of {step}")).killed
    assert {each.step: each.state.open for each in room.overview(file_path).operations}[step]
    if asked == "cancel":
        told = command(room, "cancel", file_path.removeprefix("/global/"))
        assert f"{step}: had already finished" in told.stdout, told
    else:
        assert room.run(RECONCILE).completed
    assert not {each.step: each.state.open for each in room.overview(file_path).operations}[step]
    assert room.prune("spot832", file_path).completed
    copy = the_copy(room, "spot832", file_path)
    assert (copy.state, aside(room, copy).exists()) == (CopyState.QUARANTINED, True)
    assert room.effects(file_path).count("renamed") == 1


@pytest.mark.slow
def test_where_nothing_can_be_renamed_a_copy_goes_at_once(room: Room) -> None:
    file_path = room.moved_scan()
    settle(room, "endpoints", "spot832", can_rename=False)
    room.let_time_pass(file_path)
    assert room.prune("spot832", file_path).value["deleted"]
    assert not room.file("spot832", file_path).exists()
    assert the_copy(room, "spot832", file_path).state is CopyState.DELETED
    assert "renamed" not in room.effects(file_path)


@pytest.mark.slow
def test_a_quarantine_on_another_file_system_is_said_and_the_copy_stays(room: Room) -> None:
    file_path = room.moved_scan()
    room.let_time_pass(file_path)
    endpoint = room.world.settings().endpoint("spot832")
    folder = f"{endpoint.root_path.rstrip('/')}/{QUARANTINE}"
    room.world.facility.collections.set(room.collection("spot832"), volumes=[folder])
    ended = room.prune("spot832", file_path)
    assert ended.error_type == "EndpointRefused", ended
    assert "can_rename: false" in str(ended.error)
    copy = the_copy(room, "spot832", file_path)
    assert (copy.state, copy.quarantine_path) == (CopyState.PRESENT, None)
    assert room.file("spot832", file_path).exists()
    assert verdicts(room, file_path) == [Verdict.PROVED, Verdict.FAILED]
    room.world.facility.collections.set(room.collection("spot832"), volumes=[])
    set_aside(room, "spot832", file_path)


@pytest.mark.slow
def test_killed_at_every_kind_of_boundary_both_steps_happen_once(room: Room) -> None:
    file_path = room.moved_scan()
    room.let_time_pass(file_path)
    spared: list[str] = []
    ended = Ended(killed=True)
    while ended.killed and len(spared) < 100:
        ended = room.prune("spot832", file_path, kill=Kill(spared=tuple(spared)))
        spared.append(ended.killed_at)
    assert ended.completed, ended
    assert len(spared) > 8
    copy = the_copy(room, "spot832", file_path)
    assert (copy.state, aside(room, copy).exists(), timers(room, copy)) == (CopyState.QUARANTINED, True, 1)
    assert room.effects(file_path).count("renamed") == 1
    grace_is_over(room, file_path)
    spared, ended = [], Ended(killed=True)
    while ended.killed and len(spared) < 100:
        ended = second_step(room, copy, kill=Kill(spared=tuple(spared)))
        spared.append(ended.killed_at)
    assert ended.completed, ended
    assert len(spared) > 8
    assert not aside(room, copy).parent.exists()
    assert the_copy(room, "spot832", file_path).state is CopyState.DELETED
    folder = aside(room, copy).parent.name
    deletions = [each for each in room.world.facility.effects("delete") if any(folder in path for path in each.paths)]
    assert len(deletions) == 1
    told = verdicts(room, file_path)
    assert (told.count(Verdict.QUARANTINED), told.count(Verdict.DELETED)) == (1, 1)


@pytest.mark.slow
def test_a_copy_is_brought_back_and_goes_again_when_its_rule_says_so(room: Room) -> None:
    file_path = room.moved_scan()
    home = room.file("spot832", file_path)
    content = home.read_bytes()
    aside_copy = set_aside(room, "spot832", file_path)
    room.keep_copies(None)
    page = command(room, "retention", "explain", file_path.removeprefix("/global/"))
    assert "in quarantine since" in page.stdout, page
    assert f"restore {aside_copy.path} --endpoint spot832 --dataset raw" in page.stdout
    told = command(room, "retention", "restore", file_path.removeprefix("/global/"), "--endpoint", "spot832")
    assert told.returncode == 0, told
    assert "raw is back at spot832:" in told.stdout
    assert told.stderr == ""
    copy = the_copy(room, "spot832", file_path)
    assert (copy.state, copy.generation, copy.verified_at) == (CopyState.PRESENT, 2, aside_copy.verified_at)
    assert home.read_bytes() == content
    assert copy.delete_after is not None
    assert abs(copy.delete_after - time.time() - DAY) < HOUR
    assert verdicts(room, file_path) == [Verdict.PROVED, Verdict.QUARANTINED, Verdict.RESTORED]
    assert cancelled(room, aside_copy) == [True]
    late = second_step(room, aside_copy)
    assert (late.completed, late.value["deleted"]) == (True, [])
    again = set_aside(room, "spot832", file_path)
    assert again.lies_at != aside_copy.lies_at
    assert (aside(room, again).read_bytes(), home.exists()) == (content, False)
    assert room.effects(file_path).count("renamed") == 3


@pytest.mark.slow
def test_a_copy_comes_back_to_a_directory_of_this_machine_and_while_prefect_is_away(room: Room) -> None:
    file_path = room.moved_scan()
    assert room.run(LOCAL, file_path=file_path).completed
    room.let_time_pass(file_path)
    copy = the_copy(room, "local832_raw", file_path)
    home = room.world.root("local832_raw") / copy.path.text
    assert room.run(f"{PRUNE}local832_raw", relative_path=copy.path.text, generation=1).completed
    assert not home.exists()
    room.world.kill("prefect")
    try:
        told = command(room, "retention", "restore", file_path.removeprefix("/global/"))
    finally:
        room.world.start("prefect")
    assert told.returncode == 0, told
    assert "will find nothing" in told.stderr
    assert "`reconcile` plans it when it is due" in told.stderr
    assert home.exists()
    assert the_copy(room, "local832_raw", file_path).state is CopyState.PRESENT


def test_nothing_is_brought_back_to_where_something_else_stands(room: Room) -> None:
    file_path = room.moved_scan()
    copy = set_aside(room, "spot832", file_path)
    home = room.file("spot832", file_path)
    home.write_text("something else")
    ended = restore(room, file_path)
    assert ended.error_type == "InvalidInput", ended
    assert "something else stands at" in str(ended.error)
    assert home.read_text() == "something else"
    assert the_copy(room, "spot832", file_path) == copy
    home.unlink()
    assert restore(room, file_path).completed


@pytest.mark.slow
def test_only_what_is_in_quarantine_can_be_brought_back(room: Room) -> None:
    file_path = room.moved_scan()
    set_aside(room, "data832", file_path)
    ended = restore(room, file_path, "--endpoint", "spot832")
    assert ended.error_type == "InvalidInput", ended
    assert "no copy of any dataset at spot832 is in quarantine" in str(ended.error)
    assert restore(room, file_path, "--endpoint", "spot83").error_type == "UnknownName"
    room.keep_copies(None)
    assert room.run(NEW_FILE, file_path=file_path).completed
    ended = restore(room, file_path, "--dataset", "raw")
    assert ended.error_type == "InvalidInput", ended
    assert "taken by a newer copy" in str(ended.error)


@pytest.mark.slow
@pytest.mark.parametrize("where", ["before-submit", "after-submit"])
def test_a_restore_that_is_killed_keeps_the_copy_and_is_carried_on(room: Room, where: str) -> None:
    file_path = room.moved_scan()
    copy = set_aside(room, "spot832", file_path)
    grace_is_over(room, file_path)
    assert restore(room, file_path, kill=Kill(at=f"{where} of restore raw at spot832")).killed
    assert restore(room, file_path).completed
    back = the_copy(room, "spot832", file_path)
    assert (back.state, back.generation) == (CopyState.PRESENT, 2)
    assert room.file("spot832", file_path).exists()
    assert room.effects(file_path).count("renamed") == 2
    assert second_step(room, copy).value["deleted"] == []


@pytest.mark.slow
def test_a_second_step_finds_a_restore_that_was_killed_and_sees_it_to_its_end(room: Room) -> None:
    file_path = room.moved_scan()
    copy = set_aside(room, "spot832", file_path)
    grace_is_over(room, file_path)
    assert restore(room, file_path, kill=Kill(at="after-submit of restore raw at spot832")).killed
    ended = second_step(room, copy)
    assert (ended.completed, ended.value["deleted"]) == (True, []), ended
    assert the_copy(room, "spot832", file_path).state is CopyState.PRESENT
    assert room.file("spot832", file_path).exists()


@pytest.mark.slow
def test_a_restore_that_is_killed_at_every_kind_of_boundary_happens_once(room: Room) -> None:
    file_path = room.moved_scan()
    set_aside(room, "spot832", file_path)
    spared: list[str] = []
    ended = Ended(killed=True)
    while ended.killed and len(spared) < 100:
        ended = restore(room, file_path, kill=Kill(spared=tuple(spared)))
        spared.append(ended.killed_at)
        if the_copy(room, "spot832", file_path).state is CopyState.PRESENT:
            break
    assert len(spared) > 5
    assert room.file("spot832", file_path).exists()
    assert room.effects(file_path).count("renamed") == 2
    assert verdicts(room, file_path).count(Verdict.RESTORED) == 1
