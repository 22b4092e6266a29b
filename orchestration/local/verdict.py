"""What became of a job of this machine, told from what its supervisor left behind."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import dataclass

from orchestration.errors import Cancelled, JobFailed, JobLost, JobTimedOut, OperationFailed, OutputMissing
from orchestration.ledger.service import Document, Failed, Json, Status, Succeeded
from orchestration.local import jobfolder
from orchestration.local.jobfolder import JobFolder
from orchestration.local.records import Ending, Reason

_TAIL = 4096
"""Bytes of the end of stderr that go into the evidence of a failure."""


def verdict(title: str, job: JobFolder, ended: Ending) -> Status:
    """Success only for exit code 0 with every declared output as declared."""
    evidence = _evidence(job, ended)
    if ended.good:
        problems = [output.problem for output in ended.outputs if output.problem]
        if not problems:
            return Succeeded(evidence=evidence)
        error: OperationFailed = OutputMissing(
            f"job {title} ended with exit code 0, but {'; '.join(problems)}",
            where=_place(job),
            next_step=f"read {job.path / jobfolder.STDERR}, then start the flow again",
        )
    else:
        error = _error(title, job, ended)
    return Failed(error=error, evidence=evidence | {"stderr": _tail(job)})


def lost(title: str, job: JobFolder) -> JobLost:
    return JobLost(
        f"job {title} is gone without an exit code: its supervisor was killed, or the machine restarted",
        where=_place(job),
        next_step="start the flow again; the job is not running any more",
    )


def _error(title: str, job: JobFolder, ended: Ending) -> OperationFailed:
    match ended.reason:
        case Reason.CANCELLED:
            return Cancelled(f"job {title} was cancelled", where=_place(job))
        case Reason.TIMEOUT:
            return JobTimedOut(
                f"job {title} was stopped after its limit of {ended.seconds:.0f} s",
                where=_place(job),
                next_step="ask for a longer duration, or find out from its log why it was slow",
            )
        case Reason.UNSTARTABLE:
            return JobFailed(
                f"job {title} could not be started: {ended.error}",
                where=_place(job),
                next_step="check that the program and the directory exist and may be used",
            )
        case Reason.EXITED:
            return _reported(title, job, ended) or _exited(title, job, ended)
        case _:
            return lost(title, job)


@dataclass(frozen=True)
class _Report:
    """The error that the program itself described."""

    type: str
    what: str
    where: str
    next_step: str

    @classmethod
    def read(cls, job: JobFolder) -> _Report | None:
        try:
            found = json.loads((job.path / jobfolder.ERROR).read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return None  # the exit code and stderr still tell of the failure
        if not isinstance(found, dict) or not found.get("what"):
            return None
        return cls(*(str(found.get(name) or "") for name in ("type", "what", "where", "next_step")))


def _reported(title: str, job: JobFolder, ended: Ending) -> JobFailed | None:
    report = _Report.read(job)
    if report is None:
        return None
    return JobFailed(
        f"job {title} failed with {_code(ended.code)}: {report.what}",
        where=report.where or _place(job),
        next_step=report.next_step or f"read {job.path / jobfolder.STDERR}, then start the flow again",
        cause=report.type,
    )


def _exited(title: str, job: JobFolder, ended: Ending) -> JobFailed:
    lines = [line.strip() for line in _tail(job).splitlines() if line.strip()]
    said = f": {lines[-1][:300]}" if lines else ""
    return JobFailed(
        f"job {title} failed with {_code(ended.code)}{said}",
        where=_place(job),
        next_step=f"read {job.path / jobfolder.STDERR}, then start the flow again",
    )


def _code(code: int | None) -> str:
    if code is None or code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"


def _evidence(job: JobFolder, ended: Ending) -> Document:
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
    }


def _tail(job: JobFolder) -> str:
    try:
        with (job.path / jobfolder.STDERR).open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL))
            return file.read().decode(errors="replace")
    except FileNotFoundError:
        return ""


def _place(job: JobFolder) -> str:
    return f"this machine, {job.path}"
