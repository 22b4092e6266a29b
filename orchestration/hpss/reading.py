"""Reading an object back from the archive, and comparing it with what was stored."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import tarfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, cast

from orchestration.hpss import files, tools
from orchestration.hpss.bundles import BUNDLE
from orchestration.hpss.errors import ArchiveUnavailable, MemberDamaged, ObjectMissing
from orchestration.hpss.manifest import Manifest, Stored
from orchestration.hpss.names import printable

_CONSISTENCY = re.compile(r"(.*/)?HTAR_CF_CHK_\d+_\d+")
"""htar's own last member of every bundle."""


def verify(archive: str, manifest: Manifest) -> str:
    """Read all of an object, once, and compare each member's bytes; of a bundle, its index as well. Its SHA-256.

    Raises:
        MemberDamaged: naming what is not as it was stored.
        ArchiveUnavailable: if not all of it could be read.
    """
    path = f"{archive}/{manifest.path}"
    known = tools.stat(path)
    if known is None:
        raise ObjectMissing("it is not in the archive any more", where=path)
    if known.size != manifest.size:
        raise MemberDamaged(f"it has {known.size} bytes, and {manifest.size} were stored", where=path)
    with tools.reading(path) as stream:
        counted = _Counted(stream)
        read = _members(counted) if manifest.kind == BUNDLE else {manifest.members[0].name: files.sha256(counted)[0]}
        counted.drain()
    if counted.count != known.size:
        raise ArchiveUnavailable(f"{counted.count} of {known.size} bytes were read", where=path)
    demand(manifest.members, read, where=path)
    found = counted.hasher.hexdigest()
    if manifest.sha256 and found != manifest.sha256:
        raise MemberDamaged("its members are whole, but something between them is not what was stored", where=path)
    if manifest.kind == BUNDLE:
        tools.check(path)
    return found


def verify_members(archive: str, manifest: Manifest, chosen: Sequence[Stored], *, work: Path) -> None:
    """Read only some members of a bundle back, as one who fetches them would, and compare their bytes."""
    if manifest.kind != BUNDLE:
        verify(archive, manifest)
        return
    path, folder = f"{archive}/{manifest.path}", work / "read-back"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        tools.extract(path, [each.name for each in chosen], folder=folder)
        demand(chosen, digests(chosen, folder), where=path)
    finally:
        shutil.rmtree(folder)


def digests(members: Iterable[Stored], folder: Path) -> dict[str, str]:
    """The SHA-256 of those that are there."""
    paths = {each.name: os.path.join(folder, each.name) for each in members}
    return {name: files.sha256_of(path) for name, path in paths.items() if os.path.isfile(path)}


def demand(members: Iterable[Stored], read: dict[str, str], *, where: str) -> None:
    """Raises MemberDamaged unless what was read is what was stored."""
    damaged = [printable(each.name) for each in members if read.get(each.name) != each.sha256]
    if damaged:
        more = f" and {len(damaged) - 3} more" if len(damaged) > 3 else ""
        raise MemberDamaged(
            f"{', '.join(damaged[:3])}{more}: what is read back from the archive is not what was stored", where=where
        )


@dataclass
class _Counted:
    """A stream that counts what is read of it, and makes the checksum of it."""

    stream: IO[bytes]
    count: int = 0
    hasher: hashlib._Hash = field(default_factory=hashlib.sha256)

    def read(self, size: int = -1) -> bytes:
        found = self.stream.read(size)
        self.count += len(found)
        self.hasher.update(found)
        return found

    def drain(self) -> None:
        while self.read(1024 * 1024):
            pass


def _members(stream: _Counted) -> dict[str, str]:
    """The SHA-256 of each file of a tar stream, as far as it is one."""
    found: dict[str, str] = {}
    # Where the stream is no tar file any more, what is missing is damaged: that the whole of it was read is checked.
    with (
        contextlib.suppress(tarfile.TarError),
        tarfile.open(fileobj=cast("IO[bytes]", stream), mode="r|", errors="surrogateescape") as tar,
    ):
        for each in tar:
            content = tar.extractfile(each) if each.isfile() else None
            if content is not None and not _CONSISTENCY.fullmatch(each.name):
                found[each.name] = files.sha256(content)[0]
    return found
