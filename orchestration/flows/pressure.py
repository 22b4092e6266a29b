"""Disks that fill up: what is due there already is deleted at once. What is not due stays, whatever the disk."""

from __future__ import annotations

from dataclasses import dataclass, field

from orchestration.config import Endpoint
from orchestration.errors import Cancelled, OrchestrationError
from orchestration.flows.alarms import Alarms
from orchestration.flows.nightly import Night, sweep_at_once
from orchestration.flows.work import Work
from orchestration.ledger.service import Document, Json
from orchestration.local.files import space


@dataclass
class Relief:
    """What came of it, by endpoint."""

    full: dict[str, Document] = field(default_factory=dict)

    def document(self) -> Document:
        told: dict[str, Json] = {**self.full}
        return told


def relieve(work: Work, alarms: Alarms, *, until: float, only: str = "", dry_run: bool = False) -> Relief:
    """Sweep each mounted endpoint that has less free space than it should have, until then by `time.monotonic`.

    With `dry_run` it is only counted what a sweep would try to delete (`left`).
    """
    relief = Relief()
    for name, endpoint in work.settings.endpoints.items():
        if endpoint.keep_free is None or endpoint.mount is None or (only and name != only):
            continue
        try:
            _relieve(work, alarms, relief, endpoint, until, dry_run=dry_run)
        except Cancelled:
            raise
        except OrchestrationError as error:
            alarms.add(f"space at {name}", f"it cannot be looked at, or made: {error.sentence}")
    return relief


def _relieve(work: Work, alarms: Alarms, relief: Relief, endpoint: Endpoint, until: float, *, dry_run: bool) -> None:
    before = space(endpoint)
    wanted = endpoint.free_wanted(before.total)
    if before.free >= wanted:
        return
    work.logger.warning("%s has %d bytes free, and should have %d", endpoint.name, before.free, wanted)
    same = [each.name for each in work.settings.endpoints.values() if _same_disk(each, endpoint)]
    night = Night()
    sweep_at_once(work, night, same, until=until, dry_run=dry_run)
    after = space(endpoint)
    relief.full[endpoint.name] = {"free_before": before.free, "free": after.free, "wanted": wanted, **night.document()}
    if after.free < wanted:
        alarms.add(f"space at {endpoint.name}", _sentence(endpoint, after.free, wanted, night))


def _same_disk(one: Endpoint, other: Endpoint) -> bool:
    return one.name == other.name or one.shares_storage_with(other)


def _sentence(endpoint: Endpoint, free: int, wanted: int, night: Night) -> str:
    done = f"{night.deleted} copies that were due were deleted, {night.quarantined} set aside, "
    done += f"{len(night.refused)} refused, {night.left} left"
    what = f"{endpoint.mount} has {free / 1e9:.1f} GB free, and should have {wanted / 1e9:.1f} GB: {done}"
    return f"{what}. Keep copies for fewer days, or look for files that nobody knows (`beamline copies`)"
