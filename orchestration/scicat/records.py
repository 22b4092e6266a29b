"""Records of the catalogue, as this service writes them (SciCat API v3)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

from orchestration.errors import InvalidInput, SourceMissing
from orchestration.ledger.service import Document, Json
from orchestration.policy import Audience, Effect, Place, Zone
from orchestration.scicat import clean

CATALOGUE = Place("the SciCat catalogue", Zone.EXTERNAL)

MAX_THUMBNAIL = 1_000_000
"""Characters of a data URI; larger ones make every page of the catalogue slow."""

FILES_PER_BLOCK = 5000
"""The server takes some 0.8 ms for a file; a block is one request."""

_IMAGES = ("data:image/png;base64,", "data:image/jpeg;base64,")


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """What raw and derived records have in common.

    `source_folder` is an absolute path on the endpoint where the data is, never one of this machine.
    """

    name: str
    owner: str
    contact_email: str
    owner_group: str
    source_folder: str
    creation_time: datetime
    access_groups: tuple[str, ...] = ()
    description: str = ""
    keywords: tuple[str, ...] = ()
    proposal_id: str = ""
    scientific_metadata: Mapping[str, Json] = field(default_factory=dict)
    is_published: bool = False
    """Everybody gets to see it, besides the groups."""

    def __post_init__(self) -> None:
        # The server takes an empty text for any of these; nobody could find, or see, such a record.
        for name in ("name", "owner", "contact_email", "owner_group", "source_folder"):
            if not getattr(self, name).strip():
                raise InvalidInput(f"a catalogue record needs `{name}`", where=self.name or "catalogue record")
        if not self.source_folder.startswith("/"):
            raise InvalidInput(f"the source folder {self.source_folder!r} is not an absolute path", where=self.name)

    def payload(self) -> Document:
        """The body of the request, without `pid`."""
        body: Document = {
            "datasetName": self.name,
            "owner": self.owner,
            "contactEmail": self.contact_email,
            "ownerGroup": self.owner_group,
            "accessGroups": [*self.access_groups],
            "sourceFolder": self.source_folder.rstrip("/") or "/",
            "creationTime": clean.utc(self.creation_time),
            "keywords": [*self.keywords],
            "isPublished": self.is_published,
            "scientificMetadata": clean.document(self.scientific_metadata),
        }
        return body | _given(description=self.description, proposalId=self.proposal_id)


@dataclass(frozen=True, kw_only=True)
class RawDataset(Dataset):
    principal_investigator: str
    creation_location: str
    data_format: str = ""
    sample_id: str = ""
    instrument_id: str = ""

    @classmethod
    def parse(cls, payload: Mapping[str, Any]) -> RawDataset:
        """The record back from its payload, as the ledger keeps it.

        Raises:
            InvalidInput: if this is not the payload of a raw record.
        """
        try:
            return cls(
                name=payload["datasetName"],
                owner=payload["owner"],
                contact_email=payload["contactEmail"],
                owner_group=payload["ownerGroup"],
                source_folder=payload["sourceFolder"],
                creation_time=datetime.fromisoformat(payload["creationTime"]),
                access_groups=tuple(payload["accessGroups"]),
                description=payload.get("description", ""),
                keywords=tuple(payload["keywords"]),
                proposal_id=payload.get("proposalId", ""),
                scientific_metadata=payload["scientificMetadata"],
                is_published=payload.get("isPublished", False),
                principal_investigator=payload["principalInvestigator"],
                creation_location=payload["creationLocation"],
                data_format=payload.get("dataFormat", ""),
                sample_id=payload.get("sampleId", ""),
                instrument_id=payload.get("instrumentId", ""),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidInput(f"this is not the payload of a raw record: {error!r}") from error

    def payload(self) -> Document:
        return {
            **super().payload(),
            "type": "raw",
            "principalInvestigator": self.principal_investigator,
            "creationLocation": self.creation_location,
            **_given(dataFormat=self.data_format, sampleId=self.sample_id, instrumentId=self.instrument_id),
        }


@dataclass(frozen=True, kw_only=True)
class DerivedDataset(Dataset):
    """Something computed from `input_datasets` (PIDs) by `used_software` (name and version each)."""

    investigator: str
    input_datasets: tuple[str, ...]
    used_software: tuple[str, ...]
    job_parameters: Mapping[str, Json] = field(default_factory=dict)
    job_log: str = ""

    def payload(self) -> Document:
        return {
            **super().payload(),
            "type": "derived",
            "investigator": self.investigator,
            "inputDatasets": list(self.input_datasets),
            "usedSoftware": list(self.used_software),
            "jobParameters": clean.document(self.job_parameters),
            **_given(jobLogData=self.job_log),
        }


Record: TypeAlias = RawDataset | DerivedDataset


@dataclass(frozen=True, kw_only=True, order=True)
class DataFile:
    path: str
    """Below the record's source folder."""
    size: int
    time: datetime
    checksum: str = ""

    @classmethod
    def of(cls, file: Path, *, below: Path, checksum: str = "") -> DataFile:
        """A file of this machine."""
        stat = file.stat()
        written = datetime.fromtimestamp(stat.st_mtime, tz=UTC)
        return cls(path=file.relative_to(below).as_posix(), size=stat.st_size, time=written, checksum=checksum)

    def payload(self) -> Document:
        body: Document = {"path": self.path, "size": self.size, "time": clean.utc(self.time)}
        return body | _given(chk=self.checksum)


