"""Where data is kept and described: Globus collections, disks of this machine, the catalogue."""

from __future__ import annotations

import os
import shutil
from functools import partial
from pathlib import Path

from orchestration import config
from orchestration.config import Endpoint, Settings
from orchestration.doctor.check import Check, Health, Look, attempt, refused, together
from orchestration.doctor.endpoint import EndpointCheck
from orchestration.errors import AccessDenied, OrchestrationError, SourceMissing
from orchestration.globus.auth import TransferClients
from orchestration.ledger import Ledger
from orchestration.scicat.client import ScicatClient

LOW_SPACE_FRACTION = 0.05
SECONDS = 60.0
WRITING_SECONDS = 180.0


def globus_check(settings: Settings, *, ledger: Ledger | None) -> Check:
    """The client's sign-in, and every endpoint on a collection.

    With a `ledger` for trials, a folder is made and deleted at each, and set aside before where copies are.
    """
    clients = TransferClients(config.credentials())

    def sign_in() -> str:
        clients.call(lambda client: client.task_list(limit=1), where="Globus Transfer")
        return "signed in"

    signed_in = attempt("sign-in", sign_in)
    if signed_in.health is not Health.WORKS:
        return Check(what="Globus", parts=(signed_in,))
    looks: list[tuple[str, Look]] = [
        (endpoint.name, partial(_endpoint, clients, endpoint, ledger=ledger, aside=settings.sets_aside(endpoint.name)))
        for endpoint in settings.endpoints.values()
        if endpoint.uuid is not None
    ]
    return Check(what="Globus", parts=(signed_in, *together(looks, seconds=WRITING_SECONDS if ledger else SECONDS)))


def place_check(clients: TransferClients, endpoint: Endpoint) -> Check:
    """One endpoint, on a collection or on this machine."""
    if endpoint.uuid is None and endpoint.mount is not None:
        return _disk(endpoint, endpoint.mount)
    return _endpoint(clients, endpoint, ledger=None)


def _endpoint(clients: TransferClients, endpoint: Endpoint, *, ledger: Ledger | None, aside: bool = False) -> Check:
    check = EndpointCheck(clients, endpoint)
    try:
        note = check.read()
        if ledger is not None:
            note = f"{note}, {check.write_and_delete(ledger)}"
            if aside:
                note = f"{note}, {check.set_aside(ledger)}"
    except OrchestrationError as error:
        return refused(endpoint.name, error)
    return Check(what=endpoint.name, note=note)


def disks_check(settings: Settings, *, seconds: float = SECONDS) -> Check:
    """The folders of this machine that are endpoints, each by itself: one may hang."""
    mounts = [(each, each.mount) for each in settings.endpoints.values() if each.mount is not None]
    looks: list[tuple[str, Look]] = [(each.name, partial(_disk, each, mount)) for each, mount in mounts]
    return Check(
        what="disks",
        note="" if mounts else "no endpoint is mounted on this machine",
        parts=together(looks, seconds=seconds, remedy="the file server does not answer: look at the mount"),
    )


def _disk(endpoint: Endpoint, mount: Path) -> Check:
    if not mount.exists():
        return Check(
            what=endpoint.name,
            health=Health.DOUBTFUL,
            note=f"{mount} is not there",
            remedy="mount it, or make it; a folder of this machine is made by the first copy",
        )
    try:
        return _free(endpoint.name, os.fspath(mount))
    except OSError as error:
        found = SourceMissing(f"{mount} cannot be looked at: {error.strerror}", where=endpoint.name)
        return refused(endpoint.name, found)


def _free(name: str, path: str) -> Check:
    if not os.access(path, os.W_OK | os.X_OK):
        return refused(name, AccessDenied(f"{path} cannot be written", where=name))
    usage = shutil.disk_usage(path)
    note = f"{path}, {usage.free / 1e9:,.0f} of {usage.total / 1e9:,.0f} GB free"
    if usage.free < LOW_SPACE_FRACTION * usage.total:
        return Check(
            what=name,
            health=Health.DOUBTFUL,
            note=note,
            remedy="free space: see which copies are due with `beamline show`, or add disks",
        )
    return Check(what=name, note=note)


def catalogue_check(settings: Settings) -> Check:
    def ask() -> str:
        url = settings.scicat.require_api_url()
        with ScicatClient(url, config.credentials().scicat) as client:
            return f"{url}, signed in as {client.user}"

    return attempt("SciCat", ask)
