"""Jobs at a facility: the command that its scheduler starts, and what the report of that command says.

Whatever the facility's interface, it is asked to start ``python -m orchestration.science run ORDERS``. The runner runs
the job's program, at most once for each token, checks its outputs and leaves a report in the job's folder. A scheduler
only tells when a job is over; that it ended well is believed to the report alone.
"""

from __future__ import annotations

import json
import posixpath
import re
import signal
import time
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import PurePosixPath

from orchestration.config import Container, RemoteSite
from orchestration.errors import (
    Cancelled,
    InvalidInput,
    JobFailed,
    JobLost,
    JobNotStarted,
    JobTimedOut,
    OutputMissing,
)
from orchestration.jobs import JobSpec, Mount
from orchestration.ledger.service import Document, Failed, Json, Status, Succeeded

REPORT = "report.json"
STARTED = "started.json"
"""Appears in a job's folder before its runner looks whether it may begin."""
CANCEL_MARKER = "cancel"
"""A file of this name in a job's folder stops the job, or keeps it from beginning."""

_BATCH_JOB = ("SLURM_JOB_ID", "SLURM_RESTART_COUNT")
"""What tells the runner that its scheduler starts the same job again; podman passes on only what is named."""

_DATE = re.compile(r"-t([0-9a-f]+)$")
_TOKEN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")

_DEEP = 3
"""Fewer folders than these above a path are those of a file system, and not of a service."""


def dated(key: str) -> str:
    """A token for the key, unlike every other: it ends with the time at which it was made.

    A ledger that was restored, or a second one, gives its jobs the keys of earlier jobs, and their folders remain.
    """
    return f"{key}-t{int(time.time() * 1000):x}"


def undated(token: str) -> str:
    """The key of a token."""
    return _DATE.sub("", token)


def dated_at(token: str) -> float | None:
    """When a token was made, in seconds since the epoch; None of one that does not tell."""
    found = _DATE.search(token)
    return None if found is None else int(found.group(1), 16) / 1000


def folder_name(token: str) -> str:
    """What the folder of a job is called: what is removed by this name is nothing else.

    Raises:
        InvalidInput: if it is no token.
    """
    if _TOKEN.fullmatch(token) is None:
        raise InvalidInput(f"{token!r} is no token of a job")
    return token


def own_path(path: str) -> str:
    """What a job made outside its folder: what is removed by this path is no root and nowhere else.

    Raises:
        InvalidInput: if that is not certain.
    """
    if not path.startswith("/") or posixpath.normpath(path) != path or path.count("/") < _DEEP:
        raise InvalidInput(f"{path!r} is no path below a folder of this service")
    return path


@dataclass(frozen=True, kw_only=True)
class Launch:
    """One job of one site under its token, which names its folder there."""

    site: RemoteSite
    spec: JobSpec
    token: str
    start_by: float = 0.0
    """Seconds since the epoch; 0 for no limit."""

    def __post_init__(self) -> None:
        if not _TOKEN.fullmatch(self.token):
            raise InvalidInput(f"{self.token!r} cannot name a job's folder")

    @property
    def folder(self) -> str:
        """As jobs see it."""
        return posixpath.join(self.site.job_folder, self.token)

    @property
    def report(self) -> str:
        return posixpath.join(self.folder, REPORT)

    @property
    def cancel_marker(self) -> str:
        return posixpath.join(self.folder, CANCEL_MARKER)

    @property
    def orders(self) -> str:
        """For the runner, as one JSON object; there is no credential in it."""
        outputs: list[Json] = [output.document() for output in self.spec.outputs]
        found: Document = {
            "folder": self.folder,
            "executable": self.spec.executable,
            "arguments": list(self.spec.arguments),
            "directory": self.spec.directory,
            "duration": self.spec.duration,
            "environment": dict(self.spec.environment),
            "outputs": outputs,
            "start_by": self.start_by,
            "version": science_version(self.site),
        }
        return json.dumps(found, ensure_ascii=True)

    @property
    def command(self) -> tuple[str, ...]:
        """What the scheduler is to start, once, as words; in a container where the site has one.

        Raises:
            InvalidInput: if the job wants a container, and the site has none.
        """
        # Without -P, a folder `orchestration` where the job happens to begin would be taken for the programs.
        words = (self.site.python, "-P", "-m", "orchestration.science", "run", self.orders)
        container = self.site.container
        if container is None:
            self._refuse_container()
            return words
        return (*_engine(container, (*_volumes(container), *self.spec.mounts), self.spec.container), *words)

    def _refuse_container(self) -> None:
        """The program would run all the same, as another version of itself, or with other directories."""
        if self.spec.container or self.spec.mounts:
            wanted = self.spec.container or "for its mounts"
            raise InvalidInput(
                f"the job wants a container ({wanted}), and {self.site.name} runs none",
                where=f"compute_sites.{self.site.name}",
                next_step="give the site a `container` in the settings, or name a program that is installed there",
            )


