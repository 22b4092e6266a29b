"""A search index of a facility, and what is published in it by these tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from globus_ground import CREDENTIALS

from orchestration.config import Endpoint, SearchIndex
from orchestration.globus.published_files import PublishedFile
from orchestration.globus.publishing import Record, RecordState
from orchestration.globus.search_clients import SearchClients
from orchestration.globus.search_entries import PublishRequest
from orchestration.ledger import Ledger
from orchestration.ledger.operation import Operation
from orchestration.ledger.scan import Scan
from orchestration.ledger.service import Document, PollSchedule, Progress
from orchestration.paths import RelativePath
from orchestration.sandbox.client import SandboxClient
from orchestration.sandbox.search.settings import INDEX, index_id
from orchestration.sandbox.testing import RunningFacility

COLLECTION = UUID("11111111-2222-4333-8444-555555555555")
SUBJECT = f"globus://{COLLECTION}/published/scan"
FAST = PollSchedule(first=0.02)

SHELF = Endpoint(uuid=COLLECTION, root_path="/published").known_as("shelf")


def an_index(**changes: Any) -> SearchIndex:
    values = {"uuid": index_id(INDEX), "visible_to": ["public"], "publisher": "ALS", "creators": ["Lovelace, Ada"]}
    return SearchIndex.model_validate(values | changes).known_as(INDEX)


def a_file(name: str = "result.h5", **changes: Any) -> PublishedFile:
    file = PublishedFile(filename=name, url=f"{SUBJECT}/{name}", length=3, sha256="00" * 32)
    return replace(file, **changes)


def a_record(**changes: Any) -> Record:
    values: dict[str, Any] = {
        "title": "A gel under shear",
        "created": datetime(2026, 3, 1, 17, 4, 5, tzinfo=UTC),
        "state": RecordState.FINAL,
        "files": (a_file(),),
    }
    return Record(**(values | changes))


def a_request(**changes: Any) -> PublishRequest:
    return a_record(**changes).request(an_index(), subject=SUBJECT)


def a_scan(ledger: Ledger, *, export_controlled: bool = False) -> Scan:
    path = RelativePath("secret.h5" if export_controlled else "scan.h5")
    return ledger.scans.register(beamline="bl832", path=path, fingerprint="1:2", export_controlled=export_controlled)


def publication(scan: Scan, request: PublishRequest, step: str = "publish") -> Operation[PublishRequest]:
    return Operation(scan=scan, step=step, request=request, destination=request.place, deadline=30.0)


@dataclass(frozen=True)
class Shown:
    """The index, as it really is."""

    facility: RunningFacility
    clients: SearchClients
    index: SearchIndex

    @property
    def control(self) -> SandboxClient:
        return self.facility.client

    def entries(self) -> list[Document]:
        return self.control.search.entries(str(self.index.uuid))

    def content(self, number: int = 0) -> dict[str, Any]:
        """Of the entry that came at that place."""
        found: Any = self.entries()[number]["content"]
        return dict(found)

    def ingests(self) -> int:
        return len(self.control.effects("ingest"))

    def hold(self, *, held: bool = True) -> None:
        self.control.search.hold(str(self.index.uuid), held=held)

    def ingest(self, content: dict[str, Any], *, subject: str = SUBJECT, id_: str = "metadata") -> None:
        """As somebody else does it."""
        data = {"subject": subject, "id": id_, "visible_to": ["public"], "content": content}
        client = self.clients()
        task = client.ingest(self.index.uuid, {"ingest_type": "GMetaEntry", "ingest_data": data})["task_id"]
        while client.get_task(task)["state"] not in {"SUCCESS", "FAILED"}:
            pass

    def release_when_asked_again(self) -> Callable[[str, Progress], None]:
        """For `perform`: let the index go on once it was found that its tasks wait."""

        def listener(step: str, progress: Progress) -> None:
            if "may still wait" in progress.note:
                self.hold(held=False)

        return listener


def shown(facility: RunningFacility) -> Shown:
    return Shown(facility, SearchClients(CREDENTIALS), an_index())
