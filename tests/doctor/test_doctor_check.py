"""One part that hangs or breaks does not keep the doctor from the others, or from its end."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from orchestration.config import Settings
from orchestration.doctor import data
from orchestration.doctor.check import Check, Health, refused, together
from orchestration.errors import ConfigError, NotSetUp


def test_parts_are_looked_at_all_at_once() -> None:
    all_here = threading.Barrier(5)

    def look() -> Check:
        all_here.wait(60.0)
        return Check(what="part")

    found = together([(f"part {number}", look) for number in range(5)], seconds=60.0)
    assert [check.health for check in found] == [Health.WORKS] * 5


def test_parts_that_hang_are_named_with_what_to_do() -> None:
    let_go = threading.Event()

    def hang() -> Check:
        let_go.wait(600.0)
        return Check(what="slow")

    found = together([(f"part {number}", hang) for number in range(3)], seconds=0.1, remedy="look at the mount")
    let_go.set()
    assert [(check.what, check.health, check.remedy) for check in found] == [
        (f"part {number}", Health.BROKEN, "look at the mount") for number in range(3)
    ]


def test_the_end_of_the_process_waits_for_no_part_that_hangs() -> None:
    program = """
import sys, threading
from orchestration.doctor.check import Check, together
together([("a", lambda: threading.Event().wait(), )], seconds=0.1)
sys.exit(3)
"""
    done = subprocess.run([sys.executable, "-c", program], timeout=120, check=False)
    assert done.returncode == 3


def test_a_part_that_breaks_is_told_among_the_others() -> None:
    def defect() -> Check:
        raise KeyError("no such field")

    broken, fine = together([("odd", defect), ("fine", lambda: Check(what="fine"))], seconds=60.0)
    assert (broken.health, fine.health) == (Health.BROKEN, Health.WORKS)
    assert "no such field" in broken.note
    assert broken.remedy


def test_what_is_not_set_up_is_not_used_and_what_is_refused_is_broken() -> None:
    assert refused("site", NotSetUp("no endpoint")).health is Health.UNUSED
    assert refused("site", ConfigError("the secret is wrong")).health is Health.BROKEN


def test_a_disk_whose_file_server_is_down_is_named_and_the_others_are_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("dead", "alive"):
        (tmp_path / name).mkdir()
    endpoints = {name: {"mount": str(tmp_path / name)} for name in ("dead", "alive")}
    settings = Settings.model_validate({"globus": {"globus_endpoints": endpoints}})
    looked, let_go = threading.Event(), threading.Event()

    def hangs(name: str, path: str) -> Check:
        if name == "dead":
            let_go.wait(600.0)  # as a question to a file server does that does not answer
        looked.set()
        return Check(what=name)

    monkeypatch.setattr(data, "_free", hangs)
    found = {part.what: part for part in data.disks_check(settings, seconds=0.1).parts}
    assert looked.wait(60.0)
    let_go.set()
    assert found["dead"].health is Health.BROKEN
    assert "file server" in found["dead"].remedy
