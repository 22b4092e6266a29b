"""Files of a published record: where readers find them, and how they know that they have them whole."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from orchestration.config import Endpoint, SearchIndex
from orchestration.errors import SourceChanged, SourceMissing
from orchestration.ledger.service import Document
from orchestration.paths import RelativePath

_BLOCK = 1 << 20

UNKNOWN_TYPE = "application/octet-stream"

MIME_TYPES: Mapping[str, str] = {
    ".csv": "text/csv",
    ".gif": "image/gif",
    ".h5": "application/x-hdf5",
    ".hdf": "application/x-hdf5",
    ".hdf5": "application/x-hdf5",
    ".html": "text/html",
    ".jpeg": "image/jpeg",
    ".jpg": "image/jpeg",
    ".json": "application/json",
    ".log": "text/plain",
    ".md": "text/markdown",
    ".mp4": "video/mp4",
    ".nxs": "application/x-hdf5",
    ".pdf": "application/pdf",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".tif": "image/tiff",
    ".tiff": "image/tiff",
    ".tsv": "text/tab-separated-values",
    ".txt": "text/plain",
    ".xml": "application/xml",
    ".yaml": "application/yaml",
    ".yml": "application/yaml",
    ".zip": "application/zip",
}
"""By the end of a name. Not those of the machine: a record must not depend on where it was made."""


@dataclass(frozen=True, kw_only=True)
class Shelf:
    """The endpoint on whose collection published files lie, and the host that serves them by HTTPS, if one does."""

    endpoint: Endpoint
    https_host: str = ""

    @classmethod
    def of(cls, index: SearchIndex, endpoint: Endpoint) -> Shelf:
        return cls(endpoint=endpoint, https_host=index.https_host or "")

    def url(self, path: RelativePath) -> str:
        """As portals read it: the path as it is, without escapes.

        Raises:
            ConfigError: if the endpoint is not on a Globus collection.
        """
        return f"globus://{self.endpoint.require_uuid()}{self.endpoint.full_path(path)}"

    def https_url(self, path: RelativePath) -> str:
        """Empty where nothing serves the files."""
        return f"https://{self.https_host}{quote(self.endpoint.full_path(path))}" if self.https_host else ""


@dataclass(frozen=True, order=True, kw_only=True)
class PublishedFile:
    filename: str
    """Below the folder of the record."""
    url: str
    https_url: str = ""
    mime_type: str = UNKNOWN_TYPE
    length: int
    sha256: str
    sha512: str = ""
    """Empty where it is not known."""

    def document(self) -> Document:
        named: Document = {
            "filename": self.filename,
            "url": self.url,
            "mime_type": self.mime_type,
            "length": self.length,
            "sha256": self.sha256,
        }
        given = {"https_url": self.https_url, "sha512": self.sha512}
        return named | {name: value for name, value in given.items() if value}

    @classmethod
    def read(
        cls, file: Path, *, shelf: Shelf, path: RelativePath, filename: str = "", sha512: bool = True
    ) -> PublishedFile:
        """Of a file of this machine, which lies (or will lie) at `path` of the shelf; it is read once.

        Raises:
            SourceMissing: if it cannot be read.
            SourceChanged: if it is written to meanwhile.
        """
        digests = [hashlib.sha256(), *([hashlib.sha512()] if sha512 else [])]
        try:
            length = _read(file, digests)
        except OSError as error:
            raise SourceMissing(f"{file} cannot be read: {error.strerror or error}", where=str(file)) from error
        return cls(
            filename=filename or path.name,
            url=shelf.url(path),
            https_url=shelf.https_url(path),
            mime_type=MIME_TYPES.get(file.suffix.lower(), UNKNOWN_TYPE),
            length=length,
            sha256=digests[0].hexdigest(),
            sha512=digests[1].hexdigest() if sha512 else "",
        )


def files_below(folder: Path, *, shelf: Shelf, path: RelativePath, sha512: bool = True) -> tuple[PublishedFile, ...]:
    """Every file of a folder that lies at `path` of the shelf, in the order of their names; links are not followed.

    Raises:
        SourceMissing: if there is no such folder, or nothing in it.
        InvalidPath: if a name cannot be carried.
    """
    names = sorted(
        Path(root, name).relative_to(folder).as_posix()
        for root, _, found in os.walk(folder)
        for name in found
        if not Path(root, name).is_symlink()
    )
    if not names:
        raise SourceMissing(f"there are no files to publish in {folder}", where=str(folder))
    return tuple(
        PublishedFile.read(folder / name, shelf=shelf, path=path / name, filename=name, sha512=sha512) for name in names
    )


def _read(file: Path, digests: list[hashlib._Hash]) -> int:
    """Feed all of it to the digests; returns how long it is."""
    length = 0
    with file.open("rb") as source:
        before = os.fstat(source.fileno())
        while block := source.read(_BLOCK):
            length += len(block)
            for each in digests:
                each.update(block)
        after = os.fstat(source.fileno())
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns) or length != after.st_size:
        raise SourceChanged(f"{file} changed while it was read", where=str(file))
    return length