def science_version(site: RemoteSite) -> str:
    """The version that must be installed there."""
    return site.science_version or version("beamline-orchestration")


def _volumes(container: Container) -> tuple[Mount, ...]:
    return tuple(Mount(source=source, target=target) for target, source in container.volumes.items())


def _engine(container: Container, mounts: tuple[Mount, ...], image: str) -> tuple[str, ...]:
    image = image or container.image
    match container.engine:
        case "podman-hpc":
            volumes = [word for mount in mounts for word in ("--volume", _volume(mount))]
            known = [word for name in _BATCH_JOB for word in ("--env", name)]
            return ("podman-hpc", "run", "--rm", *known, *container.options, *volumes, image)
        case "shifter":
            volumes = [f"--volume={_volume(mount)}" for mount in mounts]
            return ("shifter", f"--image={image}", *container.options, *volumes)
        case "apptainer":
            volumes = [word for mount in mounts for word in ("--bind", _volume(mount))]
            return ("apptainer", "exec", *container.options, *volumes, image)


def _volume(mount: Mount) -> str:
    return f"{mount.source}:{mount.target}" + (":ro" if mount.read_only else "")


@dataclass(frozen=True, kw_only=True)
class Times:
    """What the scheduler knows about a job, in seconds since the epoch; None where it does not say."""

    submitted: float | None = None
    started: float | None = None
    ended: float | None = None

    @property
    def queued(self) -> float | None:
        """Seconds."""
        return None if self.submitted is None or self.started is None else self.started - self.submitted

    @property
    def ran(self) -> float | None:
        """Seconds."""
        return None if self.started is None or self.ended is None else self.ended - self.started

    @property
    def document(self) -> Document:
        """Waiting in the queue and running are different things, and are kept apart."""
        queued, ran = self.queued, self.ran
        return {
            "queue_seconds": None if queued is None else max(0.0, queued),
            "run_seconds": None if ran is None else max(0.0, ran),
        }


def verdict(
    title: str,
    report: Mapping[str, Json],
    *,
    where: str,
    facts: Document | None = None,
    log: str = "",
    spec: JobSpec | None = None,
) -> Status:
    """What a runner's report means: success only for exit code 0 with every declared output as declared.

    `log` is where the end of the job's words can be read. `facts` (identifiers, the scheduler's state,
    `Times.document`) become part of the evidence. With the `spec` of the job, a report that leaves one of its outputs
    out is that of another.
    """
    evidence: Document = {**report, **(facts or {})}
    log = log or f"stderr.txt in the job's folder on {report.get('host') or 'the site'}"
    reason, code = report.get("reason"), report.get("code")
    listed = report.get("outputs")
    outputs = [each for each in listed if isinstance(each, dict)] if isinstance(listed, list) else []
    if reason == "exited" and code == 0:
        problems = [str(each["problem"]) for each in outputs if each.get("problem")]
        if spec is not None:
            problems += _unmentioned(spec, {str(each.get("path")) for each in outputs})
        if not problems:
            return Succeeded(evidence=evidence)
        error: JobFailed = OutputMissing(
            f"job {title} ended with exit code 0, but {'; '.join(problems)}{_words(report)}",
            where=where,
            next_step=_log(log),
        )
        return Failed(error=error, evidence=evidence)
    if reason == "cancelled":
        return Failed(error=Cancelled(f"job {title} was cancelled", where=where), evidence=evidence)
    return Failed(error=_error(title, report, where, log), evidence=evidence)


