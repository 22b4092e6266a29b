"""What is asked of any machine that runs programs, in the words of PSI/J and of the IRI facility API."""

from __future__ import annotations

import enum
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar

from orchestration.errors import InvalidInput
from orchestration.mentions import absolute, mentioned
from orchestration.policy import Effect

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
    """What a job occupies; counts are totals per node except `nodes`. `memory` is in bytes, None for no wish.

    The program is started once, on the first node: by PSI/J's launcher ``single``. `processes_per_node` is the room for
    those that it starts itself, with the site's launcher: ``srun`` as the `executable` starts as many on each node.
    """

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
class Mount:
    """A directory of the machine as a container sees it."""

    source: str
    target: str
    read_only: bool = False

    def __post_init__(self) -> None:
        for path in (self.source, self.target):
            if not path.startswith("/") or ":" in path or "\0" in path:
                raise InvalidInput(f"{path!r} cannot be mounted into a container: it must be absolute, without a colon")

    def document(self) -> Document:
        return {"source": self.source, "target": self.target, "read_only": self.read_only}


@dataclass(frozen=True, kw_only=True)
class JobSpec:
    """Run `executable` with `arguments` (never through a shell) in `directory`, for at most `duration` seconds.

    `environment` is added to a small base of the machine's own; nothing of the submitter's environment is inherited.
    `outputs` are checked when the exit code is 0. `container` is an image with the directories `mounts`; the site knows
    what runs it. `queue`, `account`, `constraint` and `reservation` are the site's own words for them. A job that has
    not begun `start_within` seconds after its submission never begins. `name` is for people and no part of the
    request's identity. Where it runs, and so takes data, its service says.
    """

    effect: ClassVar[Effect] = Effect.COMPUTE

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
    mounts: tuple[Mount, ...] = ()
    constraint: str = ""
    reservation: str = ""
    start_within: float | None = None
    name: str = ""

    def __post_init__(self) -> None:
        if not self.executable:
            raise InvalidInput("a job without a program was asked for")
        if not self.directory.startswith("/"):
            raise InvalidInput(f"the directory of a job must be absolute, not {self.directory!r}")
        if not self.duration > 0:
            raise InvalidInput(f"the duration of a job must be positive, not {self.duration}")
        if self.start_within is not None and not self.start_within > 0:
            raise InvalidInput(f"the time in which a job must begin must be positive, not {self.start_within}")
        texts = (self.executable, self.directory, *self.arguments, *self.environment, *self.environment.values())
        if any("\0" in text for text in texts):
            raise InvalidInput("a NUL character in the command or environment of a job")

    @property
    def writes(self) -> tuple[str, ...]:
        """The absolute paths of what it is to make, and those it names that are in one line with them, or with where it
        begins: what they are for is not known.
        """
        made = (*self._made, self._begins)
        near = (path for path in self._mentioned if _in_line(path, made))
        return tuple(dict.fromkeys((*self._made, *near)))

    @property
    def reads(self) -> tuple[str, ...]:
        """All other absolute paths that it names."""
        made = (*self._made, self._begins)
        return tuple(path for path in self._mentioned if not _in_line(path, made))

    @property
    def _begins(self) -> str:
        return absolute(".", self.directory)

    @property
    def _made(self) -> tuple[str, ...]:
        return tuple(absolute(output.path, self.directory) for output in self.outputs)

    @cached_property
    def _mentioned(self) -> tuple[str, ...]:
        texts = (self.executable, *self.arguments, *self.environment.values(), *(each.source for each in self.mounts))
        return mentioned(texts, directory=self.directory)

    def document(self) -> Document:
        arguments: list[Json] = list(self.arguments)
        outputs: list[Json] = [output.document() for output in self.outputs]
        mounts: list[Json] = [mount.document() for mount in self.mounts]
        rare: Document = {
            "mounts": mounts,
            "constraint": self.constraint,
            "reservation": self.reservation,
            "start_within": self.start_within,
        }
        # What is not asked for is not in the document: a job is the same job to versions that could not ask for it.
        asked: Document = {key: value for key, value in rare.items() if value}
        return asked | {
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

    @classmethod
    def parse(cls, document: Document) -> JobSpec:
        """The job back from the ledger; it has lost only its name.

        Raises:
            InvalidInput: if this is not the document of a job.
        """
        try:
            return _parsed(document)
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidInput(f"this is not the document of a job: {error!r}") from error


def _in_line(path: str, made: Collection[str]) -> bool:
    """Whether one of them is the path, or is above or below it."""
    return any(f"{path}/".startswith(f"{one}/") or f"{one}/".startswith(f"{path}/") for one in made)


def _parsed(found: Mapping[str, Any]) -> JobSpec:
    return JobSpec(
        executable=found["executable"],
        arguments=tuple(found["arguments"]),
        directory=found["directory"],
        duration=found["duration"],
        outputs=tuple(Output(**{**each, "kind": OutputKind(each["kind"])}) for each in found["outputs"]),
        environment=dict(found["environment"]),
        resources=Resources(**found["resources"]),
        queue=found["queue"],
        account=found["account"],
        container=found["container"],
        mounts=tuple(Mount(**each) for each in found.get("mounts", ())),
        constraint=found.get("constraint", ""),
        reservation=found.get("reservation", ""),
        start_within=found.get("start_within"),
    )
