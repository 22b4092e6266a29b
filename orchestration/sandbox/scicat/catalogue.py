"""The datasets of the catalogue, with their blocks and attachments."""

from __future__ import annotations

import posixpath
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from orchestration.ledger.service import Document, Json
from orchestration.sandbox import clock, documents
from orchestration.sandbox.effects import Effects
from orchestration.sandbox.scicat import fields
from orchestration.sandbox.scicat.accounts import User
from orchestration.sandbox.scicat.answers import forbidden, invalid, invalid_dataset, not_found, refusal
from orchestration.sandbox.scicat.units import with_si
from orchestration.sandbox.store import Store

_DATASET = "scicat-dataset"
_TIMES = ("creationTime", "startTime", "endTime")
PID_PREFIX = "sandbox"
"""Before the pid of a dataset whose creator chose none."""

_DEFAULTS: Document = {
    "accessGroups": [],
    "classification": "IN=medium,AV=low,CO=low",
    "isPublished": False,
    "keywords": [],
    "techniques": [],
    "sharedWith": [],
    "relationships": [],
    "scientificMetadata": {},
    "size": 0,
    "packedSize": 0,
    "numberOfFiles": 0,
    "numberOfFilesArchived": 0,
}
_LIFECYCLE: Document = {
    "archivable": True,
    "retrievable": False,
    "publishable": False,
    "isOnCentralDisk": True,
    "archiveStatusMessage": "datasetCreated",
    "retrieveStatusMessage": "",
    "retrieveIntegrityCheck": False,
}


def moment(time: datetime | None = None) -> str:
    """A time as SciCat writes it: UTC, milliseconds, ``Z``."""
    return (time or clock.now()).astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass
class Health:
    """Whether the backend's process is alive."""

    alive: bool = True


class Catalogue:
    """All rules of the real backend's v3 half. Every method may raise CatalogueError."""

    def __init__(self, store: Store, effects: Effects) -> None:
        self._store = store
        self._effects = effects
        self._lock = threading.RLock()
        self.health = Health()

    def create(self, user: User, given: Document) -> Document:
        """Nothing but the pid is unique: the same folder twice is two datasets."""
        group = documents.text(given, "ownerGroup")
        if group and not user.may_create(group):
            raise forbidden()
        if "pid" in given and not (user.admin or user.has("create-any")):
            raise forbidden()
        named = {"datasetName": _default_name(given)} | given
        problems = fields.check_dataset(named)
        if problems:
            raise invalid_dataset(problems)
        dataset = _dataset(named, user)
        pid = documents.text(dataset, "pid")
        if not self._store.add(_DATASET, pid, dataset):
            raise refusal(409, f"A dataset with pid {pid} already exists!", "Conflict")
        self._happened("dataset", pid, dataset)
        self._survive(dataset)
        return dataset

    def _survive(self, dataset: Document) -> None:
        """A null among the metadata kills the process of the real backend right after it has answered."""
        metadata = dataset.get("scientificMetadata")
        if isinstance(metadata, dict) and None in metadata.values():
            self.health.alive = False

    def visible(self, user: User) -> Iterator[Document]:
        """All that this user may read, oldest first."""
        return (dataset for _, dataset in self._store.every(_DATASET) if user.may_read(dataset))

    def get(self, user: User, pid: str) -> Document:
        dataset = self._known(pid)
        if not user.may_read(dataset):
            raise forbidden()
        return dataset

    def change(self, user: User, pid: str, changes: Document, *, unmodified_since: str = "") -> Document:
        """Replaces whole fields; scientificMetadata too."""
        with self._lock:
            dataset = self._known(pid)
            if not user.may_change(dataset):
                raise forbidden()
            problems = fields.check_changes(changes, documents.text(dataset, "type"))
            if problems:
                raise invalid(problems)
            if unmodified_since and _newer(documents.text(dataset, "updatedAt"), unmodified_since):
                raise refusal(412, "Resource has been modified on server", "Precondition Failed")
            changed = dataset | _normal(changes) | {"updatedAt": moment(), "updatedBy": user.name}
            self._store.put(_DATASET, pid, changed)
            self._happened("patch", pid, changed)
        self._survive(changed)
        return changed

    def delete(self, user: User, pid: str) -> Document:
        dataset = self._known(pid)
        if not user.has("delete"):
            raise forbidden()
        self._store.remove(_DATASET, pid)
        self._store.clear(f"scicat-block/{pid}")
        self._store.clear(f"scicat-archived/{pid}")
        self._store.clear(f"scicat-attachment/{pid}")
        self._happened("dataset-delete", pid, dataset)
        return dataset

    def add_block(self, user: User, pid: str, given: Document) -> Document:
        """Nothing recognises the same block posted twice: it counts twice."""
        with self._lock:
            dataset = self._addable(user, pid)
            problems = fields.check_block(given)
            if problems:
                raise invalid(problems)
            block = _block(given, dataset, user)
            self._store.put(f"scicat-block/{pid}", documents.text(block, "_id"), block)
            self._recount(pid, dataset)
        files = [documents.text(file, "path") for file in documents.objects(given, "dataFileList")]
        self._effects.happened("origdatablock", documents.text(block, "_id"), key=pid, paths=files)
        return block

    def remove_block(self, user: User, pid: str, oid: str) -> Document:
        with self._lock:
            dataset = self._known(pid)
            block = self._store.get(f"scicat-block/{pid}", oid)
            if block is None:
                raise refusal(404, f"OrigDatablock: {oid} not found", "Not Found")
            if not user.has("delete"):
                raise forbidden()
            self._store.remove(f"scicat-block/{pid}", oid)
            self._recount(pid, dataset)
        self._effects.happened("origdatablock-delete", oid, key=pid)
        return block

    def blocks(self, user: User, pid: str) -> list[Document]:
        self.get(user, pid)
        return [block for _, block in self._store.every(f"scicat-block/{pid}")]

    def add_archived(self, user: User, pid: str, given: Document) -> Document:
        """Where its files are archived. Nothing recognises the same one posted twice, here neither."""
        with self._lock:
            dataset = self._addable(user, pid)
            problems = fields.check_archived(given)
            if problems:
                raise invalid(problems)
            block = _block(given, dataset, user)
            self._store.put(f"scicat-archived/{pid}", documents.text(block, "_id"), block)
        self._effects.happened("datablock", documents.text(block, "_id"), key=pid)
        return block

    def change_archived(self, user: User, pid: str, did: str, given: Document) -> Document:
        with self._lock:
            self._addable(user, pid)
            block = self._store.get(f"scicat-archived/{pid}", did)
            if block is None:
                raise refusal(404, f"Datablock: {did} not found", "Not Found")
            problems = fields.check_archived_changes(given)
            if problems:
                raise invalid(problems)
            changed = block | given
            self._store.put(f"scicat-archived/{pid}", did, changed)
        self._effects.happened("datablock-patch", did, key=pid)
        return changed

    def archived(self, user: User, pid: str) -> list[Document]:
        self.get(user, pid)
        return [block for _, block in self._store.every(f"scicat-archived/{pid}")]

    def add_attachment(self, user: User, pid: str, given: Document) -> Document:
        dataset = self._addable(user, pid)
        problems = fields.check_attachment(given)
        if problems:
            raise invalid(problems)
        attachment = _attachment(given, dataset, user)
        aid = documents.text(attachment, "id")
        self._store.put(f"scicat-attachment/{pid}", aid, attachment)
        self._effects.happened("attachment", aid, key=pid, label=documents.text(given, "caption"))
        return attachment

    def attachments(self, user: User, pid: str) -> list[Document]:
        self.get(user, pid)
        return [attachment for _, attachment in self._store.every(f"scicat-attachment/{pid}")]

    def _known(self, pid: str) -> Document:
        dataset = self._store.get(_DATASET, pid)
        if dataset is None:
            raise not_found(pid)
        return dataset

    def _addable(self, user: User, pid: str) -> Document:
        dataset = self._known(pid)
        if not user.may_add_to(dataset):
            raise forbidden()
        return dataset

    def _recount(self, pid: str, dataset: Document) -> None:
        """The dataset's size and number of files are those of its blocks."""
        blocks = [block for _, block in self._store.every(f"scicat-block/{pid}")]
        totals: Document = {
            "size": sum(documents.whole(block, "size") for block in blocks),
            "numberOfFiles": sum(len(documents.objects(block, "dataFileList")) for block in blocks),
        }
        self._store.put(_DATASET, pid, dataset | totals)

    def _happened(self, kind: str, pid: str, dataset: Document) -> None:
        name, folder = documents.text(dataset, "datasetName"), documents.text(dataset, "sourceFolder")
        self._effects.happened(kind, pid, key=pid, label=name, paths=(folder,))


