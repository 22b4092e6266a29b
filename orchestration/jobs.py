"""What is asked of any machine that runs programs, in the words of PSI/J and of the IRI facility API."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from orchestration.errors import InvalidInput

if TYPE_CHECKING:
    from orchestration.ledger.service import Document, Json

PROGRESS_FILE = "ORCHESTRATION_PROGRESS_FILE"
"""Environment variable: the file to which a program appends lines of JSON ``{"done", "total", "note"}``."""

ERROR_FILE = "ORCHESTRATION_ERROR_FILE"
"""Environment variable: the file to which a failing program writes JSON ``{"type", "what", "where", "next_step"}``."""


class OutputKind(enum.StrEnum):
    FILE = "file"
    """A file that is not empty."""
    DIRECTORY = "directory"
    """A directory in which at least `Output.at_least` files that are not empty match `Output.pattern`."""
    JSON = "json"
    """A file that parses as JSON."""


@dataclass(frozen=True, kw_only=True)
class Output:
    """A result without which a job has failed, whatever its exit code says.

    `path` is absolute, or relative to the job's directory. `pattern` is a glob below a directory (``**/`` descends).
    """

    path: str
    kind: OutputKind = OutputKind.FILE
    pattern: str = "**/*"
    at_least: int = 1

    def document(self) -> Document:
        return {"path": self.path, "kind": self.kind.value, "pattern": self.pattern, "at_least": self.at_least}


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What a job occupies; counts are totals per node except `nodes`. `memory` is in bytes, None for no wish."""

    nodes: int = 1
    processes_per_node: int = 1
    cores: int = 1
    gpus: int = 0
    memory: int | None = None
    exclusive: bool = False

    def __post_init__(self) -> None:
        if min(self.nodes, self.processes_per_node, self.cores) < 1 or self.gpus < 0:
            raise InvalidInput(f"a job cannot run on {self}")

    def document(self) -> Document:
        return {
            "nodes": self.nodes,
            "processes_per_node": self.processes_per_node,
            "cores": self.cores,
            "gpus": self.gpus,
            "memory": self.memory,
            "exclusive": self.exclusive,
        }


@dataclass(frozen=True, kw_only=True)
class JobSpec:
    """Run `executable` with `arguments` (never through a shell) in `directory`, for at most `duration` seconds.

    `environment` is added to a small base of the machine's own; nothing of the submitter's environment is inherited.
    `outputs` are checked when the exit code is 0. `name` is for people and no part of the request's identity.
    """

    executable: str
    arguments: tuple[str, ...] = ()
    directory: str
    duration: float
    outputs: tuple[Output, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    resources: Resources = field(default_factory=Resources)
    queue: str = ""
    account: str = ""
    container: str = ""
    name: str = ""

    def __post_init__(self) -> None:
        if not self.executable:
            raise InvalidInput("a job without a program was asked for")
        if not self.directory.startswith("/"):
            raise InvalidInput(f"the directory of a job must be absolute, not {self.directory!r}")
        if not self.duration > 0:
            raise InvalidInput(f"the duration of a job must be positive, not {self.duration}")
        texts = (self.executable, self.directory, *self.arguments, *self.environment, *self.environment.values())
        if any("\0" in text for text in texts):
            raise InvalidInput("a NUL character in the command or environment of a job")

    def document(self) -> Document:
        arguments: list[Json] = list(self.arguments)
        outputs: list[Json] = [output.document() for output in self.outputs]
        return {
            "executable": self.executable,
            "arguments": arguments,
            "directory": self.directory,
            "duration": self.duration,
            "outputs": outputs,
            "environment": dict(sorted(self.environment.items())),
            "resources": self.resources.document(),
            "queue": self.queue,
            "account": self.account,
            "container": self.container,
        }
