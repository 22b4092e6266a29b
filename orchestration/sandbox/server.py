"""Run a facility: ``python -m orchestration.sandbox.server --state DIR --config FILE --port N``."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import click
import uvicorn

from orchestration.errors import ConfigError
from orchestration.sandbox import settings as facility_settings
from orchestration.sandbox.app import build
from orchestration.sandbox.connections import TrackedProtocol
from orchestration.sandbox.settings import Settings
from orchestration.sandbox.slurm.scheduler import SlurmScheduler


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes any that is free.

    The protocol is named because asyncio sets TCP_NODELAY only on sockets that name it: without, each answer is
    40 ms late.
    """
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind((host, port))
    return listening


class FacilityServer(uvicorn.Server):
    """uvicorn serving one facility; calls `on_ready` with its socket once it answers."""

    def __init__(self, settings: Settings, *, on_ready: Callable[[socket.socket], None]) -> None:
        config = uvicorn.Config(
            build(settings),
            http=TrackedProtocol,
            ws="none",
            proxy_headers=False,
            access_log=False,
            log_level="warning",
            timeout_graceful_shutdown=2,
            # Longer than clients keep an idle connection (httpx: 5 s), or it is closed while one asks on it.
            timeout_keep_alive=60,
        )
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        if self.started and sockets:
            self._on_ready(sockets[0])


def url_of(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://{host}:{port}"


def announce(path: Path, listening: socket.socket) -> None:
    """Write the ready file (JSON with url, port and pid) in one step: who sees it sees all of it."""
    port = listening.getsockname()[1]
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    part.write_text(json.dumps({"url": url_of(listening), "port": port, "pid": os.getpid()}))
    part.replace(path)


def _settings(config: Path | None, state: Path) -> Settings:
    if config is None:
        return Settings(state=state)
    try:
        settings = facility_settings.load(config, state=state)
        if settings.superfacility.scheduler == "slurm":
            SlurmScheduler(settings.superfacility).open()  # before anything begins, which this would end untidily
        return settings
    except ConfigError as error:
        raise click.ClickException(error.sentence) from error


@click.command()
@click.option("--state", type=click.Path(path_type=Path), required=True, help="Directory for all that it remembers.")
@click.option("--config", type=click.Path(path_type=Path), help="YAML or JSON with its collections.")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=0, show_default=True, help="0 takes any free port.")
@click.option("--ready-file", type=click.Path(path_type=Path), help="Written once it answers. [STATE/ready.json]")
def main(state: Path, config: Path | None, host: str, port: int, ready_file: Path | None) -> None:
    """Run the facility until it is told to stop (SIGTERM or Ctrl-C)."""
    settings = _settings(config, state)
    ready = ready_file or state / "ready.json"
    ready.unlink(missing_ok=True)

    def is_ready(listening: socket.socket) -> None:
        announce(ready, listening)
        click.echo(f"facility ready at {url_of(listening)}, state in {state}")

    server = FacilityServer(settings, on_ready=is_ready)
    listening = listen(host, port)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)
    try:
        server.run(sockets=[listening])
    finally:
        ready.unlink(missing_ok=True)


def _leave(number: int, frame: FrameType | None) -> None:
    """uvicorn stops at a signal and then raises it again: to have stopped when told to is no failure."""
    raise SystemExit(0)


if __name__ == "__main__":
    main()
