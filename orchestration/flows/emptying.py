"""Empty folders of quarantines: of days of which every copy was deleted since, or brought back."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta

from orchestration.config import Endpoint
from orchestration.flows.variables import QUICK
from orchestration.flows.work import Work
from orchestration.ledger.operation import Operation
from orchestration.ledger.service import Service
from orchestration.paths import QUARANTINE, RelativePath
from orchestration.transfers import DeleteRequest, Listed

QUIET = timedelta(days=2)
"""So long after its end nothing new comes into the folder of a day, whatever the clocks of the workers say."""

DEADLINE_SECONDS = 600.0
"""A removal that begins much later than the look at the folder is given up; the next night looks again."""

_COPY = re.compile(r"(?P<id>[0-9]+)-[0-9]+")
"""The folder of a copy: its number, and which generation of it."""


@dataclass(frozen=True, kw_only=True)
class _Day:
    """What is in quarantine since one day; `copies` are the folders in it, all of them empty."""

    path: RelativePath
    copies: Sequence[str]


def remove_empty_folders(work: Work) -> int:
    """Those that are left in the quarantines of all endpoints; how many days were removed.

    One that cannot be removed is left for another night, and keeps nothing else from anything.
    """
    return sum(_removed(work, name) for name in work.ledger.quarantine.endpoints())


def _removed(work: Work, name: str) -> int:
    removed = 0
    with work.one_of_many(f"empty folders stay in the quarantine of {name}"):
        endpoint = work.settings.endpoint(name)
        for day in _empty(work, endpoint):
            removed += _remove(work, endpoint, day)
    return removed


def _empty(work: Work, endpoint: Endpoint) -> Iterator[_Day]:
    """Days that are over, of which the ledger has nothing there and nothing on the way, and the endpoint no file."""
    today = datetime.fromtimestamp(work.ledger.now(), UTC).date()
    for name in work.services.folders(endpoint, RelativePath(QUARANTINE)) or ():
        path = RelativePath(f"{QUARANTINE}/{name}")
        if not _over(name, today) or work.ledger.quarantine.used(endpoint.name, path):
            continue
        inside = _listed(work, endpoint, path)
        copies = [each.name for each in inside if _ours(each)]
        if len(copies) == len(inside) and not any(_listed(work, endpoint, path / each) for each in copies):
            yield _Day(path=path, copies=copies)


def _over(name: str, today: date) -> bool:
    try:
        return name == str(day := date.fromisoformat(name)) and day + QUIET < today
    except ValueError:
        return False  # it is not ours


def _ours(entry: Listed) -> bool:
    return entry.is_directory and not entry.is_link and _COPY.fullmatch(entry.name) is not None


def _listed(work: Work, endpoint: Endpoint, path: RelativePath) -> Sequence[Listed]:
    return work.services.listing(endpoint, path, patience=QUICK) or ()


def _remove(work: Work, endpoint: Endpoint, day: _Day) -> bool:
    """Not if the ledger knows of nothing that ever lay there."""
    operation = _operation(work, endpoint, day)
    if operation is None:
        work.logger.warning("%s:%s is empty, and not known to be ours", endpoint.name, day.path)
        return False
    service: Service[DeleteRequest] = work.services.globus_delete if endpoint.uuid else work.services.local_delete
    work.perform(operation, service)
    work.ledger.operations.expire(operation.key)  # should it ever be there again, that is another removal
    return True


def _operation(work: Work, endpoint: Endpoint, day: _Day) -> Operation[DeleteRequest] | None:
    """Filed under a scan of which a copy lay there; None if there is none."""
    numbers = [int(found["id"]) for each in day.copies if (found := _COPY.fullmatch(each))]
    lain = [copy.scan_id for copy in work.ledger.copies.among(numbers) if copy.endpoint == endpoint.name]
    scan_id = lain[0] if lain else work.ledger.quarantine.scan_of(endpoint.name, day.path)
    if scan_id is None:
        return None
    request = DeleteRequest(
        endpoint=endpoint,
        paths=(day.path,),
        ignore_missing=True,
        only_empty=endpoint.uuid is None,
        label=f"remove empty quarantine {day.path.name}",
    )
    return Operation(
        scan=replace(work.ledger.scans.get(scan_id), fingerprint=""),
        step=f"remove the empty quarantine of {day.path.name} at {endpoint.name}",
        request=request,
        destination=endpoint.place,
        deadline=DEADLINE_SECONDS,
    )
