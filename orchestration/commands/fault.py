"""`beamline sandbox fault`: let the facility on this machine fail, to see what the flows make of it."""

from __future__ import annotations

import os
from pathlib import Path

import click

from orchestration import config
from orchestration.errors import InvalidInput
from orchestration.sandbox.client import SandboxClient
from orchestration.sandbox.faults import FaultKind
from orchestration.sandbox.layout import DEFAULT
from orchestration.sandbox.supervisor import Supervisor


@click.command()
@click.argument("endpoint", required=False)
@click.option("--offline", is_flag=True, help="The endpoint's collection does not answer.")
@click.option("--read-only", is_flag=True, help="Nothing can be written there.")
@click.option("--full", is_flag=True, help="Its disk is full.")
@click.option("--slow", type=float, metavar="BYTES/S", help="It moves no more than this.")
@click.option("--corrupt", metavar="PATH", help="A byte of the next copy that arrives at this path is flipped.")
@click.option("--requests", metavar="REGEX", help="Requests fail whose `METHOD /path` matches, at any service.")
@click.option("--kind", type=click.Choice([kind.value for kind in FaultKind]), default="status", show_default=True)
@click.option("--status", default=503, show_default=True, help="With --requests: the answer.")
@click.option("--times", default=1, show_default=True, help="With --requests and --corrupt: how often.")
@click.option("--expire-tokens", is_flag=True, help="Every token of every service becomes invalid.")
@click.option("--clear", is_flag=True, help="All faults end; those of ENDPOINT only, if one is named.")
@click.option("--state", type=click.Path(path_type=Path), default=lambda: os.environ.get("BEAMLINE_SANDBOX") or DEFAULT)
def fault(
    endpoint: str | None,
    slow: float | None,
    corrupt: str | None,
    requests: str | None,
    kind: str,
    status: int,
    times: int,
    state: Path,
    *,
    offline: bool,
    read_only: bool,
    full: bool,
    expire_tokens: bool,
    clear: bool,
) -> None:
    """Make ENDPOINT of the running sandbox fail, or any of its services, until `--clear`."""
    environment = Supervisor(state).environment
    settings = config.load(Path(environment["BEAMLINE_CONFIG"]))
    with SandboxClient(environment["SCICAT_API_URL"].partition("/scicat/")[0]) as facility:
        if clear:
            names = [endpoint] if endpoint else list(settings.endpoints)
            _clear(facility, settings, names)
            facility.faults.clear()
        if expire_tokens:
            facility.expire_tokens()
        if requests:
            facility.faults.add(requests, kind, status=status, times=times)
        if not (offline or read_only or full or slow is not None or corrupt):
            return
        if endpoint is None:
            raise InvalidInput("no endpoint was named", next_step="name one of config.yml, such as nersc832")
        collection = str(settings.endpoint(endpoint).require_uuid())
        facility.collections.set(
            collection,
            connected=False if offline else None,
            writable=False if read_only else None,
            full=True if full else None,
            bandwidth=slow,
        )
        if corrupt:
            path = settings.endpoint(endpoint).full_path(settings.endpoint(endpoint).relative(corrupt))
            facility.corrupt(collection, path, times=times)


def _clear(facility: SandboxClient, settings: config.Settings, names: list[str]) -> None:
    collections = {settings.endpoint(name).uuid for name in names} - {None}
    for collection in collections:
        facility.collections.set(str(collection), connected=True, writable=True, full=False, bandwidth=0.0)
