"""Every service that this version has, found where flows find them, each with a request of its kind."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints
from uuid import UUID

from orchestration.config import ComputeSite, Endpoint, SearchIndex, Settings
from orchestration.flows.runs import RunRequest
from orchestration.flows.services import Services
from orchestration.globus.search_entries import Entry, PublishRequest, WithdrawRequest
from orchestration.jobs import JobSpec
from orchestration.ledger import Ledger
from orchestration.ledger.operation import Operation
from orchestration.ledger.scan import Scan
from orchestration.ledger.service import Request, Service
from orchestration.paths import RelativePath
from orchestration.policy import Audience, Place, Zone
from orchestration.scicat.places import PlaceRequest
from orchestration.scicat.records import IngestRequest, RawDataset
from orchestration.transfers import DeleteRequest, RenameRequest, TransferRequest

R = TypeVar("R", bound=Request)

PATH = RelativePath("raw/ALS-00123/scan.h5")
AWAY = Place("another facility", Zone.EXTERNAL)

_UUID = UUID("8a1d0f52-6c1e-4d0b-9f36-0d5a8e1d8001")
HERE = Endpoint(uuid=_UUID, root_path="/data", zone=Zone.BEAMLINE).known_as("here")
THERE = Endpoint(uuid=_UUID, root_path="/elsewhere").known_as("there")
INDEX = SearchIndex(uuid=_UUID, visible_to=("public",), publisher="ALS", creators=("Lovelace, Ada",)).known_as("index")
RECORD = RawDataset(
    name="scan",
    owner="Ada",
    contact_email="ada@example.org",
    owner_group="ALS-00123",
    source_folder="/data/raw",
    creation_time=datetime(2026, 3, 1, tzinfo=UTC),
    principal_investigator="Ada",
    creation_location="ALS",
)

REQUESTS: Mapping[type, Request] = {
    TransferRequest: TransferRequest.of(PATH, source=HERE, destination=THERE),
    DeleteRequest: DeleteRequest(endpoint=THERE, paths=(PATH,)),
    RenameRequest: RenameRequest(endpoint=THERE, path=PATH, to=PATH.beside("renamed.h5")),
    JobSpec: JobSpec(executable="/bin/true", directory="/tmp", duration=10.0),
    PublishRequest: PublishRequest(
        index=INDEX, entry=Entry(subject="globus://scan", id="metadata", visible_to=("public",), content={})
    ),
    WithdrawRequest: WithdrawRequest(index=INDEX, subject="globus://scan"),
    IngestRequest: IngestRequest(identity="bl832/scan/raw", record=RECORD),
    PlaceRequest: PlaceRequest(
        pid="20.500/1", archive_id="hpss://archive.nersc.gov/home/a.tar", audience=Audience(readers=(), everybody=False)
    ),
    RunRequest: RunRequest(deployment="flow/deployment"),
}
"""By the kind that a service takes; what takes another kind has to be given one here."""

SITES: Mapping[str, Mapping[str, Any]] = {
    "local": {},
    "nersc": {"job_folder": "/jobs", "python": "/bin/python", "account": "als", "queue": "realtime"},
    "globus_compute": {"job_folder": "/jobs", "python": "/bin/python", "endpoints": {"compute": str(_UUID)}},
    "iri": {"job_folder": "/jobs", "python": "/bin/python", "resource": "compute", "version": 1},
}
"""One of each kind, outside the beamline."""


def kinds_of_sites() -> set[str]:
    """That the settings can have."""
    kinds = get_args(get_args(ComputeSite)[0])
    return {get_args(get_type_hints(kind)["kind"])[0] for kind in kinds}


@dataclass
class Clock:
    """Of a ledger: time passes when a test says so."""

    now: float

    def __call__(self) -> float:
        return self.now


@dataclass
class Wire:
    """All outside services in one: it hangs up, and counts."""

    url: str
    calls: list[object] = field(default_factory=list)


@contextmanager
def wire() -> Iterator[Wire]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        made = Wire(url=f"http://127.0.0.1:{listening.getsockname()[1]}")

        def hang_up() -> None:
            while True:
                try:
                    connection, who = listening.accept()
                except OSError:
                    return
                made.calls.append(who)
                connection.close()

        thread = threading.Thread(target=hang_up, daemon=True)
        thread.start()
        yield made
        listening.shutdown(socket.SHUT_RDWR)
    thread.join()


def environment(wire: Wire, folder: Path) -> dict[str, str]:
    """What leads every client to the wire, with credentials that nobody asks about."""
    services = ("AUTH", "TRANSFER", "SEARCH", "COMPUTE")
    key = folder / "key.pem"
    key.write_text("no key")
    identity = folder / "client-id"
    identity.write_text("us")
    return {
        **{f"GLOBUS_SDK_SERVICE_URL_{name}": f"{wire.url}/{name.lower()}" for name in services},
        "GLOBUS_CLIENT_ID": str(_UUID),
        "GLOBUS_CLIENT_SECRET": "secret",
        "GLOBUS_COMPUTE_CLIENT_ID": str(_UUID),
        "GLOBUS_COMPUTE_CLIENT_SECRET": "secret",
        "SCICAT_INGEST_USER": "us",
        "SCICAT_INGEST_PASSWORD": "secret",
        "PATH_NERSC_CLIENT_ID": str(identity),
        "PATH_NERSC_PRI_KEY": str(key),
        "IRI_API_TOKEN": "secret",
        "BEAMLINE_STATE": str(folder / "state"),
    }


def settings(wire: Wire) -> Settings:
    urls = {"nersc": ("api_url", "token_url"), "iri": ("api_url",), "globus_compute": ("service_url",)}
    sites = {
        kind: {
            "kind": kind,
            "raw_endpoint": "there",
            "scratch_endpoint": "there",
            **words,
            **dict.fromkeys(urls.get(kind, ()), wire.url),
        }
        for kind, words in SITES.items()
    }
    named = {
        "here": {"root_path": "/data", "uuid": str(_UUID), "zone": "beamline"},
        "there": {"root_path": "/elsewhere", "uuid": str(_UUID)},
    }
    return Settings.model_validate(
        {
            "globus": {"globus_endpoints": named},
            "compute_sites": sites,
            "scicat": {"api_url": wire.url},
        }
    )


def every_service(settings: Settings, services: Services) -> dict[str, Service[Any]]:
    """All that `Services` makes by itself, and what it connects to each kind of site; by attribute, or kind of site."""
    made: dict[str, Service[Any]] = {}
    for name, attribute in vars(Services).items():
        if isinstance(attribute, cached_property) and not name.startswith("_"):
            found = getattr(services, name)
            if hasattr(found, "submit"):
                made[name] = found
    for kind, site in settings.compute_sites.items():
        made[f"jobs at {kind}"] = services.jobs(site)
    return made


def kind_taken(service: Service[Any]) -> type:
    """What the service says that it takes."""
    (kind,) = get_args(get_type_hints(type(service).submit)["permitted"])
    found: type = kind
    return found


def operation(scan: Scan, request: R, place: Place = AWAY) -> Operation[R]:
    return Operation(scan=scan, step="smuggle", request=request, destination=place, deadline=5.0)


def flagged(ledger: Ledger) -> Scan:
    return ledger.scans.register(beamline="bl832", path=PATH, export_controlled=True)


NAMES = [
    *(name for name, made in vars(Services).items() if isinstance(made, cached_property) and not name.startswith("_")),
    *(f"jobs at {kind}" for kind in SITES),
]
TAKING_AWAY = {"globus_delete", "globus_withdraw", "local_delete"}
STAYING = {"globus_rename", "local_rename"}
STARTING = {"prefect_run", "prefect_schedule"}
"""Flows of this service, on its own server."""
CARRYING = [
    name for name in NAMES if name not in TAKING_AWAY | STAYING | STARTING | {"local_jobs"}
]  # which is `jobs at local`
