"""Bringing files back from the archive: into a folder of their own first, checked, and then each to its place."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from orchestration.hpss import files, reading, tools
from orchestration.hpss.bundles import BUNDLE
from orchestration.hpss.errors import DestinationTaken
from orchestration.hpss.manifest import Manifest, Stored
from orchestration.hpss.names import printable


def fetch(archive: str, manifest: Manifest, chosen: Sequence[Stored], *, destination: str, token: str) -> list[Stored]:
    """Those that were not there before, in that order; `token` names the folder where they are checked.

    Raises:
        DestinationTaken: if other bytes stand in the place of one; nothing was moved.
        MemberDamaged: if one is not what was stored; nothing was moved.
    """
    missing = [each for each in chosen if not _stands(destination, each)]
    if not missing:
        return []
    folder = Path(destination) / f".archive-{token}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        _extract(archive, manifest, missing, folder)
        reading.demand(missing, reading.digests(missing, folder), where=f"{archive}/{manifest.path}")
        for each in missing:
            _place(folder, destination, each)
    finally:
        shutil.rmtree(folder)
    return missing


def _stands(destination: str, each: Stored) -> bool:
    path = os.path.join(destination, each.name)
    if not os.path.lexists(path):
        return False
    if os.path.isfile(path) and os.path.getsize(path) == each.member.size and files.sha256_of(path) == each.sha256:
        return True
    raise DestinationTaken(f"{printable(each.name)} is there already, and is something else", where=destination)


def _extract(archive: str, manifest: Manifest, chosen: Sequence[Stored], folder: Path) -> None:
    path = f"{archive}/{manifest.path}"
    if manifest.kind == BUNDLE:
        whole = len(chosen) == len(manifest.members)
        tools.extract(path, [] if whole else [each.name for each in chosen], folder=folder)
        return
    target = os.path.join(folder, chosen[0].name)
    os.makedirs(os.path.dirname(target), exist_ok=True)
    local = folder / "fetched"
    tools.get(path, local)
    local.replace(target)


def _place(folder: Path, destination: str, each: Stored) -> None:
    """Never over something else: a link fails where a rename would not."""
    here, there = os.path.join(folder, each.name), os.path.join(destination, each.name)
    os.utime(here, ns=(each.member.mtime_ns, each.member.mtime_ns))
    os.makedirs(os.path.dirname(there), exist_ok=True)
    try:
        os.link(here, there)
    except FileExistsError as error:
        raise DestinationTaken(f"{printable(each.name)} has appeared meanwhile", where=destination) from error
