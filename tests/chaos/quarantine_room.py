"""A room where what is deleted lies in quarantine for days, and the words in which tests speak of that."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import yaml
from trial_room import Room

from orchestration.ledger.audit import Verdict
from orchestration.ledger.copy import CopyRecord, CopyState
from orchestration.ledger.service import Json
from orchestration.sandbox.trials.audit import Audit
from orchestration.sandbox.trials.kills import Ended, Kill

PRUNE = "orchestration.flows.bl832.prune:prune_"
RESTORE = "orchestration.commands.retention:restore_command"
SWEEP = "orchestration.flows.bl832.sweep:sweep_deletions"
RECONCILE = "orchestration.flows.bl832.reconcile:reconcile"
GRACE = 3.0
DAY = 24 * 3600.0
HOUR = 3600.0


@contextmanager
def with_grace(one_room: Room) -> Iterator[Room]:
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
