"""Starting runs for people, and following them."""

from __future__ import annotations

import os
import shutil
import threading
import uuid
from collections.abc import Callable
from pathlib import Path

from orchestration.config import Beamline, Settings
from orchestration.errors import ConfigError, InvalidInput, ServiceUnavailable, UnknownName
from orchestration.flows import catalogue
from orchestration.flows.runs import PrefectRun, RunRequest
from orchestration.ledger.service import Document, Failed, Status, Succeeded
from orchestration.paths import RelativePath

DROPPED_FOLDER = "dropped"
"""Under ``raw/`` on the acquisition host: where a file from elsewhere is put, so that it comes in like any scan."""

FOLLOW_SECONDS = 0.25


def start(beamline: str, flow_name: str, parameters: Document, *, name: str = "") -> tuple[RunRequest, str]:
    """A new run of the beamline's deployment of that flow; returns its request and its id.

    Raises:
        UnknownName: if the beamline has no such flow, or Prefect no such deployment.
    """
    request = RunRequest(
        deployment=deployment_of(beamline, flow_name),
        parameters=parameters,
        flow_run_name=name[:200],
        tags=(beamline, "by hand"),
    )
    return request, PrefectRun().submit(request, f"by-hand-{uuid.uuid4()}")


def deployment_of(beamline: str, flow_name: str) -> str:
    known = {spec.flow_name: spec.full_name for spec in catalogue.of_beamline(beamline).deployments}
    if flow_name not in known:
        raise UnknownName(
            f"beamline {beamline} has no flow {flow_name!r}", next_step=f"choose one of {', '.join(sorted(known))}"
        )
    return known[flow_name]


def follow(request: RunRequest, run_id: str, tell: Callable[[], None]) -> Succeeded | Failed:
    """Call `tell` until the run has ended; how it ended. A silent server is waited for."""
    service = PrefectRun()
    pause = threading.Event()
    while True:
        status = _poll(service, request, run_id)
        tell()
        if isinstance(status, Succeeded | Failed):
            return status
        pause.wait(FOLLOW_SECONDS)


def _poll(service: PrefectRun, request: RunRequest, run_id: str) -> Status | None:
    try:
        return service.poll(request, run_id)
    except ServiceUnavailable:
        return None


def bring_in(settings: Settings, beamline: Beamline, file_path: str, *, proposal: str = "") -> str:
    """The path under which flows find the file: itself, or, if it lies elsewhere on this machine, that of a copy.

    Raises:
        InvalidInput: if it is a file of this machine and acquisition's folder is not.
    """
    file = Path(file_path)
    if not file.is_file():
        return file_path
    acquisition = settings.endpoint(beamline.acquisition)
    if acquisition.mount is None:
        raise ConfigError(
            f"{file} cannot be given to {acquisition.name}, which is not mounted on this machine",
            where=f"globus.globus_endpoints.{acquisition.name}",
            next_step="run this on the acquisition host, or give the path of a scan that is there",
        )
    root, found = acquisition.mount.resolve(), file.resolve()
    if found.is_relative_to(root):
        return str(found.relative_to(root))
    path = RelativePath.parse(f"raw/{proposal or DROPPED_FOLDER}/{file.name}")
    _put(found, acquisition.local_path(path))
    return path.text


def _put(file: Path, target: Path) -> None:
    """Appears whole or not at all, as a file that acquisition has closed."""
    if target.exists() and target.stat().st_size != file.stat().st_size:
        raise InvalidInput(
            f"another file is already at {target}", next_step="rename your file, or give it another --proposal"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".partial-{uuid.uuid4().hex[:12]}")
    shutil.copy2(file, partial)
    os.replace(partial, target)
