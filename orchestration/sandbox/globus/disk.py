"""Reading and writing the directories of collections, with the refusals of the real endpoints."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

from orchestration.sandbox.globus import codes
from orchestration.sandbox.globus.codes import Fault
from orchestration.sandbox.globus.collections import Collection
from orchestration.sandbox.globus.tasks import Task

__all__ = ["Collection", "access", "digest"]
_BLOCK = 1 << 20


@contextmanager
def access(task: Task, collection: Collection, path: str, *, command: str, write: bool) -> Iterator[None]:
    """Use a path of a collection as the owner of the task.

    Raises:
        Fault: in the words of the service, whether its own rules or the file system refused.
    """
    _admit(task, collection, path, command, write=write)
    try:
        yield
    except OSError as error:
        raise Fault(codes.of(error), _details(collection, path, command, error.strerror or str(error))) from error


def _admit(task: Task, collection: Collection, path: str, command: str, *, write: bool) -> None:
    if not collection.switches.connected:
        details = f"Error (connect)\nEndpoint: {collection.name} ({collection.id})\nMessage: The endpoint is offline\n"
        raise Fault("GC_NOT_CONNECTED", details)
    if not collection.allows(task.owner, path, write=write):
        raise Fault("PERMISSION_DENIED", _details(collection, path, command, "Path not allowed."))
    if command in {"STOR", "MKD"} and collection.switches.full:
        code = "QUOTA_EXCEEDED" if collection.switches.full == "quota" else "NO_SPACE_LEFT"
        raise Fault(code, _details(collection, path, command, codes.describe(code)))


def _details(collection: Collection, path: str, command: str, message: str) -> str:
    return (
        f"Error (transfer)\nEndpoint: {collection.name} ({collection.id})\nServer: 127.0.0.1:443\n"
        f"File: {path}\nCommand: {command} {path}\nMessage: Fatal FTP response\n---\n"
        f"Details: 550-GridFTP-Error: {message}\\r\\n550 End.\\r\\n"
    )


def digest(task: Task, collection: Collection, path: str, algorithm: str) -> str:
    """Checksum of a whole file, counted as bytes_checksummed. Raises: Fault."""
    hashed = hashlib.new(algorithm, usedforsecurity=False)
    with (
        access(task, collection, path, command="CKSM", write=False),
        collection.local(path).open("rb") as file,
    ):
        while block := file.read(_BLOCK):
            hashed.update(block)
            with task.lock:
                task.numbers.bytes_checksummed += len(block)
    return hashed.hexdigest()
