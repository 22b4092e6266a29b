"""Records of results as they are published: DataCite, the files, and what the experiment says of itself.

The form is that of `gladier-tools`' Publishv2, which portals made for it show.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from orchestration.config import SearchIndex
from orchestration.errors import InvalidInput
from orchestration.globus.published_files import PublishedFile
from orchestration.globus.search_entries import Entry, PublishRequest
from orchestration.ledger.service import Document, Json

SCHEMA = "http://datacite.org/schema/kernel-4"


class RecordState(enum.StrEnum):
    PLACEHOLDER = "placeholder"
    """The scan was taken; what is made of it is still to come."""
    FINAL = "final"
    FAILED = "failed"
    """There will be no result, and the record says why."""


@dataclass(frozen=True, kw_only=True)
class Located:
    """A file that was used, and where it lies."""

    name: str
    endpoint: str
    path: str

    def document(self) -> Document:
        return {"name": self.name, "source_endpoint": self.endpoint, "source_path": self.path}


@dataclass(frozen=True, kw_only=True)
class Reprocessing:
    """That a result was made again, of what, and with what that was other than before."""

    original: str
    """Subject of the record of the first result."""
    suffix: str
    """By which the name of this dataset differs from that of the first one."""
    inputs: Mapping[str, Located] = field(default_factory=dict)
    """By their role, such as ``qmap``."""
    parameters: Mapping[str, Json] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.original.strip() or not self.suffix.strip():
            raise InvalidInput("a reprocessing needs the subject of its original and a suffix", where=self.original)

    def document(self) -> Document:
        named: Document = {role: one.document() for role, one in sorted(self.inputs.items())}
        given: Document = {"parameters": clean(self.parameters)} if self.parameters else {}
        return {**named, "original": {"subject": self.original}, "suffix": self.suffix, **given}


@dataclass(frozen=True, kw_only=True)
class Record:
    """What is said about one dataset; `publisher` and `creators` are those of the index where none are given.

    `project_metadata` may have numbers that are not finite: they are left out, as nothing that reads JSON takes them.
    """

    title: str
    created: datetime
    """When the data was taken; it must have a zone."""
    state: RecordState
    reason: str = ""
    """Why there is no result, of a record that failed."""
    publisher: str = ""
    creators: tuple[str, ...] = ()
    subjects: tuple[str, ...] = ()
    files: tuple[PublishedFile, ...] = ()
    project_metadata: Mapping[str, Json] = field(default_factory=dict)
    reprocessing: Reprocessing | None = None
    resource_type: str = "Dataset"
    version: str = "1"

    def __post_init__(self) -> None:
        problem = next(_problems(self), None)
        if problem is not None:
            raise InvalidInput(f"this is no record: {problem}", where=self.title or "publication")

    def request(
        self, index: SearchIndex, *, subject: str, id: str = "metadata", visible_to: tuple[str, ...] = ()
    ) -> PublishRequest:
        """To publish it about `subject` (mostly the address of the dataset), for those who see the index's entries.

        Raises:
            InvalidInput: if the index would not take it.
        """
        content = self.content(index, subject=subject)
        entry = Entry(subject=subject, id=id, visible_to=visible_to or index.visible_to, content=content)
        return PublishRequest(index=index, entry=entry)

    def content(self, index: SearchIndex, *, subject: str) -> Document:
        metadata = clean(self.project_metadata)
        if self.reprocessing is not None:
            metadata["reprocessing"] = self.reprocessing.document()
        status: Document = {"state": self.state.value}
        if self.reason:
            status["reason"] = self.reason
        return {
            "dc": self._datacite(index, subject),
            "files": [one.document() for one in sorted(self.files)],
            "project_metadata": metadata,
            "status": status,
        }

    def _datacite(self, index: SearchIndex, subject: str) -> Document:
        return {
            "identifiers": [{"identifierType": "GlobusSearchSubject", "identifier": subject}],
            "creators": [{"name": one} for one in self.creators or index.creators],
            "titles": [{"title": self.title}],
            "dates": [{"date": utc(self.created), "dateType": "Created"}],
            "publicationYear": str(self.created.astimezone(UTC).year),
            "publisher": self.publisher or index.publisher,
            "subjects": [{"subject": one} for one in dict.fromkeys(self.subjects)],
            "formats": [*sorted({one.mime_type for one in self.files})],
            "types": {"resourceType": self.resource_type, "resourceTypeGeneral": "Dataset"},
            "version": self.version,
            "schemaVersion": SCHEMA,
        }


def utc(moment: datetime) -> str:
    """``2026-03-01T17:04:05Z``, which is one of the forms that the index takes for a date."""
    return moment.astimezone(UTC).replace(microsecond=0, tzinfo=None).isoformat() + "Z"


def clean(values: Mapping[str, Json]) -> Document:
    """Without nulls and numbers that are not finite, at any depth.

    In a list they become null: what stands in the same place of another list belongs to what stands there.
    """
    cleaned = {name: _finite(value) for name, value in values.items()}
    return {name: value for name, value in cleaned.items() if value is not None}


def _finite(value: Json) -> Json:
    if isinstance(value, dict):
        return clean(value)
    if isinstance(value, list):
        return [_finite(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _problems(record: Record) -> Iterator[str]:
    for name, value in (("title", record.title), ("resource_type", record.resource_type), ("version", record.version)):
        if not value.strip():
            yield f"it needs a {name}"
    if record.created.tzinfo is None:
        yield f"the time {record.created.isoformat()} has no zone"
    if any(not one.strip() for one in (*record.creators, *record.subjects)):
        yield "a creator or subject is empty"
    if (record.state is RecordState.FAILED) != bool(record.reason.strip()):
        yield "a record that failed says why, and no other does"
    if record.state is RecordState.FINAL and not record.files:
        yield "a final record has files"
    if len({one.url for one in record.files}) != len(record.files):
        yield "a file is in it twice"
    if "reprocessing" in record.project_metadata:
        yield "`reprocessing` is not a part of the metadata, but a field of its own"
