"""The program of the jobs, with the stand-ins of hsi and htar: what it stores can be had again, byte for byte."""

from __future__ import annotations

import json
import os
import shutil
import tarfile
from pathlib import Path

import pytest
from hpss_bench import APRIL_2026, ARCHIVE, AUGUST_2026, HOSTILE, PROJECT, Bench

from orchestration.hpss import tools
from orchestration.hpss.errors import ArchiveUnavailable
from orchestration.sandbox.trials.trees import tree

BUNDLE = f"{PROJECT}/{PROJECT}_2026-1.tar"


def whole(bench: Bench, name: str) -> tuple[str, str]:
    return f"--archive={ARCHIVE}", f"--object={name}"


def test_hostile_names_come_back_byte_for_byte(bench: Bench) -> None:
    bench.hostile()
    before = tree(bench.source)
    assert len(before) == len(HOSTILE)
    stored = bench.store_all()
    shutil.rmtree(bench.source / PROJECT)
    for name in stored:
        ended = bench.run("fetch", *whole(bench, name), f"--destination={bench.source}/{PROJECT}")
        assert ended.code == 0, ended.error
    assert tree(bench.source) == before
    assert not (bench.root / "pwned").exists()


def test_a_bundle_is_a_tar_file_with_its_list_and_index_beside_it(bench: Bench) -> None:
    bench.file(b"a.h5", b"aaa")
    bench.file(b"sub/b.h5", b"bbb")
    assert bench.store_all() == [BUNDLE]
    assert bench.objects() == {BUNDLE, f"{BUNDLE}.idx", f"{BUNDLE}.manifest.json"}
    with tarfile.open(bench.stored(BUNDLE)) as tar:
        assert tar.getnames()[:2] == [f"{PROJECT}/a.h5", f"{PROJECT}/sub/b.h5"]
    assert [each.name for each in bench.manifest(BUNDLE).members] == [f"{PROJECT}/a.h5", f"{PROJECT}/sub/b.h5"]


@pytest.mark.slow
def test_what_is_stored_is_not_stored_again(bench: Bench) -> None:
    bench.file(b"a.h5", b"aaa")
    plan = bench.survey().object()["plan"]
    assert bench.store(plan).outcome["already"] is False
    inode = bench.stored(BUNDLE).stat().st_ino, bench.stored(BUNDLE).stat().st_mtime_ns
    assert bench.store(plan).outcome["already"] is True
    assert (bench.stored(BUNDLE).stat().st_ino, bench.stored(BUNDLE).stat().st_mtime_ns) == inode
    assert bench.survey().outcome["objects"] == []
    bench.file(b"later.h5", b"later", at=APRIL_2026 + 60)
    bench.file(b"next cycle.h5", b"next", at=AUGUST_2026)
    assert bench.store_all() == [f"{PROJECT}/{PROJECT}_2026-1_part2.tar", f"{PROJECT}/{PROJECT}_2026-2.tar"]


@pytest.mark.slow
def test_large_files_are_stored_by_themselves(bench: Bench) -> None:
    bench.file(b"small.h5", b"s")
    bench.file(b"large one.h5", b"L" * 5000)
    stored = bench.store_all("--limit-member=1000")
    assert stored == [BUNDLE, f"{PROJECT}/large%20one.h5"]
    assert bench.stored(stored[1]).read_bytes() == b"L" * 5000
    assert bench.survey("--limit-member=1000").outcome["known"] == 2


def test_some_members_are_fetched_and_a_name_that_is_none_is_refused_before_anything_is_brought(bench: Bench) -> None:
    for name in (b"a.h5", b"b c.h5", b"d.h5"):
        bench.file(name, name * 100)
    bench.store_all()
    there = bench.root / "there"
    asked = [*whole(bench, BUNDLE), f"--destination={there}/{PROJECT}", f"--member={PROJECT}/b c.h5"]
    refused = bench.run("fetch", *asked, f"--member={PROJECT}/bc.h5")
    assert refused.error["type"] == "NoSuchMember"
    assert not there.exists()
    ended = bench.run("fetch", *asked)
    assert ended.outcome["new"] == 1
    assert [*tree(there)] == [f"{PROJECT}/b c.h5".encode()]


def test_nothing_is_written_over_where_files_are_fetched_to(bench: Bench) -> None:
    file = bench.file(b"a.h5", b"first")
    bench.file(b"b.h5", b"other")
    bench.store_all()
    file.write_bytes(b"other bytes")
    (bench.source / PROJECT / "b.h5").unlink()
    ended = bench.run("fetch", *whole(bench, BUNDLE), f"--destination={bench.source}/{PROJECT}")
    assert ended.error["type"] == "DestinationTaken"
    assert file.read_bytes() == b"other bytes"
    assert [path.name for path in bench.source.rglob("*") if path.is_file()] == ["a.h5"]


