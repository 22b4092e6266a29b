"""The operations on files, as they run in a task."""

from __future__ import annotations

import base64
import grp
import hashlib
import os
import pwd
import re
import shutil
import stat
import tarfile
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from orchestration.ledger.service import Document, Json

SIZE_LIMIT = 5 * 1024 * 1024
"""Bytes that one answer or upload may carry."""

_MODES = {"none": "", "gzip": ":gz", "bzip2": ":bz2", "xz": ":xz"}
_KINDS = {stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink", stat.S_IFREG: "file"}


class FileTrouble(Exception):
    """Raised when an operation cannot be done; the text is its result."""


class Disk:
    """The directories that may be touched, with all that is below them."""

    def __init__(self, roots: tuple[Path, ...]) -> None:
        self._roots = tuple(root.resolve() for root in roots)

    def place(self, path: str, *, follow: bool = True) -> Path:
        """Raises: FileTrouble for a path that is outside, by a link or by its name."""
        if not path.startswith("/") or "\0" in path:
            raise FileTrouble(f"{path!r} is not an absolute path")
        whole = Path(path).resolve() if follow else Path(path).parent.resolve() / Path(path).name
        if not any(whole == root or root in whole.parents for root in self._roots):
            raise FileTrouble(f"{path}: Permission denied")
        return whole

    def changeable(self, path: str) -> Path:
        found = self.place(path, follow=False)
        if found in self._roots:
            raise FileTrouble(f"{path}: Permission denied")
        return found

    def chmod(self, path: str, mode: str) -> Json:
        if not re.fullmatch(r"[0-7]{3,4}", mode):
            raise FileTrouble(f"invalid mode: {mode!r}")
        place = self.place(path)
        place.chmod(int(mode, 8))
        return view(place)

    def chown(self, path: str, owner: str, group: str) -> Json:
        place = self.place(path)
        if not owner and not group:
            raise FileTrouble("neither an owner nor a group was given")
        try:
            uid = pwd.getpwnam(owner).pw_uid if owner else -1
            gid = grp.getgrnam(group).gr_gid if group else -1
        except KeyError as error:
            raise FileTrouble(str(error)) from error
        os.chown(place, uid, gid)
        return view(place)

    def file(self, path: str) -> Json:
        place = self.place(path, follow=False)
        return _kind(place.lstat().st_mode)

    def stat(self, path: str, *, dereference: bool) -> Json:
        found = self.place(path, follow=dereference).stat(follow_symlinks=dereference)
        names = ("mode", "ino", "dev", "nlink", "uid", "gid", "size", "atime", "ctime", "mtime")
        return {name: int(getattr(found, f"st_{name}")) for name in names}

    def mkdir(self, path: str, *, parents: bool) -> Json:
        place = self.changeable(path)
        place.mkdir(parents=parents, exist_ok=parents)
        return view(place)

    def symlink(self, path: str, link: str) -> Json:
        target, place = self.place(path), self.changeable(link)
        place.symlink_to(target)
        return view(place)

    def ls(self, path: str, *, hidden: bool, numeric: bool, recursive: bool, dereference: bool) -> Json:
        place = self.place(path)
        if not place.is_dir():
            return [view(place, numeric=numeric, dereference=dereference)]
        rows = sorted(place.rglob("*") if recursive else place.iterdir())
        shown = [row for row in rows if hidden or not _hidden(row, place)]
        return [view(row, numeric=numeric, dereference=dereference, below=place) for row in shown]

    def view(self, path: str, *, size: int, offset: int) -> Json:
        with self.place(path).open("rb") as file:
            file.seek(offset)
            return content(file.read(min(size, SIZE_LIMIT)), "bytes", offset)

    def head(self, path: str, *, count: int, unit: str, skip_trailing: bool) -> Json:
        rows = self._rows(path, unit)
        chosen = (rows[: len(rows) - count] if count else rows) if skip_trailing else rows[:count]
        return content(b"".join(chosen), unit, 0)

    def tail(self, path: str, *, count: int, unit: str, skip_heading: bool) -> Json:
        rows = self._rows(path, unit)
        chosen = rows[count:] if skip_heading else rows[max(0, len(rows) - count) :]
        return content(b"".join(chosen), unit, 0)

    def _rows(self, path: str, unit: str) -> list[bytes]:
        whole = self._read(path)
        return whole.splitlines(keepends=True) if unit == "lines" else [whole[i : i + 1] for i in range(len(whole))]

    def _read(self, path: str) -> bytes:
        place = self.place(path)
        if place.stat().st_size > SIZE_LIMIT:
            raise FileTrouble(f"{path} is too large: more than {SIZE_LIMIT} bytes")
        return place.read_bytes()

    def checksum(self, path: str) -> Json:
        with self.place(path).open("rb") as file:
            return {"algorithm": "SHA-256", "checksum": hashlib.file_digest(file, "sha256").hexdigest()}

    def rm(self, path: str) -> Json:
        place = self.changeable(path)
        if place.is_dir() and not place.is_symlink():
            shutil.rmtree(place)
        else:
            place.unlink()
        return f"Removed {path}"

    def mv(self, path: str, target: str) -> Json:
        return view(Path(shutil.move(self.changeable(path), self.changeable(target))))

    def cp(self, path: str, target: str, *, dereference: bool) -> Json:
        source, place = self.place(path, follow=dereference), self.changeable(target)
        if source.is_dir():
            shutil.copytree(source, place, symlinks=not dereference)
        else:
            shutil.copy2(source, place, follow_symlinks=dereference)
        return view(place)

    def compress(self, path: str, target: str, *, pattern: str, dereference: bool, compression: str) -> Json:
        source, place = self.place(path), self.changeable(target)
        source.lstat()
        try:
            wanted = re.compile(pattern or ".*")
        except re.error as error:
            raise FileTrouble(f"{pattern!r} is not a pattern: {error}") from error
        with tarfile.open(place, f"w{_MODES[compression]}", dereference=dereference) as archive:  # type: ignore[call-overload]
            for each in _below(source):
                if each.is_dir() or wanted.search(str(each)):
                    archive.add(each, arcname=str(each.relative_to(source.parent)), recursive=False)
        return view(place)

    def extract(self, path: str, target: str, *, compression: str) -> Json:
        source, place = self.place(path), self.changeable(target)
        try:
            with tarfile.open(source, f"r{_MODES[compression]}") as archive:  # type: ignore[call-overload]
                place.mkdir(parents=True, exist_ok=True)
                archive.extractall(place, filter="data")
        except tarfile.TarError as error:
            raise FileTrouble(f"{path} cannot be extracted: {error}") from error
        return view(place)

    def download(self, path: str) -> Json:
        return base64.b64encode(self._read(path)).decode()

    def upload(self, path: str, data: bytes) -> Json:
        self.changeable(path).write_bytes(data)
        return f"Uploaded to {path}"


def view(place: Path, *, numeric: bool = False, dereference: bool = False, below: Path | None = None) -> Document:
    """One file as lists show it."""
    found = place.stat(follow_symlinks=dereference)
    user, group = str(found.st_uid), str(found.st_gid)
    if not numeric:
        with suppress(KeyError):
            user = pwd.getpwuid(found.st_uid).pw_name
        with suppress(KeyError):
            group = grp.getgrgid(found.st_gid).gr_name
    return {
        "name": str(place.relative_to(below)) if below else place.name,
        "type": _kind(found.st_mode),
        "link_target": str(place.readlink()) if place.is_symlink() and not dereference else None,
        "user": user,
        "group": group,
        "permissions": stat.filemode(found.st_mode)[1:],
        "last_modified": datetime.fromtimestamp(found.st_mtime, UTC).isoformat(timespec="seconds"),
        "size": str(found.st_size),
    }


def content(data: bytes, unit: str, start: int) -> Document:
    size = len(data.splitlines()) if unit == "lines" else len(data)
    text = data.decode("utf-8", errors="replace")
    return {"content": text, "content_type": unit, "start_position": start, "end_position": start + size}


def _kind(mode: int) -> str:
    return _KINDS.get(stat.S_IFMT(mode), "other")


def _hidden(row: Path, below: Path) -> bool:
    return any(part.startswith(".") for part in row.relative_to(below).parts)


def _below(source: Path) -> Iterator[Path]:
    yield source
    if source.is_dir() and not source.is_symlink():
        yield from sorted(source.rglob("*"))
