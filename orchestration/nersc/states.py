"""What Slurm's states of a job mean to somebody who waits for it. Source: ``man squeue``, JOB STATE CODES."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from orchestration.errors import (
    Cancelled,
    JobFailed,
    JobLost,
    JobNotStarted,
    JobPreempted,
    JobTimedOut,
    NodeFailed,
    OperationFailed,
    OutOfMemory,
)


@dataclass(frozen=True, kw_only=True)
class Ending:
    """A state that does not change any more. `error` is what a job in it is taken for that left no report.

    `overrides`: whether that is believed even where the report says that the program was stopped or failed, because
    the runner sees only what was done to it and not why.
    """

    error: type[OperationFailed]
    what: str
    next_step: str = ""
    overrides: bool = False


_LOG = "read the job's log, then start the flow again"

ENDINGS: Mapping[str, Ending] = {
    "COMPLETED": Ending(error=JobLost, what="ended, but left no report", next_step=_LOG),
    "FAILED": Ending(error=JobFailed, what="failed before it could report", next_step=_LOG),
    "TIMEOUT": Ending(error=JobTimedOut, what="was stopped at its walltime", overrides=True),
    "OUT_OF_MEMORY": Ending(
        error=OutOfMemory, what="was stopped because it used more memory than it has", overrides=True
    ),
    "NODE_FAIL": Ending(error=NodeFailed, what="ended because its node failed", overrides=True),
    "BOOT_FAIL": Ending(error=NodeFailed, what="did not begin: its node did not boot", overrides=True),
    "CANCELLED": Ending(error=Cancelled, what="was cancelled", overrides=True),
    "PREEMPTED": Ending(error=JobPreempted, what="had to make room for another job", overrides=True),
    "DEADLINE": Ending(error=JobNotStarted, what="could not begin by the time by which it had to", overrides=True),
    "REVOKED": Ending(error=JobLost, what="was moved to another cluster by its administrators"),
}

TRANSIENT: Mapping[str, str] = {
    "PENDING": "waiting in the queue",
    "CONFIGURING": "its nodes are made ready",
    "RUNNING": "running",
    "COMPLETING": "ending",
    "SIGNALING": "being signalled",
    "STAGE_OUT": "its files are staged out",
    "SUSPENDED": "suspended by the scheduler",
    "STOPPED": "stopped by the scheduler, keeping its nodes",
    "RESIZING": "changing its size",
    "REQUEUED": "back in the queue",
    "REQUEUE_FED": "back in the queue of its federation",
    "REQUEUE_HOLD": "back in the queue, and held",
    "RESV_DEL_HOLD": "held: its reservation was deleted",
    "SPECIAL_EXIT": "back in the queue, and held after a special exit code",
}
"""A state that is in neither table is taken for one that passes, and shown by its name."""

REASONS: Mapping[str, str] = {
    "None": "",
    "Priority": "others are before it",
    "Resources": "it is next, and waits for nodes",
    "Dependency": "it waits for another job",
    "BeginTime": "it may not begin yet",
    "Licenses": "it waits for a licence, often of a file system in maintenance",
    "JobHeldUser": "held by its owner; scontrol release lets it go",
    "JobHeldAdmin": "held by an administrator of the facility",
    "BadConstraints": "no node is of the kind that it asks for",
    "ReqNodeNotAvail": "the nodes it needs are not available, often because of a maintenance",
    "Reservation": "it waits for its reservation",
    "PartitionDown": "the partition is down",
    "PartitionTimeLimit": "it asks for more time than the partition gives",
    "QOSMaxJobsPerUserLimit": "so many jobs of this user run already",
    "QOSMaxSubmitJobPerUserLimit": "so many jobs of this user wait already",
    "AssocGrpCPUMinutesLimit": "the allocation is used up",
    "AssocMaxJobsLimit": "so many jobs of this account run already",
    "InvalidAccount": "the account may not be used",
    "InvalidQOS": "the quality of service may not be used",
}


def split_state(text: str) -> tuple[str, str]:
    """The state, and who cancelled the job where that is said: ``CANCELLED by 1000``; sacct may cut words (``+``)."""
    name, _, rest = text.strip().partition(" ")
    return name.rstrip("+"), rest.removeprefix("by ").strip()


def note(state: str, reason: str) -> str:
    """For people: what the job is doing, and why it waits."""
    said = TRANSIENT.get(state, f"in state {state}")
    plain = reason.strip("()").partition(",")[0]
    if state in ("RUNNING", "COMPLETING"):
        return said
    why = REASONS.get(plain, plain)
    return f"{said}: {why}" if why else said


def exit_text(code: str) -> str:
    """Slurm's ``code:signal`` in words; empty where it says nothing."""
    number, _, signal = code.partition(":")
    if signal not in ("", "0"):
        extra = ", its output file could not be written" if (number, signal) == ("0", "53") else ""
        return f"signal {signal}{extra}"
    return f"exit code {number}" if number not in ("", "0") else ""
