"""`beamline sandbox fault`: let the facility on this machine fail, to see what the flows make of it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import click

from orchestration import config
from orchestration.errors import InvalidInput
from orchestration.paths import RelativePath
from orchestration.sandbox.client import SandboxClient
from orchestration.sandbox.faults import FaultKind
from orchestration.sandbox.layout import DEFAULT
from orchestration.sandbox.supervisor import Supervisor


@click.command(short_help="Make a part of it fail, or mend it.")
@click.argument("endpoint", required=False)
@click.option("--offline", is_flag=True, help="The endpoint's collection does not answer.")
@click.option("--read-only", is_flag=True, help="Nothing can be written there.")
@click.option("--full", is_flag=True, help="Its disk is full.")
@click.option("--slow", type=click.FloatRange(0, min_open=True), metavar="BYTES/S", help="It moves no more than this.")
@click.option("--corrupt", metavar="PATH", help="A byte of the next copy that arrives at this path is flipped.")
@click.option("--requests", metavar="REGEX", help="Requests fail whose `METHOD /path` matches, at any service.")
@click.option("--kind", type=click.Choice([kind.value for kind in FaultKind]), default="status", show_default=True)
@click.option("--status", default=503, show_default=True, help="With --requests: the answer.")
@click.option("--times", default=1, show_default=True, help="With --requests and --corrupt: how often.")
@click.option("--lies", is_flag=True, help="hsi and htar of a tape archive end with 0, whatever happens.")
@click.option("--expire-tokens", is_flag=True, help="Every token of every service becomes invalid.")
@click.option("--clear", is_flag=True, help="All faults end; those of ENDPOINT only, if one is named.")
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object.")
@click.option(
    "--state",
    type=click.Path(path_type=Path, file_okay=False),
    default=lambda: os.environ.get("BEAMLINE_SANDBOX") or DEFAULT,
    show_default=str(DEFAULT),
    help="Directory of the sandbox.",
)
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
    lies: bool,
    expire_tokens: bool,
    clear: bool,
    as_json: bool,
) -> None:
    """Make ENDPOINT of the running sandbox fail, or any of its services, until `--clear`."""
    supervisor = Supervisor(state)
    _demand_running(supervisor)
    environment = supervisor.environment
    settings = config.load(Path(environment["BEAMLINE_CONFIG"]))
    said: list[str] = []
    with SandboxClient(environment["BEAMLINE_SANDBOX_URL"]) as facility:
        if clear:
            said.append(_clear(facility, settings, endpoint))
        if expire_tokens:
            facility.expire_tokens()
            said.append("every token is invalid now")
        if requests:
            facility.faults.add(requests, kind, status=status, times=times)
            said.append(f"the next {times} requests that match {requests!r} fail ({kind})")
        if endpoint in settings.archives:
            said += _archive(facility, settings.archive(str(endpoint)), down=offline, lies=lies, corrupt=corrupt)
            offline, corrupt = False, None
        if offline or read_only or full or slow is not None:
            facility.collections.set(
                _collection(settings, endpoint),
                connected=False if offline else None,
                writable=False if read_only else None,
                full=True if full else None,
                bandwidth=slow,
            )
            limited = "" if slow is None else f"no faster than {slow:g} bytes/s"
            found = {"offline": offline, "read-only": read_only, "full": full, limited: slow is not None}
            said.append(f"{endpoint} is {', '.join(name for name, on in found.items() if on)}")
        if corrupt:
            identity = _collection(settings, endpoint)
            place = settings.endpoint(str(endpoint))
            facility.corrupt(identity, place.full_path(place.relative(corrupt)), times=times)
            said.append(f"the next copy to {endpoint}:{corrupt} arrives with a wrong byte")
    if not said:
        raise InvalidInput("no fault was named", next_step="choose one, see `beamline sandbox fault --help`")
    click.echo(json.dumps({"done": said}) if as_json else "\n".join(said))


def _demand_running(supervisor: Supervisor) -> None:
    if not any(component.alive for component in supervisor.status() if component.name == "facility"):
        raise InvalidInput(
            "the sandbox does not run",
            where=str(supervisor.layout.root),
            next_step="start it with `beamline sandbox up`, or name its directory with --state",
        )


def _archive(
    facility: SandboxClient, archive: config.ArchiveEndpoint, *, down: bool, lies: bool, corrupt: str | None
) -> Iterator[str]:
    """What was done to a tape archive."""
    if down or lies:
        facility.superfacility.archive_fails(down=down, lies=lies)
        found = {"does not answer": down, "ends with 0, whatever happens": lies}
        yield f"{archive.name} {' and '.join(name for name, on in found.items() if on)}"
    if corrupt:
        path = archive.endpoint.full_path(RelativePath.parse(corrupt))
        try:
            facility.superfacility.flip(path, byte=600)  # behind the header of the first member
        except ValueError as error:
            raise InvalidInput(
                f"there is no such bundle, with a file in it: {error}",
                where=f"{archive.name}:{corrupt}",
                next_step="store one first; `beamline show` names those in which a scan is",
            ) from error
        yield f"a bit of {archive.name}:{corrupt} is flipped"


def _collection(settings: config.Settings, endpoint: str | None) -> str:
    if endpoint is None:
        raise InvalidInput("no endpoint was named", next_step="name one of config.yml, such as nersc832")
    return str(settings.endpoint(endpoint).require_uuid())


def _clear(facility: SandboxClient, settings: config.Settings, endpoint: str | None) -> str:
    facility.superfacility.archive_fails()
    if endpoint in settings.archives:
        return f"{endpoint} works again"
    names = [endpoint] if endpoint else list(settings.endpoints)
    collections = {settings.endpoint(name).uuid for name in names} - {None}
    for collection in collections:
        facility.collections.set(str(collection), connected=True, writable=True, full=False, bandwidth=0.0)
    if endpoint:
        return f"{endpoint} works again"
    facility.faults.clear()
    return "all works again"
