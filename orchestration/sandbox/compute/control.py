"""The control of the stand-in for Globus Compute: switches of endpoints, lost workers, forgotten results."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from orchestration.ledger.service import Document, Json
from orchestration.sandbox import documents
from orchestration.sandbox.compute.records import Endpoint, Task
from orchestration.sandbox.compute.service import ComputeService
from orchestration.sandbox.compute.submission import known_endpoint, refusal
from orchestration.sandbox.faults import CONTROL

_COMPUTE = f"{CONTROL}/compute"


class ComputeControl:
    """Routes below ``/_sandbox/compute``."""

    def __init__(self, service: ComputeService) -> None:
        self._service = service
        self._book = service.book

    def routes(self) -> list[Route]:
        return [
            Route(f"{_COMPUTE}/endpoints", self.list_endpoints),
            Route(f"{_COMPUTE}/endpoints/{{id}}", self.switch_endpoint, methods=["POST"]),
            Route(f"{_COMPUTE}/tasks", self.list_tasks),
            Route(f"{_COMPUTE}/tasks/{{id}}/kill", self.kill, methods=["POST"]),
            Route(f"{_COMPUTE}/forget", self.forget, methods=["POST"]),
        ]

    async def list_endpoints(self, request: Request) -> JSONResponse:
        return JSONResponse({"endpoints": [_endpoint(one) for one in self._book.endpoints.values()]})

    async def switch_endpoint(self, request: Request) -> JSONResponse:
        endpoint = known_endpoint(self._book, request.path_params["id"])
        body = await documents.received(request)
        endpoint.switched_on = documents.flag(body, "online", default=endpoint.switched_on)
        endpoint.held = documents.flag(body, "held", default=endpoint.held)
        self._book.keep_endpoint(endpoint)
        self._service.hand_out(endpoint)
        return JSONResponse(_endpoint(endpoint))

    async def list_tasks(self, request: Request) -> JSONResponse:
        return JSONResponse({"tasks": [_task(one) for one in self._book.tasks.values()]})

    async def kill(self, request: Request) -> JSONResponse:
        return JSONResponse({"killed": self._service.kill_worker(self._task(request.path_params["id"]))})

    async def forget(self, request: Request) -> JSONResponse:
        """The results of finished tasks, or these tasks altogether; of one task, where one is named."""
        body = await documents.received(request)
        named = documents.text(body, "task")
        wanted = [self._task(named)] if named else list(self._book.tasks.values())
        over = [task for task in wanted if task.stage.over]
        for task in over:
            if documents.flag(body, "entirely"):
                self._book.remove_task(task)
            else:
                self._book.forget_result(task)
        return JSONResponse({"forgotten": len(over)})

    def _task(self, task_id: str) -> Task:
        task = self._book.tasks.get(task_id)
        if task is None:
            raise refusal(404, "TASK_NOT_FOUND", f"Task {task_id} could not be resolved")
        return task


def _endpoint(endpoint: Endpoint) -> Json:
    return {
        "id": endpoint.id,
        "name": endpoint.name,
        "kind": endpoint.kind.value,
        "online": endpoint.online,
        "held": endpoint.held,
        "workers": endpoint.workers,
    }


def _task(task: Task) -> Json:
    told: Document = {
        "id": task.id,
        "group": task.group,
        "endpoint": task.endpoint,
        "function": task.label,
        "stage": task.stage.value,
        "accepted": task.accepted,
        "completed": task.completed,
        "forgotten": task.forgotten,
        "pid": task.worker.get("pid"),
    }
    return told
