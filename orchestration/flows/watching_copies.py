"""The flow that watches over what the ledger says: are the copies there, and are they what they were?"""

from __future__ import annotations

import time

from prefect import flow

from orchestration.errors import OrchestrationError
from orchestration.flows.alarms import Alarms
from orchestration.flows.cancelling import say_cancelled
from orchestration.flows.inventory import Budget, look_through
from orchestration.flows.lateness import look_for_arrivals
from orchestration.flows.mailing import Post, send_notices
from orchestration.flows.pressure import relieve
from orchestration.flows.sampling import read_again, size_of_sample
from orchestration.flows.unknown import look_for_strangers
from orchestration.flows.warning import Warnings, warn_owners
from orchestration.flows.work import Work, working
from orchestration.ledger.service import Document

NAME = "watch_copies"


@flow(name=NAME, flow_run_name=NAME, on_failure=[say_cancelled])
def watch_copies(
    copies: int | None = None,
    seconds: float | None = None,
    samples: int | None = None,
    endpoint: str = "",
    dry_run: bool = True,
) -> Document:
    """Look at the next copies, read some of them, and say what is missing, changed or unknown.

    `copies` are looked at in so many `seconds`, and `samples` of all are read; left out, it is as config.yml says under
    `watch`. With `endpoint`, only there. Where a disk is too full, what is due is deleted at once, unless it is a
    dry_run, as it is for a person who does not say otherwise, and is not in the deployment.
    """
    given: Document = {"copies": copies, "seconds": seconds, "samples": samples, "endpoint": endpoint}
    parameters: Document = {**given, "dry_run": dry_run}
    with working(NAME, parameters) as work:
        if endpoint:
            work.settings.endpoint(endpoint)
        policy, alarms = work.settings.watch, Alarms(work)
        most = policy.copies_per_pass if copies is None else copies
        began, time_given = time.monotonic(), policy.seconds_per_pass if seconds is None else seconds
        # A run that waits for a job elsewhere may be suspended, and begins anew from here: what waits comes first.
        relief = relieve(work, alarms, until=began + time_given / 2, only=endpoint, dry_run=dry_run)
        number = size_of_sample(work, most) if samples is None else samples
        sample = read_again(work, alarms, number=number, until=began + time_given / 2, only=endpoint)
        budget = Budget(copies=most, until=began + 0.8 * time_given)
        looks = look_through(work, alarms, budget, only=endpoint, unread=sample.unread)
        strangers = look_for_strangers(work, alarms, until=began + time_given, only=endpoint)
        unknown = work.ledger.inventory.unknown(endpoint=endpoint or None)
        return {
            "inventory": looks.document(),
            "sample": sample.document(),
            "unknown": strangers.document(unknown),
            "space": relief.document(),
            "arrivals": {} if endpoint else look_for_arrivals(work, alarms),
            "warnings": _warned(work, alarms).document(),
            "mail": _mailed(work, alarms).document(),
            "alarms": alarms.document(),
        }


def _warned(work: Work, alarms: Alarms) -> Warnings:
    """A Prefect server that is silent keeps nobody from being told what else is wrong."""
    try:
        return warn_owners(work)
    except OrchestrationError as error:
        alarms.add("warnings to owners", f"nobody was warned of deletions, which are put off: {error.sentence}")
        return Warnings()


def _mailed(work: Work, alarms: Alarms) -> Post:
    """What waits keeps copies from being deleted whose owners have to be warned: somebody must know."""
    post = send_notices(work)
    if post.trouble:
        alarms.add("mail", f"{post.left} messages wait to be sent: {post.trouble[0]}")
    return post
