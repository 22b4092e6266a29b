"""What is in an object of the archive: each member with its SHA-256, kept beside the object and with whoever asked."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestration.hpss.bundles import MANIFEST_SUFFIX, Member, digest
from orchestration.hpss.errors import MemberDamaged, NoSuchMember
from orchestration.hpss.names import printable


@dataclass(frozen=True, order=True)
class Stored:
    """A member as it was stored; its `sha256` is that of the file it was made of."""

    member: Member
    sha256: str

    @property
    def name(self) -> str:
        return self.member.name

    def row(self) -> list[Any]:
        return [self.member.name, self.member.size, self.member.mtime_ns, self.sha256]


@dataclass(frozen=True)
class Manifest:
    """Of one object; `path` is below the root of the archive. `size` (bytes) and `sha256` are those of the object."""

    kind: str
    path: str
    size: int
    members: tuple[Stored, ...]
    sha256: str = ""

    def document(self) -> dict[str, Any]:
        rows = [each.row() for each in sorted(self.members)]
        found = {"version": 1, "kind": self.kind, "object": self.path, "members": rows}
        found |= {"size": self.size, "sha256": self.sha256}
        return {**found, "digest": digest(found)}

    @classmethod
    def parse(cls, document: Mapping[str, Any], *, where: str) -> Manifest:
        """Raises MemberDamaged if it is not as it was written."""
        try:
            told = {name: value for name, value in document.items() if name != "digest"}
            if document["digest"] != digest(told):
                raise ValueError("its digest is that of another")
            members = tuple(Stored(Member(*row[:3]), row[3]) for row in told["members"])
            return cls(told["kind"], told["object"], told["size"], members, told["sha256"])
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise MemberDamaged(f"the list of what was stored cannot be used: {error}", where=where) from error

    @classmethod
    def read(cls, path: Path, *, where: str) -> Manifest:
        try:
            found = json.loads(path.read_bytes())
        except ValueError as error:
            raise MemberDamaged(f"the list of what was stored cannot be read: {error}", where=where) from error
        return cls.parse(found, where=where)

    def chosen(self, names: Iterable[str]) -> tuple[Stored, ...]:
        """The members of these names, as `printable` writes them; all if there are none.

        Raises:
            NoSuchMember: naming each that is none.
        """
        wanted = list(dict.fromkeys(names))
        if not wanted:
            return self.members
        known = {printable(each.name): each for each in self.members}
        if strangers := [name for name in wanted if name not in known]:
            raise NoSuchMember(f"no member is called {', '.join(map(repr, strangers[:5]))}", where=self.path)
        return tuple(known[name] for name in wanted)


def beside(path: str) -> str:
    """Where the list of an object is."""
    return path + MANIFEST_SUFFIX


def compressed(manifest: Manifest) -> bytes:
    """For its way to whoever asked; equal manifests are equal bytes."""
    return gzip.compress(json.dumps(manifest.document(), ensure_ascii=True).encode("ascii"), mtime=0)


def expanded(content: bytes, *, where: str) -> Manifest:
    """Raises MemberDamaged if this is not what `compressed` made."""
    try:
        found = json.loads(gzip.decompress(content))
    except (OSError, EOFError, ValueError) as error:
        raise MemberDamaged(f"the list of what was stored cannot be read: {error}", where=where) from error
    return Manifest.parse(found, where=where)
