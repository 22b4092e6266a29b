"""A facility served from inside a cluster: its files are those that jobs see, its jobs are Slurm's."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from orchestration.errors import OperationFailed
from orchestration.ledger.service import Document, Json
from orchestration.sandbox import documents, processes
from orchestration.sandbox import settings as facility_settings
from orchestration.sandbox.client import SandboxClient
from orchestration.sandbox.processes import Process
from orchestration.sandbox.slurm.cluster import Cluster
from orchestration.sandbox.testing import RunningFacility

START_PATIENCE = 60.0
ROOTS: tuple[Json, ...] = ("/",)
"""As at a real facility, the kernel alone decides which files a user may have."""


@contextmanager
def serving(
    cluster: Cluster, settings: Document | None = None, *, port: int = 0, name: str = "facility"
) -> Iterator[RunningFacility]:
    """Serve a facility until the context ends; its jobs live on. The cluster must run.

    `settings` is what a settings file of a facility holds. The roots of collections may be directories of the cluster,
    such as ``/global/cfs/cdirs/als``, and of the machine around it. The batch system is Slurm whatever they say.
    `name` tells several facilities of one cluster apart; the same again is the same one, restarted.

    Raises:
        OperationFailed: if it does not start, with the end of its log.
    """
    state = cluster.files.root / name
    state.mkdir(exist_ok=True)
    config = state / "settings.json"
    config.write_text(json.dumps(_with_slurm(settings or {})))
    server, url = _start(cluster, config, state=state, port=port)
    try:
        with SandboxClient(url) as client:
            yield RunningFacility(url=url, settings=facility_settings.load(config, state=state), client=client)
    finally:
        processes.stop([server], patience=5.0)


def _with_slurm(settings: Document) -> Document:
    chosen: Document = {"scheduler": "slurm", "roots": list(ROOTS)}
    return {"retry": 0.05, **settings, "superfacility": documents.object_at(settings, "superfacility") | chosen}


def _start(cluster: Cluster, config: Path, *, state: Path, port: int) -> tuple[Process, str]:
    ready, log = state / "ready.json", cluster.files.logs / f"{state.name}.log"
    ready.unlink(missing_ok=True)
    argv = [sys.executable, "-m", "orchestration.sandbox.server", "--state", str(state), "--config", str(config)]
    server = processes.start(
        cluster.entering([*argv, "--port", str(port), "--ready-file", str(ready)]),
        environment={**cluster.environment, "PYTHONPATH": os.environ.get("PYTHONPATH", "")},
        directory=state,
        log=log,
    )
    until = time.monotonic() + START_PATIENCE
    while not ready.exists():
        if not server.alive or time.monotonic() > until:
            processes.stop([server], patience=1.0)
            raise OperationFailed(
                f"the facility did not start; the end of its log:\n{log.read_text(errors='replace')[-1500:]}\n",
                where=str(log),
            )
        threading.Event().wait(0.03)
    return server, documents.text(documents.decode(ready.read_bytes()), "url")
