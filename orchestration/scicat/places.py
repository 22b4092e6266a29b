"""Where else the data of a record is, as an operation: a datablock of the record for each object of an archive.

The catalogue tells files as they were taken (original datablocks) from files as they are archived (datablocks, each of
which names what it is in). So a place is added or taken back without touching what the record says otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from orchestration.errors import CatalogueRefused, InvalidInput
from orchestration.ledger.service import CancelAnswer, Document, Failed, Json, Status, Succeeded
from orchestration.policy import Audience, Effect, Permitted, Place, opened
from orchestration.scicat.client import ScicatClient
from orchestration.scicat.records import CATALOGUE, DataFile

REMOVED = "removed:"
"""Before the `archiveId` of what is in the archive no more."""


@dataclass(frozen=True, kw_only=True)
class PlaceRequest:
    """The record `pid` is to say that its files are in `archive_id`, or (not `there`) to say so no more."""

    pid: str
    archive_id: str
    """For people and programs: ``hpss://archive.nersc.gov/home/...``."""
    audience: Audience
    """Who gets to see it: whoever sees the record."""
    files: tuple[DataFile, ...] = ()
    there: bool = True

    def __post_init__(self) -> None:
        if not self.pid or not self.archive_id:
            raise InvalidInput("a place of a record needs the record and the place", where=self.archive_id or self.pid)

    @property
    def effect(self) -> Effect:
        return Effect.CATALOGUE if self.there else Effect.DELETE

    @property
    def place(self) -> Place:
        return CATALOGUE

    def document(self) -> Document:
        files: list[Json] = [file.payload() for file in self.files]
        return {"pid": self.pid, "archive_id": self.archive_id, "there": self.there, "files": files}

    def block(self) -> Document:
        """The body of the datablock."""
        size = sum(file.size for file in self.files)
        return {
            "archiveId": self.archive_id,
            "size": size,
            "packedSize": size,
            "chkAlg": "sha256",
            "version": "1",
            "dataFileList": [file.payload() for file in self.files],
        }

    def withdrawal(self) -> Document:
        """The datablock of a place that is none any more: it says which it was."""
        return {"archiveId": f"{REMOVED}{self.archive_id}", "size": 0, "packedSize": 0, "dataFileList": []}


@dataclass(frozen=True)
class ScicatPlaces:
    """The service ``scicat.places``; its handle is the PID and the place."""

    client: ScicatClient

    name: ClassVar[str] = "scicat.places"
    immediate: ClassVar[bool] = True

    def reserve(self, key: str) -> str:
        return key

    def find(self, request: PlaceRequest, token: str) -> str | None:
        return self._handle(request) if self._holds(request) else None

    def submit(self, permitted: Permitted[PlaceRequest], token: str) -> str:
        """Looked up first: the server does not notice that it already has the same one."""
        request = opened(permitted, PlaceRequest)
        if not self._holds(request):
            if request.there:
                self.client.add_archived(request.pid, request.block())
            for block in () if request.there else self._blocks(request):
                self.client.change_archived(request.pid, str(block.get("_id") or block.get("id")), request.withdrawal())
        return self._handle(request)

    def poll(self, request: PlaceRequest, handle: str) -> Status:
        if self._holds(request):
            return Succeeded(evidence={"pid": request.pid, "archive_id": request.archive_id, "there": request.there})
        lacks = "does not say" if request.there else "still says"
        return Failed(
            error=CatalogueRefused(
                f"the record {request.pid} {lacks} that its data is in {request.archive_id}",
                where=self.name,
                next_step="start the flow again: it corrects the record",
            )
        )

    def cancel(self, handle: str) -> CancelAnswer:
        """What was written is not taken back."""
        return CancelAnswer.ALREADY_FINISHED

    def _holds(self, request: PlaceRequest) -> bool:
        return bool(self._blocks(request)) == request.there

    def _blocks(self, request: PlaceRequest) -> Sequence[Mapping[str, Json]]:
        if self.client.dataset(request.pid) is None:
            if request.there:
                raise CatalogueRefused(
                    f"the catalogue has no record {request.pid} any more",
                    where=self.name,
                    next_step="start the scan's flow again: it catalogues what is not there",
                )
            return ()
        return [each for each in self.client.archived(request.pid) if each.get("archiveId") == request.archive_id]

    @staticmethod
    def _handle(request: PlaceRequest) -> str:
        return f"{request.pid} {request.archive_id}"
