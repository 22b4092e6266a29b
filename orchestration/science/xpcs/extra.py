"""What a flow knows of a measurement and its result file does not, for `metadata.json`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from orchestration.science.errors import ParametersInvalid
from orchestration.science.xpcs.documents import number


@dataclass(frozen=True, kw_only=True)
class Tool:
    """A program that had a part in the result."""

    name: str
    tool_version: str = ""
    execution_time_seconds: float | None = None
    device: str | None = None
    source: str | None = None


@dataclass(frozen=True, kw_only=True)
class Extra:
    """What the flow knows and the file does not. `time_zone` is that of times in the file that have no offset."""

    organization: str | None = None
    facility: str | None = None
    experiment: str | None = None
    cycle: str | None = None
    time_zone: str | None = None
    raw: tuple[str, ...] = ()
    qmap: tuple[str, ...] = ()
    tools: tuple[Tool, ...] = ()

    @classmethod
    def read(cls, path: Path) -> Extra:
        """From a JSON file, ``{source_files: {raw: [], qmap: []}, organization, ..., tools: [{name, ...}]}``.

        Raises:
            ParametersInvalid: if it cannot be read, or has keys or types that are not known.
        """
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise ParametersInvalid(f"the extra metadata cannot be read: {error}", where=str(path)) from error
        return cls.parse(text, where=str(path))

    @classmethod
    def parse(cls, text: str, *, where: str) -> Extra:
        """From the text of such a file. Raises ParametersInvalid as `read` does."""
        try:
            document = json.loads(text)
        except ValueError as error:
            raise ParametersInvalid(f"the extra metadata cannot be read: {error}", where=where) from error
        return cls.of(document, where=where)

    @classmethod
    def of(cls, document: object, *, where: str) -> Extra:
        """From the contents of such a file. Raises ParametersInvalid as `read` does."""
        try:
            return cls._of(document)
        except (TypeError, ValueError) as error:
            next_step = "see `Extra` in orchestration/science/xpcs/extra.py for what may be given"
            raise ParametersInvalid(f"extra metadata: {error}", where=where, next_step=next_step) from error

    @classmethod
    def _of(cls, document: object) -> Extra:
        given = _object(document, "they")
        files = _object(given.pop("source_files", {}), "source_files")
        tools = given.pop("tools", [])
        if not isinstance(tools, list):
            raise TypeError("tools is not a list")
        texts = {key: _string(value, key) for key, value in given.items() if value is not None}
        if "time_zone" in texts:
            named_zone(texts["time_zone"])
        lists = {key: _strings(files.pop(key, []), f"source_files.{key}") for key in ("raw", "qmap")}
        if files or not texts.keys() <= {"organization", "facility", "experiment", "cycle", "time_zone"}:
            raise ValueError(f"unknown keys among {sorted(files) + sorted(texts)}")
        return cls(**texts, raw=lists["raw"], qmap=lists["qmap"], tools=tuple(map(_tool, tools)))


def named_zone(name: str) -> ZoneInfo:
    """Raises ValueError if there is none of this name."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"there is no time zone {name!r}") from error


def _tool(document: object) -> Tool:
    given = _object(document, "a tool")
    seconds = given.pop("execution_time_seconds", None)
    if seconds is not None and (isinstance(seconds, bool) or not isinstance(seconds, int | float)):
        raise TypeError("execution_time_seconds of a tool is not a number")
    texts = {key: _string(value, key) for key, value in given.items() if value is not None}
    if "name" not in texts or not texts.keys() <= {"name", "tool_version", "device", "source"}:
        raise ValueError(f"a tool needs a name, and may have no others of {sorted(texts)}")
    return Tool(**texts, execution_time_seconds=number(seconds))


def _object(value: object, what: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise TypeError(f"{what} must be one JSON object")
    return dict(value)


def _string(value: object, key: str) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{key} is not a text")
    return value


def _strings(value: object, key: str) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise TypeError(f"{key} is not a list")
    return tuple(_string(item, key) for item in value)
