"""config.yml and the environment -> `Settings`, or one error with everything that is wrong."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from pydantic import ValidationError

from orchestration.config import document as documents
from orchestration.config.base import suggestion
from orchestration.config.document import Document, Key, Problem, dotted
from orchestration.config.endpoint import Endpoint
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
        for key, message in (*_nowhere(settings, document), *_dangling(settings)):
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
    if kind == "missing":
        return f"`{key[-1]}` is missing: add it"
    if kind == "extra_forbidden":
        return f"unknown key `{key[-1]}`, {suggestion(str(key[-1]), known_keys(key[:-1]))}"
    text = text.removeprefix("Value error, ").removeprefix("Input ")
    if kind == "value_error" or isinstance(value, dict | list) or "secret" in str(key[-1:]):
        return text
    return f"{text[:1].lower()}{text[1:]}, and is {value!r}"


def _nowhere(settings: Settings, document: Document) -> Iterator[tuple[Key, str]]:
    for name, endpoint in settings.endpoints.items():
        key: Key = ("globus", "globus_endpoints", name)
        if endpoint.uuid is None and endpoint.mount is None and (*key, "uuid") not in document.lines:
            yield key, "has neither `uuid` (a Globus collection) nor `mount` (a directory of this machine): add one"


def _dangling(settings: Settings) -> Iterator[tuple[Key, str]]:
    """Names that lead nowhere, and retention rules whose proof would prove nothing."""
    for key, name in _endpoint_names(settings):
        if name not in settings.endpoints:
            yield key, f"there is no endpoint `{name}`: {suggestion(name, settings.endpoints)}"
    for identifier, beamline in settings.beamlines.items():
        for position, site in enumerate(beamline.sites):
            if site not in settings.compute_sites:
                message = f"there is no compute site `{site}`: {suggestion(site, settings.compute_sites)}"
                yield ("beamlines", identifier, "sites", position), message
    yield from _overrides(settings)
    yield from _worthless_proofs(settings)
    yield from _too_few_storages(settings)


def _endpoint_names(settings: Settings) -> Iterator[tuple[Key, str]]:
    for identifier, beamline in settings.beamlines.items():
        named = {
            "acquisition": beamline.acquisition,
            "server": beamline.server,
            "raw": beamline.raw,
            "scratch": beamline.scratch,
        }
        if beamline.nersc is not None:
            named["nersc"] = beamline.nersc
        yield from ((("beamlines", identifier, field), name) for field, name in named.items())
    for identifier, site in settings.compute_sites.items():
        yield ("compute_sites", identifier, "raw_endpoint"), site.raw_endpoint
        yield ("compute_sites", identifier, "scratch_endpoint"), site.scratch_endpoint
    for identifier, rule in settings.retention.items():
        yield ("retention", identifier), identifier
        for position, name in enumerate(rule.requires.any_of):
            yield ("retention", identifier, "requires", "any_of", position), name


def _overrides(settings: Settings) -> Iterator[tuple[Key, str]]:
    """An age that operators change has its first value in two places, which must agree."""
    variables = settings.prefect.variables.documents()
    for identifier, rule in settings.retention.items():
        if rule.override is None:
            continue
        key: Key = ("retention", identifier, "override")
        values = variables.get(rule.override.variable)
        if values is None:
            yield (
                (*key, "variable"),
                f"there is no variable `{rule.override.variable}`: {suggestion(rule.override.variable, variables)}",
            )
        elif rule.override.key not in values:
            yield (*key, "key"), f"`{rule.override.variable}` has no such key: {suggestion(rule.override.key, values)}"
        elif values[rule.override.key] != rule.after_days:
            first = f"prefect.variables.{rule.override.variable}.{rule.override.key}"
            message = f"is {rule.after_days:g}, but {first} is {values[rule.override.key]:g}: make them the same"
            yield ("retention", identifier, "after_days"), message


def _worthless_proofs(settings: Settings) -> Iterator[tuple[Key, str]]:
    for identifier, rule in settings.retention.items():
        for position, name in enumerate(rule.requires.any_of):
            here, there = settings.endpoints.get(identifier), settings.endpoints.get(name)
            if here and there and here.shares_storage_with(there):
                message = f"`{name}` is the same storage as `{identifier}`: a file there proves no second copy"
                yield ("retention", identifier, "requires", "any_of", position), f"{message}, name another endpoint"


def _too_few_storages(settings: Settings) -> Iterator[tuple[Key, str]]:
    """Endpoints of one storage hold one copy between them, however many there are."""
    for identifier, rule in settings.retention.items():
        separate: list[Endpoint] = []
        for endpoint in filter(None, map(settings.endpoints.get, rule.requires.any_of)):
            if not any(endpoint.shares_storage_with(other) for other in separate):
                separate.append(endpoint)
        if len(separate) < rule.requires.min_copies:
            yield (
                ("retention", identifier, "requires", "min_copies"),
                f"asks for {rule.requires.min_copies} copies on {len(separate)} separate storages: name more endpoints",
            )


def _error(path: Path, problems: tuple[Problem, ...]) -> ConfigError:
    if len(problems) == 1:
        return ConfigError(str(problems[0]), where=str(path))
    listed = "".join(f"\n  {problem}" for problem in problems)
    return ConfigError(f"{len(problems)} problems in {path.name}:{listed}\n ", where=str(path))
