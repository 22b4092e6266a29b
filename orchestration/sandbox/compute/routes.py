"""The web service of Globus Compute, versions 2 and 3: what its SDK and its endpoint program ask for."""

from __future__ import annotations

import time
import uuid
from datetime import UTC, datetime

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from orchestration.ledger.service import Document, Json
from orchestration.sandbox import documents
from orchestration.sandbox.compute.records import Endpoint, EndpointKind, Function, Task
from orchestration.sandbox.compute.service import QUEUE_PREFIX, ComputeService
from orchestration.sandbox.compute.submission import REQUEST_LIMIT, Submission, known_endpoint, refusal
from orchestration.sandbox.globus import answers
from orchestration.sandbox.globus.answers import ApiError
from orchestration.sandbox.globus.tokens import COMPUTE, Tokens

_VERSION = "4.19.0"
_OLDEST_CLIENT = "3.0.0"
_LOCK_SECONDS = 5.0


class ComputeRoutes:
    def __init__(self, service: ComputeService, tokens: Tokens) -> None:
        self._service = service
        self._book = service.book
        self._tokens = tokens

    def routes(self) -> list[Route]:
        return [
            Route("/v2/version", self.version),
            Route("/v2/get_amqp_result_connection_url", self.result_queue),
            Route("/v3/endpoints", self.register_endpoint, methods=["POST"]),
            Route("/v3/endpoints/{id}", self.register_endpoint, methods=["PUT"]),
            Route("/v3/endpoints/{id}/submit", self.submit, methods=["POST"]),
            Route("/v2/endpoints/{id}/lock", self.lock_endpoint, methods=["POST"]),
            Route("/v3/endpoints/{id}/lock", self.lock_endpoint, methods=["POST"]),
            Route("/v3/endpoints/{id}/allowed_functions", self.allowed_functions),
            Route("/v2/endpoints", self.list_endpoints),
            Route("/v2/endpoints/{id}", self.get_endpoint, methods=["GET"]),
            Route("/v2/endpoints/{id}", self.delete_endpoint, methods=["DELETE"]),
            Route("/v2/endpoints/{id}/status", self.endpoint_status),
            Route("/v2/functions", self.register_function, methods=["POST"]),
            Route("/v3/functions", self.register_function, methods=["POST"]),
            Route("/v2/functions/{id}", self.get_function, methods=["GET"]),
            Route("/v2/functions/{id}", self.delete_function, methods=["DELETE"]),
            Route("/v2/tasks/{id}", self.get_task),
            Route("/v2/batch_status", self.batch_status, methods=["POST"]),
            Route("/v2/taskgroup/{id}", self.task_group),
        ]

    async def version(self, request: Request) -> Response:
        if request.query_params.get("service") != "all":
            return JSONResponse(_VERSION)
        # The recorded answer of the real service has another name for the last; the SDK reads this one.
        oldest = {"min_sdk_version": _OLDEST_CLIENT, "min_ep_version": _OLDEST_CLIENT}
        return JSONResponse({"api": _VERSION, **oldest, "git_sha": "0" * 40})

    async def result_queue(self, request: Request) -> Response:
        self._who(request)
        return JSONResponse({"queue_prefix": QUEUE_PREFIX, "connection_url": self._service.broker_url})

    async def register_endpoint(self, request: Request) -> Response:
        owner, body = self._who(request), await answers.body(request)
        endpoint_id = request.path_params.get("id") or str(uuid.uuid4())
        known = self._book.endpoints.get(endpoint_id)
        if known is not None and (known.kind is EndpointKind.INLINE or known.owner != owner):
            raise refusal(403, "RESOURCE_FORBIDDEN", f"Endpoint {endpoint_id} belongs to somebody else")
        if known is not None and known.locked_until > time.time():
            raise refusal(423, "ENDPOINT_LOCKED", f"Endpoint {endpoint_id} is temporarily locked")
        endpoint = known or Endpoint(id=endpoint_id, name="", kind=EndpointKind.DAEMON, owner=owner)
        allowed, display = body.get("allowed_functions"), body.get("display_name")
        endpoint.name = documents.text(body, "endpoint_name", endpoint.name)
        endpoint.display_name = display if isinstance(display, str) else None
        endpoint.multi_user = documents.flag(body, "multi_user")
        endpoint.public = documents.flag(body, "public")
        endpoint.metadata = documents.object_at(body, "metadata")
        endpoint.allowed_functions = None if allowed is None else documents.strings(body, "allowed_functions")
        endpoint.pulse.beat = 0.0
        self._book.keep_endpoint(endpoint)
        return JSONResponse(self._service.daemons.connection(endpoint))

    async def submit(self, request: Request) -> Response:
        owner, raw = self._who(request), await request.body()
        if len(raw) > REQUEST_LIMIT:
            reason = f"Task payload is too large ({len(raw)} > {REQUEST_LIMIT})"
            raise refusal(413, "TASK_PAYLOAD_TOO_LARGE", reason)
        body = await answers.body(request)
        submission = Submission.parse(self._book, owner, request.path_params["id"], body)
        return JSONResponse(self._service.submit(submission))

    async def lock_endpoint(self, request: Request) -> Response:
        endpoint = self._endpoint(request, mine=True)
        endpoint.locked_until = time.time() + _LOCK_SECONDS
        self._book.keep_endpoint(endpoint)
        until = datetime.fromtimestamp(endpoint.locked_until, UTC).isoformat()
        return JSONResponse({"endpoint_id": endpoint.id, "lock_expiration_timestamp": until})

    async def allowed_functions(self, request: Request) -> Response:
        endpoint = self._endpoint(request)
        allowed = endpoint.allowed_functions
        answer: Document = {"endpoint_id": endpoint.id, "restricted": allowed is not None}
        return JSONResponse(answer | {"functions": list[Json](allowed or [])})

    async def list_endpoints(self, request: Request) -> Response:
        owner = self._who(request)
        anyones = request.query_params.get("role") == "any"
        found = [one for one in self._book.endpoints.values() if one.owner == owner or (anyones and one.public)]
        return JSONResponse([_listed(one) for one in found])

    async def get_endpoint(self, request: Request) -> Response:
        endpoint = self._endpoint(request)
        given = ("endpoint_config", "user_config_template", "user_config_schema", "hostname", "local_user")
        metadata = {name: endpoint.metadata.get(name) for name in (*given, "endpoint_version", "sdk_version")}
        answer = _listed(endpoint) | metadata
        return JSONResponse(
            answer
            | {
                "multi_user": endpoint.multi_user,
                "public": endpoint.public,
                "description": None,
                "ip_address": "127.0.0.1",
                "subscription_uuid": None,
            }
        )

    async def delete_endpoint(self, request: Request) -> Response:
        self._book.remove_endpoint(self._endpoint(request, mine=True))
        return JSONResponse({"result": 302})

    async def endpoint_status(self, request: Request) -> Response:
        endpoint = self._endpoint(request)
        tasks = [task for task in self._book.tasks.values() if task.endpoint == endpoint.id and not task.stage.over]
        users = [one for one in self._book.user_endpoints.values() if one.parent == endpoint.id and one.pulse.alive]
        workers = endpoint.workers + sum(one.pulse.workers for one in users)
        details: Document = {
            "total_workers": workers,
            "idle_workers": max(0, workers - len(tasks)),
            "pending_tasks": len(tasks),
            "outstanding_tasks": len(tasks),
            "managers": len(users) or int(endpoint.online),
        }
        return JSONResponse({"status": "online" if endpoint.online else "offline", "details": details})

    async def register_function(self, request: Request) -> Response:
        owner, body = self._who(request), await answers.body(request)
        name, code = documents.text(body, "function_name"), documents.text(body, "function_code")
        if not name or not code:
            raise refusal(422, "INVALID_PAYLOAD", "function_code and function_name are required")
        if not documents.flag(body, "serialized", default=True):
            code = _as_source(name, code)
        function = Function(
            id=str(uuid.uuid4()),
            name=name,
            code=code,
            owner=owner,
            description=documents.text(body, "description"),
            metadata=documents.object_at(body, "meta"),
            public=documents.flag(body, "public"),
        )
        self._book.keep_function(function)
        return JSONResponse({"function_uuid": function.id})

    async def get_function(self, request: Request) -> Response:
        function = self._function(request)
        answer: Document = {
            "function_uuid": function.id,
            "function_name": function.name,
            "function_code": function.code,
            "description": function.description,
            "metadata": function.metadata,
        }
        return JSONResponse(answer)

    async def delete_function(self, request: Request) -> Response:
        self._book.remove_function(self._function(request))
        return JSONResponse({"result": 302})

    async def get_task(self, request: Request) -> Response:
        task = self._task(self._who(request), request.path_params["id"])
        if task is None:
            raise refusal(404, "TASK_NOT_FOUND", f"Task {request.path_params['id']} could not be resolved")
        return JSONResponse(self._service.task_document(task))

    async def batch_status(self, request: Request) -> Response:
        owner, body = self._who(request), await answers.body(request)
        results: Document = {}
        for task_id in documents.strings(body, "task_ids"):
            task = self._task(owner, task_id)
            unknown: Document = {"task_id": task_id, "status": "failed", "reason": "unknown task"}
            results[task_id] = unknown if task is None else self._service.task_document(task)
        return JSONResponse({"response": "batch", "results": results})

    async def task_group(self, request: Request) -> Response:
        owner, group_id = self._who(request), request.path_params["id"]
        group = self._book.groups.get(group_id)
        if group is None or group.owner != owner:
            raise refusal(404, "TASK_GROUP_NOT_FOUND", f"Task group {group_id} could not be resolved")
        tasks: list[Json] = [
            {"id": task.id, "created_at": datetime.fromtimestamp(task.created, UTC).isoformat()}
            for task in self._book.members(group.id)
        ]
        return JSONResponse({"taskgroup_id": group.id, "create_websockets_queue": group.queue, "tasks": tasks})

    def _who(self, request: Request) -> str:
        """The identity that asks. Raises: ApiError 401."""
        try:
            return self._tokens.require(request, COMPUTE).subject
        except ApiError as error:
            raise refusal(401, "UNAUTHENTICATED", error.message) from error

    def _endpoint(self, request: Request, *, mine: bool = False) -> Endpoint:
        owner = self._who(request)
        endpoint = known_endpoint(self._book, request.path_params["id"])
        if (mine and endpoint.owner != owner) or not endpoint.admits(owner):
            raise refusal(403, "RESOURCE_FORBIDDEN", f"Unauthorized access to endpoint: {endpoint.id}")
        return endpoint

    def _function(self, request: Request) -> Function:
        owner = self._who(request)
        function = self._book.functions.get(request.path_params["id"])
        if function is None or not (function.public or function.owner == owner):
            raise refusal(404, "FUNCTION_NOT_FOUND", f"Function {request.path_params['id']} could not be resolved")
        return function

    def _task(self, owner: str, task_id: str) -> Task | None:
        task = self._book.tasks.get(task_id)
        return task if task is not None and task.owner == owner else None


def _listed(endpoint: Endpoint) -> Document:
    return {
        "uuid": endpoint.id,
        "name": endpoint.name,
        "display_name": endpoint.display_name,
        "owner": endpoint.owner,
    }


def _as_source(name: str, source: str) -> str:
    """Code that came as plain source, as the SDK's `PureSourceTextInspect` would have sent it."""
    text = f"st\n{name}:{source}"
    return f"{len(text)}\n{text}"
