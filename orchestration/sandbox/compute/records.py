"""What the stand-in for Globus Compute remembers of functions, endpoints, groups and tasks."""

from __future__ import annotations

import enum
import time
from dataclasses import asdict, dataclass, field
from typing import cast

from orchestration.ledger.service import Document
from orchestration.sandbox import documents

_BEATS = 2.5
"""Heartbeats that an endpoint may miss before it counts as offline."""


class EndpointKind(enum.StrEnum):
    INLINE = "inline"
    """Its tasks run in processes of the facility."""
    DAEMON = "daemon"
    """A real endpoint program, which takes its tasks from the broker."""


class Stage(enum.StrEnum):
    WAITING = "waiting"
    """Accepted, and handed to nobody."""
    QUEUED = "queued"
    """On the queue of an endpoint."""
    RUNNING = "running"
    SUCCESS = "success"
    FAILED = "failed"

    @property
    def over(self) -> bool:
        return self in {Stage.SUCCESS, Stage.FAILED}


@dataclass(kw_only=True)
class Function:
    id: str
    name: str
    code: str
    owner: str
    description: str = ""
    metadata: Document = field(default_factory=dict)
    public: bool = False

    def document(self) -> Document:
        return cast(Document, asdict(self))

    @classmethod
    def parse(cls, found: Document) -> Function:
        return cls(
            id=documents.text(found, "id"),
            name=documents.text(found, "name"),
            code=documents.text(found, "code"),
            owner=documents.text(found, "owner"),
            description=documents.text(found, "description"),
            metadata=documents.object_at(found, "metadata"),
            public=documents.flag(found, "public"),
        )


@dataclass(kw_only=True)
class Pulse:
    """When an endpoint program was last heard of, in seconds since 1970, and how often it wants to be."""

    beat: float = 0.0
    period: float = 30.0
    workers: int = 0

    @property
    def alive(self) -> bool:
        return time.time() - self.beat < _BEATS * max(self.period, 1.0)

    @classmethod
    def parse(cls, found: Document) -> Pulse:
        return cls(
            beat=documents.number(found, "beat"),
            period=documents.number(found, "period", 30.0),
            workers=documents.whole(found, "workers"),
        )


@dataclass(kw_only=True)
class Endpoint:
    """`switched_on` and `held` are the sandbox's: an endpoint that is down, and one whose queue does not move."""

    id: str
    name: str
    kind: EndpointKind
    owner: str = ""
    display_name: str | None = None
    multi_user: bool = False
    public: bool = False
    allowed_functions: list[str] | None = None
    metadata: Document = field(default_factory=dict)
    workers: int = 0
    pulse: Pulse = field(default_factory=Pulse)
    locked_until: float = 0.0
    switched_on: bool = True
    held: bool = False

    @property
    def online(self) -> bool:
        return self.switched_on and (self.kind is EndpointKind.INLINE or self.pulse.alive)

    @property
    def moving(self) -> bool:
        """Whether tasks may be handed to it. One that is merely away takes its tasks when it is back."""
        return self.switched_on and not self.held

    def admits(self, owner: str) -> bool:
        return self.public or self.owner == owner

    def document(self) -> Document:
        return cast(Document, asdict(self) | {"kind": self.kind.value})

    @classmethod
    def parse(cls, found: Document) -> Endpoint:
        allowed = found.get("allowed_functions")
        display = found.get("display_name")
        return cls(
            id=documents.text(found, "id"),
            name=documents.text(found, "name"),
            kind=EndpointKind(documents.text(found, "kind")),
            owner=documents.text(found, "owner"),
            display_name=display if isinstance(display, str) else None,
            multi_user=documents.flag(found, "multi_user"),
            public=documents.flag(found, "public"),
            allowed_functions=None if allowed is None else documents.strings(found, "allowed_functions"),
            metadata=documents.object_at(found, "metadata"),
            workers=documents.whole(found, "workers"),
            pulse=Pulse.parse(documents.object_at(found, "pulse")),
            locked_until=documents.number(found, "locked_until"),
            switched_on=documents.flag(found, "switched_on", default=True),
            held=documents.flag(found, "held"),
        )


@dataclass(kw_only=True)
class UserEndpoint:
    """The process of one person, with one set of options, that an endpoint program starts to run tasks."""

    id: str
    parent: str
    owner: str
    name: str
    options: Document = field(default_factory=dict)
    runtime: Document = field(default_factory=dict)
    pulse: Pulse = field(default_factory=Pulse)
    commanded: float = 0.0
    """When it was last told to start."""

    def document(self) -> Document:
        return cast(Document, asdict(self))

    @classmethod
    def parse(cls, found: Document) -> UserEndpoint:
        words = {name: documents.text(found, name) for name in ("id", "parent", "owner", "name")}
        return cls(
            **words,
            options=documents.object_at(found, "options"),
            runtime=documents.object_at(found, "runtime"),
            pulse=Pulse.parse(documents.object_at(found, "pulse")),
            commanded=documents.number(found, "commanded"),
        )


@dataclass(kw_only=True)
class Group:
    id: str
    owner: str
    queue: bool = False
    """Whether somebody asked for a queue with the results of its tasks."""

    def document(self) -> Document:
        return {"id": self.id, "owner": self.owner, "queue": self.queue}

    @classmethod
    def parse(cls, found: Document) -> Group:
        return cls(
            id=documents.text(found, "id"),
            owner=documents.text(found, "owner"),
            queue=documents.flag(found, "queue"),
        )


@dataclass(kw_only=True)
class Task:
    """Its payload and its result are kept apart: they can be large, and are rarely needed."""

    id: str
    group: str
    owner: str
    endpoint: str
    user_endpoint: str
    function: str
    label: str = ""
    created: float
    stage: Stage = Stage.WAITING
    serializers: list[str] = field(default_factory=list)
    resources: Document = field(default_factory=dict)
    accepted: bool = False
    """An endpoint program acknowledged it: it is not given out again."""
    collected: bool = False
    """The result was taken from the queue of the group."""
    completed: float = 0.0
    details: Document = field(default_factory=dict)
    forgotten: bool = False
    worker: Document = field(default_factory=dict)
    """The process that runs it, where that is one of the facility."""

    def document(self) -> Document:
        return cast(Document, asdict(self) | {"stage": self.stage.value})

    @classmethod
    def parse(cls, found: Document) -> Task:
        names = ("id", "group", "owner", "endpoint", "user_endpoint", "function", "label")
        words = {name: documents.text(found, name) for name in names}
        return cls(
            **words,
            created=documents.number(found, "created"),
            stage=Stage(documents.text(found, "stage")),
            serializers=documents.strings(found, "serializers"),
            resources=documents.object_at(found, "resources"),
            accepted=documents.flag(found, "accepted"),
            collected=documents.flag(found, "collected"),
            completed=documents.number(found, "completed"),
            details=documents.object_at(found, "details"),
            forgotten=documents.flag(found, "forgotten"),
            worker=documents.object_at(found, "worker"),
        )
