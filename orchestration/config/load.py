"""config.yml and the environment -> `Settings`, or one error with everything that is wrong."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import ValidationError

from orchestration.config import consistency
from orchestration.config import document as documents
from orchestration.config.base import suggestion
from orchestration.config.document import Document, Key, Problem, dotted
from orchestration.config.environment import load_environment
from orchestration.config.models import Settings
from orchestration.config.schema import known_keys
from orchestration.errors import ConfigError

FILE_VARIABLE = "BEAMLINE_CONFIG"
DEFAULT_FILE = Path("config.yml")

_FROM_ENVIRONMENT = {("ledger", "url"): "BEAMLINE_LEDGER_URL", ("scicat", "api_url"): "SCICAT_API_URL"}
"""Settings that the environment gives to a file that does not have them, as files of the existing system do not."""


def locate(file: Path | str | None = None) -> Path:
    """The settings file: the argument, else $BEAMLINE_CONFIG, else ./config.yml.

    Raises:
        ConfigError: if it does not exist.
    """
    path = Path(file or os.environ.get(FILE_VARIABLE) or DEFAULT_FILE).expanduser()
    if not path.is_file():
        raise ConfigError(
            f"there is no settings file {path}",
            where=str(Path.cwd()),
            next_step=f"run this in the project's folder, or set {FILE_VARIABLE} to the path of config.yml",
        )
    return path


def load(file: Path | str | None = None) -> Settings:
    """Read the settings; variables of the environment file are set first.

    Raises:
        ConfigError: naming the file and, for everything that is wrong, the line, the key and the remedy.
    """
    load_environment()
    path = locate(file)
    settings, problems = inspect(path)
    if settings is None or problems:
        raise _error(path, problems)
    return settings


def inspect(path: Path) -> tuple[Settings | None, tuple[Problem, ...]]:
    """The settings if they can be had at all, and all that is wrong with the file."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        return None, (Problem(1, "", f"cannot be read: {error}"),)
    document = documents.read(text)
    settings = None if document.problems and document.data is None else _validate(document, path.resolve().parent)
    if settings is not None:
        for key, message in consistency.faults(settings, document):
            document.report(key, message)
    return settings, tuple(sorted(set(document.problems)))


def _validate(document: Document, folder: Path) -> Settings | None:
    data = {} if document.data is None else document.data
    if isinstance(data, dict):
        _fill_from_environment(data)
    try:
        return Settings.model_validate(data, context=folder, by_alias=True, by_name=False)
    except ValidationError as error:
        reported = {problem.key for problem in document.problems}
        for item in error.errors(include_url=False):
            key = _in_file(item["loc"], document)
            if dotted(key) not in reported:
                document.report(key, _message(key, item["type"], item["msg"], item["input"]))
        return None


def _fill_from_environment(data: dict[str, object]) -> None:
    for (section, key), variable in _FROM_ENVIRONMENT.items():
        value = os.environ.get(variable)
        inner = data.get(section) or {}
        if value and isinstance(inner, dict) and inner.get(key) is None:
            data[section] = {**inner, key: value}


def _in_file(loc: Key, document: Document) -> Key:
    """Where pydantic found fault, in keys of the file: it adds the names of union members."""
    key: Key = ()
    for part in loc[:-1]:
        if (*key, part) in document.lines:
            key = (*key, part)
    return (*key, *loc[-1:])


def _message(key: Key, kind: str, text: str, value: object) -> str:
    if kind in {"model_type", "dict_type", "mapping_type"}:
        return f"should be a section, with lines of `key: value`, and is {value!r}"
    if kind == "tuple_type":
        return f"should be a list, such as `[{value}]`"
    if kind == "too_short":
        return "needs at least one entry"
    if kind == "union_tag_invalid":
        return _wrong_kind(text, value)
    if kind == "union_tag_not_found":
        return "`kind` is missing: add it"
    if kind == "missing":
        return f"`{key[-1]}` is missing: add it"
    if kind == "extra_forbidden":
        return f"unknown key `{key[-1]}`, {suggestion(str(key[-1]), known_keys(key[:-1]))}"
    text = text.removeprefix("Value error, ").removeprefix("Input ")
    if kind == "value_error" or isinstance(value, dict | list) or "secret" in str(key[-1:]):
        return text
    return f"{text[:1].lower()}{text[1:]}, and is {value!r}"


def _wrong_kind(text: str, value: object) -> str:
    """pydantic names the choices in the text only."""
    kind = value.get("kind") if isinstance(value, dict) else value
    choices = text.rpartition("expected tags: ")[2].replace("'", "").split(", ")
    return f"there is no kind `{kind}`: {suggestion(str(kind), choices)}"


def _error(path: Path, problems: tuple[Problem, ...]) -> ConfigError:
    if len(problems) == 1:
        return ConfigError(str(problems[0]), where=str(path))
    listed = "".join(f"\n  {problem}" for problem in problems)
    return ConfigError(f"{len(problems)} problems in {path.name}:{listed}\n ", where=str(path))
