"""Cataloguing as an operation: the same record once, however often and from wherever it is asked for.

The server deduplicates nothing but the PID, so the PID is made here from what the record is about. Files and pictures
are looked up before they are sent. A run that is killed anywhere, or loses any answer, leaves a part of the record
behind, which the next one completes.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping, Sequence
from urllib.parse import quote

from orchestration.config import Credentials, ScicatSettings
from orchestration.errors import CatalogueRefused
from orchestration.ledger.service import (
    CancelAnswer,
    Document,
    Failed,
    Json,
    Progress,
    Running,
    Status,
    Succeeded,
)
from orchestration.policy import Permitted, opened
from orchestration.scicat import clean
from orchestration.scicat.client import ScicatClient
from orchestration.scicat.records import Attachment, IngestRequest, digest

logger = logging.getLogger(__name__)

_NAMESPACE = uuid.UUID("0f0a5a1c-55f5-5c37-8d0e-6a2c4b3f8a11")

MARK = "ingest"
"""Key of the scientific metadata under which this service recognises its own records.

It holds the identity, and a digest of all that was sent: what is read back cannot be compared with it, since the
server adds to it, and people may rightly have corrected it.
"""

_FIXED_FIELDS = frozenset({"pid", "type"})


def dataset_pid(identity: str, *, prefix: str) -> str:
    """The PID of the record about `identity`, whether it exists yet or not.

    The server stores a PID exactly as sent and does not add its prefix.
    """
    name = str(uuid.uuid5(_NAMESPACE, identity))
    return f"{prefix.rstrip('/')}/{name}" if prefix else name


class ScicatIngest:
    """The service ``scicat.ingest``; its handle is the PID."""

    name = "scicat.ingest"
    immediate = True

    def __init__(self, client: ScicatClient, settings: ScicatSettings) -> None:
        self._client = client
        self._settings = settings

    @classmethod
    def connect(cls, settings: ScicatSettings, credentials: Credentials) -> ScicatIngest:
        """Without asking anything of the catalogue yet; close it after use.

        Raises:
            ConfigError: if the catalogue's address is not set.
        """
        return cls(ScicatClient(settings.require_api_url(), credentials.scicat), settings)

    def close(self) -> None:
        self._client.close()

    @property
    def client(self) -> ScicatClient:
        return self._client

    def pid(self, request: IngestRequest) -> str:
        return dataset_pid(request.identity, prefix=self._settings.pid_prefix)

    def knows(self, pid: str) -> bool:
        """Whether the catalogue has that record now."""
        return self._client.dataset(pid) is not None

    def reserve(self, key: str) -> str:
        return key

    def find(self, request: IngestRequest, token: str) -> str | None:
        """The PID of a record that is complete. A part of one is left for `submit`, which completes it."""
        pid = self.pid(request)
        dataset = self._client.dataset(pid)
        if dataset is None or _mark(dataset) != _mark(self._payload(request)):
            return None
        return None if self._missing(request, pid, self._client.blocks(pid)) else pid

    def submit(self, permitted: Permitted[IngestRequest], token: str) -> str:
        request = opened(permitted, IngestRequest)
        pid, payload = self.pid(request), self._payload(request)
        stored = self._client.create_dataset(payload)
        if stored is None:
            self._bring_up_to_date(pid, payload)
        elif stored != pid:
            raise CatalogueRefused(
                f"the catalogue stored the record as {stored}, not under the PID {pid} that it was given",
                where=self.name,
                next_step="ask its administrator to delete that record and to let the account choose PIDs "
                "(CREATE_DATASET_WITH_PID_GROUPS), then start the flow again",
            )
        self._list_files(request, pid, is_new=stored is not None)
        self._attach(request, pid, is_new=stored is not None)
        return pid

    def poll(self, request: IngestRequest, handle: str) -> Status:
        dataset = self._client.dataset(handle)
        if dataset is None:
            return _incomplete(handle, "is not there any more")
        if _mark(dataset) != _mark(self._payload(request)):
            return _incomplete(handle, "is not what was sent")
        listed = self._client.blocks(handle)
        if missing := self._missing(request, handle, listed):
            return _incomplete(handle, f"lacks {missing}")
        size, count = dataset.get("size", 0), dataset.get("numberOfFiles", 0)
        wanted = _size(listed), sum(len(_entries(block)) for block in listed)
        if (size, count) != wanted:
            note = f"it counts {count} files of {size} bytes, of {wanted[1]} of {wanted[0]}"
            return Running(progress=Progress(note=note))
        return Succeeded(evidence=self._evidence(request, handle))

    def cancel(self, handle: str) -> CancelAnswer:
        """A record is complete when its handle is known; it is not taken back."""
        return CancelAnswer.UNKNOWN if self._client.dataset(handle) is None else CancelAnswer.ALREADY_FINISHED

    def url(self, pid: str) -> str:
        """The record's page; empty if it is not known where the pages are."""
        return f"{self._settings.ui_url}/datasets/{quote(pid, safe='')}" if self._settings.ui_url else ""

    def _evidence(self, request: IngestRequest, pid: str) -> Document:
        return {
            "pid": pid,
            "size": request.size,
            "number_of_files": len(request.files),
            "attachments": len(request.attachments),
            "url": self.url(pid),
        }

    def _payload(self, request: IngestRequest) -> Document:
        record = request.record.payload()
        body: Document = {
            **record,
            "pid": self.pid(request),
            "accessGroups": list(self._readers(request)),
        }
        mark: Document = {"identity": request.identity, "digest": digest(_lasting(body))}
        metadata = record["scientificMetadata"]
        body["scientificMetadata"] = {**metadata, MARK: mark} if isinstance(metadata, dict) else {MARK: mark}
        return body

    def _readers(self, request: IngestRequest) -> tuple[str, ...]:
        """With the service's own group: an account that may create any record may still not read what it created."""
        groups = (*request.record.access_groups, self._settings.service_group)
        return tuple(dict.fromkeys(group for group in groups if group))

    def _bring_up_to_date(self, pid: str, payload: Document) -> None:
        """There is a record with this PID: make sure that it is ours and says what it should."""
        stored = self._client.dataset(pid)
        if stored is None:
            raise _foreign(pid, "this service may not read it")
        mark, ours = _mark(stored), _mark(payload)
        if mark == ours:
            return
        if mark.get("identity") != ours["identity"] or stored.get("type") != payload["type"]:
            raise _foreign(pid, "this service did not write it")
        changes = {
            name: value
            for name, value in payload.items()
            if name not in _FIXED_FIELDS and not clean.same(value, stored.get(name))
        }
        logger.info("%s: updating %s", pid, ", ".join(changes))
        self._client.update_dataset(pid, changes)

    def _list_files(self, request: IngestRequest, pid: str, *, is_new: bool) -> None:
        wanted = {_files(block): block for block in request.blocks()}
        known: set[str] = set()
        for block in [] if is_new else self._client.blocks(pid):
            files = _files(block)
            if _agree(wanted.get(files, {}), block):
                known.add(files)
            else:
                self._remove(pid, block)
        for files, block in wanted.items():
            if files not in known:
                self._client.add_block(pid, block)

    def _remove(self, pid: str, block: Document) -> None:
        """A list that this service wrote for an earlier state of the files; nobody else's is touched."""
        if block.get("createdBy") not in {None, self._client.user}:
            raise CatalogueRefused(
                f"the record {pid} lists files that this service did not put there",
                where=self.name,
                next_step=f"ask {block.get('createdBy')} to remove that list, or catalogue those files as their own "
                "record, then start the flow again",
            )
        logger.warning("%s: removing an outdated list of files", pid)
        self._client.remove_block(pid, str(block.get("_id") or block.get("id")))

    def _attach(self, request: IngestRequest, pid: str, *, is_new: bool) -> None:
        known = set() if is_new else {_picture(each) for each in self._client.attachments(pid)}
        for attachment in request.attachments:
            if (attachment.caption, attachment.thumbnail) not in known:
                self._client.add_attachment(pid, self._picture(request, attachment))

    def _picture(self, request: IngestRequest, attachment: Attachment) -> Document:
        # Pictures have rights of their own, which do not follow those of the record.
        return {
            "caption": attachment.caption,
            "thumbnail": attachment.thumbnail,
            "ownerGroup": request.record.owner_group,
            "accessGroups": list(self._readers(request)),
        }

    def _missing(self, request: IngestRequest, pid: str, listed: Sequence[Document]) -> str:
        """What the stored record, with these lists of files, still lacks, in words; empty if nothing."""
        wanted = {_files(block): block for block in request.blocks()}
        # Two of a kind are there when something on the way sent a request again; most accounts may not remove one.
        if {*map(_files, listed)} != {*wanted} or not all(_agree(wanted[_files(one)], one) for one in listed):
            return f"the right list of files (it has {len(listed)} blocks, of {len(wanted)})"
        shown = {_picture(each) for each in self._client.attachments(pid)} if request.attachments else set()
        lost = [each.caption for each in request.attachments if (each.caption, each.thumbnail) not in shown]
        return f"the pictures {', '.join(lost)}" if lost else ""


