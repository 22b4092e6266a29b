"""The flow of `in_flight.py`: one job at NERSC, waited for."""

from __future__ import annotations

from prefect import flow

from orchestration.flows.work import working
from orchestration.jobs import JobSpec
from orchestration.ledger import Ledger
from orchestration.ledger.operation import Operation
from orchestration.ledger.scan import Scan
from orchestration.paths import RelativePath
from orchestration.policy import Place, Zone

NAME = "in_flight"
SITE = "nersc"


def scan_of(ledger: Ledger, number: int) -> Scan:
    return ledger.scans.register(beamline="bl832", path=RelativePath(f"raw/in_flight/{number}.h5"))


def job(scan: Scan, number: int, *, folder: str) -> Operation[JobSpec]:
    request = JobSpec(executable="/bin/true", arguments=(str(number),), directory=folder, duration=600.0)
    return Operation(
        scan=scan, step="compute", request=request, destination=Place(SITE, Zone.EXTERNAL), deadline=24 * 3600.0
    )


@flow(name=NAME)
def in_flight(number: int, folder: str) -> None:
    with working(NAME, {"number": number, "folder": folder}) as work:
        operation = job(scan_of(work.ledger, number), number, folder=folder)
        work.perform(operation, work.services.jobs(work.settings.site(SITE)))