def files_below(folder: Path) -> tuple[DataFile, ...]:
    """Every file of a result, in the order of their paths; links are not followed.

    Raises:
        SourceMissing: if there is no such folder, or nothing in it.
    """
    found = [
        DataFile.of(Path(root, name), below=folder)
        for root, _, names in os.walk(folder)
        for name in names
        if not Path(root, name).is_symlink()
    ]
    if not found:
        raise SourceMissing(f"no files to catalogue in {folder}", where=str(folder))
    return tuple(sorted(found))


@dataclass(frozen=True, kw_only=True)
class Attachment:
    """A picture of the data; `thumbnail` is a data URI, PNG or JPEG, of at most `MAX_THUMBNAIL` characters."""

    thumbnail: str
    caption: str

    def __post_init__(self) -> None:
        # The server stores any string here, and shows a broken picture.
        if len(self.thumbnail) > MAX_THUMBNAIL:
            raise InvalidInput(
                f"the thumbnail has {len(self.thumbnail)} characters, over {MAX_THUMBNAIL}",
                where=self.caption,
                next_step="make a smaller picture",
            )
        if not self.thumbnail.startswith(_IMAGES) or not _is_base64(self.thumbnail.partition(",")[2]):
            raise InvalidInput("the thumbnail is not a PNG or JPEG data URI", where=self.caption)


@dataclass(frozen=True, kw_only=True)
class IngestRequest:
    """One record, with the files it stands for and pictures of them.

    `identity` says what the record is about (a scan and a kind of data, never an attempt): the PID is made from it,
    so that cataloguing the same thing again can only ever update the one record.
    """

    effect: ClassVar[Effect] = Effect.CATALOGUE

    identity: str
    record: Record
    files: tuple[DataFile, ...] = ()
    attachments: tuple[Attachment, ...] = ()
    checksum_algorithm: str = "sha256"

    def __post_init__(self) -> None:
        if not self.identity:
            raise InvalidInput("a catalogue record needs an identity", where=self.record.name)
        if len({file.path for file in self.files}) != len(self.files):
            raise InvalidInput("a file is listed twice", where=self.record.name)

    @property
    def place(self) -> Place:
        return CATALOGUE

    @property
    def audience(self) -> Audience:
        record = self.record
        return Audience(readers=(record.owner_group, *record.access_groups), everybody=record.is_published)

    @property
    def size(self) -> int:
        return sum(file.size for file in self.files)

    def document(self) -> Document:
        """Long lists and pictures stand here by their digests: the ledger keeps this."""
        return {
            "identity": self.identity,
            "record": self.record.payload(),
            "files": {"count": len(self.files), "size": self.size, "digest": digest([*self.blocks()])},
            "attachments": [{"caption": each.caption, "digest": digest(each.thumbnail)} for each in self.attachments],
        }

    def blocks(self) -> list[Document]:
        """Bodies of the original datablocks, the same ones in the same order however the files came."""
        files = sorted(self.files)
        return [self._block(files[at : at + FILES_PER_BLOCK]) for at in range(0, len(files), FILES_PER_BLOCK)]

    def _block(self, files: Sequence[DataFile]) -> Document:
        body: Document = {
            "size": sum(file.size for file in files),
            "dataFileList": [file.payload() for file in files],
        }
        return body | ({"chkAlg": self.checksum_algorithm} if any(file.checksum for file in files) else {})


def digest(value: Json) -> str:
    """Of the JSON of a value, with one spelling for equal values."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _given(**fields: str) -> Document:
    """Only the fields that say something: an absent one keeps the server's default."""
    return {name: value for name, value in fields.items() if value}


def _is_base64(text: str) -> bool:
    try:
        return bool(base64.b64decode(text, validate=True))
    except binascii.Error:
        return False
