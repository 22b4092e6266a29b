"""Deletions at endpoints that are directories of this machine."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestration.errors import SourceChanged, SourceMissing
from orchestration.ledger.service import CancelAnswer, Document, Failed, Json, Status
from orchestration.local import work
from orchestration.local.copying import remove
from orchestration.local.errors import writing
from orchestration.local.files import demand_mounted, demand_seen, inspect, own_path
from orchestration.local.jobfolder import JobFolder, fsync_directory
from orchestration.local.work import Meter
from orchestration.paths import RelativePath
from orchestration.policy import Permitted, opened
from orchestration.transfers import DeleteRequest

__all__ = ["REFUSED", "LocalDelete", "inspect"]

REFUSED = "refused"
"""In the evidence of a deletion that failed: the paths that were left alone, and why. All others are gone."""


@dataclass(frozen=True, kw_only=True)
class LocalDelete:
    """Deletes exactly what is named, once: what appears under the same name later is never touched.

    `state` is where it is noted what was there and what has gone, so that a deletion can be carried on after the death
    of the process. A directory disappears as a whole before its files are removed. What is not what was to be deleted
    is left alone, all else is deleted, and the deletion fails with `REFUSED` in its evidence. Of folders that are to be
    empty nothing need be noted: no file can go with them.
    """

    state: Path = field(default_factory=work.default_state)

    @property
    def name(self) -> str:
        return "local.delete"

    def reserve(self, key: str) -> str:
        return key

    def find(self, request: DeleteRequest, token: str) -> str | None:
        return token if work.known(token, state=self.state) else None

    def submit(self, permitted: Permitted[DeleteRequest], token: str) -> str:
        request = opened(permitted, DeleteRequest)
        for path in request.paths:
            own_path(request.endpoint, path)
        work.submitted(token, state=self.state)
        self._begin(request, token)
        return token

    def poll(self, request: DeleteRequest, handle: str) -> Status:
        lost = work.lost(handle, title=_title(request), state=self.state)
        return lost or self._begin(request, handle).status()

    def cancel(self, handle: str) -> CancelAnswer:
        return work.cancel(handle, state=self.state)

    def _begin(self, request: DeleteRequest, token: str) -> work.Work:
        deletion = _Deletion(request, token, JobFolder(self.state))
        return work.begin(token, deletion.run, title=_title(request), state=self.state)


def _title(request: DeleteRequest) -> str:
    return f"deletion at {request.endpoint.name}"


@dataclass(frozen=True)
class _Deletion:
    request: DeleteRequest
    token: str
    notes: JobFolder

    def run(self, meter: Meter) -> Document | Failed:
        if self.request.only_empty:
            return self._remove_folders(meter)
        noted = self.notes.read(self._note) or self._survey()
        refused: dict[str, SourceChanged] = {}
        for path in self.request.paths:
            facts = noted[path.text]
            if facts["exists"]:
                meter.check()
                try:
                    self._delete(path, noted)
                except SourceChanged as change:
                    refused[path.text] = change
                else:
                    meter.add(files=int(facts["files"]), size=int(facts["size"]))
        done = self._evidence({path: facts for path, facts in noted.items() if path not in refused})
        return self._partly(done, refused) if refused else done

    def _evidence(self, gone: Mapping[str, Any]) -> Document:
        deleted: list[Json] = [
            {"path": path.text, **gone[path.text]} for path in self.request.paths if path.text in gone
        ]
        return {"deleted": deleted, "bytes": sum(int(facts["size"]) for facts in gone.values())}

    def _partly(self, done: Document, refused: Mapping[str, SourceChanged]) -> Failed:
        rows: list[Json] = [{"path": path, "why": change.what} for path, change in refused.items()]
        first, number = next(iter(refused.values())), len(self.request.paths)
        what = f"{len(refused)} of {number} were left alone, the others are gone: {first.what}"
        error = first if number == 1 else SourceChanged(what, where=first.where, next_step=first.next_step)
        return Failed(error=error, evidence={**done, REFUSED: rows})

    @property
    def _note(self) -> str:
        return f"{work.digest(self.token)}.deletion.json"

    def _survey(self) -> dict[str, Any]:
        """What is there, noted before any of it is touched."""
        found = {path.text: self._facts(path) for path in self.request.paths}
        self.notes.write(self._note, found)
        return found

    def _facts(self, path: RelativePath) -> dict[str, Any]:
        own = own_path(self.request.endpoint, path)
        if not os.path.lexists(own):
            demand_mounted(self.request.endpoint)
            if self.request.ignore_missing:
                return {"exists": False, "gone": True, "size": 0, "files": 0}
            raise SourceMissing(f"there is nothing to delete at {own}", where="this machine")
        facts = None if own.is_symlink() else inspect(self.request.endpoint, path)
        files = len(facts.manifest) if facts and facts.is_directory else 1
        size = facts.size if facts else 0
        return {"exists": True, "gone": False, "size": size, "files": files, "identity": _identity(own)}

    def _remove_folders(self, meter: Meter) -> Document:
        for path in self.request.paths:
            meter.check()
            own = own_path(self.request.endpoint, path)
            if not os.path.lexists(own):
                demand_mounted(self.request.endpoint)
                continue
            with writing(own):
                _remove_empty(own)
                fsync_directory(own.parent)
        folders: list[Json] = [path.text for path in self.request.paths]
        return {"removed": folders}

    def _delete(self, path: RelativePath, noted: dict[str, Any]) -> None:
        own = own_path(self.request.endpoint, path)
        index = self.request.paths.index(path)
        aside = own.with_name(f".orc-{work.digest(self.token)}-{index:08x}.part")
        with writing(own):
            # Set aside or noted: then what stands there now, if anything does, is not what was to be deleted.
            if not noted[path.text]["gone"]:
                if not os.path.lexists(aside):
                    if self.request.seen:
                        demand_seen(self.request.endpoint, path, self.request.seen[index])
                    self._set_aside(own, aside, noted[path.text]["identity"])
                noted[path.text]["gone"] = True
                self.notes.write(self._note, noted)
            remove(aside)

    def _set_aside(self, own: Path, aside: Path, identity: list[int]) -> None:
        if not os.path.lexists(own):
            demand_mounted(self.request.endpoint)  # somebody else has deleted it meanwhile
            return
        if _identity(own) != identity:
            raise SourceChanged(
                f"{own} is not what it was when its deletion began; it was not deleted",
                where="this machine",
                next_step="check what it is now, then start the deletion again",
            )
        own.rename(aside)
        fsync_directory(own.parent)


def _remove_empty(folder: Path) -> None:
    """Each of them is removed by itself, the innermost first, as only an empty one can be.

    Raises:
        SourceChanged: if it is not a folder, or anything but folders is in it.
    """
    for inner, _, _ in os.walk(folder, topdown=False):
        try:
            Path(inner).rmdir()
        except OSError as error:
            if error.errno == errno.ENOENT:
                continue  # somebody else has removed it meanwhile
            if error.errno not in {errno.ENOTEMPTY, errno.EEXIST}:
                raise
            raise _not_empty(Path(inner)) from error
    if os.path.lexists(folder):
        raise _not_empty(folder)


def _not_empty(path: Path) -> SourceChanged:
    return SourceChanged(
        f"{path} is not an empty folder; it was left alone",
        where="this machine",
        next_step="find out who wrote there; the next night looks at it anew",
    )


def _identity(path: Path) -> list[int]:
    facts = path.lstat()
    return [facts.st_dev, facts.st_ino, facts.st_mtime_ns, facts.st_size]
