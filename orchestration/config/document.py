"""YAML text as plain values, with the line of each key, and ``${VAR}`` replaced."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import TypeAlias

import yaml

Key: TypeAlias = tuple[str | int, ...]
"""Where a value is: the keys and list positions that lead to it."""

_VARIABLE = re.compile(r"\$\{(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>[^}]*))?\}")
_MERGE_TAG = "tag:yaml.org,2002:merge"
_PLAIN_TAGS = {"tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"}


@dataclass(frozen=True, order=True)
class Problem:
    """One thing that is wrong with a settings file; `line` counts from 1, `key` is written with dots."""

    line: int
    key: str
    message: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.key}: {self.message}" if self.key else f"line {self.line}: {self.message}"


def dotted(key: Key) -> str:
    """``("a", "b", 0)`` as ``a.b[0]``."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in key).lstrip(".")


@dataclass
class Document:
    """A settings file, read but not yet checked."""

    data: object = None
    lines: dict[Key, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def line(self, key: Key) -> int:
        """The line of a key, or of the nearest section around it."""
        while key and key not in self.lines:
            key = key[:-1]
        return self.lines.get(key, 1)

    def report(self, key: Key, message: str) -> None:
        self.problems.append(Problem(self.line(key), dotted(key), message))


def read(text: str) -> Document:
    """The document; what is wrong with it as YAML, or with its variables, is in its `problems`."""
    document = Document()
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is not None:
            document.data = _Reader(loader=loader, document=document).value(node, ())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        document.problems.append(Problem(mark.line + 1 if mark else 1, "", f"not YAML: {error.problem}"))
    except yaml.YAMLError as error:
        document.problems.append(Problem(1, "", f"not YAML: {error}"))
    return document


@dataclass(kw_only=True)
class _Reader:
    loader: yaml.SafeLoader
    document: Document
    open_nodes: list[yaml.Node] = field(default_factory=list)

    def value(self, node: yaml.Node, key: Key) -> object:
        self.document.lines.setdefault(key, node.start_mark.line + 1)
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, key)
        if any(node is outer for outer in self.open_nodes):
            self.document.report(key, "an alias that contains itself")
            return None
        if node.tag not in _PLAIN_TAGS:
            self.document.report(key, f"has the tag `{node.tag}`, which means nothing here: leave it out")
        self.open_nodes.append(node)
        try:
            return self._mapping(node, key) if isinstance(node, yaml.MappingNode) else self._sequence(node, key)
        finally:
            self.open_nodes.pop()

    def _mapping(self, node: yaml.MappingNode, key: Key) -> dict[str, object]:
        self._report_repeated(node, key)
        self.loader.flatten_mapping(node)
        found: dict[str, object] = {}
        for name_node, value_node in node.value:
            inner = (*key, str(name_node.value))
            self.document.lines[inner] = name_node.start_mark.line + 1
            found[str(name_node.value)] = self.value(value_node, inner)
        return found

    def _report_repeated(self, node: yaml.MappingNode, key: Key) -> None:
        first: dict[str, int] = {}
        for name_node, _ in node.value:
            name, line = str(name_node.value), name_node.start_mark.line + 1
            if name in first and name_node.tag != _MERGE_TAG:
                text = f"given a second time (first on line {first[name]}): keep one"
                self.document.problems.append(Problem(line, dotted((*key, name)), text))
            first.setdefault(name, line)

    def _sequence(self, node: yaml.Node, key: Key) -> list[object]:
        return [self.value(item, (*key, index)) for index, item in enumerate(node.value)]

    def _scalar(self, node: yaml.ScalarNode, key: Key) -> object:
        if "${" in node.value:
            return self._expand(str(node.value), key)
        try:
            return self.loader.construct_object(node)
        except ValueError as error:  # what looks like a date or a number and is none, such as 2026-02-31
            self.document.report(key, f"{error}: put it in quotes if it is text")
            return str(node.value)

    def _expand(self, text: str, key: Key) -> str | None:
        """Variables replaced; None where nothing is left, so that the key counts as not written."""
        missing = [match["name"] for match in _VARIABLE.finditer(text) if _lookup(match) is None]
        if missing and _is_credential(key):
            return None
        for name in missing:
            self.document.report(
                key,
                f"needs the variable {name}, which is not set: set it in the environment or in .env, "
                f"or write a default, `${{{name}:-value}}`",
            )
        expanded = _VARIABLE.sub(lambda match: _lookup(match) or "", text)
        if "${" in expanded and not missing:
            self.document.report(key, "has a `${` that is not `${VARIABLE}` or `${VARIABLE:-default}`")
        return expanded or None


def _lookup(match: re.Match[str]) -> str | None:
    """The variable, or its default; an empty variable counts as not set."""
    return os.environ.get(match["name"]) or match["default"]


def _is_credential(key: Key) -> bool:
    """Credentials may be absent: they are demanded by what uses them, and most commands do not."""
    return key[:2] == ("globus", "globus_apps") and key[-1] in {"client_id", "client_secret"}
