"""Copies of files and trees that are whole and verified, or not there at all."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import chain
from pathlib import Path

from orchestration.errors import EndpointRefused, InvalidPath, NoSpace, SourceMissing
from orchestration.local.errors import writing
from orchestration.local.jobfolder import fsync_directory
from orchestration.local.pools import SMALL, each_batch
from orchestration.local.porters import Porters
from orchestration.local.renaming import exchange
from orchestration.local.small import Verify, Write, changed
from orchestration.local.syncing import FEW, FileSystems, keep_folders
from orchestration.local.trees import Found, Tree, look, shape_of
from orchestration.local.verified import CopiedFile, Writer
from orchestration.local.work import Meter

MANY = 2000
"""Small files beyond which other processes help: to start them takes as long as to copy some hundred files."""

_STALE_SECONDS = 24 * 3600.0
_TEMPORARY = re.compile(r"\.orc-[0-9a-f]{16}-[0-9a-f]{8}\.part")


@dataclass(frozen=True, kw_only=True)
class Copied:
    """`skipped`: the destination had the same bytes already, and was left alone."""

    files: tuple[CopiedFile, ...]
    skipped: bool

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)

    @property
    def sha256(self) -> str:
        """Of the file, or of a directory's sorted lines "sha256 size name"."""
        if len(self.files) == 1 and not self.files[0].name:
            return self.files[0].sha256
        lines = sorted(f"{file.sha256} {file.size} {file.name}" for file in self.files)
        return hashlib.sha256("\n".join(lines).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Copier:
    """Copies for one piece of work; `owner` marks its temporary names, to clean up after a dead attempt."""

    owner: str
    meter: Meter

    def copy(self, source: Path, destination: Path, *, root: Path, there: Path) -> Copied:
        """Make `destination` (below `there`) equal to `source` (below `root`).

        A directory that stands there is replaced as a whole by one step, never merged: no slice of an older result
        is left among those of a newer one.
        """
        tree = look(source, root=root)
        self.meter.expect(files=len(tree.files), size=tree.size)
        demand_fit(source, destination, tree)
        self.make_room(destination.parent)
        return self.carry(tree, destination, root=root, there=there)

    def make_room(self, folder: Path) -> None:
        """Make a folder, if there is none, and remove from it what dead attempts left. Nobody of this work is there."""
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self._clean(folder)

    def carry(self, tree: Tree, destination: Path, *, root: Path, there: Path) -> Copied:
        """`copy` of what was looked at, into a folder that has room."""
        same = self.same(tree, destination, there)
        if same is not None:
            return Copied(files=same, skipped=True)
        demand_space(destination.parent, tree.size)
        with self._temporary(destination.parent) as temporary:
            files = self._fill(tree, temporary)
            if shape_of(tree.top, root=root) != tree.shape:
                raise changed(tree.top)
            self.meter.check()
            with writing(destination):
                _place(temporary, destination)
        return Copied(files=files, skipped=False)

    def temporary(self, folder: Path) -> Path:
        """A short name in a folder: also a file whose own name is as long as can be has one."""
        return folder / f".orc-{self.owner}-{secrets.token_hex(4)}.part"

    @cached_property
    def writer(self) -> Writer:
        return Writer(meter=self.meter)

    def _clean(self, folder: Path) -> None:
        """What is our own, and any that nobody has touched for a day."""
        with os.scandir(folder) as entries:
            for entry in entries:
                if _TEMPORARY.fullmatch(entry.name) is None:
                    continue
                ours = entry.name.startswith(f".orc-{self.owner}-")
                if ours or _age(entry) > _STALE_SECONDS:
                    remove(Path(entry.path))

    def same(self, tree: Tree, destination: Path, there: Path) -> tuple[CopiedFile, ...] | None:
        """The files, if the destination has exactly them, byte for byte; sizes are compared before bytes."""
        if not destination.exists():
            return None
        try:
            other = look(destination, root=there)
        except (InvalidPath, SourceMissing, EndpointRefused):
            return None  # whatever it is, it is not what we would have put there
        sizes = [[(file.name, file.size) for file in each.files] for each in (tree, other)]
        if sizes[0] != sizes[1] or tree.directories != other.directories:
            return None
        self.meter.say("comparing with what is there")
        files: list[CopiedFile] = []
        compare = partial(self._alike, tree, other)
        for some in each_batch(compare, tree.files) if tree.is_directory else [compare(tree.files)]:
            if some is None:
                return None
            files += some
        self.meter.add(size=tree.size, files=len(tree.files))
        return tuple(files)

    def _alike(self, tree: Tree, other: Tree, batch: Sequence[Found]) -> Sequence[CopiedFile] | None:
        found = []
        for file in batch:
            checksum = self.writer.sha256(tree.path(file))
            if checksum != self.writer.sha256(other.path(file)):
                return None
            found.append(CopiedFile(file.name, file.size, checksum))
        return found

    @contextmanager
    def _temporary(self, folder: Path) -> Iterator[Path]:
        path = self.temporary(folder)
        try:
            yield path
        finally:
            remove(path)

    def _fill(self, tree: Tree, temporary: Path) -> tuple[CopiedFile, ...]:
        self.meter.say("copying")
        if not tree.is_directory:
            return (self.writer.copy_file(tree.path(tree.files[0]), tree.files[0], temporary),)
        with writing(temporary):
            for folder in ("", *tree.directories):
                (temporary / folder).mkdir()
        with Porters.of_this_machine() if len(tree.files) > MANY else Porters(0) as porters:
            batches = each_batch(lambda batch: self._copy_batch(tree, batch, temporary, porters), tree.files)
            files = tuple(chain.from_iterable(batches))
        with writing(temporary):
            keep_folders([temporary / folder for folder in ("", *tree.directories)])
        return files

    def _copy_batch(
        self, tree: Tree, batch: Sequence[Found], temporary: Path, porters: Porters
    ) -> Sequence[CopiedFile]:
        if batch[0].size > SMALL:
            return [self.writer.copy_file(tree.path(file), file, temporary / file.name) for file in batch]
        with writing(temporary):
            systems = FileSystems([temporary])
        with systems:
            found = [(file.name, file.size, file.mtime_ns) for file in batch]
            sums = porters.perform(Write(str(tree.top), str(temporary), found), self.meter.check)
            self.meter.add(size=sum(file.size for file in batch))
            with writing(temporary):
                durable = len(batch) > FEW and systems.sync()
        copied = [CopiedFile(file.name, file.size, checksum) for file, checksum in zip(batch, sums, strict=True)]
        written = [(file.name, file.size, file.sha256) for file in copied]
        porters.perform(Verify(str(temporary), written, durable), self.meter.check)
        self.meter.add(files=len(batch))
        return copied


def demand_fit(source: Path, destination: Path, tree: Tree) -> None:
    """A directory never replaces a file nor the reverse, and nothing is copied into itself."""
    if destination.is_relative_to(source) or (destination.exists() and destination.samefile(source)):
        raise EndpointRefused(f"{source} cannot be copied into itself", where="this machine")
    if destination.exists() and destination.is_dir() != tree.is_directory:
        kinds = ("directory", "file") if tree.is_directory else ("file", "directory")
        raise EndpointRefused(f"{source} is a {kinds[0]}, {destination} a {kinds[1]}", where="this machine")


def demand_space(folder: Path, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < size:
        raise NoSpace(f"{folder} has {free:,} bytes free, {size:,} are needed", where="this machine")


def _age(entry: os.DirEntry[str]) -> float:
    """Seconds since it was touched; 0 if it is gone by now, as what others copy beside us gets its name any moment."""
    try:
        return time.time() - entry.stat(follow_symlinks=False).st_mtime
    except FileNotFoundError:
        return 0.0


def remove(path: Path) -> None:
    """Remove a file or a whole directory, if there is one."""
    with writing(path):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _place(temporary: Path, destination: Path) -> None:
    """Put the copy under its name; an older directory ends up under the temporary one, to be removed."""
    if temporary.is_dir() and destination.exists():
        exchange(temporary, destination)
    else:
        temporary.replace(destination)
    fsync_directory(destination.parent)
