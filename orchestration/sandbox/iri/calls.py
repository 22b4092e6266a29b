"""One request to the API, read strictly: unknown parameters and fields of the wrong kind are refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from orchestration.sandbox import documents
from orchestration.sandbox.iri.problems import Problem, invalid
from orchestration.sandbox.iri.version import Version

M = TypeVar("M", bound=BaseModel)

Text = Annotated[str, Field(min_length=1)]
Moment = Annotated[datetime, AfterValidator(lambda at: at if at.tzinfo else at.replace(tzinfo=UTC))]
"""A time; without an offset it is UTC."""


class Query(BaseModel):
    """Parameters after the question mark; none but these."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)


class Page(Query):
    offset: Annotated[int, Field(ge=0)] = 0
    limit: Annotated[int, Field(ge=0, le=1000)] = 100


class Body(BaseModel):
    model_config = ConfigDict(extra="ignore", populate_by_name=True)


@dataclass(frozen=True, kw_only=True)
class Call:
    """`user` is empty where the operation is public."""

    version: Version
    request: Request
    raw: bytes
    upload: bytes | None = None
    user: str = ""

    @property
    def base(self) -> str:
        """The address of this version of the API."""
        url = self.request.url
        return f"{url.scheme}://{url.netloc}{self.request.scope['root_path']}"

    def path(self, name: str) -> str:
        return str(self.request.path_params[name])

    def header(self, name: str) -> str:
        return self.request.headers.get(name, "")

    def query(self, model: type[M], *, lists: frozenset[str] = frozenset()) -> M:
        """Raises: Problem 400 or 422."""
        given = self.request.query_params.multi_items()
        counted = Counter(name for name, _ in given)
        known = {field.alias or name for name, field in model.model_fields.items()}
        for name, count in counted.items():
            if name not in known:
                raise Problem(422, f"Unexpected query parameter: {name}")
            if count > 1 and name not in lists:
                raise Problem(422, f"Duplicate query parameter: {name}")
        values: dict[str, Any] = {
            name: [text for key, text in given if key == name] if name in lists else value for name, value in given
        }
        return _validated(model, values)

    def body(self, model: type[M]) -> M:
        """Raises: Problem 400."""
        try:
            return _validated(model, documents.decode(self.raw))
        except documents.NotADocument as error:
            raise Problem(400, f"the body is not a JSON object: {error}") from error


def _validated(model: type[M], values: dict[str, Any]) -> M:
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise invalid(error) from error


Handler = Callable[[Call], Response]


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One operation of the API, under the name that its description gives it."""

    name: str
    method: str
    path: str
    handler: Handler
    public: bool = False

    def route(self, version: Version, user: Callable[[Request], str]) -> Route:
        """`user` says who asks, or raises Problem 401."""

        async def endpoint(request: Request) -> Response:
            name = "" if self.public else user(request)
            call = Call(version=version, request=request, user=name, **await _contents(request))
            return await run_in_threadpool(self.handler, call)

        answering: Callable[[Request], Awaitable[Response]] = endpoint
        return Route(self.path, answering, methods=[self.method], name=self.name)


async def _contents(request: Request) -> dict[str, Any]:
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        return {"raw": await request.body()}
    async with request.form() as form:
        file = form.get("file")
        return {"raw": b"", "upload": None if file is None or isinstance(file, str) else await file.read()}
