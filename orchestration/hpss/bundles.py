"""Which files go into which bundle: pure functions of what is there and of what the archive has already.

A bundle holds what one proposal wrote in one beam cycle. It is closed when it is full, and never opened again: files
that come later go into the next part.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from orchestration.hpss.names import encoded, printable, unbundled

_HEADER, _BLOCK = 512, 512
BUNDLE, SINGLE = "bundle", "single"
MANIFEST_SUFFIX, BEGUN_SUFFIX, INDEX_SUFFIX = ".manifest.json", ".begun.json", ".idx"
"""Objects beside a bundle: what is in it, put there last of all; that it was begun by us; htar's own index."""


@dataclass(frozen=True, order=True)
class Cycle:
    """Half a year of beam: 1 is from 1 January to 15 July, 2 from 16 July to 31 December, in UTC."""

    year: int
    number: int

    @classmethod
    def at(cls, seconds: float) -> Cycle:
        """Of a time in seconds since the epoch."""
        day = datetime.fromtimestamp(seconds, UTC)
        return cls(day.year, 1 if (day.month, day.day) <= (7, 15) else 2)

    @classmethod
    def parse(cls, text: str) -> Cycle:
        """``2026-1``. Raises ValueError for anything else."""
        if not re.fullmatch(r"\d{4}-[12]", text):
            raise ValueError(f"{text!r} is no beam cycle: write 2026-1 or 2026-2")
        return cls(int(text[:4]), int(text[5:]))

    @property
    def previous(self) -> Cycle:
        return Cycle(self.year, 1) if self.number == 2 else Cycle(self.year - 1, 2)

    def __str__(self) -> str:
        return f"{self.year}-{self.number}"


