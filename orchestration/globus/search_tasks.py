"""Tasks of a search index: changes are made one after another, some time after they were asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import globus_sdk

from orchestration.config import SearchIndex
from orchestration.errors import CatalogueRefused
from orchestration.globus.search_clients import SearchClients
from orchestration.globus.search_errors import in_detail

_OPEN = frozenset({"CREATING", "PENDING", "PROGRESS"})


@dataclass(frozen=True, kw_only=True)
class IndexTask:
    id: str
    state: str
    said: str
    """What the service says of it: mostly why it failed."""
    completed: str

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> IndexTask:
        details = in_detail(document.get("additional_details"))
        return cls(
            id=str(document["task_id"]),
            state=str(document["state"]),
            said=": ".join(filter(None, (str(document.get("message") or ""), details))),
            completed=str(document.get("completion_date") or ""),
        )

    @property
    def open(self) -> bool:
        return self.state in _OPEN

    @property
    def began(self) -> bool:
        return self.state not in {"CREATING", "PENDING"}

    def ended_seconds_ago(self) -> float:
        """0 where it does not say when."""
        try:
            ended = datetime.fromisoformat(self.completed)
        except ValueError:
            return 0.0
        return (datetime.now(UTC) - (ended if ended.tzinfo else ended.replace(tzinfo=UTC))).total_seconds()

    def failure(self, index: SearchIndex, subject: str) -> CatalogueRefused:
        return CatalogueRefused(
            f"{index.place.name} did not take {subject}: {self.said or 'it does not say why'}",
            where=f"Globus Search task {self.id}",
            next_step="correct the fields that the message names (a field keeps the type it was first given in an "
            "index), then start the flow again",
        )


@dataclass(frozen=True)
class IndexTasks:
    clients: SearchClients

    def get(self, task_id: str) -> IndexTask | None:
        """None if the service does not know it (any more)."""
        answer = self.clients.read(lambda client: client.get_task(task_id), where=f"Globus Search task {task_id}")
        return None if answer is None else IndexTask.parse(answer.data)

    def open(self, index: SearchIndex) -> frozenset[str]:
        """Those of an index that have not ended, whoever asked for them."""

        def ask(client: globus_sdk.SearchClient) -> globus_sdk.GlobusHTTPResponse:
            return client.get_task_list(index.uuid)

        answer = self.clients.read(ask, where=index.place.name)
        tasks = [] if answer is None else [IndexTask.parse(row) for row in answer["tasks"]]
        return frozenset(task.id for task in tasks if task.open)
