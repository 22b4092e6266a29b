"""What became of a job of this machine, told from what its supervisor left behind."""

from __future__ import annotations

import json

from orchestration import remote
from orchestration.ledger.service import Document, Json, Status
from orchestration.local import jobfolder
from orchestration.local.jobfolder import JobFolder
from orchestration.local.records import Ending
from orchestration.science.running.report import tail


def verdict(title: str, job: JobFolder, ended: Ending) -> Status:
    """Success only for exit code 0 with every declared output as declared."""
    report = _report(job, ended)
    return remote.verdict(title, report, where=place(job), log=str(job.path / jobfolder.STDERR))


def place(job: JobFolder) -> str:
    return f"this machine, {job.path}"


def _report(job: JobFolder, ended: Ending) -> Document:
    """As the runner of a facility writes it."""
    outputs: list[Json] = [output.document() for output in ended.outputs]
    return {
        "reason": ended.reason.value,
        "code": ended.code,
        "error": ended.error,
        "seconds": ended.seconds,
        "cpu_seconds": ended.cpu_seconds,
        "max_rss_bytes": ended.max_rss_bytes,
        "folder": str(job.path),
        "outputs": outputs,
        "stdout": tail(job.path / jobfolder.STDOUT),
        "stderr": tail(job.path / jobfolder.STDERR),
        "reported": _reported(job),
    }


def _reported(job: JobFolder) -> Json:
    """The program's own account of its error, if it left one that can be read."""
    try:
        found: Json = json.loads((job.path / jobfolder.ERROR).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None  # the exit code and stderr still tell of the failure
    return found
