"""Storing what was planned: once, under its name, and only believed when it was read back.

An object is whole when its list lies beside it. It is put there last; before anything else there is a mark that tells
what this program began from what others have put there. Killed at any moment, it is begun again, and one is stored.
The mark says by whom: a job that was thought to be over, and is not, removes and finishes nothing of its successor's.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from orchestration.hpss import files, reading, tools
from orchestration.hpss.bundles import BEGUN_SUFFIX, BUNDLE, INDEX_SUFFIX, Member, digest
from orchestration.hpss.errors import MemberChanged, MemberDamaged, Misused, ObjectForeign
from orchestration.hpss.manifest import Manifest, Stored, beside
from orchestration.hpss.survey import fetched


def store(plan: Mapping[str, Any], *, work: Path) -> tuple[Manifest, bool]:
    """What is in the archive now, and whether it was there before."""
    source, archive, name = str(plan["source"]), str(plan["archive"]), str(plan["object"])
    members = [Member(*row) for row in plan["members"]]
    stored = tuple(Stored(each, files.checksum(source, each)) for each in members)
    path = f"{archive}/{name}"
    mark = path + BEGUN_SUFFIX
    left = tools.stats(path, beside(path), mark)
    if left[path] is not None and left[beside(path)] is not None:
        there = fetched(archive, name, work)
        if sorted(there.members) != sorted(stored):
            raise ObjectForeign("the archive has it with other members", where=path)
        if left[mark] is not None:
            tools.remove(mark)
        return there, True
    if left[mark] is None and left[path] is not None:
        raise ObjectForeign("the archive has something of that name that is not ours", where=path)
    begun = _mark(mark, plan, work, before=left[mark])
    if any(left.values()):
        tools.remove(path + INDEX_SUFFIX, path, beside(path))  # what an earlier start left
    if plan["kind"] == BUNDLE:
        _bundle(path, source, members, work)
    else:
        with files.plain(source, members[0].name, work) as link:
            tools.put(link, path)
    return _finish(archive, name, str(plan["kind"]), stored, work, begun=begun), False


def load(work: Path, name: str) -> dict[str, Any]:
    """The plan of that digest. Raises Misused if it is not there, or not that one."""
    path = work / f"{name}.plan.json"
    try:
        found = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError) as error:
        raise Misused(
            f"the plan cannot be read: {error}", where=str(path), next_step="start the flow again: it plans anew"
        ) from error
    if not isinstance(found, dict) or digest(found) != name:
        raise Misused("the plan is not the one that was made", where=str(path))
    return found


def _mark(mark: str, plan: Mapping[str, Any], work: Path, *, before: tools.Stat | None) -> bytes:
    """Written over that of an earlier start. Returns what it says."""
    local = work / "begun.json"
    begun = {"plan": digest(plan), "job": os.environ.get("SLURM_JOB_ID", ""), "start": uuid.uuid4().hex}
    files.write_json(local, begun)
    if before is not None and before.size == local.stat().st_size:
        files.write_json(local, {**begun, "again": True})  # hsi leaves what is as large, and newer by its own clock
    tools.put(local, mark)
    content = local.read_bytes()
    local.unlink()
    return content


def _demand_mine(mark: str, begun: bytes, work: Path) -> None:
    local = work / "begun.json"
    local.unlink(missing_ok=True)
    there = tools.stat(mark) is not None
    if there:
        tools.get(mark, local)
    if not there or local.read_bytes() != begun:
        raise ObjectForeign(
            "another job has begun to store it since",
            where=mark.removesuffix(BEGUN_SUFFIX),
            next_step="nothing: that job goes on with it",
        )
    local.unlink()


def _bundle(path: str, source: str, members: Sequence[Member], work: Path) -> None:
    listed = work / "members"
    listed.write_bytes(b"".join(os.fsencode(each.name) + b"\n" for each in members))
    tools.create(path, listed, folder=Path(source))
    listed.unlink()


def _finish(archive: str, name: str, kind: str, stored: tuple[Stored, ...], work: Path, *, begun: bytes) -> Manifest:
    """Read it back, and only then put its list beside it. What was not stored well does not stay."""
    path = f"{archive}/{name}"
    mark = path + BEGUN_SUFFIX
    known = tools.stat(path)
    if known is None:
        raise MemberChanged("it was removed while it was being stored", where=path)
    manifest = Manifest(kind, name, known.size, stored)
    try:
        manifest = replace(manifest, sha256=reading.verify(archive, manifest))
    except MemberDamaged:
        _demand_mine(mark, begun, work)
        tools.remove(path + INDEX_SUFFIX, path, mark)
        raise
    _demand_mine(mark, begun, work)
    local = work / "manifest.json"
    files.write_json(local, manifest.document())
    tools.put(local, beside(path))
    if fetched(archive, name, work) != manifest:
        raise MemberDamaged("its list is not what was written", where=beside(path))
    tools.remove(mark)
    local.unlink()
    return manifest
