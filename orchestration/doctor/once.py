"""Trying something at an outside service by the way that every run takes, with a ledger that lasts as long."""

from __future__ import annotations

import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

from orchestration.ledger import Ledger
from orchestration.ledger.operation import Operation, OperationRecord
from orchestration.ledger.perform import Outcome, perform
from orchestration.ledger.service import Request, Service
from orchestration.paths import RelativePath
from orchestration.policy import Place

R = TypeVar("R", bound=Request)


@dataclass(frozen=True)
class Trial(Generic[R]):
    """What is done once, whatever answers are lost; ended at its deadline, and whether it was is known."""

    ledger: Ledger
    operation: Operation[R]
    service: Service[R]

    def run(self) -> Outcome:
        """Raises: as `perform`."""
        return perform(self.ledger, self.operation, self.service)

    @property
    def record(self) -> OperationRecord:
        """Once it was run, even in vain."""
        return self.ledger.operations.get(self.operation.key)


@contextmanager
def trials() -> Iterator[Ledger]:
    """What `once` writes down in: a ledger that lasts as long as the trials."""
    with (
        tempfile.TemporaryDirectory(prefix="beamline-doctor-") as folder,
        Ledger(f"sqlite:///{folder}/ledger.sqlite") as ledger,
    ):
        yield ledger


def once(ledger: Ledger, request: R, service: Service[R], *, place: Place, seconds: float) -> Trial[R]:
    """`place` is where data goes by it, for the policy; `seconds` is its deadline."""
    name = f"doctor-{secrets.token_hex(6)}"  # of no other trial: it is part of what the service knows it by
    scan = ledger.scans.register(beamline="doctor", path=RelativePath(name), fingerprint=name)
    operation = Operation(scan=scan, step="doctor", request=request, destination=place, deadline=seconds)
    return Trial(ledger, operation, service)
