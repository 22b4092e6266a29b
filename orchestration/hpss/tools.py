"""hsi and htar, called with lists of words, and believed only where what they did can be seen.

Their exit codes cannot be trusted: hsi ends with 0 after commands that failed, and htar on some machines always. So
htar must say ``HTAR SUCCESSFUL`` as well, and of what hsi was asked to do, its effect is looked at.
"""

from __future__ import annotations

import calendar
import os
import re
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from orchestration.hpss.errors import ArchiveUnavailable, ObjectMissing

_ABSENT = re.compile(r"ENOENT|no such file|not found|does not exist", re.IGNORECASE)
_FILE = re.compile(r"^FILE\t(?P<path>[^\t]+)\t(?P<size>\d+)\t(?P<rest>.*)$", re.MULTILINE)
_LISTED = re.compile(r"^(?P<kind>FILE|DIRECTORY)\t(?P<path>[^\t\n]+)", re.MULTILINE)
_TIME = re.compile(r"(\d\d)/(\d\d)/(\d{4})\t(\d\d:\d\d:\d\d)")
_SUCCESS = "HTAR SUCCESSFUL"
_WORDS_BYTES = 60_000
"""Of the names of members in one command; a kernel takes more."""


@dataclass(frozen=True)
class Stat:
    """An object of the archive: bytes, and when it was written, in seconds since the epoch as far as hsi tells."""

    path: str
    size: int
    modified: float


def stat(path: str) -> Stat | None:
    """None if it is certain that there is no such object.

    Raises:
        ArchiveUnavailable: if hsi does not say.
    """
    return stats(path)[path]


def stats(*paths: str) -> Mapping[str, Stat | None]:
    """Of several objects, by one session of hsi."""
    code, said = _hsi(f"ls -P {' '.join(paths)}")
    known = {each["path"]: Stat(each["path"], int(each["size"]), _time(each["rest"])) for each in _FILE.finditer(said)}
    found: dict[str, Stat | None] = {}
    for path in paths:
        if path not in known and (code == 0 or not _said_absent(said, path)):
            raise _silent("ls", path, code, said)
        found[path] = known.get(path)
    return found


def _said_absent(said: str, path: str) -> bool:
    """Whether a line says so of this very path."""
    named = re.compile(re.escape(path) + r"(?![\w./@+=,%~-])")
    return any(_ABSENT.search(line) and named.search(line) for line in said.splitlines())


def listing(folder: str) -> frozenset[str]:
    """The paths of all objects below a folder, at any depth; none if there is no such folder."""
    code, said = _hsi(f"ls -P -R {folder}")
    found = frozenset(each["path"] for each in _LISTED.finditer(said) if each["kind"] == "FILE")
    if code == 0 and _LISTED.search(said):
        return found
    if code != 0 and _said_absent(said, folder):
        return frozenset()
    raise _silent("ls", folder, code, said)


def put(local: Path, path: str) -> Stat:
    """Store a file, with a checksum of HPSS's own; what is there and as large and as new is left. `local` is plain."""
    code, said = _hsi(f"mkdir -p {path.rpartition('/')[0]} ; cput -c on -H sha256 {local} : {path}")
    found, size = stat(path), local.stat().st_size
    if found is None or found.size != size:
        raise _silent("put", path, code, said)
    return found


def get(path: str, local: Path) -> None:
    """Fetch a small object into a file, which is `local` and plain."""
    known = stat(path)
    if known is None:
        raise ObjectMissing("the archive has no such object", where=path)
    code, said = _hsi(f"get {local} : {path}")
    if not local.is_file() or local.stat().st_size != known.size:
        raise _silent("get", path, code, said)


@contextmanager
def reading(path: str) -> Iterator[IO[bytes]]:
    """The bytes of an object as they come from the archive; whoever reads them checks that they are all there."""
    command = ["hsi", "-q", f"get - : {path}"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL
    ) as child:
        if child.stdout is None:  # of a pipe it is never
            raise ArchiveUnavailable("hsi has no output", where=path)
        try:
            yield child.stdout
        finally:
            child.kill()


def remove(*paths: str) -> None:
    """Certain that none of them is there any more when it returns."""
    there = [path for path, known in stats(*paths).items() if known is not None]
    if not there:
        return
    code, said = _hsi(f"rm {' '.join(there)}")
    if left := [path for path, known in stats(*there).items() if known is not None]:
        raise _silent("rm", left[0], code, said)


def create(archive: str, listed: Path, *, folder: Path) -> None:
    """A bundle of the files that are listed in `listed`, one a line, by their paths below `folder`."""
    _htar(["-cP", "-Hcrc", "-Hverify=info,crc", "-f", archive, "-L", str(listed)], folder, archive)


def check(archive: str) -> None:
    """That the index of a bundle leads to every member of it."""
    _htar(["-K", "-f", archive], Path("/"), archive)


def extract(archive: str, names: Sequence[str], *, folder: Path) -> None:
    """Members of a bundle into `folder`, or all of them if none are named."""
    for some in _portions(names) if names else [[]]:
        _htar(["-x", "-m", "-f", archive, *some], folder, archive)


def _portions(names: Sequence[str]) -> Iterator[list[str]]:
    some: list[str] = []
    room = 0
    for name in names:
        size = len(name.encode("utf-8", "surrogateescape")) + 1
        if some and room + size > _WORDS_BYTES:
            yield some
            some, room = [], 0
        some.append(name)
        room += size
    yield some


def _hsi(command: str) -> tuple[int, str]:
    """Paths in a command are plain: `orchestration.hpss.names.encoded`. hsi says most things on standard error."""
    return _run(["hsi", "-q", command], Path("/"))


def _htar(words: list[str], folder: Path, archive: str) -> None:
    code, said = _run(["htar", *words], folder)
    if code != 0 or _SUCCESS not in said:
        raise _silent(f"htar {words[0]}", archive, code, said)


def _run(command: list[str], folder: Path) -> tuple[int, str]:
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, "TZ": "UTC"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
    except OSError as error:
        raise ArchiveUnavailable(
            f"{command[0]} cannot be started: {error.strerror}",
            next_step="run this on a node that has hsi and htar: one of the queue xfer",
        ) from error
    return done.returncode, done.stdout.decode("utf-8", "replace")


def _time(text: str) -> float:
    """When it was created, of the times in a listing; hsi writes them in UTC where it is told so by TZ."""
    found = _TIME.search(text)
    if found is None:
        return 0.0
    month, day, year, clock = found.groups()
    return float(calendar.timegm(time.strptime(f"{year}-{month}-{day} {clock}", "%Y-%m-%d %H:%M:%S")))


def _silent(what: str, path: str, code: int, said: str) -> ArchiveUnavailable:
    words = " ".join(said.split())[-300:] or "nothing"
    return ArchiveUnavailable(
        f"{what} ended with {code} and did not do what it was asked; it said: {words}", where=path
    )
