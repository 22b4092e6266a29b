"""What a transfer task does: scan, copy, check."""

from __future__ import annotations

import fnmatch
import hashlib
import json
import os
import posixpath
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from orchestration.ledger.service import Document
from orchestration.sandbox import clock, documents
from orchestration.sandbox.globus import codes, disk
from orchestration.sandbox.globus.codes import Fault
from orchestration.sandbox.globus.engine import Job
from orchestration.sandbox.globus.tasks import Item

_BLOCK = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Found:
    """A file or directory that a scan found, and where it goes."""

    source: str
    destination: str
    directory: bool
    item: Item


def transfer(job: Job) -> None:
    """Carry out a transfer task; files that arrived before a restart are not copied again."""
    _begin_count(job)
    found = [entry for item in job.task.items for entry in _scan_item(job, item)]
    arrived = job.engine.tasks.arrived(job.task)
    for entry in found:
        if entry.source not in arrived:
            _move(job, entry)
        job.subtasks(pending=-1, succeeded=1)
        job.task.progressed()
    skipped = len(job.engine.tasks.errors_skipped(job.task))
    if skipped:
        job.task.event("SKIPPED_ERRORS", json.dumps({"count": skipped}))


def _begin_count(job: Job) -> None:
    """Counters of what a scan will find again start anew; those of files that arrived stay."""
    with job.task.lock:
        numbers = job.task.numbers
        numbers.files = numbers.directories = numbers.symlinks = numbers.files_skipped = 0
        numbers.succeeded = numbers.retrying = numbers.skipped_errors = 0
        numbers.pending = len(job.task.items)


def _move(job: Job, entry: Found) -> None:
    try:
        if entry.directory:
            job.until_done(lambda: _make_directory(job, entry.destination), forgive=False)
        else:
            job.until_done(lambda: _copy_file(job, entry))
    except Fault as fault:
        if not _skippable(job, fault):
            raise
        _skip(job, fault, entry)
        job.subtasks(succeeded=-1, skipped=1)


def _skippable(job: Job, fault: Fault) -> bool:
    return fault.code in codes.SKIPPABLE and job.task.option("skip_source_errors")


def _skip(job: Job, fault: Fault, entry: Found) -> None:
    row: Document = {
        "DATA_TYPE": "skipped_error",
        "checksum_algorithm": entry.item.algorithm or None,
        "destination_path": entry.destination,
        "error_code": fault.code,
        "error_details": fault.details,
        "error_time": clock.stamp(),
        "external_checksum": entry.item.checksum or None,
        "is_delete_destination_extra": False,
        "is_directory": entry.directory,
        "is_symlink": False,
        "source_path": entry.source,
    }
    job.engine.tasks.skipped(job.task, entry.source, row)


def _scan_item(job: Job, item: Item) -> list[Found]:
    try:
        found = job.until_done(lambda: _scan(job, item))
    except Fault as fault:
        if not _skippable(job, fault):
            raise
        _skip(job, fault, Found(source=item.source, destination=item.destination, directory=False, item=item))
        job.subtasks(pending=-1, skipped=1)
        return []
    directories = sum(entry.directory for entry in found)
    with job.task.lock:
        job.task.numbers.directories += directories
        job.task.numbers.files += len(found) - directories
    job.subtasks(pending=len(found) - 1, succeeded=1)
    return found


def _scan(job: Job, item: Item) -> list[Found]:
    with disk.access(job.task, job.source, item.source, command="MLST", write=False):
        root = job.source.local(item.source)
        if not stat.S_ISDIR(root.stat().st_mode):
            return [_single(item)]
        if item.recursive is False:
            raise Fault("IS_A_DIRECTORY", f"{item.source} is a directory but the item is not recursive")
        return list(_walk(job, item, root))


def _single(item: Item) -> Found:
    if item.recursive:
        raise Fault("NOT_A_DIRECTORY", f"{item.source} is a file but the item is recursive")
    if item.destination.endswith("/"):
        raise Fault("IS_A_DIRECTORY", f"{item.destination} must be the full path of a file")
    return Found(source=item.source, destination=item.destination, directory=False, item=item)


def _walk(job: Job, item: Item, root: Path) -> Iterator[Found]:
    rules = documents.objects(job.task.body, "filter_rules")
    yield Found(source=item.source, destination=item.destination, directory=True, item=item)
    for base, directories, files in os.walk(root, onerror=_raise):
        _ignore_links(job, Path(base), directories, files)
        directories[:] = sorted(name for name in directories if not _excluded(rules, name, "dir"))
        below = "" if Path(base) == root else str(Path(base).relative_to(root))
        for name in directories:
            yield _below(item, posixpath.join(below, name), directory=True)
        for name in sorted(files):
            if not _excluded(rules, name, "file"):
                yield _below(item, posixpath.join(below, name), directory=False)


def _ignore_links(job: Job, base: Path, *names: list[str]) -> None:
    """Symbolic links below a folder are counted, not carried."""
    for listed in names:
        carried = [name for name in listed if not (base / name).is_symlink()]
        with job.task.lock:
            job.task.numbers.symlinks += len(listed) - len(carried)
        listed[:] = carried


def _below(item: Item, path: str, *, directory: bool) -> Found:
    return Found(
        source=posixpath.join(item.source, path),
        destination=posixpath.join(item.destination, path),
        directory=directory,
        item=item,
    )


def _raise(error: OSError) -> None:
    raise error


def _excluded(rules: list[Document], name: str, kind: str) -> bool:
    """The first rule that names it decides."""
    for rule in rules:
        if rule.get("type") in {None, kind} and fnmatch.fnmatchcase(name, documents.text(rule, "name")):
            return documents.text(rule, "method", "exclude") == "exclude"
    return False


