"""Running a flow from a terminal: ``python -m orchestration.flows.<beamline>.<flow> <path>``."""

from __future__ import annotations

import inspect
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, get_args, get_origin, get_type_hints

import click
from prefect import Flow
from prefect.context import refresh_global_settings_context
from pydantic import BaseModel, ValidationError

import orchestration
from orchestration import config
from orchestration.errors import OrchestrationError

_RUN_LOGGERS = ("prefect.flow_runs", "prefect.task_runs")

_SIMPLE = (str, bool, int, float)


def command(
    flow: Flow[Any, Any], argv: Sequence[str] | None = None, *, switches: Mapping[str, str] | None = None
) -> None:
    """Run `flow` in this process with arguments from the command line, and exit 1 with its error sentence if it fails.

    The flow's first parameter, if it has any, is an argument, or several if it is a list; the others are options, and
    so are the fields of those that are models. `switches` are names of yes and no (``--dry-run/--delete``) for
    parameters that are one of both.
    """
    models = _models(flow)

    def run(**parameters: Any) -> None:
        use_environment()
        for logger in _RUN_LOGGERS:
            logging.getLogger(logger).addFilter(_without_traceback)
        given = {name: _given(value) for name, value in parameters.items() if value is not None}
        try:
            flow(**_collected(given, models))
        except OrchestrationError as error:
            click.echo(f"{type(error).__name__}: {error.sentence}", err=True)
            sys.exit(1)

    name = _module(flow)
    click.Command(
        f"python -m {name}", params=_params(flow, switches or {}), callback=run, help=inspect.getdoc(flow.fn)
    ).main(args=None if argv is None else list(argv), prog_name=f"python -m {name}")


def _module(flow: Flow[Any, Any]) -> str:
    """The one that was started with ``python -m``, else that of the flow: it may be served by several."""
    started = getattr(sys.modules["__main__"], "__spec__", None)
    if started is not None and started.name.startswith(f"{orchestration.__name__}."):
        return str(started.name)
    module = inspect.getmodule(flow.fn)
    return module.__spec__.name if module is not None and module.__spec__ is not None else flow.name


def _without_traceback(record: logging.LogRecord) -> bool:
    """An error that is meant for people says what, where and what next; how it came up is for the level DEBUG."""
    known = record.exc_info is not None and isinstance(record.exc_info[1], OrchestrationError)
    if known and not logging.getLogger(record.name).isEnabledFor(logging.DEBUG):
        record.exc_info = record.exc_text = None
    return True


def use_environment() -> None:
    """Let the environment file decide which Prefect server is used: Prefect has read its settings at import."""
    config.load_environment()
    refresh_global_settings_context()


def _given(value: Any) -> Any:
    """Several arguments are a list, as in a request for a run."""
    return [*value] if isinstance(value, tuple) else value


def _hints(flow: Flow[Any, Any]) -> Mapping[str, Any]:
    """The types of the parameters; what a flow returns may have a type that its module does not know by name."""
    named = {name: hint for name, hint in inspect.get_annotations(flow.fn).items() if name != "return"}
    return get_type_hints(type("Parameters", (), {"__annotations__": named, "__module__": flow.fn.__module__}))


def _models(flow: Flow[Any, Any]) -> Mapping[str, type[BaseModel]]:
    """The parameters of a flow that are models, by name."""
    hints = _hints(flow)
    return {
        name: hints[name]
        for name in inspect.signature(flow.fn).parameters
        if isinstance(hints.get(name), type) and issubclass(hints[name], BaseModel)
    }


def _collected(given: dict[str, Any], models: Mapping[str, type[BaseModel]]) -> dict[str, Any]:
    """The parameters of a flow: fields of a model are put together again.

    Raises:
        click.UsageError: if they do not go together.
    """
    collected = dict(given)
    for name, model in models.items():
        fields = {field: collected.pop(field) for field in model.model_fields if field in collected}
        try:
            collected[name] = model(**fields)
        except ValidationError as error:
            said = "; ".join(f"{'.'.join(map(str, each['loc']))} {each['msg']}".strip() for each in error.errors())
            raise click.UsageError(said) from error
    return collected


def _params(flow: Flow[Any, Any], switches: Mapping[str, str]) -> list[click.Parameter]:
    hints, models = _hints(flow), _models(flow)
    parameters = list(inspect.signature(flow.fn).parameters.values())
    params: list[click.Parameter] = [
        click.Argument(
            [first.name],
            required=first.default is inspect.Parameter.empty,
            nargs=-1 if get_origin(hints[first.name]) is list else 1,
        )
        for first in parameters[:1]
    ]
    for parameter in parameters[1:]:
        if parameter.name in models:
            params += _fields(models[parameter.name])
        elif parameter.name in switches:
            params.append(click.Option([switches[parameter.name]], default=parameter.default))
        else:
            params += _option(parameter.name, hints[parameter.name], parameter.default)
    return params


def _fields(model: type[BaseModel]) -> Iterator[click.Option]:
    """Not given, they are left to the model."""
    for name, field in model.model_fields.items():
        shown = field.default != "" and field.default is not False and str(field.default)
        yield from _option(name, field.annotation, None, field.description, shown=shown)


def _option(
    name: str, kind: Any, default: Any, described: str | None = None, *, shown: str | bool = True
) -> Iterator[click.Option]:
    """None for what a command line cannot say: those have their defaults there."""
    plain = _without_none(kind)
    option = f"--{name.replace('_', '-')}"
    if plain is bool:
        yield click.Option([f"{option}/--no-{option[2:]}"], default=default, show_default=shown, help=described)
        return
    choice = click.Choice([str(each) for each in get_args(plain)]) if get_origin(plain) is Literal else None
    if choice is None and plain not in _SIMPLE:
        return
    required = default is inspect.Parameter.empty
    yield click.Option(
        [option],
        type=choice or plain,
        default=None if required else default,
        required=required,
        show_default=shown,
        help=described,
    )


def _without_none(kind: Any) -> Any:
    """``int`` of ``int | None``."""
    kinds = get_args(kind)
    return next(each for each in kinds if each is not type(None)) if type(None) in kinds else kind
