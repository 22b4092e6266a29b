"""A facility over a real Slurm, and jobs given to it by the unmodified client library."""

from __future__ import annotations

import importlib
import os
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestration.sandbox.slurm.cluster import Cluster
from orchestration.sandbox.slurm.files import HOME, SCRATCH, USER_ID
from orchestration.sandbox.testing import RunningFacility


def client_library() -> Any:
    """The package sfapi_client, as it is released."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Authlib's, at its import, about what it recommends besides
        importlib.import_module("authlib.integrations.httpx_client")
        return importlib.import_module("sfapi_client")


@dataclass(frozen=True, kw_only=True)
class Lab:
    """`machine` is the client's `Compute` object for perlmutter."""

    cluster: Cluster
    facility: RunningFacility
    machine: Any

    def submit(self, commands: str, *options: str) -> Any:
        """A job of one core, in the shared part of the machine, unless options say otherwise."""
        words = ["--qos=realtime", "--constraint=cpu", "--cpus-per-task=1", "--mem=200", f"--chdir={SCRATCH}", *options]
        lines = "\n".join(f"#SBATCH {word}" for word in words)
        return self.machine.submit_job(f"#!/bin/bash\n{lines}\n{commands}\n")

    def ended(self, job: Any, state: str = "COMPLETED") -> str:
        """Wait until the client sees the job in this state, in the accounting too; its exit code there.

        A job that has left squeue is in neither list for a moment: what the client says then is no answer yet.
        """

        def accounted() -> Any:
            try:
                row = self.machine.job(job.jobid, "sacct")
                job.update()
            except client_library().SfApiError:
                return None
            return row if row.state.value == job.state.value == state else None

        return str(until(accounted).exitcode)

    def scratch(self, name: str) -> Path:
        """A file of the user's scratch directory, as this machine finds it."""
        return self.cluster.files.outside(SCRATCH / name)

    def folder(self, name: str) -> Path:
        """A folder of the user in their scratch directory."""
        path = self.scratch(name)
        path.mkdir(exist_ok=True)
        os.chown(path, USER_ID, USER_ID)
        return path

    def home(self, name: str) -> Path:
        return self.cluster.files.outside(HOME / name)


def until(found: Callable[[], Any], *, within: float = 120.0) -> Any:
    """What `found` returns as soon as it is true."""
    end = time.monotonic() + within
    while True:
        if result := found():
            return result
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.05)
