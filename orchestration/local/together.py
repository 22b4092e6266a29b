"""Single files that are copied together: each whole and verified, or not there at all; durable by the thousand."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from orchestration.errors import ChecksumMismatch, OrchestrationError
from orchestration.local.copying import Copied, Copier, demand_fit, demand_space, remove
from orchestration.local.errors import writing
from orchestration.local.pools import SMALL, each_batch
from orchestration.local.small import changed, spoilt
from orchestration.local.syncing import FEW, FileSystems, keep_folders
from orchestration.local.trees import Found, Tree, look, shape_of
from orchestration.local.verified import CopiedFile
from orchestration.transfers import OF_ONE


@dataclass
class _File:
    """One of them, and how far it has come."""

    tree: Tree
    destination: Path
    temporary: Path | None = None
    checksum: str = ""
    copied: Copied | None = None
    error: OrchestrationError | None = None

    @property
    def found(self) -> Found:
        return self.tree.files[0]

    @property
    def size(self) -> int:
        return self.found.size

    @property
    def waits(self) -> bool:
        return self.copied is None and self.error is None


@dataclass(frozen=True, kw_only=True)
class Together:
    """Copies for one piece of work; `root` has the sources, `there` the destinations."""

    copier: Copier
    root: Path
    there: Path
    _lost: list[OrchestrationError] = field(default_factory=list, init=False)

    def copy(self, pairs: Iterable[tuple[Path, Path]]) -> Sequence[Copied]:
        """Make each destination equal to its source, a single file.

        What one of them suffers from keeps no other from its place.

        Raises:
            TransferFailed: (or InvalidPath) of the first that is not there now, once all others are.
        """
        files = list(self._look(pairs))
        self.copier.meter.expect(files=len(files), size=sum(file.size for file in files))
        self._make_room(files)
        for _ in each_batch(self._carry, [file for file in files if file.waits]):
            self.copier.meter.check()
        for error in (*self._lost, *(file.error for file in files if file.error is not None)):
            raise error
        return [file.copied for file in files if file.copied is not None]

    def _look(self, pairs: Iterable[tuple[Path, Path]]) -> Iterator[_File]:
        for source, destination in pairs:
            self.copier.meter.check()
            try:
                tree = look(source, root=self.root)
                demand_fit(source, destination, tree)
            except OF_ONE as error:
                self._lost.append(error)
            else:
                yield _File(tree, destination)

    def _make_room(self, files: Sequence[_File]) -> None:
        """Before any is copied: what is cleaned away there is not of this attempt."""
        folders: dict[Path, list[_File]] = {}
        for file in files:
            folders.setdefault(file.destination.parent, []).append(file)
        for folder, some in folders.items():
            try:
                self.copier.make_room(folder)
            except OF_ONE as error:
                for file in some:
                    file.error = error

    def _carry(self, batch: Sequence[_File]) -> None:
        self.copier.meter.say("copying")
        _each(batch, self._compare if batch[0].size <= SMALL else self._carry_alone)
        new = [file for file in batch if file.waits]
        if not new:
            return
        folders = list(dict.fromkeys(file.destination.parent for file in new))
        demand_space(folders[0], sum(file.size for file in new))
        try:
            self._write(new, folders)
            _each(new, self._place)
            with writing(folders[0]):
                keep_folders(folders)
        finally:
            for file in new:
                if file.temporary is not None:
                    remove(file.temporary)

    def _carry_alone(self, file: _File) -> None:
        file.copied = self.copier.carry(file.tree, file.destination, root=self.root, there=self.there)

    def _compare(self, file: _File) -> None:
        same = self.copier.same(file.tree, file.destination, self.there)
        file.copied = None if same is None else Copied(files=same, skipped=True)

    def _write(self, files: Sequence[_File], folders: Sequence[Path]) -> None:
        with writing(folders[0]):
            systems = FileSystems(folders)
        with systems:
            _each(files, self._write_one)
            with writing(folders[0]):
                durable = len(files) > FEW and systems.sync()
        _each(files, lambda file: self._verify(file, durable=durable))

    def _write_one(self, file: _File) -> None:
        file.temporary = self.copier.temporary(file.destination.parent)
        file.checksum = self.copier.writer.write_small(str(file.tree.top), file.found, str(file.temporary))

    def _verify(self, file: _File, *, durable: bool) -> None:
        try:
            self.copier.writer.verify_small(str(file.temporary), file.found, file.checksum, durable=durable)
        except ChecksumMismatch as error:
            raise spoilt(str(file.destination)) from error

    def _place(self, file: _File) -> None:
        if file.temporary is None or shape_of(file.tree.top, root=self.root) != file.tree.shape:
            raise changed(file.tree.top)
        self.copier.meter.check()
        with writing(file.destination):
            file.temporary.replace(file.destination)
        file.temporary = None
        file.copied = Copied(files=(CopiedFile("", file.size, file.checksum),), skipped=False)


def _each(files: Iterable[_File], do: Callable[[_File], None]) -> None:
    """What one suffers from it keeps, and is passed over from then on."""
    for file in files:
        if file.error is None:
            try:
                do(file)
            except OF_ONE as error:
                file.error = error
