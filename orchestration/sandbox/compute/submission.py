"""What a client asks for when it submits tasks, checked."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass

from orchestration.ledger.service import Document
from orchestration.sandbox import documents
from orchestration.sandbox.compute.book import Book
from orchestration.sandbox.compute.records import Endpoint
from orchestration.sandbox.globus.answers import ApiError

REQUEST_LIMIT = 10 * 1024 * 1024
"""Bytes of one submission."""


def refusal(status: int, code: str, reason: str) -> ApiError:
    """An error answer as Globus Compute gives it."""
    return ApiError(
        status, code, reason, {"status": "Failed", "reason": reason, "http_status_code": status, "error_args": []}
    )


@dataclass(frozen=True, kw_only=True)
class Submission:
    """Payloads (arguments and keywords, serialized) by function, for one endpoint and in one group."""

    owner: str
    endpoint: Endpoint
    group: str
    queue: bool
    payloads: Mapping[str, list[str]]
    options: Document
    runtime: Document
    resources: Document
    serializers: list[str]

    @classmethod
    def parse(cls, book: Book, owner: str, endpoint_id: str, body: Document) -> Submission:
        """Raises: ApiError."""
        endpoint = known_endpoint(book, endpoint_id)
        if not endpoint.admits(owner):
            raise refusal(403, "ENDPOINT_ACCESS_FORBIDDEN", f"Unauthorized access to endpoint: {endpoint_id}")
        tasks = documents.object_at(body, "tasks")
        payloads = {function: documents.strings(tasks, function) for function in tasks}
        if not any(payloads.values()):
            raise refusal(422, "INVALID_PAYLOAD", "no tasks were submitted")
        for function in payloads:
            _may_run(book, endpoint, function)
        return cls(
            owner=owner,
            endpoint=endpoint,
            group=_group(book, owner, documents.text(body, "task_group_id")),
            queue=documents.flag(body, "create_queue"),
            payloads=payloads,
            options=documents.object_at(body, "user_endpoint_config"),
            runtime=documents.object_at(body, "user_runtime"),
            resources=documents.object_at(body, "resource_specification"),
            serializers=documents.strings(body, "result_serializers"),
        )


def known_endpoint(book: Book, endpoint_id: str) -> Endpoint:
    """Raises: ApiError 404."""
    endpoint = book.endpoints.get(endpoint_id)
    if endpoint is None:
        raise refusal(404, "ENDPOINT_NOT_FOUND", f"Endpoint {endpoint_id} could not be resolved")
    return endpoint


def _may_run(book: Book, endpoint: Endpoint, function: str) -> None:
    if function not in book.functions:
        raise refusal(404, "FUNCTION_NOT_FOUND", f"Function {function} could not be resolved")
    if endpoint.allowed_functions is not None and function not in endpoint.allowed_functions:
        raise refusal(403, "FUNCTION_NOT_PERMITTED", f"Function {function} not permitted on endpoint {endpoint.id}")


def _group(book: Book, owner: str, wanted: str) -> str:
    if not wanted:
        return str(uuid.uuid4())
    try:
        group_id = str(uuid.UUID(wanted))
    except ValueError as error:
        raise refusal(422, "INVALID_UUID", f"{wanted!r} is not a UUID") from error
    known = book.groups.get(group_id)
    if known is not None and known.owner != owner:
        raise refusal(403, "TASK_GROUP_ACCESS_FORBIDDEN", f"Unauthorized access to task group: {group_id}")
    return group_id
