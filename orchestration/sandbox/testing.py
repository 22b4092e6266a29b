"""A facility inside the process of a test."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from orchestration.sandbox.client import SandboxClient
from orchestration.sandbox.server import FacilityServer, listen
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
    listening = listen("127.0.0.1", port)
    ready = threading.Event()
    server = _Announcing(chosen, ready)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, name="facility", daemon=True)
    thread.start()
    try:
        ready.wait(timeout=30)
        if not server.started:
            raise RuntimeError("the facility did not start")
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        with SandboxClient(url) as client:
            yield RunningFacility(url=url, settings=chosen, client=client)
    finally:
        server.should_exit = True
        thread.join(timeout=30)
        listening.close()


def _named(name: str, state: Path) -> CollectionSettings:
    return CollectionSettings(name=name, root=state / "collections" / name)


class _Announcing(FacilityServer):
    def __init__(self, settings: Settings, ready: threading.Event) -> None:
        super().__init__(settings)
        self._ready = ready

    async def startup(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]
        try:
            await super().startup(sockets=sockets)  # type: ignore[arg-type]
        finally:
            self._ready.set()
