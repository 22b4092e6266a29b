"""The settings of a sandbox: the project's own config.yml, with every place moved into one directory.

Endpoints on one Globus collection stay on one collection, and keep their paths on it; all collections are directories
below ``endpoints``. The facility's settings and the environment that leads every client to it are made of the same.
"""

from __future__ import annotations

import os
import posixpath
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from orchestration import config
from orchestration.errors import ConfigError
from orchestration.ledger.service import Document, Json
from orchestration.sandbox import testing
from orchestration.sandbox.iri.settings import COMPUTE
from orchestration.sandbox.layout import Layout
from orchestration.sandbox.processes import MARK
from orchestration.sandbox.superfacility.credentials import NERSC_CLIENT_ID, Credential

POLL_SECONDS = 0.1
"""A facility of one's own may be asked often."""

SETTLE_SECONDS = 1.0
"""It knows a job at once, unless it is told not to."""

FILE_SETTLE_SECONDS = 1.0
"""Of scans of XPCS: who takes them on this machine starts their flow when their files are closed."""

STREAMING_PROGRAM = ("/bin/sleep", "86400")
"""In place of one that needs a detector's stream of frames and a GPU: it goes on until it is stopped."""

_PRIVATE = ("PREFECT_", "GLOBUS_", "SCICAT_", "BEAMLINE_", "PATH_NERSC_", "SFAPI_", "IRI_")
"""What begins so in the caller's environment may lead to, or open, the real services: it does not go into a sandbox."""


@dataclass(frozen=True, kw_only=True)
class Collection:
    """A Globus collection, and the endpoints on it."""

    id: str
    directory: Path
    endpoints: tuple[config.Endpoint, ...]

    def document(self) -> Document:
        return {"id": self.id, "name": self.directory.name, "root": str(self.directory)}


def write(layout: Layout, project_file: Path | None = None) -> None:
    """Write the settings of the service and of the facility, and make the directories behind all endpoints.

    `project_file` is the config.yml to follow; by default the project's own, wherever this is started.
    """
    source = project_file or project_config()
    settings, problems = config.inspect(source)
    if settings is None or problems:
        found = "; ".join(str(problem) for problem in problems)
        raise ConfigError(f"the settings of the project are wrong: {found}", where=str(source))
    collections = _collections(settings, layout)
    rows: list[Json] = [collection.document() for collection in collections]
    mounts = _mounts(settings, layout, collections)
    sites = _sites(settings, layout, collections)
    for folder in (*mounts.values(), *(Path(site["job_folder"]) for site in sites.values())):
        folder.mkdir(parents=True, exist_ok=True)
    facility: Document = {
        "collections": rows,
        "superfacility": _superfacility(settings, layout),
        "iri": _iri(settings, layout),
        **_search(settings),
    }
    _write(layout.facility_file, yaml.safe_dump(facility, sort_keys=False))
    _write(layout.config_file, _moved(source, mounts, sites, at_home=_at_home(settings)))


def project_config() -> Path:
    """The config.yml of the checkout, or the one that this process is pointed at if there is no checkout."""
    checkout = Path(__file__).resolve().parents[2] / "config.yml"
    return checkout if checkout.is_file() else config.locate()


def environment(layout: Layout, *, facility_url: str, prefect_port: int) -> dict[str, str]:
    """The variables that lead every client of this project to the sandbox."""
    prefect = f"http://127.0.0.1:{prefect_port}"
    return {
        "BEAMLINE_ENV_FILE": str(layout.environment_file),  # and no .env of the folder in which a flow happens to run
        "BEAMLINE_CONFIG": str(layout.config_file),
        "BEAMLINE_LEDGER_URL": layout.ledger_url,
        "BEAMLINE_STATE": str(layout.root / "state"),
        "BEAMLINE_SANDBOX": str(layout.root),
        "BEAMLINE_SANDBOX_URL": facility_url,
        "PREFECT_API_URL": f"{prefect}/api",
        "PREFECT_UI_URL": prefect,
        "PREFECT_HOME": str(layout.prefect),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        **testing.environment(facility_url),
        **Credential(layout.nersc).environment(),
    }


def server_environment(prefect_port: int) -> dict[str, str]:
    """What the Prefect server needs besides: its own address for its pages, leases that survive its restart."""
    api = f"http://127.0.0.1:{prefect_port}/api"
    return {
        "PREFECT_SERVER_API_PORT": str(prefect_port),
        "PREFECT_SERVER_UI_API_URL": api,
        "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
        "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
        "PREFECT__SERVER_FINAL": "1",
    }


WORKER_ENVIRONMENT = {"PREFECT_WORKER_QUERY_SECONDS": "1", "PREFECT_WORKER_PREFETCH_SECONDS": "2"}
"""A worker of one's own may ask often; the defaults (10 s) are made for hundreds of them."""


