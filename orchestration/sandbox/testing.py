"""A facility inside the process of a test."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from orchestration.ledger.service import Request, Service, site_of
from orchestration.policy import Permitted, Subject, permit
from orchestration.sandbox.client import SandboxClient
from orchestration.sandbox.compute.settings import COMPUTE_ENDPOINT, LOGIN_ENDPOINT, endpoint_id
from orchestration.sandbox.iri.settings import TOKEN as IRI_TOKEN
from orchestration.sandbox.server import FacilityServer, listen, url_of
from orchestration.sandbox.settings import (
    CLIENT_ID,
    CLIENT_SECRET,
    INGEST_PASSWORD,
    INGEST_USER,
    CollectionSettings,
    Settings,
)
from orchestration.sandbox.superfacility import places
from orchestration.sandbox.superfacility.credentials import NERSC_CLIENT_ID, Credential

R = TypeVar("R", bound=Request)


def submit(service: Service[R], request: R, token: str) -> str:
    """What `perform` does in the end, for a scan that nothing restricts."""
    return service.submit(permitted(service, request), token)


def permitted(service: object, request: R) -> Permitted[R]:
    """Of a scan that nothing restricts."""
    subject = Subject(scan="unrestricted", name="raw/unrestricted.h5")
    return permit(request, subject=subject, at=time.time(), site=site_of(service))


@dataclass(frozen=True, kw_only=True)
class RunningFacility:
    """A facility that answers at `url`."""

    url: str
    settings: Settings
    client: SandboxClient

    def environment(self) -> dict[str, str]:
        """All variables that the SDKs and clients of this project need to find it."""
        return environment(self.url)

    def nersc_environment(self) -> dict[str, str]:
        """The variables that lead a client of the Superfacility API to it, with a key of its own."""
        credential = Credential(self.settings.state / "nersc")
        self.client.superfacility.register(NERSC_CLIENT_ID, credential.make())
        return {**superfacility_environment(self.url), **credential.environment()}

    def collection_id(self, name: str) -> str:
        return self._collection(name).identity

    def root(self, name: str) -> Path:
        """The directory behind a collection."""
        return self._collection(name).root

    def _collection(self, name: str) -> CollectionSettings:
        return next(one for one in self.settings.collections if one.name == name)


def environment(url: str) -> dict[str, str]:
    """The variables that lead every client to the facility at `url`."""
    return {
        "GLOBUS_SDK_SERVICE_URL_AUTH": f"{url}/auth",
        "GLOBUS_SDK_SERVICE_URL_TRANSFER": f"{url}/transfer",
        "GLOBUS_SDK_SERVICE_URL_FLOWS": f"{url}/flows",
        "GLOBUS_SDK_SERVICE_URL_SEARCH": f"{url}/search",
        "GLOBUS_CLIENT_ID": CLIENT_ID,
        "GLOBUS_CLIENT_SECRET": CLIENT_SECRET,
        "GLOBUS_COMPUTE_SERVICE_URL": f"{url}/compute",
        "GLOBUS_COMPUTE_CLIENT_ID": CLIENT_ID,
        "GLOBUS_COMPUTE_CLIENT_SECRET": CLIENT_SECRET,
        "GLOBUS_COMPUTE_ENDPOINT": endpoint_id(COMPUTE_ENDPOINT),
        "GLOBUS_COMPUTE_LOGIN_ENDPOINT": endpoint_id(LOGIN_ENDPOINT),
        "SCICAT_API_URL": f"{url}/scicat/api/v3",
        "SCICAT_INGEST_USER": INGEST_USER,
        "SCICAT_INGEST_PASSWORD": INGEST_PASSWORD,
        **superfacility_environment(url),
        "IRI_API_URL": f"{url}/iri",
        "IRI_API_TOKEN": IRI_TOKEN,
    }


def superfacility_environment(url: str) -> dict[str, str]:
    """The variables for the Superfacility API at `url`; who asks is another matter."""
    return {"SFAPI_API_URL": f"{url}{places.API}", "SFAPI_TOKEN_URL": f"{url}{places.OIDC}{places.TOKEN}"}


def endpoint_environment(url: str) -> dict[str, str]:
    """The variables that lead an unmodified Globus Compute endpoint program, or SDK, to the facility at `url`.

    Set before the program starts. Both know no other address for a service of one's own than ``localhost:5000``: the
    facility is their proxy for it, at whatever port it listens, and Globus Auth is asked directly.
    """
    services = ("AUTH", "TRANSFER", "SEARCH", "TIMER", "FLOWS", "GROUPS")
    return {
        "GLOBUS_SDK_ENVIRONMENT": "local",
        **{f"GLOBUS_SDK_SERVICE_URL_{name}": f"{url}/{name.lower()}" for name in services},
        "GLOBUS_COMPUTE_CLIENT_ID": CLIENT_ID,
        "GLOBUS_COMPUTE_CLIENT_SECRET": CLIENT_SECRET,
        "HTTP_PROXY": url,
        "http_proxy": url,
        "NO_PROXY": "127.0.0.1",
        "no_proxy": "127.0.0.1",
    }


@contextmanager
def running_facility(
    state: Path,
    collections: Iterable[str | CollectionSettings] = ("beamline", "facility"),
    *,
    settings: Settings | None = None,
    port: int = 0,
) -> Iterator[RunningFacility]:
    """Serve a facility in a thread until the context ends.

    A collection given by name lies in ``state/collections/NAME``. `settings` replaces the defaults of a test (retries
    every 50 ms); its state and collections are overridden by the other arguments. The same `state` again is the same
    facility, restarted.
    """
    base = settings or Settings(state=state, retry=0.05)
    rows = tuple(one if isinstance(one, CollectionSettings) else _named(one, state) for one in collections)
    chosen = replace(base, state=state, collections=rows)
    ready = threading.Event()
    server = FacilityServer(chosen, on_ready=lambda _: ready.set())
    listening = listen("127.0.0.1", port)
    thread = threading.Thread(target=_serve, args=(server, listening, ready), name="facility", daemon=True)
    thread.start()
    try:
        ready.wait(timeout=30)
        if not server.started:
            raise RuntimeError("the facility did not start")
        url = url_of(listening)
        with SandboxClient(url) as client:
            yield RunningFacility(url=url, settings=chosen, client=client)
    finally:
        server.should_exit = True
        thread.join(timeout=30)
        listening.close()


def _serve(server: FacilityServer, listening: socket.socket, ready: threading.Event) -> None:
    try:
        server.run(sockets=[listening])
    finally:
        ready.set()  # also where it failed: nobody needs to wait for it any longer


def _named(name: str, state: Path) -> CollectionSettings:
    return CollectionSettings(name=name, root=state / "collections" / name)
