"""What a batch is asked to do: a list of tasks, checked as a whole before the first is begun."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestration.science.errors import ParametersInvalid, ScienceError
from orchestration.science.xpcs import options
from orchestration.science.xpcs.correlate import Request
from orchestration.science.xpcs.extra import Extra
from orchestration.science.xpcs.fit import MODELS, Model

RESOURCES = "resources"

_TEXTS = ("name", "raw", "qmap", "output", "outcome")
_MORE = ("extra", "fit", "options")


@dataclass(frozen=True, kw_only=True)
class Task:
    """One dataset: what is computed of it, and the file that says how that went."""

    name: str
    request: Request
    outcome: Path
    extra: Extra
    model: Model

    @property
    def resources(self) -> Path:
        """The folder of pictures."""
        return self.request.out / RESOURCES

    @classmethod
    def of(cls, document: object, *, where: str) -> Task:
        """From an object of the list.

        Raises:
            ParametersInvalid: naming the task, and what is wrong with it.
        """
        given = {key: value for key, value in _object(document, where).items() if value is not None}
        name = str(given.get("name"))
        try:
            return cls._of(given, where=where)
        except ScienceError as error:
            raise ParametersInvalid(f"task {name!r}: {error.what}", where=where, next_step=error.next_step) from error

    @classmethod
    def _of(cls, given: Mapping[str, Any], *, where: str) -> Task:
        unknown = sorted(given.keys() - {*_TEXTS, *_MORE})
        if unknown:
            raise ParametersInvalid(f"{', '.join(unknown)} is not known; a task has {', '.join((*_TEXTS, *_MORE))}")
        wrong = [key for key in _TEXTS if not (isinstance(given.get(key), str) and given[key])]
        if wrong:
            raise ParametersInvalid(f"{', '.join(wrong)} is no text, or not there")
        places = {key: Path(given[key]) for key in ("raw", "qmap", "output")}
        chosen = options.of_task(_object(given.get("options", {}), "options"), places, where=where)
        return cls(
            name=given["name"],
            request=options.request(chosen, overwrite=True),
            outcome=Path(given["outcome"]),
            extra=Extra.of(given.get("extra", {}), where=where),
            model=_model(given.get("fit", MODELS[0])),
        )


def read_tasks(text: str) -> list[Task]:
    """From JSON text, or from the file that is named behind an @.

    Raises:
        ParametersInvalid: if a task is not one, or two are in each other's way.
    """
    where = text[1:] if text.startswith("@") else "--tasks"
    try:
        documents = json.loads(Path(where).read_text(encoding="utf-8") if text.startswith("@") else text)
    except (OSError, ValueError) as error:
        raise ParametersInvalid(f"the list of tasks cannot be read: {error}", where=where) from error
    if not isinstance(documents, list) or not documents:
        raise ParametersInvalid("the tasks are not a JSON list of at least one", where=where)
    tasks = [Task.of(document, where=where) for document in documents]
    _demand_different(tasks, where=where)
    return tasks


def _demand_different(tasks: Sequence[Task], *, where: str) -> None:
    """Results of one name in one folder would take the place of each other; names are not known before that is read."""
    keys: Mapping[str, Callable[[Task], str]] = {
        "name": lambda task: task.name,
        "outcome": lambda task: os.path.abspath(task.outcome),
        "output": lambda task: os.path.abspath(task.request.out),
    }
    for what, key in keys.items():
        twice = _twice(map(key, tasks))
        if twice is not None:
            names = ", ".join(repr(task.name) for task in tasks if key(task) == twice)
            raise ParametersInvalid(f"tasks {names} have the same {what}, {twice}", where=where)


def _twice(values: Iterable[str]) -> str | None:
    return next((value for value, count in Counter(values).items() if count > 1), None)


def _model(value: object) -> Model:
    for model in MODELS:
        if value == model:
            return model
    raise ParametersInvalid(f"fit is {value!r}, not one of {', '.join(MODELS)}")


def _object(value: object, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ParametersInvalid(f"{what} must be a JSON object, not {value!r}", where=what)
    return value
