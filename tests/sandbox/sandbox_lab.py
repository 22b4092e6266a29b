"""A facility with an unmodified Globus client of it, for tests."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import globus_sdk
from globus_sdk import TransferClient, TransferData
from globus_sdk.response import GlobusHTTPResponse

from orchestration.ledger.service import Document
from orchestration.sandbox.testing import RunningFacility, running_facility

SOURCE, DESTINATION = "beamline", "facility"

CRAWL = 10.0
"""Bytes per second: a file that has begun to move does not arrive until that is changed."""


def until(condition: Callable[[], bool], *, seconds: float = 60.0) -> None:
    """Wait for something that happens elsewhere."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise AssertionError("it did not happen in time")
        time.sleep(0.01)


@dataclass(frozen=True)
class Lab:
    facility: RunningFacility
    transfer: TransferClient

    @property
    def source(self) -> str:
        return self.facility.collection_id(SOURCE)

    @property
    def destination(self) -> str:
        return self.facility.collection_id(DESTINATION)

    def write(self, path: str, content: bytes, *, collection: str = SOURCE) -> Path:
        place = self.facility.root(collection) / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(content)
        return place

    def arrived(self, path: str) -> Path:
        return self.facility.root(DESTINATION) / path

    def request(self, *pairs: tuple[str, str], **options: Any) -> TransferData:
        """Items from the source collection to the destination; verified unless the options say otherwise."""
        data = TransferData(self.source, self.destination, **({"verify_checksum": True} | options))
        for source, destination in pairs:
            data.add_item(source, destination)
        return data

    def submit(self, *pairs: tuple[str, str], **options: Any) -> str:
        return str(self.transfer.submit_transfer(self.request(*pairs, **options))["task_id"])

    def delete(self, *paths: str, **options: Any) -> str:
        data = globus_sdk.DeleteData(self.destination, **options)
        for path in paths:
            data.add_item(path)
        return str(self.transfer.submit_delete(data)["task_id"])

    def task(self, task_id: str) -> GlobusHTTPResponse:
        return self.transfer.get_task(task_id)

    def ended(self, task_id: str) -> GlobusHTTPResponse:
        """The document of the task, once it is over."""
        until(lambda: self.task(task_id)["status"] in {"SUCCEEDED", "FAILED"})
        return self.task(task_id)

    def faulted(self, task_id: str, code: str) -> GlobusHTTPResponse:
        """The document of the task, once it says that it cannot go on for this reason."""
        until(lambda: bool(self.task(task_id)["nice_status"] == code))
        return self.task(task_id)

    def events(self, task_id: str, **query: Any) -> list[Document]:
        return [dict(event) for event in self.transfer.task_event_list(task_id, query_params=query)]


def transfer_client(facility: RunningFacility) -> TransferClient:
    """As a program makes it whose environment leads to the facility; it never retries by itself."""
    before = dict(os.environ)
    os.environ.update(facility.environment())
    try:
        with globus_sdk.ConfidentialAppAuthClient(
            os.environ["GLOBUS_CLIENT_ID"], os.environ["GLOBUS_CLIENT_SECRET"]
        ) as auth:
            tokens = auth.oauth2_client_credentials_tokens(globus_sdk.TransferClient.scopes.all)
        token = tokens.by_resource_server["transfer.api.globus.org"]["access_token"]
        client = TransferClient(authorizer=globus_sdk.AccessTokenAuthorizer(token))
    finally:
        os.environ.clear()
        os.environ.update(before)
    client.retry_config.max_retries = 0
    return client


@contextmanager
def running_lab(state: Path, **options: Any) -> Iterator[Lab]:
    with running_facility(state, **options) as facility, transfer_client(facility) as client:
        yield Lab(facility, client)
