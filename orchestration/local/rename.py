"""New names at endpoints that are directories of this machine."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from pathlib import Path

from orchestration.errors import EndpointRefused, OperationFailed, SourceMissing
from orchestration.ledger.service import CancelAnswer, Failed, Status, Succeeded
from orchestration.local.errors import writing
from orchestration.local.files import demand_mounted, demand_seen, own_path
from orchestration.local.jobfolder import fsync_directory
from orchestration.local.renaming import rename_new
from orchestration.policy import Permitted, opened
from orchestration.transfers import RenameRequest

_WHERE = "this machine"


@dataclass(frozen=True)
class LocalRename:
    """Gives one file or directory another name below the same root, once. It is done when `submit` returns.

    Both names together tell whether it took place. A link keeps what it says; links above either name are followed
    below the root only.
    """

    immediate = True

    @property
    def name(self) -> str:
        return "local.rename"

    def reserve(self, key: str) -> str:
        return key

    def find(self, request: RenameRequest, token: str) -> str | None:
        return token if _took_place(request) else None

    def submit(self, permitted: Permitted[RenameRequest], token: str) -> str:
        request = opened(permitted, RenameRequest)
        source, target = _paths(request)
        if _took_place(request):
            return token
        if not os.path.lexists(source):
            demand_mounted(request.endpoint)
            raise SourceMissing(f"there is nothing to rename at {source}", where=_WHERE)
        if request.seen:
            demand_seen(request.endpoint, request.path, request.seen)
        with writing(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            _rename(source, target)
            fsync_directory(target.parent)
            fsync_directory(source.parent)
        return token

    def poll(self, request: RenameRequest, handle: str) -> Status:
        source, target = _paths(request)
        if os.path.lexists(target):
            return Succeeded(evidence={"from": str(source), "to": str(target)})
        return Failed(error=OperationFailed(f"{target} was given its name and is not there any more", where=_WHERE))

    def cancel(self, handle: str) -> CancelAnswer:
        return CancelAnswer.ALREADY_FINISHED


def _paths(request: RenameRequest) -> tuple[Path, Path]:
    return own_path(request.endpoint, request.path), own_path(request.endpoint, request.to)


def _took_place(request: RenameRequest) -> bool:
    source, target = _paths(request)
    return os.path.lexists(target) and (request.to_is_ours or not os.path.lexists(source))


def _rename(source: Path, target: Path) -> None:
    try:
        rename_new(source, target)
    except FileExistsError as error:
        raise EndpointRefused(
            f"{source} cannot be renamed: {target} is there already",
            where=_WHERE,
            next_step="look at both, and move one of them away",
        ) from error
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        raise EndpointRefused(
            f"{source} cannot be renamed to {target}: they are on different file systems",
            where=_WHERE,
            next_step="keep both names on one file system, or set `can_rename: false` for the endpoint",
        ) from error
