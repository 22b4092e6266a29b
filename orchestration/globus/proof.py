"""Did what Globus calls a success arrive? Asked of both collections when a transfer has ended."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from orchestration.config import Endpoint
from orchestration.errors import ChecksumMismatch, OperationFailed, SourceChanged, TransferFailed
from orchestration.globus import errors
from orchestration.globus.auth import TransferClients
from orchestration.globus.files import GlobusFiles, TooManyFolders
from orchestration.globus.tasks import Task, where
from orchestration.ledger.service import Document, Failed, Json, Status, Succeeded
from orchestration.paths import RelativePath
from orchestration.transfers import FileFacts, TransferItem, TransferRequest

LISTED_FILES = 500_000
"""Files named one by one in the evidence."""

_MOST_FOLDERS = 200
"""A tree with more folders than this is proved by the counts of the task alone."""


@dataclass(frozen=True, kw_only=True)
class _Checksum:
    algorithm: str
    value: str


@dataclass(frozen=True)
class Arrival:
    """The end of one task that reports success."""

    clients: TransferClients
    request: TransferRequest
    task: Task

    def verdict(self) -> Status:
        """`Succeeded` if every file is at the destination with the size that it has at the source."""
        evidence = self._counts()
        left_out = self._left_out()
        if left_out is not None:
            return Failed(error=left_out, evidence=evidence)
        manifest: list[tuple[str, int]] = []
        complete = True
        for item in self.request.items:
            try:
                there, compared = self._arrived(item)
            except TooManyFolders:
                complete = False
                continue
            except OperationFailed as error:
                return Failed(error=error, evidence=evidence)
            complete = complete and compared
            manifest += _named(item, there)
        return Succeeded(evidence=evidence | self._listing(manifest, complete=complete))

    def _counts(self) -> Document:
        task = self.task
        return {
            "task_id": task.id,
            "files": task.files_transferred + task.files_skipped,
            "files_transferred": task.files_transferred,
            "files_skipped": task.files_skipped,
            "bytes_transferred": task.bytes_transferred,
            "bytes_per_second": task.bytes_per_second,
            "faults": task.faults,
            "requested": task.requested,
            "completed": task.completed,
        }

    def _left_out(self) -> OperationFailed | None:
        if not self.task.subtasks_bad and self.task.files_transferred + self.task.files_skipped == self.task.files:
            return None
        rows = self.clients.read(lambda client: client.task_skipped_errors(self.task.id), where=where(self.task.id))[
            "DATA"
        ]
        if rows:
            first = rows[0]
            return errors.fault(
                str(first["error_code"]),
                details=str(first.get("error_details") or ""),
                where=where(self.task.id),
                subject=f"{first['source_path']} (and {len(rows) - 1} more) was left out",
            )
        return TransferFailed(
            f"Globus reports success with {self.task.files} files to move and "
            f"{self.task.files_transferred + self.task.files_skipped} moved",
            where=where(self.task.id),
        )

    def _arrived(self, item: TransferItem) -> tuple[FileFacts, bool]:
        """What is at the destination, and whether it could be compared with the source, file by file.

        A source that is gone by now, as after a restart of this service long after the transfer, proves nothing
        against a copy whose checksums Globus has verified.
        """
        files = GlobusFiles(self.clients)
        there = self._there.get(item.destination) or files.inspect(
            self.request.destination, item.destination, most_folders=_MOST_FOLDERS
        )
        full = self.request.destination.full_path(item.destination)
        if there is None:
            raise TransferFailed(f"Globus reports success, but there is nothing at {full}", where=where(self.task.id))
        source = self._source.get(item.source) or files.inspect(
            self.request.source, item.source, most_folders=_MOST_FOLDERS
        )
        if source is None:
            return there, False
        _compare(source, there, full=full, place=where(self.task.id))
        return _carried(source, there), True

    @cached_property
    def _there(self) -> Mapping[RelativePath, FileFacts]:
        return self._plain(self.request.destination, [item.destination for item in self.request.items])

    @cached_property
    def _source(self) -> Mapping[RelativePath, FileFacts]:
        return self._plain(self.request.source, [item.source for item in self.request.items])

    def _plain(self, endpoint: Endpoint, paths: Sequence[RelativePath]) -> Mapping[RelativePath, FileFacts]:
        """Those that are files, seen together: many items of one folder take one question, not one each."""
        found = GlobusFiles(self.clients).entries(endpoint, paths) if len(paths) > 1 else {}
        return {path: entry.facts for path, entry in found.items() if not entry.is_directory and not entry.is_link}

    def _listing(self, manifest: list[tuple[str, int]], *, complete: bool) -> Document:
        checksums = dict(self._checksums())
        files: list[Json] = []
        for path, size in manifest[:LISTED_FILES]:
            row: Document = {"path": path, "size": size}
            checksum = checksums.get(path)
            if checksum:
                row["checksum"], row["algorithm"] = checksum.value, checksum.algorithm
            files.append(row)
        return {
            "bytes": sum(size for _, size in manifest),
            "root": self.request.destination.root_path,
            "manifest": files,
            "manifest_complete": complete and len(manifest) <= LISTED_FILES,
            "sizes_checked": complete,
        }

    def _checksums(self) -> Iterator[tuple[str, _Checksum]]:
        """By path below the destination's root, where Globus tells: it does not for what was there already."""
        marker: str | None = None
        for _ in range(LISTED_FILES // 100):
            query = {"marker": marker} if marker else {}
            page = self.clients.read(
                lambda client, query=query: client.task_successful_transfers(self.task.id, query_params=query),  # type: ignore[misc]
                where=where(self.task.id),
            )
            for row in page["DATA"]:
                if row.get("checksum"):
                    path = self.request.destination.relative(str(row["destination_path"])).text
                    yield (
                        path,
                        _Checksum(algorithm=str(row.get("checksum_algorithm") or ""), value=str(row["checksum"])),
                    )
            marker = page.get("next_marker")
            if not marker:
                return


def _carried(source: FileFacts, there: FileFacts) -> FileFacts:
    """What came from the source: what stood in the same folder before was compared with nothing."""
    if not there.is_directory:
        return there
    names = {name for name, _ in source.manifest}
    manifest = tuple((name, size) for name, size in there.manifest if name in names)
    return replace(there, size=sum(size for _, size in manifest), manifest=manifest)


def _compare(source: FileFacts, there: FileFacts, *, full: str, place: str) -> None:
    """Raises: SourceChanged, ChecksumMismatch or TransferFailed unless there is all that the source has."""
    if source.is_directory != there.is_directory:
        raise TransferFailed(f"{full} is not of the kind of its source", where=place)
    wanted = dict(source.manifest) if source.is_directory else {"": source.size}
    found = dict(there.manifest) if there.is_directory else {"": there.size}
    for name, size in wanted.items():
        path = f"{full}/{name}" if name else full
        if name not in found:
            raise SourceChanged(f"{path} is at the source and was not copied", where=place)
        if found[name] != size:
            what = f"{path} has {found[name]:,} bytes, its source {size:,}"
            if source.modified >= there.modified:
                raise SourceChanged(f"{what}: the source changed after it was copied", where=place)
            raise ChecksumMismatch(what, where=place)


def _named(item: TransferItem, facts: FileFacts) -> list[tuple[str, int]]:
    if not facts.is_directory:
        return [(item.destination.text, facts.size)]
    return [(f"{item.destination}/{name}", size) for name, size in facts.manifest]
