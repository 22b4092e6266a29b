"""What it means when a task of Globus Compute ends without the report of a job."""

from __future__ import annotations

import json
from importlib.metadata import metadata

from orchestration.config import RemoteSite
from orchestration.errors import JobFailed, JobLost
from orchestration.globus.compute_tasks import Stand, Task
from orchestration.ledger.service import Document
from orchestration.remote import code_text

PROBE = """
import json, sys
try:
    from importlib.metadata import version
    found = version("beamline-orchestration")
except Exception:
    found = ""
print(json.dumps({"python": "%d.%d.%d" % sys.version_info[:3], "science": found}))
"""
"""Run by the interpreter of a site when its runner left no report; it must be understood by very old ones."""

_DUPLICATE = 76
"""Exit code of the runner's second start of one job."""

_LOST = ("WorkerLost", "ManagerLost", "loss of worker", "loss of manager", "POISON", "delivered")
"""In the texts of tasks whose computer was lost, not of programs that failed."""

_ERROR_LENGTH = 4096

_INSTALL = "make its environment with scripts/install_science.sh, then start the flow again"


def duplicate(task: Task) -> bool:
    """Whether another task runs the job."""
    return task.value.get("code") == _DUPLICATE


def never_began(task: Task) -> bool:
    """Whether the runner itself could not be run: the job has not begun, and will not."""
    return task.stand is Stand.RETURNED and task.value.get("started") is None and not duplicate(task)


def refused(task: Task) -> bool:
    """Whether the endpoint itself said no, or could not do the first things: no computer was lost."""
    return task.stand is Stand.RAISED and not any(word in task.error for word in _LOST)


def trouble(title: str, task: Task, site: RemoteSite, *, where: str) -> JobFailed:
    """Why the runner could not be run: mostly something about the interpreter there."""
    found = _probe(str(task.value.get("probe") or ""))
    python, science = found.get("python", ""), found.get("science", "")
    needed = metadata("beamline-orchestration")["Requires-Python"]
    if not python:
        return JobFailed(
            f"job {title} did not begin: {site.python} cannot be run ({_last(str(task.value.get('log') or ''))})",
            where=where,
            next_step=f"correct `python` of site {site.name} in config.yml, or {_INSTALL}",
        )
    if not _serves(python, needed):
        return JobFailed(
            f"job {title} did not begin: {site.python} is Python {python}, and the science programs need {needed}",
            where=where,
            next_step=f"take such a Python and {_INSTALL}",
            cause="VersionMismatch",
        )
    if not science:
        return JobFailed(
            f"job {title} did not begin: the science programs are not installed in {site.python}",
            where=where,
            next_step=_INSTALL,
            cause="VersionMismatch",
        )
    return JobFailed(
        f"job {title} did not begin: its runner ended with {code_text(task.value.get('code'))} and left no report "
        f"({_last(str(task.value.get('log') or ''))})",
        where=where,
        next_step="read runner.log in the job's folder, then start the flow again",
    )


def gone(title: str, task: Task, report: Document, *, where: str) -> JobFailed:
    """The error for a job whose runner left no report of its own; `report` was made in its place, and it is over."""
    said = _last(task.error)
    if refused(task):
        return JobFailed(
            f"job {title} could not be run by the endpoint: {said}",
            where=where,
            next_step="check the endpoint's configuration and its log at the facility, then start the flow again",
        )
    words = _last(str(report.get("stderr") or ""))
    return JobLost(
        f"job {title} was lost: {_lost_how(task, said)}{f'; its program had said: {words}' if words else ''}",
        where=where,
        next_step="start the flow again; nothing of it runs any more",
    )


def remains(task: Task) -> Document:
    """What a task came back with that had no report of its runner."""
    found: Document = {"runner_code": task.value.get("code"), "runner_log": task.value.get("log")}
    found["task_error"] = task.error[-_ERROR_LENGTH:]
    return {name: value for name, value in found.items() if value not in (None, "")}


def _lost_how(task: Task, said: str) -> str:
    if said:
        return f"its worker was lost ({said})"
    if task.stand is Stand.RETURNED and not duplicate(task):
        words = _last(str(task.value.get("log") or ""))
        return f"its runner ended with {code_text(task.value.get('code'))}{f' ({words})' if words else ''}"
    return "neither Globus Compute nor the job's folder knows how it ended"


def _probe(text: str) -> dict[str, str]:
    try:
        found = json.loads(text)
    except ValueError:
        return {}
    return {str(key): str(value) for key, value in found.items()} if isinstance(found, dict) else {}


def _serves(python: str, needed: str) -> bool:
    # Imported late, with the SDK, to which it belongs.
    from packaging.specifiers import SpecifierSet

    return SpecifierSet(needed).contains(python)


def _last(text: str) -> str:
    """The last line that says anything; the endpoint program draws rules around the texts of errors."""
    lines = [line.strip() for line in text.splitlines() if any(letter.isalnum() for letter in line)]
    return lines[-1][:500] if lines else ""
