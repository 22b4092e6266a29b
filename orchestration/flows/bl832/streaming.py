"""Streaming reconstruction of 8.3.2 at NERSC: started before a scan, watched, and stopped."""

from __future__ import annotations

from datetime import timedelta

from prefect import flow

from orchestration.config import GlobusComputeSite, IriSite, LocalSite, NerscSite, RemoteSite, Streaming
from orchestration.errors import ConfigError, InvalidInput
from orchestration.flows.bl832.move import BEAMLINE
from orchestration.flows.cancelling import say_cancelled
from orchestration.flows.computing import compute
from orchestration.flows.jobs import remote_job
from orchestration.flows.main import command
from orchestration.flows.work import Work, register, working
from orchestration.jobs import JobSpec, Output, OutputKind
from orchestration.ledger.operation import Operation
from orchestration.ledger.service import Document

ENDING_SECONDS = 60.0
"""For the program to be stopped, after its time is over."""


@flow(name="nersc_streaming_flow", flow_run_name="nersc_streaming: {walltime}", on_failure=[say_cancelled])
def nersc_streaming_flow(walltime: timedelta | float = 300.0, monitor_interval: float = 10.0) -> Document:
    """Run the streaming reconstruction for as long as `walltime`; it ends then, or when this run is cancelled.

    A number is in seconds; a duration may also be given as ``PT30M``.
    Its progress is in the log; NERSC is asked at least every `monitor_interval` seconds. A program that ends by itself
    with a failure fails this run.
    """
    seconds = walltime.total_seconds() if isinstance(walltime, timedelta) else walltime
    with working("nersc_streaming_flow", {"walltime": seconds, "monitor_interval": monitor_interval}) as work:
        for name, value in (("walltime", seconds), ("monitor_interval", monitor_interval)):
            if not value > 0:
                raise InvalidInput(f"the {name} must be positive, not {value:g} s")
        streaming, site = _settings(work)
        scan = register(work, f"streaming/{work.run_id}", beamline=work.settings.beamline(BEAMLINE))
        spec = _session(streaming, site, name=work.run_id, seconds=seconds)
        operation = Operation(
            scan=scan,
            step=f"stream at {site.name}",
            request=spec,
            destination=site.place,
            deadline=spec.duration + site.start_within_seconds + ENDING_SECONDS,
        )
        outcome = compute(work, operation, site, ceiling=monitor_interval)
        return {"site": site.name, "job": outcome.record.handle, "outputs": outcome.evidence.get("outputs")}


def _settings(work: Work) -> tuple[Streaming, NerscSite | GlobusComputeSite | IriSite]:
    streaming = work.settings.beamline(BEAMLINE).streaming
    if streaming is None:
        raise ConfigError(
            f"{BEAMLINE} has no streaming reconstruction",
            where=f"beamlines.{BEAMLINE}.streaming",
            next_step="name its site, program and directory there",
        )
    site = work.settings.site(streaming.site)
    if isinstance(site, LocalSite):
        raise ConfigError(
            f"streaming runs at a facility, and {site.name} is this machine",
            where=f"beamlines.{BEAMLINE}.streaming.site",
            next_step="name another compute site",
        )
    return streaming, site


def _session(streaming: Streaming, site: RemoteSite, *, name: str, seconds: float) -> JobSpec:
    record = f"session-{name}.json"
    return remote_job(
        site,
        arguments=("-P", "-m", "orchestration.science", "session", str(seconds), record, "--", *streaming.program),
        directory=streaming.directory,
        duration=seconds + ENDING_SECONDS,
        outputs=(Output(path=record, kind=OutputKind.JSON),),
        environment=streaming.environment,
        name="streaming reconstruction",
    )


if __name__ == "__main__":
    command(nersc_streaming_flow)
