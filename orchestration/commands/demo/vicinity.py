"""What every demo has around it: a sandbox, a terminal, programs that it starts, and words at the end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.text import Text

from orchestration import config
from orchestration.commands import page
from orchestration.config.environment import ENV_FILES
from orchestration.errors import JobFailed
from orchestration.flows.main import use_environment
from orchestration.sandbox.layout import DEFAULT
from orchestration.sandbox.supervisor import Supervisor

F = TypeVar("F", bound=Callable[..., Any])

_OPTIONS = (
    click.option("--exit", "stop", is_flag=True, help="Stop the sandbox at the end."),
    click.option("--json", "as_json", is_flag=True, help="Write one JSON object at the end; all else goes to stderr."),
    click.option(
        "--state",
        type=click.Path(path_type=Path, file_okay=False),
        default=lambda: os.environ.get("BEAMLINE_SANDBOX") or DEFAULT,
        show_default=str(DEFAULT),
        help="Directory of the sandbox.",
    ),
)


def sandbox_options(command: F) -> F:
    """``--exit``, ``--json`` and ``--state``."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


@dataclass
class Progress:
    """What came of it, as it comes."""

    console: Console
    stages: list[dict[str, object]] = field(default_factory=list)

    def say(self, text: str) -> None:
        page.write(self.console, [Text(text, style=page.HEAD)])

    def note(self, text: str) -> None:
        page.write(self.console, [f"  {text}"])

    def part(self, name: str, seconds: float) -> None:
        page.write(self.console, [f"  {seconds:7.1f} s  {name}" if seconds else f"        -    {name} (runs already)"])

    def timed(self, name: str, began: float) -> None:
        seconds = round(time.monotonic() - began, 3)
        self.stages.append({"name": name, "seconds": seconds})
        self.part(name, seconds)


@dataclass(frozen=True, kw_only=True)
class Vicinity:
    """Where a demo takes place, and how it ends."""

    supervisor: Supervisor
    progress: Progress
    stop: bool
    as_json: bool
    elsewhere: bool
    """Whether other commands, as this one was started, would look at something else than the sandbox of the demo."""

    @classmethod
    def of(cls, state: Path, *, stop: bool, as_json: bool) -> Vicinity:
        supervisor = Supervisor(state)
        return cls(
            supervisor=supervisor,
            progress=Progress(page.terminal(err=as_json)),
            stop=stop,
            as_json=as_json,
            elsewhere=_leads_elsewhere(supervisor),
        )

    def begin(self) -> None:
        """Start the sandbox, and let this process see it, whatever its own environment points to."""
        self.progress.say("Starting a facility on this machine")
        began = time.monotonic()
        self.supervisor.up(self.progress.part)
        self.progress.timed("start the sandbox", began)
        os.environ.update(self.supervisor.environment)
        use_environment()

    def leave(self) -> None:
        if self.stop:
            self.supervisor.down()

    @property
    def urls(self) -> dict[str, str]:
        environment = self.supervisor.environment
        prefect = environment["PREFECT_API_URL"].removesuffix("/api")
        catalogue = environment["SCICAT_API_URL"].partition("/scicat/")[0] + "/catalogue"
        return {"prefect": prefect, "catalogue": catalogue}

    def farewell(self, commands: Iterable[str]) -> list[str]:
        """What can be typed next."""
        if self.stop:
            return ["The sandbox is stopped. What was taken is still there when it starts again."]
        lines = ["The sandbox is still running. Look around, and stop it when you have seen enough:"]
        if self.elsewhere:
            lines.append(f"  set -a; . {self.supervisor.layout.environment_file}; set +a")
        return lines + [f"  {command}" for command in commands]

    def end(self, summary: dict[str, object]) -> None:
        """Exits with 1 if it did not get there."""
        if self.as_json:
            click.echo(json.dumps(summary))
        if summary["state"] != "completed":
            sys.exit(1)


def _leads_elsewhere(supervisor: Supervisor) -> bool:
    if os.environ.get("BEAMLINE_SANDBOX") == str(supervisor.layout.root):
        return False
    found = config.environment_file()
    ours = supervisor.layout.environment_file
    return (found or ENV_FILES[-1]).absolute() != ours or "BEAMLINE_CONFIG" in os.environ


def run_program(module: Sequence[str], **options: object) -> str:
    """Run ``python -m`` a program, and return what it writes.

    Raises:
        JobFailed: with the end of what it says, if it fails.
    """
    given = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    done = subprocess.run([sys.executable, "-m", *module, *given], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise JobFailed(
            f"{module[0]} ended with {done.returncode}: {done.stderr.strip()[-400:]}",
            where="demo",
            next_step="read the message above; report it if it is not about this machine",
        )
    return done.stdout
