"""Many transfers are asked about by one request."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from globus_ground import Ground

from orchestration.globus.transfer import GlobusTransfer
from orchestration.ledger.service import BulkService, Running, Status, Succeeded
from orchestration.paths import RelativePath
from orchestration.sandbox.faults import FaultKind
from orchestration.sandbox.testing import submit
from orchestration.transfers import TransferRequest

Write = Callable[[str, bytes], Path]


def submitted(ground: Ground, mover: GlobusTransfer, write: Write, name: str) -> tuple[TransferRequest, str]:
    write(name, os.urandom(20_000))
    request = TransferRequest.of(RelativePath(name), source=ground.beamline, destination=ground.computer)
    return request, submit(mover, request, mover.reserve(name))


def until(look: Callable[[], Status], true: Callable[[Status], bool]) -> Status:
    give_up = time.monotonic() + 20.0
    while not true(status := look()):
        assert time.monotonic() < give_up, status
        time.sleep(0.05)
    return status


def test_one_request_tells_which_have_ended(ground: Ground, mover: GlobusTransfer, write: Write) -> None:
    ended = submitted(ground, mover, write, "quick.h5")
    until(lambda: mover.poll(*ended), lambda status: isinstance(status, Succeeded))
    ground.control.collections.set(str(ground.beamline.uuid), bandwidth=100.0)
    slow = [submitted(ground, mover, write, f"slow{number}.h5") for number in range(3)]
    counter = ground.control.faults.add("GET .*/task", FaultKind.LATENCY, times=0)

    found = mover.poll_many([ended, *slow])

    assert isinstance(mover, BulkService)
    assert isinstance(found[ended[1]], Succeeded)
    for _, handle in slow:
        status = found[handle]
        assert isinstance(status, Running)
        assert not status.needs_care
    assert [rule.hits for rule in ground.control.faults.every() if rule.id == counter.id] == [1]
    for _, handle in slow:
        mover.cancel(handle)


def test_what_reports_a_fault_needs_care(ground: Ground, mover: GlobusTransfer, write: Write) -> None:
    """A run that polls it may have to give it up: Globus would try for days."""
    ground.control.collections.set(str(ground.computer.uuid), writable=False)
    request, handle = submitted(ground, mover, write, "scan.h5")

    until(
        lambda: mover.poll_many([(request, handle)])[handle],
        lambda status: isinstance(status, Running) and status.needs_care,
    )

    mover.cancel(handle)
