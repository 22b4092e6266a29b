"""Asking a Prefect server that keeps its data in SQLite, and is busy now and then."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from prefect.client.orchestration import SyncPrefectClient

from orchestration.flows.runs import PrefectRun, RunRequest
from orchestration.flows.server import insist, prefect_server
from orchestration.sandbox import testing

T = TypeVar("T")


def ask(question: Callable[[SyncPrefectClient], T]) -> T:
    def once() -> T:
        with prefect_server() as client:
            return question(client)

    return insist(once, seconds=30)


def submit(service: PrefectRun, request: RunRequest, token: str) -> str:
    return insist(lambda: testing.submit(service, request, token), seconds=30)
