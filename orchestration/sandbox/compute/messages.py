"""The messages of Globus Compute on its queues: one byte of protocol version, then JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass

from orchestration.ledger.service import Document, Json
from orchestration.sandbox import documents

_VERSION = b"\x01"


@dataclass(frozen=True, kw_only=True)
class Result:
    """What came of a task. `data` is the serialized value, or the text of the error where there is an `error_code`."""

    task: str
    data: str
    error_code: str = ""
    message: str = ""
    details: Document | None = None
    transitions: tuple[Document, ...] = ()

    def pack(self) -> bytes:
        error: Document | None = None
        if self.error_code:
            error = {"code": self.error_code, "user_message": self.message or self.data}
        data: Document = {
            "task_id": self.task,
            "data": self.data,
            "details": self.details,
            "error_details": error,
            "task_statuses": list[Json](self.transitions),
        }
        return pack("result", data)

    @classmethod
    def parse(cls, data: Document) -> Result:
        error = documents.object_at(data, "error_details")
        return cls(
            task=documents.text(data, "task_id"),
            data=documents.text(data, "data"),
            error_code=documents.text(error, "code"),
            message=documents.text(error, "user_message"),
            details=documents.object_at(data, "details"),
            transitions=tuple(documents.objects(data, "task_statuses")),
        )


@dataclass(frozen=True, kw_only=True)
class Heartbeat:
    """How an endpoint says that it is there. A `period` of 0 says that it goes."""

    endpoint: str
    period: float
    active: bool
    workers: int
    error: str

    @classmethod
    def parse(cls, data: Document) -> Heartbeat:
        report = documents.object_at(data, "ep_status_report") or documents.object_at(data, "global_state")
        return cls(
            endpoint=documents.text(data, "endpoint_id"),
            period=documents.number(report, "heartbeat_period", 30.0),
            active=documents.flag(report, "active", default=True),
            workers=documents.whole(report, "total_workers"),
            error=documents.text(report, "error"),
        )


def task(task_id: str, buffer: str) -> bytes:
    return pack("task", {"task_id": task_id, "container_id": None, "container": None, "task_buffer": buffer})


def pack(kind: str, data: Document) -> bytes:
    return _VERSION + json.dumps({"message_type": kind, "data": data}).encode()


def unpack(body: bytes) -> tuple[str, Document]:
    """Kind and data. Raises: NotADocument."""
    if not body.startswith(_VERSION):
        raise documents.NotADocument("a message of another protocol version")
    envelope = documents.decode(body[len(_VERSION) :])
    return documents.text(envelope, "message_type"), documents.object_at(envelope, "data")
