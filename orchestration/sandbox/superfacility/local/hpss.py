"""hsi and htar as NERSC's print and end, over a directory: ``python -I -S hpss.py hsi|htar ARGUMENTS``.

Objects are files below ``$SANDBOX_HPSS/objects``, bundles are real tar files with an index beside them, and checksums
are really compared. ``$SANDBOX_HPSS/faults.json`` makes it fail: ``down`` (no answer), ``lies`` (exit code 0 whatever
happens). Standard library only, and none of this project: it stands before every step of a job.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sys
import time
import zlib

ROOT = "SANDBOX_HPSS"
NAMES = ("hsi", "htar")
OBJECTS, SUMS, FAULTS = "objects", "sums", "faults.json"

_DOWN = 69
_ENOENT = 64
_FAILED = 72
_PLAIN = re.compile(r"[\x20-\x7e]+")
_HASHES = {"md5": "md5", "sha1": "sha1", "sha256": "sha256", "sha512": "sha512"}
_MOST_BYTES = 8**12


class Failed(Exception):
    """Words for standard error, and an exit code."""

    def __init__(self, text: str, code: int = _FAILED) -> None:
        super().__init__(text)
        self.code = code


def main(name: str, words: list[str]) -> int:
    faults = _faults()
    try:
        if faults.get("down"):
            raise Failed("**** ERROR: hpss connection failed: HPSS is not available, retry later", _DOWN)
        if name == "hsi":
            _hsi(words)
        else:
            _Htar(words).run()
        return 0
    except Failed as failure:
        sys.stderr.write(f"{failure}\n")
        if name == "htar":
            sys.stderr.write("HTAR: HTAR FAILED\n")
        return 0 if faults.get("lies") else failure.code


def _faults() -> dict[str, object]:
    try:
        with open(os.path.join(os.environ[ROOT], FAULTS), encoding="utf-8") as file:
            found = json.load(file)
    except FileNotFoundError:
        return {}
    return found if isinstance(found, dict) else {}


def at(path: str) -> str:
    """Where an object is kept; its path is absolute, or below the home of the user."""
    if not _PLAIN.fullmatch(path):
        raise Failed(f"*** hsi: invalid characters in path {path!r}")
    full = os.path.normpath(os.path.join("/home", os.environ.get("USER", "user")[:1], os.environ.get("USER", ""), path))
    return os.path.join(os.environ[ROOT], OBJECTS, full.lstrip("/"))


def _name(place: str) -> str:
    return "/" + os.path.relpath(place, os.path.join(os.environ[ROOT], OBJECTS))


# ----- hsi ----------------------------------------------------------------------------------------------------------


def _hsi(words: list[str]) -> None:
    while words and words[0] in ("-q", "-P"):
        words = words[1:]
    for command in " ".join(words).split(";"):
        name, *rest = command.split()
        if name not in _COMMANDS:
            raise Failed(f"*** hsi: unknown command: {name}")
        _COMMANDS[name](rest)


def _ls(words: list[str]) -> None:
    flags, paths = _flags(words, set())
    absent = [path for path in paths if not os.path.lexists(at(path))]
    for path in [path for path in paths if path not in absent]:
        place = at(path)
        for each in _below(place, deep="-R" in flags):
            sys.stderr.write(_line(each, flags))
    if absent:
        said = (f"*** hsi: ls: HPSS_ENOENT: No such file or directory: {path}" for path in absent)
        raise Failed("\n".join(said), _ENOENT)


def _below(place: str, *, deep: bool) -> list[str]:
    if not os.path.isdir(place):
        return [place]
    found = [place]
    for name in sorted(os.listdir(place)):
        each = os.path.join(place, name)
        found += _below(each, deep=True) if deep and os.path.isdir(each) else [each]
    return found


def _line(place: str, flags: dict[str, str]) -> str:
    known = os.stat(place)
    if "-P" in flags:
        if os.path.isdir(place):
            return f"DIRECTORY\t{_name(place)}\n"
        when = time.strftime("%m/%d/%Y\t%H:%M:%S", time.localtime(known.st_mtime))
        return f"FILE\t{_name(place)}\t{known.st_size}\t{known.st_size}\t1+1\tX0000000\t4\t0\t1\t{when}\t{when}\n"
    kind = "d" if os.path.isdir(place) else "-"
    when = time.strftime("%b %d %H:%M", time.localtime(known.st_mtime))
    return f"{kind}rw-r-----   1 alsdev    als    {known.st_size:>14} {when} {_name(place)}\n"


def _put(words: list[str]) -> None:
    _store(words, conditional=False)


def _cput(words: list[str]) -> None:
    _store(words, conditional=True)


def _store(words: list[str], *, conditional: bool) -> None:
    flags, pair = _flags(words, {"-c", "-H"})
    local, path = _pair(pair)
    place = at(path)
    if not os.path.isdir(os.path.dirname(place)):
        raise Failed(f"*** hsi: put: HPSS_ENOENT: no such directory: {os.path.dirname(path)}", _ENOENT)
    if local != "-" and not os.path.isfile(local):
        raise Failed(f"*** hsi: put: Error -1 on local file {local}: No such file or directory", _ENOENT)
    if conditional and local != "-" and _as_new(local, place):
        return
    _forget(place)
    _write(place, local)
    if flags.get("-c") == "on":
        _keep_hash(place, flags.get("-H", "md5"))
    sys.stderr.write(f"put  '{local}' : '{_name(place)}' ( {os.path.getsize(place)} bytes, 1.0 KBS (cos=1))\n")


def _as_new(local: str, place: str) -> bool:
    """What `cput` leaves: as large, and not older."""
    if not os.path.isfile(place):
        return False
    here, there = os.stat(local), os.stat(place)
    return here.st_size == there.st_size and here.st_mtime <= there.st_mtime


def _write(place: str, local: str) -> None:
    with open(place, "wb") as target:
        if local == "-":
            shutil.copyfileobj(sys.stdin.buffer, target)
            return
        with open(local, "rb") as source:
            shutil.copyfileobj(source, target)


def _get(words: list[str]) -> None:
    _, pair = _flags(words, {"-c", "-H"})
    local, path = _pair(pair)
    place = at(path)
    if not os.path.isfile(place):
        raise Failed(f"*** hsi: get: HPSS_ENOENT: no such HPSS file: {path}", _ENOENT)
    with open(place, "rb") as source:
        if local == "-":
            shutil.copyfileobj(source, sys.stdout.buffer)
            sys.stdout.buffer.flush()
            return
        with open(local, "wb") as target:
            shutil.copyfileobj(source, target)


def _rm(words: list[str]) -> None:
    _, paths = _flags(words, set())
    for path in paths:
        place = at(path)
        if not os.path.isfile(place):
            raise Failed(f"*** hsi: rm: HPSS_ENOENT: no such HPSS file: {path}")
        os.unlink(place)
        _forget(place)


def _mkdir(words: list[str]) -> None:
    flags, paths = _flags(words, set())
    for path in paths:
        if not os.path.isdir(at(path)):
            (os.makedirs if "-p" in flags else os.mkdir)(at(path))


def _mv(words: list[str]) -> None:
    _, (one, other) = _flags(words, set())
    os.replace(at(one), at(other))
    _forget(at(one))


def _hashcreate(words: list[str]) -> None:
    flags, paths = _flags(words, {"-H"})
    for path in paths:
        if not os.path.isfile(at(path)):
            raise Failed(f"*** hsi: hashcreate: HPSS_ENOENT: no such HPSS file: {path}", _ENOENT)
        sys.stderr.write(f"{_keep_hash(at(path), flags.get('-H', 'md5'))} {_name(at(path))}\n")


def _hashverify(words: list[str]) -> None:
    _, paths = _flags(words, set())
    for path in paths:
        place = at(path)
        if not os.path.isfile(place):
            raise Failed(f"*** hsi: hashverify: HPSS_ENOENT: no such HPSS file: {path}", _ENOENT)
        kept = _hash_of(place)
        if kept is None:
            raise Failed(f"*** hsi: hashverify: no valid checksum found for {_name(place)}")
        kind, digest = kept
        if _digest(place, kind) != digest:
            raise Failed(f"*** hsi: {_name(place)}: ({kind}) checksum mismatch")
        sys.stderr.write(f"{_name(place)}: ({kind}) OK\n")


_COMMANDS = {
    "ls": _ls,
    "put": _put,
    "cput": _cput,
    "get": _get,
    "cget": _get,
    "rm": _rm,
    "delete": _rm,
    "mkdir": _mkdir,
    "mv": _mv,
    "hashcreate": _hashcreate,
    "hashverify": _hashverify,
}


def _flags(words: list[str], valued: set[str]) -> tuple[dict[str, str], list[str]]:
    """Options, with their values, and what comes after them."""
    flags: dict[str, str] = {}
    at_word = 0
    while at_word < len(words) and words[at_word].startswith("-") and words[at_word] != "-":
        name = words[at_word]
        at_word += 1
        flags[name] = ""
        if name in valued and at_word < len(words):
            flags[name] = words[at_word]
            at_word += 1
    return flags, words[at_word:]


def _pair(words: list[str]) -> tuple[str, str]:
    if len(words) == 3 and words[1] == ":":
        return words[0], words[2]
    if len(words) == 1:
        return os.path.basename(words[0]), words[0]
    raise Failed(f"*** hsi: syntax error: {' '.join(words)}")


def _sum(place: str) -> str:
    return os.path.join(os.environ[ROOT], SUMS, hashlib.sha256(place.encode()).hexdigest())


def _keep_hash(place: str, kind: str) -> str:
    if kind not in _HASHES:
        raise Failed(f"*** hsi: invalid checksum algorithm {kind}")
    digest = _digest(place, kind)
    os.makedirs(os.path.dirname(_sum(place)), exist_ok=True)
    with open(_sum(place), "w", encoding="ascii") as file:
        file.write(f"{kind} {digest}")
    return digest


def _hash_of(place: str) -> tuple[str, str] | None:
    try:
        with open(_sum(place), encoding="ascii") as file:
            kind, _, digest = file.read().partition(" ")
    except FileNotFoundError:
        return None
    return kind, digest


def _forget(place: str) -> None:
    if os.path.exists(_sum(place)):
        os.unlink(_sum(place))


def _digest(place: str, kind: str) -> str:
    hasher = hashlib.new(_HASHES[kind])
    with open(place, "rb") as file:
        while chunk := file.read(1024 * 1024):
            hasher.update(chunk)
    return hasher.hexdigest()


# ----- htar ---------------------------------------------------------------------------------------------------------


class _Htar:
    def __init__(self, words: list[str]) -> None:
        self.action, self.archive, self.listed = "", "", ""
        self.verbose = self.makes_folders = False
        self.options: list[str] = []
        self.names: list[str] = []
        words = list(words)
        while words:
            word = words.pop(0)
            if word.startswith("-H"):
                self.options += (word[2:] or words.pop(0)).split(",")
            elif word.startswith("-") and len(word) > 1 and not self.names:
                self._letters(word[1:], words)
            else:
                self.names.append(word)

    def _letters(self, letters: str, words: list[str]) -> None:
        for letter in letters:
            if letter in "cxtK":
                self.action = letter
            elif letter == "f":
                self.archive = words.pop(0)
            elif letter == "L":
                self.listed = words.pop(0)
            elif letter == "P":
                self.makes_folders = True
            elif letter == "v":
                self.verbose = True
            elif letter not in "qmhoO":
                raise Failed(f"HTAR: unknown option -{letter}")

    def run(self) -> None:
        actions = {"c": self._create, "x": self._extract, "t": self._list, "K": self._check}
        if self.action not in actions or not self.archive:
            raise Failed("HTAR: one of -c, -x, -t, -K and an archive file are needed")
        actions[self.action]()
        sys.stdout.write("HTAR: HTAR SUCCESSFUL\n")

    def _create(self) -> None:
        place, names = at(self.archive), [*self.names, *self._from_list()]
        if self.makes_folders:
            os.makedirs(os.path.dirname(place), exist_ok=True)
        if not os.path.isdir(os.path.dirname(place)):
            raise Failed(f"HTAR: error opening {self.archive}: no such directory", _ENOENT)
        _forget(place)
        with open(place, "wb") as tar:
            index = [self._add(tar, name) for name in names]
            check = f"/scratch/HTAR_CF_CHK_{os.getpid()}_{int(time.time())}"
            _member(tar, os.fsencode(check), b"\0" * 256, 256, time.time())
            tar.write(b"\0" * 1024)
        with open(f"{place}.idx", "w", encoding="ascii") as file:
            json.dump(index, file)

    def _from_list(self) -> list[str]:
        """One a line, whatever else is in it."""
        if not self.listed:
            return []
        with open(self.listed, "rb") as file:
            return [os.fsdecode(line) for line in file.read().split(b"\n") if line]

    def _add(self, tar: object, name: str) -> list[object]:
        raw = os.fsencode(name)
        try:
            known = os.stat(name)
        except FileNotFoundError as error:
            raise Failed(f"HTAR: error -1 getting stats for {name!r}: No such file or directory", _ENOENT) from error
        if known.st_size >= _MOST_BYTES:
            raise Failed(f"HTAR: {name!r} is larger than a member may be")
        with open(name, "rb") as file:
            content = file.read()
        offset = tar.tell()  # type: ignore[attr-defined]
        _member(tar, raw, content, known.st_size, known.st_mtime)
        if self.verbose:
            sys.stdout.write(f"HTAR: a   {name!r}\n")
        return [name, offset, len(content), zlib.crc32(content)]

    def _index(self) -> list[list[object]]:
        place = at(self.archive)
        if not os.path.isfile(place):
            raise Failed(f"HTAR: no such file {self.archive}", _ENOENT)
        try:
            with open(f"{place}.idx", encoding="ascii") as file:
                found = json.load(file)
        except FileNotFoundError as error:
            raise Failed(f"HTAR: no such file {self.archive}.idx", _ENOENT) from error
        except ValueError as error:
            raise Failed(f"HTAR: the index {self.archive}.idx is damaged") from error
        return list(found)

    def _extract(self) -> None:
        wanted = {*self.names, *self._from_list()}
        found = [row for row in self._index() if not wanted or row[0] in wanted]
        with open(at(self.archive), "rb") as tar:
            for name, offset, size, _ in found:
                os.makedirs(os.path.dirname(str(name)) or ".", exist_ok=True)
                tar.seek(int(str(offset)) + 512)
                with open(str(name), "wb") as file:
                    file.write(tar.read(int(str(size))))
        if missing := wanted - {str(row[0]) for row in found}:
            raise Failed(f"HTAR: no matching member for {min(missing)!r}", _ENOENT)

    def _list(self) -> None:
        for name, _, size, _ in self._index():
            sys.stdout.write(f"HTAR: -rw-r-----  alsdev/als {size:>12} 2026-01-01 00:00  {name!r}\n")

    def _check(self) -> None:
        """Each header against the index; with ``-Hverify=crc``, the bytes as well."""
        reads = any(word in ("verify=crc", "verify=1", "verify=all", "crc") for word in self.options)
        with open(at(self.archive), "rb") as tar:
            for name, offset, size, crc in self._index():
                tar.seek(int(str(offset)))
                header = tar.read(512)
                if len(header) < 512 or _checksum(header) != int(header[148:154].strip(b"\0 ") or b"0", 8):
                    raise Failed(f"HTAR: the header of {name!r} does not match the index")
                if reads and zlib.crc32(tar.read(int(str(size)))) != crc:
                    raise Failed(f"HTAR: CRC mismatch in {name!r}")


def _member(tar: object, raw: bytes, content: bytes, size: int, mtime: float) -> None:
    prefix, name = _split(raw)
    header = bytearray(512)
    header[0 : len(name)] = name
    header[100:108], header[108:116], header[116:124] = b"0000640\0", b"0000000\0", b"0000000\0"
    header[124:136] = b"%011o\0" % size if size < 8**11 else b"%012o" % size
    header[136:148] = b"%011o\0" % int(mtime)
    header[156:157], header[257:265] = b"0", b"ustar\x0000"
    header[345 : 345 + len(prefix)] = prefix
    header[148:156] = b"%06o\0 " % _checksum(bytes(header))
    tar.write(bytes(header) + content + b"\0" * (-len(content) % 512))  # type: ignore[attr-defined]


def _checksum(header: bytes) -> int:
    return sum(header[:148]) + 8 * 0x20 + sum(header[156:])


def _split(raw: bytes) -> tuple[bytes, bytes]:
    """What the real one has room for: 154 bytes, a slash, 99 bytes."""
    if len(raw) <= 99:
        return b"", raw
    for cut in range(min(154, len(raw) - 2), 0, -1):
        if raw[cut] == ord("/") and len(raw) - cut - 1 <= 99:
            return raw[:cut], raw[cut + 1 :]
    raise Failed(f"HTAR: the path {os.fsdecode(raw)!r} is too long", _FAILED)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
