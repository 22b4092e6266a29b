"""Starting runs for people, and following them."""

from __future__ import annotations

import filecmp
import os
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

from prefect.exceptions import ObjectNotFound

from orchestration.config import Beamline, Settings
from orchestration.errors import ConfigError, InvalidInput, ServiceUnavailable, SourceMissing, UnknownName
from orchestration.flows import catalogue
from orchestration.flows.runs import PrefectRun, RunRequest
from orchestration.flows.server import api_url, insist, prefect_server
from orchestration.ledger import Ledger
from orchestration.ledger.scan import scan_identity
from orchestration.ledger.service import Document, Failed, Json, Running, Status, Succeeded
from orchestration.paths import RelativePath
from orchestration.policy import Subject, permit
from orchestration.science.errors import ParametersInvalid
from orchestration.science.tomography.parameters import Parameters

DROPPED_FOLDER = "dropped"
"""Under ``raw/`` on the acquisition host: where a file from elsewhere is put, so that it comes in like any scan."""

FOLLOW_SECONDS = 0.25

BUSY_SECONDS = 30.0
"""For which a server that answers "not now" is asked again."""

PICKED_UP_SECONDS = 8.0
"""So long a run may wait for its worker before one looks whether there is any."""

SILENT_WORKER = timedelta(seconds=45)
"""A worker tells Prefect every 30 s that it lives."""

_ALWAYS_WRITTEN = ("tiff", "zarr", "preview")
"""Parameters that flows do not let go: what they carry back is all of it."""


def start(
    beamline: str, flow_name: str, parameters: Document, *, name: str = "", export_controlled: bool = False
) -> tuple[RunRequest, str]:
    """A new run of the beamline's deployment of that flow; returns its request and its id.

    Which scan it is for, the run finds out itself, and asks the policy for all that it does with it. But its parameters
    go to Prefect, which need not be at the beamline.

    Raises:
        ExportControlled: if it is of an `export_controlled` scan, and Prefect is not at the beamline.
        UnknownName: if the beamline has no such flow, or Prefect no such deployment.
    """
    request = RunRequest(
        deployment=deployment_of(beamline, flow_name),
        parameters=parameters,
        flow_run_name=name[:200],
        tags=(beamline, "by hand"),
    )
    token = f"by-hand-{uuid.uuid4()}"  # sent again, it starts no second run
    subject = Subject(
        scan=token if export_controlled else "", name=name or request.deployment, export_controlled=export_controlled
    )

    def submit() -> str:
        return PrefectRun().submit(permit(request, subject=subject, at=time.time()), token)

    return request, insist(submit, seconds=BUSY_SECONDS)


def deployment_of(beamline: str, flow_name: str) -> str:
    known = {spec.flow_name: spec.full_name for spec in catalogue.of_beamline(beamline).deployments}
    if flow_name not in known:
        raise UnknownName(
            f"beamline {beamline} has no flow {flow_name!r}", next_step=f"choose one of {', '.join(sorted(known))}"
        )
    return known[flow_name]


def demand_server() -> None:
    """Return if the Prefect server answers now: a person is waiting.

    Raises:
        ServiceUnavailable: if it does not, with what to start.
    """
    try:
        with prefect_server() as client:
            client.request("GET", "/health")
    except ServiceUnavailable as silence:
        raise ServiceUnavailable(
            silence.what, where=silence.where, next_step=f"{_start_server()}, or correct PREFECT_API_URL"
        ) from silence


def checked_parameters(chosen: Mapping[str, Json]) -> Document:
    """Parameters of a reconstruction that its program will accept, in one spelling for what is one reconstruction.

    10 is 10.0 where a number may have a fraction, and what is the default anyway is left out.

    Raises:
        InvalidInput: naming the first that it will not, before anything is started.
    """
    for name in _ALWAYS_WRITTEN:
        if name in chosen:
            raise InvalidInput(f"{name} is always written by a flow", where="--set", next_step=_by_hand())
    known = Parameters.__dataclass_fields__
    for name in chosen:
        if name not in known:
            raise InvalidInput(
                f"a reconstruction has no parameter {name!r}",
                where="--set",
                next_step=f"choose among {', '.join(each for each in known if each not in _ALWAYS_WRITTEN)}",
            )
    try:
        return Parameters(**dict(chosen)).chosen  # type: ignore[arg-type]
    except ParametersInvalid as error:
        raise InvalidInput(error.what, where="--set", next_step=_by_hand()) from error