def _unmentioned(spec: JobSpec, told: AbstractSet[str]) -> list[str]:
    """A report that does not speak of an output is that of another job, or was made by no runner of ours."""
    wanted = [str(PurePosixPath(spec.directory) / output.path) for output in spec.outputs]
    return [f"its report does not speak of {path}" for path in wanted if path not in told]


def _error(title: str, report: Mapping[str, Json], where: str, log: str) -> JobFailed:
    said, host = str(report.get("error") or ""), report.get("host") or "that machine"
    match report.get("reason"):
        case "timeout":
            limit = f"its limit of {_seconds(report)} s"
            return JobTimedOut(f"job {title} was stopped after {limit}{_words(report)}", where=where)
        case "late":
            return JobNotStarted(
                f"job {title} did not begin: {said}",
                where=where,
                next_step=f"start the flow again; if it did not wait that long, the clock of {host} is wrong",
            )
        case "lost":
            return lost(title, where, report)
        case "unstartable":
            return JobFailed(
                f"job {title} could not be started: {said}",
                where=where,
                next_step="check that the program and the directory exist and may be used",
            )
        case "outdated":
            return JobFailed(
                f"job {title} did not begin: {said}",
                where=where,
                next_step="install that version there with scripts/install_science.sh, then start the flow again",
                cause="VersionMismatch",
            )
        case "terminated":
            return JobLost(
                f"job {title} was told to end after {_seconds(report)} s{_words(report)}",
                where=where,
                next_step=_log(log),
            )
        case "unreadable":
            return OutputMissing(
                f"job {title} is over, and its report is damaged: {said}",
                where=where,
                next_step="see that the disk there is not full, then start the flow again",
            )
        case "exited":
            return _exited(title, report, where, log)
        case other:
            return JobFailed(f"job {title} left a report that says {other!r}", where=where, next_step=_log(log))


def lost(title: str, where: str, report: Mapping[str, Json] | None = None) -> JobLost:
    words = _words(report or {})
    return JobLost(
        f"job {title} is gone without an exit code: its supervisor was killed, or the machine restarted{words}",
        where=where,
        next_step="start the flow again; the job is not running any more",
    )


def _exited(title: str, report: Mapping[str, Json], where: str, log: str) -> JobFailed:
    told = report.get("reported")
    if isinstance(told, dict) and told.get("what"):
        return JobFailed(
            f"job {title} failed with {code_text(report.get('code'))}: {told['what']}",
            where=str(told.get("where") or where),
            next_step=str(told.get("next_step") or _log(log)),
            cause=str(told.get("type") or ""),
        )
    said = last_words(report)
    what = f"job {title} failed with {code_text(report.get('code'))}{f': {said}' if said else ''}"
    return JobFailed(what, where=where, next_step=_log(log))


def last_words(report: Mapping[str, Json]) -> str:
    """The last line that a program wrote as an error, or else as output; shortened, empty if it wrote none."""
    return next(filter(None, (last_line(str(report.get(stream) or "")) for stream in ("stderr", "stdout"))), "")


def last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""


def _words(report: Mapping[str, Json]) -> str:
    """For the end of a sentence."""
    said = last_words(report)
    return f"; its last words: {said}" if said else ""


def code_text(code: Json) -> str:
    """An exit code for people; a negative one is a signal."""
    if not isinstance(code, int) or code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"


def _seconds(report: Mapping[str, Json]) -> str:
    found = report.get("seconds")
    return f"{found:.0f}" if isinstance(found, int | float) else "?"


def _log(log: str) -> str:
    return f"read {log}, then start the flow again"
