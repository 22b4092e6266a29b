"""The published descriptions of the IRI API, where they lie beside the project, and every answer held to them."""

from __future__ import annotations

import functools
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


@dataclass
class Contract:
    """One version. `seen` are the operations that were answered, each with the statuses."""

    version: int
    document: dict[str, Any]
    seen: dict[str, set[int]] = field(default_factory=dict)

    @property
    def operations(self) -> dict[str, dict[str, Any]]:
        return {row["operationId"]: row for path in self.document["paths"].values() for row in path.values()}

    def check(self, request: httpx.Request, response: httpx.Response) -> None:
        """Fails for an answer that its operation does not describe. Other addresses are none of its business."""
        found = self._operation(request)
        if found is None:
            return
        response.read()
        self.seen.setdefault(found["operationId"], set()).add(response.status_code)
        declared = found["responses"].get(str(response.status_code))
        assert declared is not None, f"{found['operationId']} may not answer {response.status_code}: {response.text}"
        content = declared.get("content")
        if content is None:
            assert response.content == b"", found["operationId"]
            return
        schema = {**content["application/json"]["schema"], "components": self.document["components"]}
        errors = [error.message for error in _validator(schema).iter_errors(response.json())]
        assert errors == [], f"{found['operationId']} {response.status_code}: {response.text}"
        kind = "application/problem+json" if response.status_code >= 400 else "application/json"
        assert response.headers["content-type"].startswith(kind)
        for name in declared.get("headers", {}):
            assert name in response.headers, f"{found['operationId']} {response.status_code} lacks {name}"

    def _operation(self, request: httpx.Request) -> dict[str, Any] | None:
        path = request.url.path.removeprefix("/iri")
        for pattern, row in _patterns(self.version):
            if pattern.fullmatch(path) and request.method.lower() in row:
                operation: dict[str, Any] = row[request.method.lower()]
                return operation
        return None


def _validator(schema: dict[str, Any]) -> Draft202012Validator:
    return Draft202012Validator(schema, format_checker=_formats)


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
