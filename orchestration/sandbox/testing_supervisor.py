"""A whole sandbox, with Prefect and a worker, for as long as a test needs it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from orchestration.sandbox.supervisor import Supervisor


@contextmanager
def running_sandbox(
    directory: Path,
    *,
    project_file: Path | None = None,
    deployments: Sequence[Path] = (),
    search: Sequence[Path] = (),
) -> Iterator[Supervisor]:
    """Started, and at the end stopped and deleted. Takes some ten seconds: share it among tests.

    With `deployments` (files like ``prefect.yaml``) those are made instead of the project's own; `search` are folders
    in which their flows are found. The variables that lead a client to it are `environment` of what is yielded.
    """
    supervisor = Supervisor(directory, project_file=project_file, deployments=deployments, search=search)
    try:
        supervisor.up()
        yield supervisor
    finally:
        supervisor.reset()
