"""The published descriptions of the IRI API, where they lie beside the project, and all traffic held to them."""

from __future__ import annotations

import functools
import json
import re
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import yaml
from jsonschema import Draft202012Validator, FormatChecker

FOLDER = Path(__file__).parents[3] / "shared" / "data" / "contracts"

_formats = FormatChecker(formats=())


@_formats.checks("date-time", raises=ValueError)
def _is_moment(value: object) -> bool:
    return not isinstance(value, str) or datetime.fromisoformat(value).tzinfo is not None


@_formats.checks("uri")
def _is_uri(value: object) -> bool:
    return not isinstance(value, str) or re.match(r"[a-z][a-z0-9+.-]*:", value) is not None


INJECTED = "injected by the sandbox"
"""In answers of the sandbox's own, which no facility describes."""


@dataclass
class Contract:
    """One version. `asked` are the operations asked for, `seen` those that were answered, each with the statuses."""

    version: int
    document: dict[str, Any]
    asked: set[str] = field(default_factory=set)
    seen: dict[str, set[int]] = field(default_factory=dict)
    _validators: dict[int, Draft202012Validator] = field(default_factory=dict)

    @property
    def operations(self) -> dict[str, dict[str, Any]]:
        return {row["operationId"]: row for path in self.document["paths"].values() for row in path.values()}

    def check_request(self, request: httpx.Request) -> None:
        """Fails for a request that the API does not have. Other addresses are none of its business."""
        if not request.url.path.startswith(f"/iri/api/v{self.version}/"):
            return
        found = self._operation(request)
        assert found is not None, f"version {self.version} has no {request.method} {request.url.path}"
        name = found["operationId"]
        self.asked.add(name)
        parameters = {row["name"]: row for row in found.get("parameters", ()) if row["in"] == "query"}
        assert set(request.url.params) <= parameters.keys(), f"{name}: {request.url.query!r}"
        missing = {key for key, row in parameters.items() if row["required"] and key not in request.url.params}
        assert not missing, f"{name} lacks {missing}"
        body = found.get("requestBody")
        if body is None or (not request.content and not body.get("required")):
            assert request.content == b"", f"{name} takes no body: {request.content!r}"
            return
        self._demand(body["content"]["application/json"]["schema"], json.loads(request.content), f"{name} asked")

    def check(self, request: httpx.Request, response: httpx.Response) -> None:
        """Fails for an answer that its operation does not describe. Other addresses are none of its business."""
        found = self._operation(request)
        if found is None:
            return
        response.read()
        self.seen.setdefault(found["operationId"], set()).add(response.status_code)
        if response.status_code >= 400 and INJECTED in response.text:
            return
        declared = found["responses"].get(str(response.status_code))
        assert declared is not None, f"{found['operationId']} may not answer {response.status_code}: {response.text}"
        content = declared.get("content")
        if content is None:
            assert response.content == b"", found["operationId"]
            return
        about = f"{found['operationId']} {response.status_code}"
        self._demand(content["application/json"]["schema"], response.json(), about)
        kind = "application/problem+json" if response.status_code >= 400 else "application/json"
        assert response.headers["content-type"].startswith(kind)
        for name in declared.get("headers", {}):
            assert name in response.headers, f"{about} lacks {name}"

    def _demand(self, schema: dict[str, Any], value: object, about: str) -> None:
        if id(schema) not in self._validators:
            whole = {**schema, "components": self.document["components"]}
            self._validators[id(schema)] = Draft202012Validator(whole, format_checker=_formats)
        errors = [error.message for error in self._validators[id(schema)].iter_errors(value)]
        assert errors == [], f"{about}: {value}"

    def _operation(self, request: httpx.Request) -> dict[str, Any] | None:
        path = request.url.path.removeprefix("/iri")
        for pattern, row in _patterns(self.version):
            if pattern.fullmatch(path) and request.method.lower() in row:
                operation: dict[str, Any] = row[request.method.lower()]
                return operation
        return None


@functools.cache
def document(version: int) -> dict[str, Any] | None:
    path = FOLDER / f"iri_facility_api_v{version}.yaml"
    if not path.is_file():
        return None
    found: dict[str, Any] = yaml.load(path.read_bytes(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    return found


@functools.cache
def _patterns(version: int) -> list[tuple[re.Pattern[str], dict[str, Any]]]:
    paths = (document(version) or {"paths": {}})["paths"]
    # Those without a parameter first: /status/resources is no resource.
    rows = sorted(paths.items(), key=lambda row: row[0].count("{"))
    return [(re.compile(re.sub(r"\{\w+\}", "[^/]+", path)), row) for path, row in rows]
