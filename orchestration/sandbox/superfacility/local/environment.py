"""What a job finds in its environment besides that of its user, and the names of its files."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from orchestration.sandbox.superfacility.local import supervise
from orchestration.sandbox.superfacility.local.job import Job
from orchestration.sandbox.superfacility.local.options import Options
from orchestration.sandbox.superfacility.local.rows import NODE

_HOST = "login01"


def of_job(job: Job, options: Options, *, base: Mapping[str, str], folder: Path, uid: int) -> dict[str, str]:
    """What Slurm adds for the script; `folder` becomes the mark of the job's processes."""
    exported = [word.partition("=") for word in options.text("export").split(",") if "=" in word]
    asked = {"SLURM_CPUS_PER_TASK": str(job.cpus_per_task)} if "cpus-per-task" in options else {}
    words = {
        "ENVIRONMENT": "BATCH",
        "SLURM_JOB_ID": str(job.id),
        "SLURM_JOBID": str(job.id),
        "SLURM_JOB_NAME": job.name,
        "SLURM_JOB_ACCOUNT": job.account,
        "SLURM_JOB_QOS": job.quality,
        "SLURM_JOB_PARTITION": job.partition,
        "SLURM_JOB_USER": job.user,
        "SLURM_JOB_UID": str(uid),
        "SLURM_JOB_NUM_NODES": str(job.nodes),
        "SLURM_NNODES": str(job.nodes),
        "SLURM_NTASKS": str(job.tasks),
        "SLURM_NPROCS": str(job.tasks),
        "SLURM_TASKS_PER_NODE": str(max(1, job.tasks // job.nodes)),
        "SLURM_CPUS_ON_NODE": str(max(1, job.cpus // job.nodes)),
        "SLURM_JOB_CPUS_PER_NODE": str(max(1, job.cpus // job.nodes)),
        "SLURM_JOB_NODELIST": NODE,
        "SLURM_NODELIST": NODE,
        "SLURMD_NODENAME": NODE,
        "SLURM_CLUSTER_NAME": "perlmutter",
        "SLURM_SUBMIT_DIR": job.directory,
        "SLURM_SUBMIT_HOST": _HOST,
        "SLURM_NODEID": "0",
        "SLURM_PROCID": "0",
        "SLURM_LOCALID": "0",
        "SLURM_GTIDS": "0",
        supervise.MARK: str(folder),
    }
    return {**base, **{name: value for name, _, value in exported}, **words, **asked}


def filled(pattern: str, job: Job) -> str:
    """The name of a file of the job: ``%j`` its id, ``%x`` its name, ..., relative to its directory."""
    words = {
        "%": "%",
        "j": str(job.id),
        "J": str(job.id),
        "A": str(job.id),
        "a": "4294967294",
        "x": job.name,
        "u": job.user,
        "N": NODE,
        "n": "0",
        "t": "0",
        "s": "batch",
    }

    def word(found: re.Match[str]) -> str:
        width, letter = found.groups()
        return words.get(letter, f"%{letter}").rjust(int(width or 0), "0")

    return os.path.join(job.directory, re.sub(r"%(\d*)([%A-Za-z])", word, pattern))


def moment(text: str, *, now: float) -> float | None:
    """A time as in ``--begin``: ``now``, ``now+60`` (seconds, or with a unit), or ISO 8601; None for anything else."""
    if text == "now" or not text:
        return now
    if text.startswith("now+"):
        amount = text.removeprefix("now+")
        digits = amount.rstrip("abcdefghijklmnopqrstuvwxyz")
        units = {"": 1, "second": 1, "minute": 60, "hour": 3600, "day": 86_400, "week": 604_800}
        unit = units.get(amount[len(digits) :].removesuffix("s"))
        return now + int(digits) * unit if digits.isdigit() and unit else None
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        return None
