"""The batch system behind the stand-in for the Superfacility API when that is a real Slurm."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from orchestration.errors import ConfigError
from orchestration.sandbox.slurm import login, tables
from orchestration.sandbox.slurm.files import INSIDE
from orchestration.sandbox.superfacility import commands
from orchestration.sandbox.superfacility.local import options
from orchestration.sandbox.superfacility.scheduler import (
    Accepted,
    EndState,
    JobRow,
    Output,
    Person,
    Query,
    Refused,
    Script,
    Unsupported,
)
from orchestration.sandbox.superfacility.settings import SuperfacilitySettings

ROOT = "root"

ASKING_LIMIT = 8.0
"""Seconds for a question. A controller that is down is waited for longer than a client waits for an answer."""

CHANGING_LIMIT = 60.0
"""Seconds for a submission or a cancellation, which runs in a task: stopped early, it might have been done."""

_UNIT = "\x1f"
"""Between the cells of sacct: a character that no name of a job is likely to hold."""

_SILENT = "slurm_load_jobs error: Unable to contact slurm controller (connect failure)\n"


class SlurmScheduler:
    """Keeps the protocol `Scheduler` by the commands of Slurm, each run as the user who asks.

    Settings: ``slurm: {conf: PATH}`` names the settings file of the cluster; left out, the one of a cluster that
    `Cluster` started. The process must be inside that one's namespace: the files it serves are those that jobs see.
    """

    def __init__(self, settings: SuperfacilitySettings) -> None:
        self._settings = settings
        self._conf = Path(settings.slurm.get("conf", f"{INSIDE}/etc/slurm.conf"))
        self._first = 1

    def open(self) -> None:
        """Raises: ConfigError, if no controller answers here."""
        if not self._conf.is_file():
            raise ConfigError(
                "the scheduler is slurm, but there is no cluster here",
                where=str(self._conf),
                next_step="start a cluster and this server in it: scripts/slurm_facility.sh up DIR, then ... run DIR",
            )
        answer = self._as(ROOT, ("sinfo", "-h", "-o", "%R"), limit=CHANGING_LIMIT)
        if answer.code != 0:
            raise ConfigError(f"the cluster does not answer: {answer.error.strip()}", where=str(self._conf))

    def close(self) -> None:
        """Nothing is held: every command is a process of its own."""

    def reset(self) -> None:
        """Cancel all jobs, and show none of before any more; Slurm itself remembers them."""
        jobs = self._ask(ROOT, ("squeue", "-h", "-o", "%A")).split()
        if jobs:
            self._change(ROOT, ("scancel", "--", *jobs))
        settings = self._ask(ROOT, ("scontrol", "show", "config"))
        following = (line.partition("=")[2] for line in settings.splitlines() if line.startswith("NEXT_JOB_ID"))
        self._first = int(next(following, "1"))

    def person(self, user: str) -> Person:
        """Raises: UnknownUser."""
        return login.person(user)

    def submit(self, user: str, script: Script) -> Accepted:
        """Raises: Refused."""
        words = ("--", script.path, *script.arguments) if script.path else ()
        # Read before, and not asked for afterwards: the controller may be silent by then, and the job is there.
        text = script.text or self._text(user, script.path)
        printed = self._change(user, ("sbatch", "--parsable", *words), stdin=script.text.encode())
        job = printed.split()[-1].partition(";")[0]
        return Accepted(id=job, name=options.job_name(options.read(text), script.path))

    def _text(self, user: str, path: str) -> str:
        """Of a script; nothing where it cannot be read, for which sbatch refuses it."""
        return self._as(user, ("cat", "--", path), limit=CHANGING_LIMIT).stdout.decode(errors="replace")

    def queue(self, user: str, query: Query) -> list[JobRow]:
        """Raises: Refused."""
        conditions = _conditions(query, user="-u", partition="-p")
        if conditions is None:
            return []
        try:
            printed = self._ask(user, ("squeue", "-o", "%all", *conditions))
        except Refused as refused:
            if "Invalid job id" in refused.text:  # what squeue says of a single job that it does not have
                return []
            raise
        return self._remembered(tables.parse(printed, separator="|", submitted="submit_time"))

    def accounting(self, user: str, query: Query) -> list[JobRow]:
        """Raises: Refused."""
        conditions = _conditions(query, user="-u", partition="-r")
        if conditions is None:
            return []
        everybody = () if query.jobs or query.user else ("-a",)
        argv = ("sacct", "-X", "-P", "-o", "ALL", f"--delimiter={_UNIT}", *everybody, *conditions)
        return self._remembered(tables.parse(self._ask(user, argv), separator=_UNIT, submitted="submit"))

    def cancel(self, user: str, job: str) -> None:
        """Raises: Refused."""
        self._change(user, ("scancel", "--", job))

    def run(
        self,
        user: str,
        command: Sequence[str],
        *,
        stdin: bytes = b"",
        limit: float = 600.0,
        stop: threading.Event | None = None,
    ) -> Output:
        return self._as(user, command, stdin=stdin, limit=limit, stop=stop)

    def resolve(self, user: str, path: str) -> PurePosixPath:
        """By a process of that user: what only they may follow is followed, and nothing else is."""
        answer = self._as(user, ("realpath", "-m", "--", path), limit=ASKING_LIMIT)
        return PurePosixPath(answer.stdout.decode().removesuffix("\n")) if answer.code == 0 else PurePosixPath(path)

    def hold(self, held: bool) -> None:
        """By the state of all partitions: jobs are taken, and wait with the reason PartitionDown."""
        for partition in self._ask(ROOT, ("sinfo", "-h", "-o", "%R")).split():
            state = "DOWN" if held else "UP"
            self._change(ROOT, ("scontrol", "update", f"PartitionName={partition}", f"State={state}"))

    def end(self, job: str, state: EndState) -> None:
        """Raises: Unsupported, Refused."""
        match state:
            case EndState.CANCELLED:
                self._change(ROOT, ("scancel", "--", job))
            case EndState.FAILED:
                self._change(ROOT, ("scancel", "--signal=KILL", "--batch", "--", job))
            case EndState.TIMEOUT:
                # Seen by the controller when it looks at time limits next, within half a minute.
                self._change(ROOT, ("scontrol", "update", f"JobId={job}", "EndTime=now+1"))
            case EndState.NODE_FAIL:
                self._fail_nodes(job)
            case _:
                raise Unsupported(f"a real Slurm cannot be told to end a job as {state}")

    def _fail_nodes(self, job: str) -> None:
        nodes = self._ask(ROOT, ("squeue", "-h", "-t", "running", "-o", "%N", "-j", job)).strip()
        if not nodes:
            raise Refused(f"job {job} runs on no node")
        self._change(ROOT, ("scontrol", "update", f"NodeName={nodes}", "State=DOWN", "Reason=sandbox"))
        # Refused where the node has reported itself again already, which is as good.
        self._as(ROOT, ("scontrol", "update", f"NodeName={nodes}", "State=RESUME"), limit=CHANGING_LIMIT)

    # ----- commands -------------------------------------------------------------------------------------------------

    def _ask(self, user: str, argv: Sequence[str]) -> str:
        answer = self._as(user, argv, limit=ASKING_LIMIT)
        if answer.code == commands.STOPPED:
            raise Refused(_SILENT)
        return _printed(answer)

    def _change(self, user: str, argv: Sequence[str], *, stdin: bytes = b"") -> str:
        return _printed(self._as(user, argv, stdin=stdin, limit=CHANGING_LIMIT))

    def _as(
        self,
        user: str,
        argv: Sequence[str],
        *,
        stdin: bytes = b"",
        limit: float,
        stop: threading.Event | None = None,
    ) -> Output:
        whom = login.person(user)
        return commands.run(
            argv,
            environment=self._environment(whom),
            directory=whom.home if whom.home.is_dir() else Path("/"),
            stdin=stdin,
            limit=limit,
            stop=stop,
            identity=login.identity(whom),
        )

    def _environment(self, whom: Person) -> dict[str, str]:
        return commands.login_environment(
            whom,
            path=f"{INSIDE}/bin:{self._settings.path}",
            machine=self._settings.machine,
            extra={
                "SLURM_CONF": str(self._conf),
                "SCRATCH": f"/pscratch/sd/{whom.name[:1]}/{whom.name}",
                **self._settings.environment,
            },
        )

    def _remembered(self, rows: list[JobRow]) -> list[JobRow]:
        return [row for row in rows if (number := _number(row)) is None or number >= self._first]


def _printed(answer: Output) -> str:
    if answer.code != 0:
        raise Refused(answer.error or answer.stdout.decode(errors="replace"))
    return answer.stdout.decode(errors="replace")


def _number(row: JobRow) -> int | None:
    """Of a job; of the whole array, where it is a part of one. None where a name with a separator shifted the cells."""
    number = row.fields.get("jobid", "").partition("_")[0]
    return int(number) if number.isdecimal() else None


def _conditions(query: Query, *, user: str, partition: str) -> tuple[str, ...] | None:
    """As options of squeue or sacct, which differ in their letters; None where nothing can be found."""
    if query.jobs is not None and not query.jobs:
        return None
    found: tuple[str, ...] = ("-j", ",".join(query.jobs)) if query.jobs else ()
    if query.user:
        found += (user, query.user)
    if query.partition:
        found += (partition, query.partition)
    return found