@pytest.mark.parametrize("words", [[], [f"--member={PROJECT}/b.h5"]])
def test_a_flipped_bit_is_found(bench: Bench, words: list[str]) -> None:
    bench.file(b"a.h5", b"a" * 600)
    bench.file(b"b.h5", b"b" * 600)
    bench.store_all()
    assert bench.run("verify", *whole(bench, BUNDLE), *words).code == 0
    bench.flip(BUNDLE, bench.stored(BUNDLE).read_bytes().index(b"bbbb") + 300)
    ended = bench.run("verify", *whole(bench, BUNDLE), *words)
    assert ended.code == 1
    assert ended.error["type"] == "MemberDamaged"
    assert "b.h5" in ended.error["what"]
    assert "a.h5" not in ended.error["what"]
    fetched = bench.run("fetch", *whole(bench, BUNDLE), f"--destination={bench.root / 'there' / PROJECT}")
    assert fetched.error["type"] == "MemberDamaged"


@pytest.mark.parametrize("byte", [0, 124, 257, 148])
def test_a_flipped_bit_in_a_header_is_found(bench: Bench, byte: int) -> None:
    bench.file(b"a.h5", b"a" * 600)
    bench.store_all()
    bench.flip(BUNDLE, byte)
    assert bench.run("verify", *whole(bench, BUNDLE)).error["type"] == "MemberDamaged"


def test_a_flipped_bit_in_the_list_is_found(bench: Bench) -> None:
    bench.file(b"a.h5", b"a")
    bench.store_all()
    bench.flip(f"{BUNDLE}.manifest.json", 40)
    assert bench.run("verify", *whole(bench, BUNDLE)).error["type"] == "MemberDamaged"


def test_nothing_is_believed_of_an_archive_that_is_down_and_lies(bench: Bench) -> None:
    bench.file(b"a.h5", b"a")
    plan = bench.survey().object()["plan"]
    for faults in ({"down": True}, {"down": True, "lies": True}):
        bench.fails(**faults)
        assert bench.store(plan).error["type"] == "ArchiveUnavailable"
        assert bench.run("look", *whole(bench, BUNDLE)).error["type"] == "ArchiveUnavailable"
    bench.fails(lies=True)
    missing = bench.run("verify", *whole(bench, f"{PROJECT}/none.tar"))
    assert missing.error["type"] == "ArchiveUnavailable"  # "no such file" with exit code 0 says nothing certain
    bench.fails()
    assert bench.store(plan).code == 0


def test_what_others_put_there_is_left_alone(bench: Bench) -> None:
    bench.file(b"a.h5", b"a")
    plan = bench.survey().object()["plan"]
    bench.stored(BUNDLE).parent.mkdir(parents=True)
    bench.stored(BUNDLE).write_bytes(b"somebody else's")
    assert bench.store(plan).error["type"] == "ObjectForeign"
    assert bench.stored(BUNDLE).read_bytes() == b"somebody else's"
    assert bench.run("remove", *whole(bench, BUNDLE)).error["type"] == "ObjectMissing"
    assert bench.store_all() == [f"{PROJECT}/{PROJECT}_2026-1_part2.tar"]


def test_a_file_that_changes_after_it_was_planned_is_not_stored(bench: Bench) -> None:
    bench.file(b"a.h5", b"a")
    plan = bench.survey().object()["plan"]
    bench.file(b"a.h5", b"bb")
    assert bench.store(plan).error["type"] == "MemberChanged"
    assert not bench.objects()


@pytest.mark.parametrize("left", ["mark", "half a bundle", "a bundle without its list", "all but the mark's end"])
def test_what_a_killed_job_left_is_completed_and_one_bundle_is_stored(bench: Bench, left: str) -> None:
    bench.file(b"a.h5", b"aaa" * 500)
    plan = bench.survey().object()["plan"]
    mark = bench.stored(f"{BUNDLE}.begun.json")
    assert bench.store(plan).code == 0
    good = bench.stored(BUNDLE).stat().st_size
    mark.write_text("{}")
    if left != "all but the mark's end":
        bench.stored(f"{BUNDLE}.manifest.json").unlink()
    if left == "half a bundle":
        bench.stored(BUNDLE).write_bytes(bench.stored(BUNDLE).read_bytes()[:700])
    if left == "mark":
        bench.stored(BUNDLE).unlink()
        bench.stored(f"{BUNDLE}.idx").unlink()
    expected = [] if left == "all but the mark's end" else [plan]
    assert [each["plan"] for each in bench.survey().outcome["objects"]] == expected
    assert bench.store(plan).code == 0
    assert bench.objects() == {BUNDLE, f"{BUNDLE}.idx", f"{BUNDLE}.manifest.json"}
    assert bench.stored(BUNDLE).stat().st_size == good
    assert bench.run("verify", *whole(bench, BUNDLE)).code == 0


