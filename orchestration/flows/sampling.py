"""Reading some of the copies again whose bytes were not read for longest: what no look at a file can tell."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from orchestration.errors import (
    Cancelled,
    ChecksumMismatch,
    ConfigError,
    OperationFailed,
    PolicyRefused,
    ServiceUnavailable,
)
from orchestration.flows.alarms import Alarms, named
from orchestration.flows.calendar import DAY
from orchestration.flows.checksumming import can_be_computed, only_reads, verified_again
from orchestration.flows.proving import HARMLESS
from orchestration.flows.work import Work
from orchestration.ledger.copy import CopyRecord, CopyState
from orchestration.ledger.service import Document, Json

POOL = 20
"""The sample is drawn among so many times as many copies, those with the oldest evidence."""

_TROUBLE = (OperationFailed, ServiceUnavailable, ConfigError, PolicyRefused)


@dataclass
class Sample:
    """What came of it; copies are named ``endpoint:path``."""

    verified: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    """Their checksums could not be computed: nothing is known of them that was not known before."""
    unread: list[CopyRecord] = field(default_factory=list)
    """The same copies: whether they are there at all, a look can tell."""

    def document(self) -> Document:
        lists = {"verified": self.verified, "changed": self.changed, "failed": self.failed}
        told: dict[str, Json] = {name: [*places] for name, places in lists.items()}
        return told


def size_of_sample(work: Work, copies: int) -> int:
    """How many are read by a pass that looks at so many: of few copies one, if any at all are to be."""
    return math.ceil(work.settings.watch.sample_share * min(copies, work.ledger.inventory.number()))


def read_again(work: Work, alarms: Alarms, *, number: int, until: float, only: str = "") -> Sample:
    """Compute the checksums of a random sample of that many copies, until then by `time.monotonic`.

    What was drawn is written down first: a run that was suspended or killed is carried on by the next.
    """
    sample = Sample()
    left = int(work.settings.watch.sample_bytes)
    for copy in _drawn(work, number, only):
        if time.monotonic() > until:
            break
        if copy.size > left and left < work.settings.watch.sample_bytes:
            continue  # one that is larger than all that may be read is read alone
        left -= copy.size
        _read(work, alarms, sample, copy)
    if sample.changed:
        listed = "; ".join(sample.changed)
        alarms.add("copies that are changed", f"their checksums are not what they were: {listed}")
    return sample


def _drawn(work: Work, number: int, only: str) -> Iterator[CopyRecord]:
    """Those that an earlier run has drawn and not read come first, then those that were changed a day ago."""
    inventory = work.ledger.inventory
    endpoints = [
        name
        for name, endpoint in work.settings.endpoints.items()
        if (not only or name == only) and can_be_computed(work.settings, endpoint)
    ]
    left = inventory.drawn(endpoints)[:number]
    now = work.ledger.now()
    fresh = [*inventory.doubted(endpoints, tried_before=now - DAY, limit=number - len(left))]
    pool = inventory.oldest(endpoints, limit=number * POOL, tried_before=now - work.settings.watch.days * DAY)
    fresh += random.sample(pool, min(number - len(left) - len(fresh), len(pool)))
    inventory.draw(fresh)
    for copy in work.ledger.copies.among([*left, *fresh]):
        if copy.state not in {CopyState.PRESENT, CopyState.CHANGED}:
            inventory.tried(copy.id)
        elif not _in_use(work, copy):
            yield copy


def _in_use(work: Work, copy: CopyRecord) -> bool:
    """By anything but a run before this one that was reading it, and died."""
    known = work.ledger.operations.of_scan(copy.scan_id)
    return any(each.state.open and each.service not in HARMLESS and not only_reads(each) for each in known)


def _read(work: Work, alarms: Alarms, sample: Sample, copy: CopyRecord) -> None:
    where = named(work, copy)
    try:
        verified_again(work, copy)
    except ChecksumMismatch as error:
        work.logger.warning("%s of scan %s: %s", copy.dataset, copy.scan_id, error)
        work.ledger.inventory.tried(copy.id, error.what)
        sample.changed.append(f"{where} ({error.what})")
    except Cancelled:
        raise
    except _TROUBLE as error:
        work.logger.warning("%s was not read: %s", where, error)
        work.ledger.inventory.tried(copy.id, error.what)
        sample.failed.append(f"{where} ({error.what})")
        sample.unread.append(copy)
    else:
        work.ledger.inventory.tried(copy.id)
        sample.verified.append(where)
