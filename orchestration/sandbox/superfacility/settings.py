"""What the stand-in for the Superfacility API consists of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from orchestration.errors import ConfigError
from orchestration.ledger.service import Document
from orchestration.sandbox import documents

USER = "alsdev"
ACCOUNT = "als"


@dataclass(frozen=True, kw_only=True)
class RegisteredClient:
    """A client of the API: 13 characters, the public half of its key as a JWK, and on whose behalf it acts.

    `expires` is in seconds since the epoch; None: never.
    """

    id: str
    jwk: Document
    user: str = USER
    name: str = "beamline"
    expires: float | None = None


@dataclass(frozen=True, kw_only=True)
class Project:
    """An allocation, in node hours."""

    name: str = ACCOUNT
    description: str = "Advanced Light Source"
    hours: float = 10_000.0


@dataclass(frozen=True, kw_only=True)
class SuperfacilitySettings:
    """Times are in seconds, sizes in bytes.

    `scheduler` is ``local`` (processes of this machine; `slots` of them run at once) or ``slurm`` (a real one: `slurm`
    holds its words, such as ``conf``). `roots` are the directories that files may be read from and written to, besides
    the homes of users; `images` are patterns of the container images that exist. `grace` lies between asking a job to
    end and killing it. `path` is searched by jobs and commands, after the facility's own programs.
    """

    clients: tuple[RegisteredClient, ...] = ()
    projects: tuple[Project, ...] = (Project(),)
    machine: str = "perlmutter"
    token_lifetime: int = 600
    file_limit: int = 5 * 1024 * 1024
    roots: tuple[Path, ...] = ()
    scheduler: Literal["local", "slurm"] = "local"
    slots: int = 4
    grace: float = 2.0
    images: tuple[str, ...] = ("*",)
    path: str = "/usr/local/bin:/usr/bin:/bin"
    environment: Mapping[str, str] = field(default_factory=dict)
    slurm: Mapping[str, str] = field(default_factory=dict)


def parse(row: Document, *, state: Path, where: Path) -> SuperfacilitySettings:
    """From a facility's settings file. Relative roots are below `state`.

    Raises:
        ConfigError: on a client without an id of 13 characters or without a key, or an unknown scheduler.
    """
    scheduler = documents.text(row, "scheduler", "local")
    if scheduler not in ("local", "slurm"):
        raise ConfigError(f"there is no scheduler {scheduler!r}: local or slurm", where=str(where))
    clients = tuple(_client(one, where=where) for one in documents.objects(row, "clients"))
    projects = tuple(_project(one) for one in documents.objects(row, "projects"))
    return SuperfacilitySettings(
        clients=clients,
        projects=projects or (Project(),),
        machine=documents.text(row, "machine", "perlmutter"),
        token_lifetime=documents.whole(row, "token_lifetime", 600),
        file_limit=documents.whole(row, "file_limit", 5 * 1024 * 1024),
        roots=tuple(state / root for root in documents.strings(row, "roots")),
        scheduler="slurm" if scheduler == "slurm" else "local",
        slots=documents.whole(row, "slots", 4),
        grace=documents.number(row, "grace", 2.0),
        images=tuple(documents.strings(row, "images")) or ("*",),
        path=documents.text(row, "path", "/usr/local/bin:/usr/bin:/bin"),
        environment=_words(documents.object_at(row, "environment")),
        slurm=_words(documents.object_at(row, "slurm")),
    )


def _client(row: Document, *, where: Path) -> RegisteredClient:
    id_, jwk, expires = documents.text(row, "id"), documents.object_at(row, "jwk"), row.get("expires")
    if len(id_) != 13 or not jwk:
        raise ConfigError(
            "every client of the Superfacility API needs an id of 13 characters and a jwk", where=str(where)
        )
    return RegisteredClient(
        id=id_,
        jwk=jwk,
        user=documents.text(row, "user", USER),
        name=documents.text(row, "name", "beamline"),
        expires=float(expires) if isinstance(expires, int | float) else None,
    )


def _project(row: Document) -> Project:
    return Project(
        name=documents.text(row, "name", ACCOUNT),
        description=documents.text(row, "description", "Advanced Light Source"),
        hours=documents.number(row, "hours", 10_000.0),
    )


def _words(row: Document) -> dict[str, str]:
    return {name: str(value) for name, value in row.items() if isinstance(value, str | int | float)}