def clean_environment(layout: Layout) -> dict[str, str]:
    """The caller's environment without what could lead a process of the sandbox to the real services."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_PRIVATE)}
    sources = str(Path(__file__).resolve().parents[2])
    search = [sources, *filter(None, kept.get("PYTHONPATH", "").split(os.pathsep))]
    path = os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", os.defpath)])
    return {**kept, "PYTHONPATH": os.pathsep.join(search), "PATH": path, MARK: str(layout.root)}


def write_environment(layout: Layout, variables: Mapping[str, str]) -> None:
    """As a file that both dotenv and a shell read (``set -a; . .sandbox/env``)."""
    lines = [f"{name}={shlex.quote(value)}" for name, value in variables.items()]
    _write(layout.environment_file, "\n".join(["# Written by `beamline sandbox up`.", *lines, ""]))


def _collections(settings: config.Settings, layout: Layout) -> list[Collection]:
    """Named for the first endpoint on each."""
    by_id: dict[str, list[config.Endpoint]] = {}
    for endpoint in settings.endpoints.values():
        if endpoint.uuid is not None:
            by_id.setdefault(str(endpoint.uuid), []).append(endpoint)
    return [
        Collection(id=uuid, directory=layout.endpoints / endpoints[0].name, endpoints=tuple(endpoints))
        for uuid, endpoints in by_id.items()
    ]


def _mounts(settings: config.Settings, layout: Layout, collections: list[Collection]) -> dict[str, Path]:
    """The directory behind each endpoint."""
    mounts = {name: layout.endpoints / name for name in settings.endpoints}
    for collection in collections:
        for endpoint in collection.endpoints:
            mounts[endpoint.name] = collection.directory / endpoint.root_path.lstrip("/")
    return mounts


def _sites(settings: config.Settings, layout: Layout, collections: list[Collection]) -> dict[str, dict[str, str]]:
    """What changes in the settings of each facility: jobs run on this machine, and see their collection's directory.

    A facility without a collection has a directory of its own. The interpreter is that of the sandbox, unless the
    settings name one of this machine.
    """
    found = {}
    for name, site in settings.compute_sites.items():
        if not isinstance(site, config.RemoteSite):
            continue
        known = (one.directory for one in collections if site.scratch_endpoint in {each.name for each in one.endpoints})
        root = next(known, layout.endpoints / name)
        inside = posixpath.relpath(site.job_folder, site.root)
        python = site.python if Path(site.python).is_file() else sys.executable
        found[name] = {"root": str(root), "job_folder": str(root / inside.lstrip("./")), "python": python}
        if isinstance(site, config.IriSite):
            found[name] |= {"resource": COMPUTE, "storage": ""}
    return found


def _superfacility(settings: config.Settings, layout: Layout) -> Document:
    """The client that the sandbox's services are, and the allocations of all sites that are asked for there."""
    client: Document = {"id": NERSC_CLIENT_ID, "jwk": Credential(layout.nersc).make()}
    sites = [site for site in settings.compute_sites.values() if isinstance(site, config.NerscSite)]
    names = dict.fromkeys(name for site in sites for name in (site.account, site.project) if name)
    sources = str(Path(__file__).resolve().parents[2])
    return {
        "clients": [client],
        "projects": [{"name": name} for name in names],
        "roots": [str(layout.endpoints)],
        "environment": {"PYTHONPATH": sources},
    }


def _iri(settings: config.Settings, layout: Layout) -> Document:
    """The allocations of all sites that are asked for by the IRI API."""
    sites = [site for site in settings.compute_sites.values() if isinstance(site, config.IriSite)]
    names = dict.fromkeys(name for site in sites for name in (site.account, site.project) if name)
    sources = str(Path(__file__).resolve().parents[2])
    return {"accounts": [*names], "roots": [str(layout.endpoints)], "environment": {"PYTHONPATH": sources}}


def _search(settings: config.Settings) -> Document:
    """The indexes of the settings; where there are none, the facility has one of its own."""
    rows: list[Json] = [{"name": one.name, "id": str(one.uuid)} for one in settings.search.indexes.values()]
    return {"search": {"indexes": rows}} if rows else {}


def _at_home(settings: config.Settings) -> str:
    """The deployment of XPCS that correlates on this machine and waits for no queue; empty if none does."""
    deployments = settings.xpcs.deployments.values()
    local = (one.name for one in deployments if isinstance(settings.site(one.site), config.LocalSite))
    return next(local, "")


def _moved(source: Path, mounts: Mapping[str, Path], sites: Mapping[str, Mapping[str, str]], *, at_home: str) -> str:
    """The settings file with the mounts of the sandbox, where the project's own file has mounts at all."""
    document = yaml.safe_load(source.read_text(encoding="utf-8"))
    for name, endpoint in document["globus"]["globus_endpoints"].items():
        if "mount" in endpoint:
            endpoint["mount"] = str(mounts[name])
    for name, changes in sites.items():
        document["compute_sites"][name] |= {**changes, "poll_seconds": POLL_SECONDS, "settle_seconds": SETTLE_SECONDS}
    for beamline in document.get("beamlines", {}).values():
        streaming = beamline.get("streaming")
        if streaming and streaming["site"] in sites:
            directory = str(Path(sites[streaming["site"]]["root"]) / streaming["directory"].lstrip("/"))
            streaming |= {"directory": directory, "program": list(STREAMING_PROGRAM)}
    if at_home:
        document["xpcs"] |= {"default": at_home, "settle_seconds": FILE_SETTLE_SECONDS}
    head = f"# Made from {source} by `beamline sandbox up`, and again each time: change that file instead.\n"
    return head + yaml.safe_dump(document, sort_keys=False, allow_unicode=True)


def _write(path: Path, text: str) -> None:
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.write_text(text, encoding="utf-8")
    part.replace(path)
