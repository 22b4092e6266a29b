"""Running a flow from a terminal: ``python -m orchestration.flows.<beamline>.<flow> <path>``."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Sequence
from typing import Any

import click
from prefect import Flow
from prefect.context import refresh_global_settings_context

from orchestration import config
from orchestration.errors import OrchestrationError

_SIMPLE = {"str": str, "bool": bool, "int": int, "float": float}


def command(flow: Flow[Any, Any], argv: Sequence[str] | None = None) -> None:
    """Run `flow` in this process with arguments from the command line, and exit 1 with its error sentence if it fails.

    The flow's first parameter, if it has any, is an argument; the others are options.
    """

    def run(**parameters: Any) -> None:
        use_environment()
        try:
            flow(**{name: value for name, value in parameters.items() if value is not None})
        except OrchestrationError as error:
            click.echo(f"{type(error).__name__}: {error.sentence}", err=True)
            sys.exit(1)

    module = inspect.getmodule(flow.fn)
    name = module.__spec__.name if module is not None and module.__spec__ is not None else flow.name
    click.Command(f"python -m {name}", params=_params(flow), callback=run, help=inspect.getdoc(flow.fn)).main(
        args=None if argv is None else list(argv), prog_name=f"python -m {name}"
    )


def use_environment() -> None:
    """Let the environment file decide which Prefect server is used: Prefect has read its settings at import."""
    config.load_environment()
    refresh_global_settings_context()


def _params(flow: Flow[Any, Any]) -> list[click.Parameter]:
    parameters = list(inspect.signature(flow.fn).parameters.values())
    params: list[click.Parameter] = [
        click.Argument([first.name], required=first.default is inspect.Parameter.empty) for first in parameters[:1]
    ]
    for parameter in parameters[1:]:
        kind = _SIMPLE.get(str(parameter.annotation).removesuffix(" | None"))
        if kind is None:
            continue
        option = f"--{parameter.name.replace('_', '-')}"
        if kind is bool:
            params.append(click.Option([f"{option}/--no-{option[2:]}"], default=parameter.default, show_default=True))
        else:
            required = parameter.default is inspect.Parameter.empty
            default = None if required else parameter.default
            params.append(click.Option([option], type=kind, default=default, required=required, show_default=True))
    return params
