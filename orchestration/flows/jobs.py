"""What a job at a compute site is asked with, whatever it computes."""

from __future__ import annotations

import os
import sys
from typing import Any

from orchestration.config import ComputeSite, Endpoint, LocalSite, RemoteSite, Settings
from orchestration.jobs import JobSpec, Resources
from orchestration.ledger.operation import Operation
from orchestration.ledger.scan import Scan
from orchestration.ledger.service import Json
from orchestration.paths import RelativePath
from orchestration.policy import Zone

LOCAL_QUEUE_SECONDS = 24 * 3600.0
"""How long a job may wait for its turn on this machine, on top of its own duration."""

CHECK_SECONDS = 1800.0
"""On top of a remote job's own time: until its results are checked and its report has been read."""

MIN_SECONDS = 900.0
FLOOR_BYTES_PER_SECOND = 0.5e6
"""Slowest job still thought healthy on this machine, in bytes of raw data per second of one core."""


def path_at(site: ComputeSite, endpoint: Endpoint, path: RelativePath) -> str:
    """What a job at the site calls a file of the endpoint."""
    return str(endpoint.local_path(path)) if isinstance(site, LocalSite) else site.path(endpoint, path)


def job_seconds(site: LocalSite | RemoteSite, size: int) -> float:
    """How long the job of a scan of so many bytes may take at a site."""
    if isinstance(site, LocalSite):
        return max(MIN_SECONDS, size / FLOOR_BYTES_PER_SECOND)
    return site.walltime.seconds(size)


def job_at(site: ComputeSite, *, duration: float, **what: Any) -> JobSpec:
    """A job of `duration` seconds at a site of any kind."""
    return (
        _local_job(site, duration, what) if isinstance(site, LocalSite) else remote_job(site, duration=duration, **what)
    )


def _local_job(site: LocalSite, duration: float, what: dict[str, Any]) -> JobSpec:
    return JobSpec(
        executable=site.python or sys.executable,
        duration=duration,
        resources=Resources(cores=site.cores or os.cpu_count() or 1, memory=site.memory),
        **what,
    )


def remote_job(site: RemoteSite, *, start_within: float | None = None, **what: Any) -> JobSpec:
    """A job with all that a site asks its jobs with: what they occupy, where they wait, who pays."""
    return JobSpec(
        executable=site.python,
        resources=Resources(
            nodes=site.nodes, cores=site.cores, gpus=site.gpus, memory=site.memory, exclusive=site.exclusive
        ),
        queue=site.queue,
        account=site.account,
        constraint=site.constraint,
        reservation=site.reservation,
        container=site.container.image if site.container else "",
        start_within=start_within or site.start_within_seconds,
        **what,
    )


def option(name: str, value: Json) -> str:
    """``--ring-sigma=3``; with ``=`` so that a value that begins with a dash stays a value."""
    flag = name.replace("_", "-")
    if isinstance(value, bool):
        return f"--{flag}" if value else f"--no-{flag}"
    return f"--{flag}={value}"


def operation_at(settings: Settings, scan: Scan, site: ComputeSite, spec: JobSpec, *, step: str) -> Operation[JobSpec]:
    """The job as the ledger files it."""
    to, remote = settings.endpoint(site.scratch_endpoint), isinstance(site, RemoteSite)
    # The farther of both places: a site of the beamline may write its results to a disk that is not the beamline's.
    at_site = to.place.zone is Zone.BEAMLINE or (remote and site.place.zone is Zone.EXTERNAL)
    return Operation(
        scan=scan,
        step=step,
        request=spec,
        destination=site.place if at_site else to.place,
        deadline=spec.duration + (CHECK_SECONDS + (spec.start_within or 0.0) if remote else LOCAL_QUEUE_SECONDS),
    )