def _default_name(given: Document) -> Json:
    parts = [one for one in documents.text(given, "sourceFolder").split("/") if one]
    return "/".join(parts[-2:]) or None


def _dataset(given: Document, user: User) -> Document:
    lifecycle = given.get("datasetlifecycle")
    life = _LIFECYCLE | (lifecycle if isinstance(lifecycle, dict) else {})
    pid = documents.text(given, "pid") or f"{PID_PREFIX}/{uuid.uuid4()}"
    return _DEFAULTS | _normal(given) | {"pid": pid, "_id": pid, "datasetlifecycle": life} | _signed(user)


def _normal(given: Document) -> Document:
    """As the server stores it: times in UTC, no trailing slash, quantities in SI units too."""
    stored = dict(given)
    for name in _TIMES:
        if isinstance(given.get(name), str):
            stored[name] = moment(clock.parse(documents.text(given, name)))
    if "sourceFolder" in given:
        folder = documents.text(given, "sourceFolder")
        stored["sourceFolder"] = folder.rstrip("/") or posixpath.sep
    if "scientificMetadata" in given:
        stored["scientificMetadata"] = with_si(given["scientificMetadata"])
    return stored


def _signed(user: User) -> Document:
    return {"createdBy": user.name, "updatedBy": user.name, "createdAt": moment(), "updatedAt": moment()}


def _inherited(dataset: Document) -> Document:
    return {name: dataset[name] for name in ("ownerGroup", "accessGroups", "isPublished")}


def _block(given: Document, dataset: Document, user: User) -> Document:
    inherited = _inherited(dataset) | {"datasetId": dataset["pid"], "_id": uuid.uuid4().hex[:24]}
    files: list[Json] = [
        file | {"time": moment(clock.parse(documents.text(file, "time")))}
        for file in documents.objects(given, "dataFileList")
    ]
    return inherited | given | {"dataFileList": files} | _signed(user)


def _attachment(given: Document, dataset: Document, user: User) -> Document:
    """Its groups are its own: those of the dataset do not open it."""
    aid = documents.text(given, "id") or str(uuid.uuid4())
    own: Document = {"accessGroups": [], "isPublished": False, "thumbnail": ""}
    return own | given | {"id": aid, "_id": aid, "aid": aid, "datasetId": dataset["pid"]} | _signed(user)


def _newer(updated: str, than: str) -> bool:
    try:
        return clock.parse(updated) > clock.parse(than)
    except ValueError as error:
        raise refusal(400, "if-unmodified-since is not a time", "Bad Request") from error
