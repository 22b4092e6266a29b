"""A batch system of processes of this machine, with the ways of Slurm."""

from __future__ import annotations

import os
import pwd
import shutil
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from orchestration.sandbox.processes import MARK
from orchestration.sandbox.store import Store
from orchestration.sandbox.superfacility import commands
from orchestration.sandbox.superfacility.local import programs, rows
from orchestration.sandbox.superfacility.local.job import Job, Jobs, State
from orchestration.sandbox.superfacility.local.queue import Queue
from orchestration.sandbox.superfacility.local.submission import Submission
from orchestration.sandbox.superfacility.scheduler import (
    Accepted,
    EndState,
    Group,
    JobRow,
    Output,
    Person,
    Query,
    Refused,
    Script,
    UnknownUser,
)
from orchestration.sandbox.superfacility.settings import USER, SuperfacilitySettings

HPSS = "hpss"
"""The folder of the tape archive, below that of the batch system."""


class LocalScheduler:
    """All users are the one that the facility runs as; each has a home of their own below `folder`."""

    def __init__(
        self,
        settings: SuperfacilitySettings,
        *,
        store: Store,
        folder: Path,
        started: Callable[[str, str], None],
    ) -> None:
        """`started` hears the id and the name of each job that begins."""
        self._settings = settings
        self._folder = folder.absolute()
        self._users = {USER, *(client.user for client in settings.clients)}
        self._accounts = tuple(project.name for project in settings.projects)
        self._jobs = Jobs(store)
        self._queue = Queue(
            self._jobs,
            folder=self._folder / "jobs",
            slots=settings.slots,
            started=lambda job: started(str(job.id), job.name),
        )

    def open(self) -> None:
        programs.install(self._folder / "bin", images=self._settings.images, archive=self._folder / HPSS)
        self._queue.open()

    def close(self) -> None:
        self._queue.close()

    def reset(self) -> None:
        self._queue.reset()
        shutil.rmtree(self._folder / "jobs", ignore_errors=True)
        shutil.rmtree(self._folder / HPSS, ignore_errors=True)
        (self._folder / HPSS).mkdir(parents=True)

    def person(self, user: str) -> Person:
        if user in self._users:
            home = self._folder / "home" / user
            home.mkdir(parents=True, exist_ok=True)
            groups = (_group(os.getgid()),)
            return Person(name=user, uid=os.getuid(), home=home.resolve(), groups=groups, full_name=user.capitalize())
        try:
            found = pwd.getpwnam(user)
        except KeyError as error:
            raise UnknownUser(user) from error
        home, name = Path(found.pw_dir), found.pw_gecos.partition(",")[0]
        return Person(name=user, uid=found.pw_uid, home=home, groups=(_group(found.pw_gid),), full_name=name)

    def submit(self, user: str, script: Script) -> Accepted:
        person = self.person(user)
        text = script.text or self._text(user, script.path)
        submission = Submission.read(replace(script, text=text), person, accounts=self._accounts)
        login = self._login(person)
        job = self._queue.add(
            submission.job,
            orders=lambda job, folder: submission.orders(job, login=login, folder=folder, grace=self._settings.grace),
        )
        return Accepted(id=str(job.id), name=job.name)

    def queue(self, user: str, query: Query) -> list[JobRow]:
        return self._rows([job for job in self._found(query) if not job.over], rows.queue)

    def accounting(self, user: str, query: Query) -> list[JobRow]:
        return self._rows(self._found(query), rows.accounting)

    def cancel(self, user: str, job: str) -> None:
        known = self._jobs.get(int(job)) if job.isdecimal() else None
        if known is None:
            raise Refused(f"scancel: error: Kill job error on job id {job}: Invalid job id specified\n")
        if known.user != user:
            raise Refused(f"scancel: error: Kill job error on job id {job}: Access/permission denied\n")
        self._queue.end(known.id, State.CANCELLED, by=self.person(user).uid)

    def run(
        self,
        user: str,
        command: Sequence[str],
        *,
        stdin: bytes = b"",
        limit: float = 600.0,
        stop: threading.Event | None = None,
    ) -> Output:
        person = self.person(user)
        return commands.run(
            command,
            environment=self._login(person),
            directory=person.home,
            stdin=stdin,
            limit=limit,
            stop=stop,
        )

    def resolve(self, user: str, path: str) -> PurePosixPath:
        return PurePosixPath((self.person(user).home / path).resolve())

    def hold(self, held: bool) -> None:
        self._queue.hold(held)

    def end(self, job: str, state: EndState) -> None:
        if not job.isdecimal() or self._jobs.get(int(job)) is None:
            raise Refused(f"there is no job {job}")
        by = 0 if state is EndState.CANCELLED else None  # by the administrator
        self._queue.end(int(job), State(state.value), by=by)

    def _found(self, query: Query) -> list[Job]:
        if query.jobs is None:
            found = self._jobs.every()
        else:
            known = (self._jobs.get(int(word)) for word in query.jobs if word.isdecimal())
            found = [job for job in known if job is not None]
        return [
            job
            for job in found
            if query.user in {"", job.user} and (not query.partition or job.partition in query.partition.split(","))
        ]

    def _rows(self, found: list[Job], row: Callable[[Job, Person], JobRow]) -> list[JobRow]:
        people = {user: self.person(user) for user in {job.user for job in found}}
        return [row(job, people[job.user]) for job in found]

    def _text(self, user: str, path: str) -> str:
        """Raises: Refused."""
        output = self.run(user, ["cat", "--", path])
        if output.code:
            raise Refused(f"sbatch: error: Unable to open file {path}\n")
        return output.stdout.decode(errors="replace")

    def _login(self, person: Person) -> dict[str, str]:
        """With the mark by which a sandbox finds its processes."""
        marked = {MARK: os.environ[MARK]} if MARK in os.environ else {}
        return commands.login_environment(
            person,
            path=f"{self._folder / 'bin'}:{self._settings.path}",
            machine=self._settings.machine,
            extra={**self._settings.environment, **marked},
        )


def _group(gid: int) -> Group:
    return Group(name=commands.group_name(gid), gid=gid)
