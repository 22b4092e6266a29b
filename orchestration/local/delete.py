"""Deletions at endpoints that are directories of this machine."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestration.errors import SourceChanged, SourceMissing
from orchestration.ledger.service import CancelAnswer, Document, Json, Status
from orchestration.local import work
from orchestration.local.copying import remove
from orchestration.local.errors import writing
from orchestration.local.files import demand_mounted, demand_seen, inspect, own_path
from orchestration.local.jobfolder import JobFolder, fsync_directory
from orchestration.local.work import Meter
from orchestration.paths import RelativePath
from orchestration.policy import Permitted, opened
from orchestration.transfers import DeleteRequest

__all__ = ["LocalDelete", "inspect"]


@dataclass(frozen=True, kw_only=True)
class LocalDelete:
    """Deletes exactly what is named, once: what appears under the same name later is never touched.

    `state` is where it is noted what was there and what has gone, so that a deletion can be carried on after the death
    of the process. A directory disappears as a whole before its files are removed.
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

    def run(self, meter: Meter) -> Document:
        noted = self.notes.read(self._note) or self._survey()
        for path in self.request.paths:
            facts = noted[path.text]
            if facts["exists"]:
                meter.check()
                self._delete(path, noted)
                meter.add(files=int(facts["files"]), size=int(facts["size"]))
        deleted: list[Json] = [{"path": path.text, **noted[path.text]} for path in self.request.paths]
        return {"deleted": deleted, "bytes": sum(int(facts["size"]) for facts in noted.values())}

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
        if self.request.seen:
            demand_seen(
                self.request.endpoint, path, dict(zip(self.request.paths, self.request.seen, strict=True))[path]
            )
        if not os.path.lexists(own):
            demand_mounted(self.request.endpoint)
            if self.request.ignore_missing:
                return {"exists": False, "gone": True, "size": 0, "files": 0}
            raise SourceMissing(f"there is nothing to delete at {own}", where="this machine")
        facts = None if own.is_symlink() else inspect(self.request.endpoint, path)
        files = len(facts.manifest) if facts and facts.is_directory else 1
        size = facts.size if facts else 0
        return {"exists": True, "gone": False, "size": size, "files": files, "identity": _identity(own)}

    def _delete(self, path: RelativePath, noted: dict[str, Any]) -> None:
        own = own_path(self.request.endpoint, path)
        aside = own.with_name(f".orc-{work.digest(self.token)}-{self.request.paths.index(path):08x}.part")
        with writing(own):
            # Set aside or noted: then what stands there now, if anything does, is not what was to be deleted.
            if not noted[path.text]["gone"]:
                if not os.path.lexists(aside):
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


def _identity(path: Path) -> list[int]:
    facts = path.lstat()
    return [facts.st_dev, facts.st_ino, facts.st_mtime_ns, facts.st_size]
