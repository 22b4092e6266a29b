"""What closed operations have left at a facility: jobs that live on, and the folders of those that do not.

The first there should not be. A facility that said that a job was over, and was wrong, leaves one; so does a submission
of which the answer came too late. Only what has a token of this ledger is touched: others may use the account.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from orchestration.config import NerscSite, RemoteSite
from orchestration.errors import ConfigError, OrchestrationError
from orchestration.flows.leftovers import leftovers, over
from orchestration.flows.work import Work
from orchestration.jobs import JobSpec
from orchestration.ledger.history import RESERVED
from orchestration.ledger.operation import OperationRecord
from orchestration.ledger.service import Clears, Document, Json, Service, Sweeping

AT_ONCE = 50
"""What so many operations at a site have left is removed by one round of `reconcile`."""

PAGE = 500
"""So many are read from the ledger at a time for that."""

GRACE_SECONDS = 300.0
"""For so long after its end is known here a job may still be ending there."""


def sweep(work: Work) -> list[Json]:
    """One line for each job that was found and cancelled; a site that does not answer is swept the next time."""
    found: list[Json] = []
    for site in work.settings.compute_sites.values():
        if not isinstance(site, NerscSite):
            continue  # no other kind can be asked for all that it has of ours
        try:
            found += _sweep(work, work.services.jobs(site))
        except ConfigError as error:
            work.logger.debug("%s is not swept: %s", site.name, error)
        except OrchestrationError as error:
            work.logger.warning("%s is not swept: %s", site.name, error)
    return found


def _sweep(work: Work, service: Service[JobSpec]) -> list[Json]:
    if not isinstance(service, Sweeping):
        return []
    lines: list[Json] = []
    for handle, token in service.alive().items():
        record = _superseded(work, token)
        if record is not None:
            line: Document = {"step": record.step, "key": record.key, "job": handle}
            line["answer"] = service.cancel(handle).value
            work.logger.warning("%s: job %s lived on at %s: %s", record.step, handle, service.name, line["answer"])
            lines.append(line)
    return lines


def clear_folders(work: Work) -> dict[str, Json]:
    """How many operations there were, by site, of whose jobs nothing is left now, `job_folder_days` after their end."""
    cleared: dict[str, Json] = {}
    for site in work.settings.compute_sites.values():
        if not isinstance(site, RemoteSite) or not site.job_folder_days:
            continue
        try:
            if number := _clear(work, work.services.jobs(site), site):
                cleared[site.name] = number
        except OrchestrationError as error:
            work.logger.warning("what old jobs left at %s is not removed: %s", site.name, error)
    return cleared


def _clear(work: Work, service: Service[JobSpec], site: RemoteSite) -> int:
    if not isinstance(service, Clears):
        return 0
    before = work.ledger.now() - site.job_folder_days * 24 * 3600.0
    records = [*islice(_over(work, site, service.name, before), AT_ONCE)]
    left = leftovers(work, site, records)
    tokens = [token for record in records for token in work.ledger.operations.tokens(record.key)]
    service.clear(tokens, folders=sorted(left.folders), files=sorted(left.files))
    work.ledger.operations.cleared(records)
    return len(records)


def _over(work: Work, site: RemoteSite, service: str, before: float) -> Iterator[OperationRecord]:
    """The oldest first. Those that have left something that is still to be read keep no younger ones from it."""
    last: OperationRecord | None = None
    while found := work.ledger.operations.uncleared(service, before=before, after=last, limit=PAGE):
        yield from (record for record in found if over(work, site, record))
        last = found[-1]


def _superseded(work: Work, token: str) -> OperationRecord | None:
    """The operation for which a job of this token was made, if it is not wanted for it any more."""
    rows = work.ledger.operations
    for record in rows.among([token.partition("-")[0]]):
        wanted = record.token == token and record.state.open
        ended_at = record.finished_at or record.began_at
        if wanted or work.ledger.now() - ended_at <= GRACE_SECONDS:
            continue
        if any(event.event == RESERVED and event.detail == {"token": token} for event in rows.history(record.key)):
            return record
    return None
