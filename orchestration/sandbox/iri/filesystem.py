"""The filesystem router: each operation begins a task."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, TypeVar

from pydantic import AliasChoices, ConfigDict, Field
from starlette.responses import JSONResponse

from orchestration.ledger.service import Document, Json
from orchestration.sandbox.iri.calls import Body, Call, Operation, Query, Text
from orchestration.sandbox.iri.files import SIZE_LIMIT, Disk
from orchestration.sandbox.iri.inventory import serving
from orchestration.sandbox.iri.problems import Problem
from orchestration.sandbox.iri.status import Nothing, Status
from orchestration.sandbox.iri.tasks import Tasks
from orchestration.sandbox.iri.version import Version


class PathArgs(Body):
    model_config = ConfigDict(extra="ignore", populate_by_name=True)

    path: Annotated[Text, Field(validation_alias=AliasChoices("path", "source_path"))]


class ModeArgs(PathArgs):
    mode: str


class OwnerArgs(PathArgs):
    owner: str = ""
    group: str = ""


class StatArgs(PathArgs):
    dereference: bool = False


class MakeArgs(PathArgs):
    parent: bool = False


class LinkArgs(PathArgs):
    link_path: Text


class ListArgs(StatArgs):
    hidden: Annotated[bool, Field(alias="showHidden")] = False
    numeric: Annotated[bool, Field(alias="numericUid")] = False
    recursive: bool = False


class _Amount(PathArgs):
    bytes_: Annotated[int | None, Field(alias="bytes", ge=1)] = None
    lines: Annotated[int | None, Field(ge=1)] = None

    @property
    def amount(self) -> tuple[int, str]:
        """Raises: Problem 400."""
        if (self.bytes_ is None) == (self.lines is None):
            raise Problem(400, "Exactly one of `bytes` or `lines` must be specified.")
        return (self.bytes_, "bytes") if self.bytes_ is not None else (self.lines or 0, "lines")


class HeadArgs(_Amount):
    skip_trailing: Annotated[bool, Field(alias="skipTrailing")] = False


class TailArgs(_Amount):
    skip_heading: Annotated[bool, Field(alias="skipHeading")] = False


class ViewArgs(PathArgs):
    size: Annotated[int | None, Field(ge=1)] = None
    offset: Annotated[int, Field(ge=0)] = 0


class TargetArgs(PathArgs):
    target_path: Text


class CopyArgs(TargetArgs):
    dereference: bool = False


class ExtractArgs(TargetArgs):
    compression: str | None = None


class CompressArgs(CopyArgs, ExtractArgs):
    match_pattern: str | None = None


class UploadQuery(Query):
    path: Text


A = TypeVar("A", bound=PathArgs)
Act = Callable[[A, Version], Callable[[], Json]]


class Filesystem:
    def __init__(self, disk: Disk, tasks: Tasks, status: Status) -> None:
        self._disk = disk
        self._tasks = tasks
        self._status = status

    def operations(self, version: Version) -> list[Operation]:
        disk = self._disk
        return [
            Operation(
                name="getFilesystemResources",
                method="POST" if version.storage else "GET",
                path="/filesystem/resources",
                handler=self.resources,
                public=True,
            ),
            self._body("chmod", "PUT", version, ModeArgs, lambda a, _: lambda: disk.chmod(a.path, a.mode)),
            self._body("chown", "PUT", version, OwnerArgs, lambda a, _: lambda: disk.chown(a.path, a.owner, a.group)),
            self._asking("file", version, PathArgs, lambda a, _: lambda: disk.file(a.path)),
            self._asking("stat", version, StatArgs, lambda a, _: lambda: disk.stat(a.path, dereference=a.dereference)),
            self._made("mkdir", version, MakeArgs, lambda a, _: lambda: disk.mkdir(a.path, parents=a.parent)),
            self._made("symlink", version, LinkArgs, lambda a, _: lambda: disk.symlink(a.path, a.link_path)),
            self._asking("ls", version, ListArgs, self._ls),
            self._asking("head", version, HeadArgs, self._head),
            self._asking("view", version, ViewArgs, self._view),
            self._asking("tail", version, TailArgs, self._tail),
            self._asking("checksum", version, PathArgs, lambda a, _: lambda: disk.checksum(a.path)),
            self._asking("rm", version, PathArgs, lambda a, _: lambda: disk.rm(a.path), method="DELETE"),
            self._made("compress", version, CompressArgs, self._compress),
            self._made("extract", version, ExtractArgs, self._extract),
            self._made("mv", version, TargetArgs, lambda a, _: lambda: disk.mv(a.path, a.target_path)),
            self._made(
                "cp",
                version,
                CopyArgs,
                lambda a, _: lambda: disk.cp(a.path, a.target_path, dereference=a.dereference),
            ),
            self._asking("download", version, PathArgs, lambda a, _: lambda: disk.download(a.path)),
            Operation(name="upload", method="POST", path="/filesystem/upload/{resource_id}", handler=self.upload),
        ]

    def resources(self, call: Call) -> JSONResponse:
        call.query(Nothing)
        return JSONResponse([self._status.view(each, call.version, call.base) for each in serving("filesystem")])

    def upload(self, call: Call) -> JSONResponse:
        path, data = call.query(UploadQuery).path, call.upload
        self._status.working(call, "filesystem")
        if data is None:
            raise Problem(400, "file: a file is to be sent as multipart/form-data")
        if len(data) > SIZE_LIMIT:
            raise Problem(400, "File to upload is too large.")
        args: Document = {"path": path, "size": len(data)}
        return JSONResponse(self._tasks.begin(call, "upload", args, lambda: self._disk.upload(path, data)))

    def _ls(self, asked: ListArgs, _: Version) -> Callable[[], Json]:
        return lambda: self._disk.ls(
            asked.path,
            hidden=asked.hidden,
            numeric=asked.numeric,
            recursive=asked.recursive,
            dereference=asked.dereference,
        )

    def _head(self, asked: HeadArgs, _: Version) -> Callable[[], Json]:
        count, unit = asked.amount
        return lambda: self._disk.head(asked.path, count=count, unit=unit, skip_trailing=asked.skip_trailing)

    def _tail(self, asked: TailArgs, _: Version) -> Callable[[], Json]:
        count, unit = asked.amount
        return lambda: self._disk.tail(asked.path, count=count, unit=unit, skip_heading=asked.skip_heading)

    def _view(self, asked: ViewArgs, version: Version) -> Callable[[], Json]:
        # Without a size, the second version of the API reads nothing; the first reads as much as it may.
        size = asked.size if asked.size is not None else (0 if version.storage else SIZE_LIMIT)
        if size > SIZE_LIMIT:
            raise Problem(400, f"Requested size exceeds limit of {SIZE_LIMIT} bytes.")
        return lambda: self._disk.view(asked.path, size=size, offset=asked.offset)

    def _compress(self, asked: CompressArgs, version: Version) -> Callable[[], Json]:
        compression = _compression(asked, version)
        return lambda: self._disk.compress(
            asked.path,
            asked.target_path,
            pattern=asked.match_pattern or "",
            dereference=asked.dereference,
            compression=compression,
        )

    def _extract(self, asked: ExtractArgs, version: Version) -> Callable[[], Json]:
        compression = _compression(asked, version)
        return lambda: self._disk.extract(asked.path, asked.target_path, compression=compression)

    def _made(self, name: str, version: Version, model: type[A], act: Act[A]) -> Operation:
        return self._body(name, "POST", version, model, act, status=201)

    def _body(
        self, name: str, method: str, version: Version, model: type[A], act: Act[A], *, status: int = 200
    ) -> Operation:
        """An operation whose arguments are in its body."""

        def handler(call: Call) -> JSONResponse:
            call.query(Nothing)
            return self._begin(call, name, call.body(model), act, status)

        return _operation(name, "POST" if version.storage else method, handler)

    def _asking(self, name: str, version: Version, model: type[A], act: Act[A], *, method: str = "GET") -> Operation:
        """An operation whose arguments are in its address in the first version, and in its body in the second."""
        if version.storage:
            return self._body(name, "POST", version, model, act)

        def handler(call: Call) -> JSONResponse:
            return self._begin(call, name, call.query(model), act, 200)

        return _operation(name, method, handler)

    def _begin(self, call: Call, name: str, asked: A, act: Act[A], status: int) -> JSONResponse:
        self._status.working(call, "filesystem")
        doing = act(asked, call.version)
        args: Document = asked.model_dump(by_alias=True, mode="json")
        return JSONResponse(self._tasks.begin(call, name, args, doing), status_code=status)


def _operation(name: str, method: str, handler: Callable[[Call], JSONResponse]) -> Operation:
    return Operation(name=name, method=method, path=f"/filesystem/{name}/{{resource_id}}", handler=handler)


def _compression(asked: ExtractArgs, version: Version) -> str:
    found = version.compression(asked.compression)
    if found is None:
        raise Problem(400, f"compression: {asked.compression!r} is not one of this API")
    return found