def _make_directory(job: Job, path: str) -> None:
    with disk.access(job.task, job.destination, path, command="MKD", write=True):
        job.destination.local(path).mkdir(parents=True, exist_ok=True)


def _copy_file(job: Job, entry: Found) -> None:
    algorithm = (entry.item.algorithm or "md5").lower().replace("-", "")
    with disk.access(job.task, job.source, entry.source, command="RETR", write=False):
        before = job.source.local(entry.source).stat()
    if _is_there(job, entry, before, algorithm):
        with job.task.lock:
            job.task.numbers.files_skipped += 1
        return
    checksum = _send(job, entry, before.st_size, algorithm)
    _verify(job, entry, before.st_size, algorithm, checksum)
    if job.task.option("preserve_timestamp"):
        os.utime(job.destination.local(entry.destination), (before.st_atime, before.st_mtime))
    _arrived(job, entry, before.st_size, algorithm, checksum)


def _is_there(job: Job, entry: Found, source: os.stat_result, algorithm: str) -> bool:
    """Whether the sync level says that the destination has this file already."""
    level = job.task.body.get("sync_level")
    place = job.destination.local(entry.destination)
    if not isinstance(level, int) or not place.is_file():
        return False
    there = place.stat()
    if level == 0:
        return True
    if there.st_size != source.st_size:
        return False
    if level < 3:
        return level == 1 or source.st_mtime <= there.st_mtime
    digests = (disk.digest(job.task, one, path, algorithm) for one, path in _both(job, entry))
    return len(set(digests)) == 1


def _both(job: Job, entry: Found) -> list[tuple[disk.Collection, str]]:
    return [(job.source, entry.source), (job.destination, entry.destination)]


def _send(job: Job, entry: Found, size: int, algorithm: str) -> str:
    """Copy the bytes under a temporary name, then rename; returns the checksum of what was read."""
    target = job.destination.local(entry.destination)
    part = target.with_name(f".{job.task.id}.part")
    sent = 0
    digest = hashlib.new(algorithm, usedforsecurity=False)
    try:
        with disk.access(job.task, job.source, entry.source, command="RETR", write=False):
            source = job.source.local(entry.source).open("rb")
        with source, disk.access(job.task, job.destination, entry.destination, command="STOR", write=True):
            target.parent.mkdir(parents=True, exist_ok=True)
            with part.open("wb") as sink:
                for block in _blocks(job, source):
                    sink.write(block)
                    digest.update(block)
                    sent += len(block)
            _refuse_change(entry, size, sent, job.source.local(entry.source).stat().st_size)
            if job.engine.collections.is_corrupted(job.destination, entry.destination):
                _flip_byte(part)
            os.replace(part, target)
    except BaseException:
        _take_back(job, sent)
        raise
    finally:
        part.unlink(missing_ok=True)
    return digest.hexdigest()


def _blocks(job: Job, source: BinaryIO) -> Iterator[bytes]:
    """The source block by block, at the pace that its collections allow, counted as it goes."""
    while block := source.read(_BLOCK if not _limited(job) else 1 << 16):
        yield block
        with job.task.lock:
            job.task.numbers.bytes_transferred += len(block)
        job.checkpoint()
        delays = [one.bandwidth.reserve(len(block), rate=one.switches.bandwidth) for one in job.ends]
        if max(delays) > 0:
            job.wait(max(delays))


def _limited(job: Job) -> bool:
    return any(one.switches.bandwidth > 0 for one in job.ends)


def _refuse_change(entry: Found, before: int, sent: int, after: int) -> None:
    if not before == sent == after:
        raise Fault(
            "FILE_SIZE_CHANGED", f"{entry.source} had {before} bytes when the copy began and has {after} bytes now"
        )


def _flip_byte(path: Path) -> None:
    with path.open("r+b") as file:
        first = file.read(1)
        file.seek(0)
        file.write(bytes([first[0] ^ 0xFF]) if first else b"\xff")


def _take_back(job: Job, sent: int) -> None:
    """bytes_transferred counts good bytes only."""
    with job.task.lock:
        job.task.numbers.bytes_transferred -= sent


def _verify(job: Job, entry: Found, size: int, algorithm: str, sent: str) -> None:
    if job.task.option("verify_checksum"):
        got = disk.digest(job.task, job.destination, entry.destination, algorithm)
        if got != sent:
            _take_back(job, size)
            raise Fault("VERIFY_CHECKSUM", f"File: {entry.destination}\nMessage: {algorithm.upper()} {got} != {sent}")
    wanted = entry.item.checksum.lower()
    if wanted and wanted != sent:
        raise Fault("EXTERNAL_CHECKSUM_MISMATCH", f"{entry.source}: expected {wanted}, computed {sent}")


def _arrived(job: Job, entry: Found, size: int, algorithm: str, checksum: str) -> None:
    with job.task.lock:
        job.task.numbers.files_transferred += 1
    verified = job.task.option("verify_checksum")
    row: Document = {
        "DATA_TYPE": "successful_transfer",
        "source_path": entry.source,
        "destination_path": entry.destination,
        "size": size,
        "checksum": checksum if verified else None,
        "checksum_algorithm": algorithm.upper() if verified else None,
        "dynamic_external_checksum": None,
    }
    job.engine.tasks.moved(job.task, entry.source, row)
    job.engine.effects.happened(
        "copied", job.task.id, key=job.task.submission, label=job.task.label, paths=(entry.source, entry.destination)
    )
