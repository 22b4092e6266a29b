"""The JSON Schema of config.yml, for editors and for checks before a file reaches the machine."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TypeAlias

from orchestration.config.models import Settings

Schema: TypeAlias = "dict[str, Schema] | list[Schema] | str | int | float | bool | None"

_VARIABLE_PATTERN = r"\$\{[A-Za-z_][A-Za-z0-9_]*(:-[^}]*)?\}"
_NOT_TEXT = {"integer", "number", "boolean"}


def settings_schema() -> dict[str, Schema]:
    """The schema of the file as it is written, where any value may be a ``${VARIABLE}``."""
    schema: dict[str, Schema] = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    schema.update(_model_schema())
    schema["title"] = "config.yml"
    return {key: _allow_variables(value) for key, value in schema.items()}


def known_keys(path: Sequence[str | int]) -> tuple[str, ...]:
    """The keys that a section of the file may have; none where the path leads to no section."""
    root = _model_schema()
    node: Schema = root
    for part in path:
        node = _inner(_resolve(node, root), part)
    properties = _resolve(node, root).get("properties")
    return tuple(properties) if isinstance(properties, dict) else ()


@functools.cache
def _model_schema() -> dict[str, Schema]:
    return Settings.model_json_schema(by_alias=True)


def _resolve(node: Schema, root: dict[str, Schema]) -> dict[str, Schema]:
    """The object schema behind a reference or an optional value."""
    if not isinstance(node, dict):
        return {}
    reference, choices, kinds = node.get("$ref"), node.get("anyOf"), node.get("oneOf")
    if isinstance(reference, str):
        definitions = root.get("$defs")
        return _resolve(definitions[reference.rsplit("/", 1)[1]], root) if isinstance(definitions, dict) else {}
    if isinstance(kinds, list):
        merged: dict[str, Schema] = {}
        for kind in kinds:
            properties = _resolve(kind, root).get("properties")
            merged.update(properties if isinstance(properties, dict) else {})
        return {"properties": merged}
    if isinstance(choices, list):
        found = (_resolve(choice, root) for choice in choices)
        return next((choice for choice in found if choice.get("type") != "null"), {})
    return node


def _inner(node: dict[str, Schema], part: str | int) -> Schema:
    if isinstance(part, int):
        return node.get("items")
    properties = node.get("properties")
    if isinstance(properties, dict) and part in properties:
        return properties[part]
    return node.get("additionalProperties")


def _allow_variables(node: Schema) -> Schema:
    if isinstance(node, list):
        return [_allow_variables(item) for item in node]
    if not isinstance(node, dict):
        return node
    inner: dict[str, Schema] = {key: _allow_variables(value) for key, value in node.items()}
    if inner.get("type") in _NOT_TEXT:
        shown: dict[str, Schema] = {key: inner.pop(key) for key in ("title", "description", "default") if key in inner}
        return {"anyOf": [inner, {"type": "string", "pattern": _VARIABLE_PATTERN}], **shown}
    return inner