@dataclass(frozen=True, order=True)
class Member:
    """A file below the folder of proposals: ``<proposal>/...``. Bytes, and nanoseconds since the epoch."""

    name: str
    size: int
    mtime_ns: int

    @property
    def room(self) -> int:
        """What it takes in a tar file, in bytes."""
        return _HEADER + -(-self.size // _BLOCK) * _BLOCK

    @property
    def cycle(self) -> Cycle:
        return Cycle.at(self.mtime_ns / 1e9)


@dataclass(frozen=True)
class Limits:
    """In bytes, but for `members`, which counts files. htar itself takes no member over 68 GB."""

    bundle: int = 2 * 10**12
    member: int = 65 * 10**9
    members: int = 20_000


@dataclass(frozen=True)
class Archived:
    """What the archive has of a proposal: objects by their path below its root, and the members of whole ones."""

    objects: frozenset[str] = frozenset()
    members: frozenset[Member] = frozenset()
    begun: frozenset[str] = frozenset()
    """Those that were begun by us and are not whole: they are written again under the same name."""


@dataclass(frozen=True)
class Planned:
    """One object that is to be in the archive: a bundle, or a file that is put by itself."""

    kind: str
    object: str
    """Its path below the archive's root."""
    members: tuple[Member, ...]

    @property
    def size(self) -> int:
        return sum(member.size for member in self.members)

    def document(self, *, source: str, archive: str) -> dict[str, Any]:
        """`source` is the folder below which its members are, `archive` the archive's root; both absolute."""
        members = [[each.name, each.size, each.mtime_ns] for each in self.members]
        return {
            "version": 1,
            "kind": self.kind,
            "object": self.object,
            "source": source,
            "archive": archive,
            "members": members,
        }


@dataclass(frozen=True)
class Plan:
    objects: tuple[Planned, ...] = ()
    refused: Mapping[str, str] = field(default_factory=dict)
    """Files that cannot be archived, by name, and why."""
    known: tuple[Member, ...] = ()
    """What the archive has already, as it is here."""


def plan(
    project: str,
    files: Iterable[Member],
    *,
    archived: Archived = Archived(),
    limits: Limits = Limits(),
    cycle: Cycle | None = None,
) -> Plan:
    """What is still to be archived of a proposal; of one `cycle` only, where that is given.

    The same files and the same archive give the same plan.
    """
    found = sorted(each for each in files if cycle is None or each.cycle == cycle)
    known = tuple(each for each in found if each in archived.members)
    new = [each for each in found if each not in archived.members]
    refused = _ambiguous(found)
    bundled: dict[Cycle, list[Member]] = {}
    singles: list[Planned] = []
    for member in (each for each in new if each.name not in refused):
        if member.size <= limits.member and not unbundled(member.name):
            bundled.setdefault(member.cycle, []).append(member)
        elif why := _no_single(project, member, archived):
            refused[member.name] = why
        else:
            singles.append(Planned(SINGLE, encoded(member.name), (member,)))
    bundles = [each for when in sorted(bundled) for each in _bundles(project, when, bundled[when], archived, limits)]
    return Plan((*bundles, *singles), refused, known)


def bundle_name(project: str, cycle: Cycle, part: int) -> str:
    """``<proposal>_<year>-<cycle>[_partN].tar``; the first part has no number."""
    base = encoded(project.rpartition("/")[2])
    return f"{base}_{cycle}{f'_part{part}' if part > 1 else ''}.tar"


def part_of(name: str, project: str, cycle: Cycle) -> int | None:
    """The number of a part by the name of its bundle; None if this is no bundle of that proposal and cycle."""
    base = re.escape(f"{encoded(project.rpartition('/')[2])}_{cycle}")
    found = re.fullmatch(rf"{base}(?:_part(\d+))?\.tar", name)
    return None if found is None else int(found[1] or 1)


def located(path: str) -> tuple[str, str]:
    """The object at a path below the archive's root, and the member of it that the rest of the path names, or nothing.

    ``p/p_2026-1.tar/p/f.h5`` is the member ``p/f.h5`` of the bundle ``p/p_2026-1.tar``; ``p/f.h5`` is an object.
    """
    folder, _, rest = path.partition("/")
    name, _, member = rest.partition("/")
    if re.fullmatch(rf"{re.escape(folder)}_\d{{4}}-[12](_part\d+)?\.tar", name):
        return f"{folder}/{name}", member
    return path, ""


def is_bundle(path: str) -> bool:
    """Whether that object is called like a bundle."""
    return located(f"{path}/member")[1] == "member"


def digest(document: Mapping[str, Any]) -> str:
    """Of a plan or a list of members: equal documents have equal digests."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def _bundles(
    project: str, cycle: Cycle, members: Sequence[Member], archived: Archived, limits: Limits
) -> list[Planned]:
    folder = encoded(project)
    names = {each.rpartition("/")[2] for each in archived.objects - archived.begun}
    taken = [part for name in names if (part := part_of(name, project, cycle)) is not None]
    part = max(taken, default=0) + 1
    found: list[Planned] = []
    for filled in _filled(members, limits):
        found.append(Planned(BUNDLE, f"{folder}/{bundle_name(project, cycle, part)}", tuple(filled)))
        part += 1
    return found


def _filled(members: Sequence[Member], limits: Limits) -> list[list[Member]]:
    """In order of their names; each bundle as full as it may be."""
    found: list[list[Member]] = []
    room = 0
    for member in members:
        if not found or room + member.room > limits.bundle or len(found[-1]) >= limits.members:
            found.append([])
            room = 0
        found[-1].append(member)
        room += member.room
    return found


def _no_single(project: str, member: Member, archived: Archived) -> str:
    """Why a file cannot be put by itself; empty if it can."""
    name = encoded(member.name)
    if name in archived.objects and name not in archived.begun:
        return "the archive has another version of it, which is not written over: give it another name"
    top = name.removeprefix(f"{encoded(project)}/").partition("/")[0]
    base = re.escape(encoded(project.rpartition("/")[2]))
    if re.match(rf"{base}_\d{{4}}-[12](_part\d+)?\.tar", top):
        return "it is called like a bundle: give it another name"
    if name.endswith((MANIFEST_SUFFIX, BEGUN_SUFFIX)):
        return "it is called like a list of this archive: give it another name"
    return ""


def _ambiguous(files: Sequence[Member]) -> dict[str, str]:
    """Names that nobody could tell apart where people read them."""
    shown: dict[str, list[str]] = {}
    for member in files:
        shown.setdefault(printable(member.name), []).append(member.name)
    twins = [name for names in shown.values() if len(names) > 1 for name in names]
    return dict.fromkeys(twins, "another file has the same name but for bytes that cannot be printed: rename one")
