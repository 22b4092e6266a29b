"""A job as sbatch takes it. No name in it is ever interpreted by a shell, or read by Slurm as an option."""

from __future__ import annotations

import math
import posixpath
import re
import shlex
from dataclasses import dataclass

from orchestration.config import REPORT_SECONDS, NerscSite
from orchestration.errors import ConfigError, InvalidInput, OrchestrationError
from orchestration.jobs import JobSpec
from orchestration.remote import Launch

NAME_PREFIX = "beamline."
"""Begins the name of every job of this service, so that they can be told from those that a person submits."""

_PLAIN = re.compile(r"[A-Za-z0-9_./@:+,=&|*()\[\]-]+")
_ORDERS_BYTES = 120_000
"""The kernel takes no longer word on a command line (MAX_ARG_STRLEN is 131072)."""


def job_name(token: str) -> str:
    return NAME_PREFIX + token


def token_of(name: str) -> str | None:
    """The token of a job of this service by the name of the job; None of any other job."""
    return name.removeprefix(NAME_PREFIX) if name.startswith(NAME_PREFIX) else None


def outside(site: NerscSite, path: str) -> str:
    """What the facility itself calls a path of its jobs, which may see it by a volume of their container."""
    volumes = {} if site.container is None else site.container.volumes
    for target, source in sorted(volumes.items(), key=lambda volume: -len(volume[0])):
        if path == target or path.startswith(f"{target.rstrip('/')}/"):
            return posixpath.join(source, posixpath.relpath(path, target)) if path != target else source
    return path


def log_path(site: NerscSite, token: str) -> str:
    """What Slurm writes besides the runner: in the folder of folders, where it can always be opened."""
    return posixpath.join(outside(site, site.job_folder), f"{token}.log")


def start_within(site: NerscSite, spec: JobSpec) -> float:
    """Seconds."""
    return site.start_within_seconds if spec.start_within is None else spec.start_within


@dataclass(frozen=True, kw_only=True)
class BatchScript:
    """The script of one job. Times for Slurm are relative to its own clock."""

    launch: Launch
    site: NerscSite

    @property
    def text(self) -> str:
        """Raises InvalidInput or ConfigError for what cannot be an option of sbatch."""
        command = self.launch.command
        if any("\0" in word for word in command):
            raise InvalidInput("a NUL character in the command of a job")
        if self.launch.spec.container.startswith("-"):
            raise InvalidInput(f"{self.launch.spec.container!r} cannot be the image of a container")
        if any(len(word.encode()) > _ORDERS_BYTES for word in command):
            raise InvalidInput(
                "the orders of this job are too long for a command line", next_step="give it fewer outputs"
            )
        options = "\n".join(f"#SBATCH {option}" for option in self._options())
        # sbatch reads options up to the first command; what follows in quotes is out of its reach.
        return f"#!/bin/bash\n{options}\nset -euo pipefail\nexec {shlex.join(command)}\n"

    def _options(self) -> list[str]:
        spec, site, resources = self.launch.spec, self.site, self.launch.spec.resources
        log = _folder(log_path(site, self.launch.token))
        options = [
            f"--job-name={job_name(self.launch.token)}",
            f"--output={log}",
            f"--error={log}",
            "--open-mode=append",
        ]
        options += [
            f"--{option}={_word(value, what)}"
            for option, value, what in (
                ("qos", spec.queue or site.queue, "queue"),
                ("account", spec.account or site.account, "account"),
                ("constraint", spec.constraint or site.constraint, "constraint"),
                ("reservation", spec.reservation or site.reservation, "reservation"),
                ("licenses", site.licenses, "licences"),
            )
            if value
        ]
        options += [f"--nodes={resources.nodes}", f"--ntasks-per-node={resources.processes_per_node}"]
        options.append(f"--cpus-per-task={max(1, resources.cores // resources.processes_per_node)}")
        if resources.gpus:
            options.append(f"--gpus-per-node={resources.gpus}")
        if resources.memory is not None:
            options.append(f"--mem={math.ceil(resources.memory / 1024**2)}M")
        if resources.exclusive:
            options.append("--exclusive")
        return [*options, *self._times(), "--no-requeue"]

    def _times(self) -> list[str]:
        """Slurm drops a job that could not end by its deadline any more; it also never begins it then."""
        minutes = math.ceil(self.walltime / 60)
        latest = math.ceil(start_within(self.site, self.launch.spec)) + 60 * minutes
        return [f"--time={minutes}", f"--deadline=now+{latest}"]

    @property
    def walltime(self) -> float:
        """Seconds: more than the runner gives the program, which should be the one that stops it: it can tell why."""
        return self.launch.spec.duration + REPORT_SECONDS


def _word(value: str, what: str) -> str:
    if not _PLAIN.fullmatch(value):
        raise InvalidInput(f"{value!r} cannot be the {what} of a job at a Slurm", next_step=f"correct the {what}")
    return value


def _folder(path: str) -> str:
    """`%` would be filled in by Slurm, and there is no way to write every other character."""
    if not re.fullmatch(r"[A-Za-z0-9_./@:+,=-]+", path):
        raise _unusable(path)
    return path


def _unusable(path: str) -> OrchestrationError:
    return ConfigError(
        f"{path!r} cannot be where Slurm writes the log of a job",
        where="job_folder of the site",
        next_step="choose a folder of letters, digits and _ . / @ : + , = -",
    )
