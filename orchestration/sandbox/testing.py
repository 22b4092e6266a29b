"""A facility inside the process of a test."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from orchestration.sandbox.client import SandboxClient
from orchestration.sandbox.server import FacilityServer, listen, url_of
from orchestration.sandbox.settings import (
    CLIENT_ID,
    CLIENT_SECRET,
    INGEST_PASSWORD,
    INGEST_USER,
    CollectionSettings,
    Settings,
)


@dataclass(frozen=True, kw_only=True)
class RunningFacility:
    """A facility that answers at `url`."""

    url: str
    settings: Settings
    client: SandboxClient

    def environment(self) -> dict[str, str]:
        """All variables that the SDKs and clients of this project need to find it."""
        return environment(self.url)

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
        "GLOBUS_CLIENT_ID": CLIENT_ID,
        "GLOBUS_CLIENT_SECRET": CLIENT_SECRET,
        "SCICAT_API_URL": f"{url}/scicat/api/v3",
        "SCICAT_INGEST_USER": INGEST_USER,
        "SCICAT_INGEST_PASSWORD": INGEST_PASSWORD,
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
