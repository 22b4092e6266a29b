"""What a facility consists of."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from orchestration.errors import ConfigError
from orchestration.ledger.service import Document
from orchestration.sandbox import documents
from orchestration.sandbox.compute import settings as compute_settings
from orchestration.sandbox.compute.settings import ComputeSettings
from orchestration.sandbox.iri import settings as iri_settings
from orchestration.sandbox.iri.settings import IriSettings
from orchestration.sandbox.search import settings as search_settings
from orchestration.sandbox.search.settings import SearchSettings
from orchestration.sandbox.superfacility import settings as superfacility_settings
from orchestration.sandbox.superfacility.settings import SuperfacilitySettings

CLIENT_ID = "99999999-0000-4000-8000-000000000001"
CLIENT_SECRET = "sandbox"  # noqa: S105 -- opens nothing but the facility on this machine
INGEST_USER = "ingestor"
INGEST_PASSWORD = "sandbox"  # noqa: S105 -- as above

_NAMESPACE = uuid.UUID("6b0b7f0e-64b5-4a4d-9a1c-7e21c4b7f0aa")


def collection_id(name: str) -> str:
    """The id of a collection that was given none: the same for the same name, everywhere."""
    return str(uuid.uuid5(_NAMESPACE, name))


@dataclass(frozen=True, kw_only=True)
class CollectionSettings:
    """A Globus collection over a directory of this machine.

    `kind` is ``mapped``, ``guest`` (owner and access rules decide) or ``personal`` (can be disconnected).
    `data_access` makes it ask for the data_access consent. `bandwidth` is in bytes per second; 0 means no limit.
    """

    name: str
    root: Path
    id: str = ""
    kind: str = "mapped"
    owner: str = ""
    data_access: bool = False
    writable: bool = True
    bandwidth: float = 0.0

    @property
    def identity(self) -> str:
        return self.id or collection_id(self.name)


@dataclass(frozen=True, kw_only=True)
class Account:
    """A user of the catalogue. `rights` are ``create-any``, ``delete`` and ``admin``."""

    username: str
    password: str
    groups: tuple[str, ...] = ()
    rights: frozenset[str] = frozenset()
    email: str = ""


def _default_accounts() -> tuple[Account, ...]:
    return (
        Account(
            username=INGEST_USER,
            password=INGEST_PASSWORD,
            groups=(INGEST_USER,),
            rights=frozenset({"create-any"}),
            email="ingestor@sandbox.example",
        ),
        Account(
            username="admin",
            password="sandbox",  # noqa: S106 -- as above
            groups=("admin",),
            rights=frozenset({"create-any", "delete", "admin"}),
            email="admin@sandbox.example",
        ),
    )


@dataclass(frozen=True, kw_only=True)
class Settings:
    """One facility. Times are in seconds.

    `retry` is how long a transfer that met a fault waits before it tries again; `deadline` how long a task may take
    that names none itself. `clients` maps the id of each Globus client to its secret.
    """

    state: Path
    collections: tuple[CollectionSettings, ...] = ()
    clients: Mapping[str, str] = field(default_factory=lambda: {CLIENT_ID: CLIENT_SECRET})
    accounts: tuple[Account, ...] = field(default_factory=_default_accounts)
    retry: float = 0.3
    deadline: float = 86_400.0
    token_lifetime: int = 172_800
    superfacility: SuperfacilitySettings = field(default_factory=SuperfacilitySettings)
    compute: ComputeSettings = field(default_factory=ComputeSettings)
    iri: IriSettings = field(default_factory=IriSettings)
    search: SearchSettings = field(default_factory=SearchSettings)


def load(path: Path, *, state: Path) -> Settings:
    """From a YAML or JSON file: ``{collections: [{name, root, id?, kind?, ...}], retry?, ...}``.

    Roots are relative to the state directory.

    Raises:
        ConfigError: if the file cannot be read or is not of this form.
    """
    try:
        parsed = yaml.safe_load(path.read_text())
    except (OSError, yaml.YAMLError) as error:
        said = " ".join(str(error).split())
        raise ConfigError(f"the sandbox's settings cannot be read: {said}", where=str(path)) from error
    if not isinstance(parsed, dict):
        raise ConfigError("the sandbox's settings must be one mapping", where=str(path))
    rows = [_collection(row, state=state, where=path) for row in documents.objects(parsed, "collections")]
    return Settings(
        state=state,
        collections=tuple(rows),
        retry=documents.number(parsed, "retry", 0.3),
        deadline=documents.number(parsed, "deadline", 86_400.0),
        token_lifetime=documents.whole(parsed, "token_lifetime", 172_800),
        superfacility=superfacility_settings.parse(
            documents.object_at(parsed, "superfacility"), state=state, where=path
        ),
        compute=compute_settings.parse(documents.object_at(parsed, "compute"), where=path),
        iri=iri_settings.parse(documents.object_at(parsed, "iri"), state=state),
        search=search_settings.parse(documents.object_at(parsed, "search"), where=path),
    )


def _collection(row: Document, *, state: Path, where: Path) -> CollectionSettings:
    name, root = documents.text(row, "name"), documents.text(row, "root")
    if not name or not root:
        raise ConfigError("every collection needs a name and a root", where=str(where))
    return CollectionSettings(
        name=name,
        root=state / root,
        id=documents.text(row, "id"),
        kind=documents.text(row, "kind", "mapped"),
        owner=documents.text(row, "owner"),
        data_access=documents.flag(row, "data_access"),
        writable=documents.flag(row, "writable", default=True),
        bandwidth=documents.number(row, "bandwidth"),
    )