def _by_hand() -> str:
    return "see `python -m orchestration.science tomography reconstruct --help`"


def follow(request: RunRequest, run_id: str, tell: Callable[[str], None]) -> Succeeded | Failed:
    """Call `tell` until the run has ended, with what keeps it from going on, if anything does; how it ended.

    A silent server is waited for, and so is a worker.
    """
    service = PrefectRun()
    pause = threading.Event()
    waiting_since = time.monotonic()
    while True:
        status = _poll(service, request, run_id)
        if isinstance(status, Succeeded | Failed):
            tell("")
            return status
        if isinstance(status, Running) and not _waits(status):
            waiting_since = time.monotonic()
        tell(_obstacle(request, status, time.monotonic() - waiting_since))
        pause.wait(FOLLOW_SECONDS)


def _poll(service: PrefectRun, request: RunRequest, run_id: str) -> Status | None:
    try:
        return service.poll(request, run_id)
    except ServiceUnavailable:
        return None


def _waits(status: Running) -> bool:
    return status.progress.note.partition(":")[0] in {"", "Scheduled", "Late", "Pending", "Resuming"}


def _obstacle(request: RunRequest, status: Status | None, waited: float) -> str:
    if status is None:
        return f"the Prefect server at {api_url()} does not answer; it is asked again"
    if not isinstance(status, Running) or not _waits(status):
        return ""
    return unattended(request) or "waits for its turn" if waited > PICKED_UP_SECONDS else "waits for a worker"


def unattended(request: RunRequest) -> str:
    """Why nobody picks up runs of a deployment, and what to start; empty if a worker is there, or it is not known."""
    try:
        with prefect_server() as client:
            pool = client.read_deployment_by_name(request.deployment).work_pool_name
            rows = client.request(
                "POST", "/work_pools/{work_pool_name}/workers/filter", json={}, path_params={"work_pool_name": pool}
            ).json()
    except (ServiceUnavailable, ObjectNotFound):
        return ""
    heard = [datetime.fromisoformat(row["last_heartbeat_time"]) for row in rows if row["status"] == "ONLINE"]
    if any(datetime.now(UTC) - when < SILENT_WORKER for when in heard):
        return ""
    return f"no worker serves the pool {pool}: nobody picks this run up. Start one with {_start_worker(str(pool))}"


def _start_worker(pool: str) -> str:
    return "`beamline sandbox up`" if _in_sandbox() else f"`prefect worker start --pool {pool}`"


def _start_server() -> str:
    return "start it with " + ("`beamline sandbox up`" if _in_sandbox() else "`prefect server start`")


def _in_sandbox() -> bool:
    return bool(os.environ.get("BEAMLINE_SANDBOX"))


def bring_in(settings: Settings, ledger: Ledger, beamline: Beamline, file_path: str, *, proposal: str = "") -> str:
    """The path under which a flow finds the file: itself, or, if it lies elsewhere on this machine, that of a copy.

    Raises:
        ConfigError: if it is a file of this machine and acquisition's folder is not.
        SourceMissing: if it is nowhere, as far as this machine can see.
        InvalidInput: if another file is where the copy would be.
    """
    file = Path(file_path).expanduser()
    acquisition = settings.endpoint(beamline.acquisition)
    if not file.is_file():
        _demand_known(ledger, beamline, acquisition.mount, file_path)
        return file_path
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


def _demand_known(ledger: Ledger, beamline: Beamline, mount: Path | None, file_path: str) -> None:
    """A slip of the pen is told at once. A scan that acquisition has deleted since may be carried on with."""
    path = beamline.relative(file_path)
    if mount is None or (mount / path.text).exists():
        return
    try:
        ledger.scans.get(scan_identity(beamline.id, path))
    except UnknownName as error:
        raise SourceMissing(
            f"there is no file {file_path}, neither on this machine nor at {beamline.acquisition}",
            where=str(mount / path.text),
            next_step="check the path",
        ) from error


def _put(file: Path, target: Path) -> None:
    """Appears whole or not at all, as a file that acquisition has closed."""
    if target.exists() and filecmp.cmp(file, target, shallow=False):
        return
    if target.exists():
        raise InvalidInput(
            f"another file is already at {target}", next_step="rename your file, or give it another --proposal"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".partial-{uuid.uuid4().hex[:12]}")
    shutil.copy2(file, partial)
    os.replace(partial, target)
