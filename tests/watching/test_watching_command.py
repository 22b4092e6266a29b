"""`beamline copies` shows what was found, to people and to programs."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result
from watch_room import Room

from orchestration.commands.copies import copies
from orchestration.flows.alarms import Alarms
from orchestration.flows.unknown import look_for_strangers


@pytest.fixture
def found(make_room: Callable[..., Room], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Room:
    """A room in which something was found, and a settings file that leads the command to it."""
    room = make_room(endpoints={"server": {"inventory": True}})
    room.put("server", "raw/a.h5")
    room.put("archive", "raw/a.h5")
    room.file("archive", "raw/a.h5").unlink()
    stranger = room.file("server", "raw/stranger.h5")
    stranger.write_bytes(bytes(2000))
    os.utime(stranger, (1e9, 1e9))
    room.look()
    look_for_strangers(room.work, Alarms(room.work), until=float("inf"))
    endpoints = {name: {"mount": str(tmp_path / name)} for name in ("detector", "server", "archive")}
    document = {"globus": {"globus_endpoints": endpoints}, "ledger": {"url": room.ledger.url}}
    (tmp_path / "config.yml").write_text(yaml.safe_dump(document))
    monkeypatch.setenv("BEAMLINE_CONFIG", str(tmp_path / "config.yml"))
    return room


def run(*arguments: str) -> Result:
    result = CliRunner().invoke(copies, list(arguments))
    assert result.exception is None, result.output
    return result


def test_people_read_what_is_missing_and_unknown(found: Room) -> None:
    text = run().output
    assert "missing: raw at archive:raw/a.h5" in text
    assert "it is not there any more" in text
    assert "server:raw " in text
    assert "stranger.h5" in text


def test_programs_read_the_same(found: Room) -> None:
    document = json.loads(run("--json").output)
    assert [(each["endpoint"], each["looked"]) for each in document["inventory"]] == [("archive", 1), ("server", 1)]
    assert [(each["path"], each["state"]) for each in document["copies"]] == [("raw/a.h5", "missing")]
    assert {each["folder"]: each["size"] for each in document["unknown"]}["raw"] == 2000


def test_only_one_endpoint_is_asked_for(found: Room) -> None:
    document = json.loads(run("--endpoint", "server", "--json").output)
    assert document["copies"] == []
    assert [each["endpoint"] for each in document["inventory"]] == ["server"]