@pytest.mark.parametrize("whole_there", [False, True])
def test_a_job_that_another_has_succeeded_removes_and_finishes_nothing_of_it(bench: Bench, whole_there: bool) -> None:
    """It was thought to be over, and stores all the same; what the other has is half a bundle, or even a whole one."""
    bench.file(b"a.h5", b"aaa" * 500)
    plan = bench.survey().object()["plan"]
    bundle, mark = bench.stored(BUNDLE), bench.stored(f"{BUNDLE}.begun.json")
    takes = f"echo '{{}}' > {mark}" + ("" if whole_there else f"; echo half > {bundle}")
    shim = bench.root / "shim"
    shim.mkdir()
    (shim / "htar").write_text(f'#!/bin/sh\n{bench.root}/bin/htar "$@" || exit\ncase $1 in -cP) {takes};; esac\n')
    (shim / "htar").chmod(0o755)
    late = Bench(bench.root, bench.variables | {"PATH": f"{shim}:{bench.variables['PATH']}"})
    assert late.store(plan).error["type"] == "ObjectForeign"
    assert mark.read_text().strip() == "{}"
    assert bundle.exists()
    assert not bench.stored(f"{BUNDLE}.manifest.json").exists()
    assert bench.store(plan).code == 0
    assert bench.objects() == {BUNDLE, f"{BUNDLE}.idx", f"{BUNDLE}.manifest.json"}


def test_what_is_removed_is_gone_and_a_second_removal_is_none(bench: Bench) -> None:
    bench.file(b"a.h5", b"aaa")
    bench.store_all()
    assert bench.run("remove", *whole(bench, BUNDLE)).outcome["removed"] is True
    assert not bench.objects()
    assert bench.run("remove", *whole(bench, BUNDLE)).outcome["removed"] is False


def test_a_look_tells_what_stands_there(bench: Bench) -> None:
    bench.file(b"a.h5", b"aaa")
    assert bench.run("look", *whole(bench, BUNDLE)).outcome["there"] is False
    bench.store_all()
    words = (f"--member={PROJECT}/a.h5", f"--member={PROJECT}/none")
    found = bench.run("look", *whole(bench, BUNDLE), *words).outcome
    assert (found["there"], found["whole"]) == (True, True)
    assert found["members"] == {f"{PROJECT}/a.h5": 3}
    assert abs(found["modified"] - bench.stored(BUNDLE).stat().st_mtime) < 2
    bench.stored(f"{BUNDLE}.idx").unlink()
    assert bench.run("look", *whole(bench, BUNDLE)).outcome["whole"] is False


def test_a_file_that_is_asked_for_by_its_name_is_stored_by_itself(bench: Bench) -> None:
    bench.file(b"a b.h5", b"aaa")
    bench.file(b"c.h5", b"ccc")
    ended = bench.survey(project=f"{PROJECT}/a b.h5")
    assert [each["object"] for each in ended.outcome["objects"]] == [f"{PROJECT}/a%20b.h5"]
    assert bench.store(ended.object()["plan"]).code == 0
    assert bench.survey(project=f"{PROJECT}/a b.h5").outcome["objects"] == []
    assert [each["files"] for each in bench.survey().outcome["objects"]] == [1]  # the other one


def test_links_and_special_files_are_named_and_not_followed(bench: Bench) -> None:
    bench.file(b"a.h5", b"aaa")
    (bench.source / PROJECT / "link").symlink_to("/etc/passwd")
    (bench.source / PROJECT / "folder link").symlink_to("/etc")
    os.mkfifo(bench.source / PROJECT / "fifo")
    found = bench.survey().outcome
    assert found["others"] == [f"{PROJECT}/{name}" for name in ("fifo", "folder link", "link")]
    assert found["objects"][0]["files"] == 1


def test_a_plan_that_was_changed_is_not_carried_out(bench: Bench) -> None:
    bench.file(b"a.h5", b"aaa")
    plan = bench.survey().object()["plan"]
    path: Path = bench.work / f"{plan}.plan.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"object": "elsewhere"}))
    assert bench.store(plan).error["type"] == "Misused"


@pytest.mark.parametrize(
    "said",
    [
        "FILE\t/home/a/p/p_2026-1.tar\t10\t10\n*** hsi: ls: HPSS_ENOENT: No such file or directory: /home/a/p/gone.tar",
        "hsi: command not found",
    ],
)
def test_a_folder_that_could_not_be_listed_is_not_taken_for_an_empty_one(
    said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else all that is in it would be planned again."""
    program = tmp_path / "hsi"
    program.write_text(f"#!/bin/sh\ncat >&2 <<'END'\n{said}\nEND\nexit 64\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(ArchiveUnavailable):
        tools.listing("/home/a/p")
