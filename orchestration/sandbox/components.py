"""What a sandbox consists of: how each part is started, and how one sees that it is ready."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx

from orchestration.sandbox import blueprint
from orchestration.sandbox.layout import Layout

POOL = "sandbox_pool"
"""One pool for all deployments, with their queues as they are: one worker, not one for each pool of production."""

WORKER = "sandbox"

NAMES = ("facility", "prefect", "worker", "watcher")

CLIENTS = frozenset({"worker", "watcher"})
"""Those that nobody needs the address of: started again alone, and stopped first."""


@dataclass(frozen=True, kw_only=True)
class Component:
    name: str
    argv: Sequence[str]
    environment: Mapping[str, str]
    ready: Callable[[], bool]


def facility(layout: Layout, environment: Mapping[str, str], port: int) -> Component:
    """The stand-ins of the outside services."""
    announcement = layout.root / "facility.ready.json"
    announcement.unlink(missing_ok=True)
    options = {
        "--state": layout.facility,
        "--config": layout.facility_file,
        "--port": port,
        "--ready-file": announcement,
    }
    argv = [sys.executable, "-m", "orchestration.sandbox.server", *_words(options)]
    return Component(name="facility", argv=argv, environment=environment, ready=announcement.exists)


def prefect_server(environment: Mapping[str, str], port: int) -> Component:
    """Prefect's server, without the process that its command line puts around it."""
    argv = [sys.executable, "-m", "uvicorn", "--factory", "prefect.server.api.server:create_app"]
    argv += _words({"--host": "127.0.0.1", "--port": port, "--timeout-keep-alive": 5, "--log-level": "warning"})
    variables = {**environment, **blueprint.server_environment(port)}
    url = f"http://127.0.0.1:{port}/api/health"
    return Component(name="prefect", argv=argv, environment=variables, ready=lambda: _answers(url))


def worker(environment: Mapping[str, str], port: int) -> Component:
    """A worker that starts each run as a process."""
    options = {"--pool": POOL, "--type": "process", "--name": WORKER}
    argv = [sys.executable, "-m", "prefect", "worker", "start", *_words(options)]
    began = datetime.now(UTC)
    return Component(
        name="worker",
        argv=argv,
        environment={**environment, **blueprint.WORKER_ENVIRONMENT},
        ready=lambda: _worker_reports(port, since=began),
    )


def watcher(layout: Layout, environment: Mapping[str, str]) -> Component:
    """What waits in the place of suspended runs."""
    announcement = layout.root / "watcher.ready"
    announcement.unlink(missing_ok=True)
    argv = [sys.executable, "-m", "orchestration.cli", "watch", "--ready-file", str(announcement)]
    return Component(name="watcher", argv=argv, environment=environment, ready=announcement.exists)


def deploying(files: Sequence[Path], *, patience: float) -> list[str]:
    """The command that makes the deployments, of the project or of these files."""
    argv = [sys.executable, "-m", "orchestration.flows.deploy", *_words({"--pool": POOL, "--wait": patience})]
    for file in files:
        argv += ["--file", str(file)]
    return argv


def _words(options: Mapping[str, object]) -> list[str]:
    return [word for name, value in options.items() for word in (name, str(value))]


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2.0, trust_env=False).is_success
    except httpx.TransportError:
        return False


def _worker_reports(port: int, *, since: datetime) -> bool:
    """Whether the worker has told the server that it lives, after its start."""
    url = f"http://127.0.0.1:{port}/api/work_pools/{POOL}/workers/filter"
    try:
        answer = httpx.post(url, json={}, timeout=2.0, trust_env=False)
    except httpx.TransportError:
        return False
    if not answer.is_success:
        return False
    heard = [row["last_heartbeat_time"] for row in json.loads(answer.content) if row["name"] == WORKER]
    return any(datetime.fromisoformat(text) >= since for text in heard)