def _mark(dataset: Mapping[str, Json]) -> Document:
    metadata = dataset.get("scientificMetadata")
    mark = metadata.get(MARK) if isinstance(metadata, dict) else None
    return mark if isinstance(mark, dict) else {}


def _files(block: Mapping[str, Json]) -> str:
    """What a block lists, in a form that compares: the server keeps times, but spells them its own way."""
    return digest([f"{file.get('path')}\n{file.get('size')}" for file in _entries(block)])


def _size(blocks: Sequence[Document]) -> int:
    """Bytes of all that these blocks list."""
    return sum(int(str(file.get("size") or 0)) for block in blocks for file in _entries(block))


def _agree(wanted: Mapping[str, Json], stored: Mapping[str, Json]) -> bool:
    """Whether a stored block lists the files that it should, and no checksum of one side contradicts the other."""
    if _files(wanted) != _files(stored):
        return False
    pairs = zip(_entries(wanted), _entries(stored), strict=True)
    return all(not one.get("chk") or not other.get("chk") or one["chk"] == other["chk"] for one, other in pairs)


def _entries(block: Mapping[str, Json]) -> list[Document]:
    files = block.get("dataFileList")
    entries = [file for file in files if isinstance(file, dict)] if isinstance(files, list) else []
    return sorted(entries, key=lambda file: str(file.get("path")))


def _lasting(body: Mapping[str, Json]) -> Document:
    """Without the time, which may be that of a file and then differs from copy to copy."""
    return {name: value for name, value in body.items() if name != "creationTime"}


def _picture(attachment: Mapping[str, Json]) -> tuple[Json, Json]:
    return attachment.get("caption"), attachment.get("thumbnail")


def _incomplete(pid: str, what: str) -> Failed:
    return Failed(
        error=CatalogueRefused(
            f"the record {pid} {what}",
            where=ScicatIngest.name,
            next_step="start the flow again: it completes the record",
        )
    )


def _foreign(pid: str, why: str) -> CatalogueRefused:
    return CatalogueRefused(
        f"the catalogue has a record {pid} already, and {why}",
        where=ScicatIngest.name,
        next_step="ask the catalogue's administrator whose it is; nothing was changed",
    )
