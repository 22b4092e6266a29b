"""A script on its way to become a job."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from orchestration.sandbox.superfacility.local import dependencies, environment, options, rules
from orchestration.sandbox.superfacility.local.job import Job
from orchestration.sandbox.superfacility.local.options import Options
from orchestration.sandbox.superfacility.local.rows import NODE
from orchestration.sandbox.superfacility.local.rules import Wish
from orchestration.sandbox.superfacility.local.supervise import Orders
from orchestration.sandbox.superfacility.scheduler import Person, Refused, Script


@dataclass(frozen=True, kw_only=True)
class Submission:
    """`begin` and `deadline` are in seconds since the epoch; 0 for none."""

    person: Person
    script: Script
    options: Options
    wish: Wish
    begin: float
    deadline: float

    @classmethod
    def read(cls, script: Script, person: Person, *, accounts: Collection[str]) -> Submission:
        """Judge a script, whose text is known by now. Raises: Refused."""
        asked = options.read(script.text)
        wish = rules.judge(asked, accounts=accounts)
        waits_for = asked.text("dependency")
        if waits_for and not dependencies.valid(waits_for):
            raise Refused("sbatch: error: Batch job submission failed: Job dependency problem\n")
        deadline = _moment(asked, "deadline")
        if deadline and deadline - wish.limit < time.time():
            raise Refused(
                "sbatch: error: Batch job submission failed: Requested time limit is invalid "
                "(missing or exceeds some limit)\n"
            )
        return cls(
            person=person,
            script=script,
            options=asked,
            wish=wish,
            begin=_moment(asked, "begin"),
            deadline=deadline,
        )

    def job(self, number: int) -> Job:
        asked, wish = self.options, self.wish
        output = asked.text("output", "slurm-%j.out")
        job = Job(
            id=number,
            user=self.person.name,
            name=options.job_name(asked, self.script.path),
            account=wish.account,
            quality=wish.quality.name,
            partition=wish.partition,
            features=wish.features,
            priority=wish.quality.priority,
            nodes=wish.nodes,
            cpus=wish.cpus,
            tasks=wish.tasks,
            cpus_per_task=wish.cpus_per_task,
            limit=wish.limit,
            submitted=time.time(),
            directory=str(self.person.home / asked.text("chdir")),
            output=output,
            error=asked.text("error", output),
            input=asked.text("input", "/dev/null"),
            append=asked.text("open-mode") == "append",
            command=self.script.path,
            comment=asked.text("comment"),
            reservation=asked.text("reservation"),
            begin=self.begin,
            deadline=self.deadline,
            waits_for=asked.text("dependency"),
            user_hold="hold" in asked,
        )
        return replace(
            job,
            output=environment.filled(job.output, job),
            error=environment.filled(job.error, job),
            input=environment.filled(job.input, job),
        )

    def orders(self, job: Job, *, login: Mapping[str, str], folder: Path, grace: float) -> Orders:
        """What its supervisor is told. `login` is the environment of the user's other programs."""
        variables = environment.of_job(job, self.options, base=login, folder=folder, uid=self.person.uid)
        return Orders(
            job=str(job.id),
            node=NODE,
            script=self.script.text,
            arguments=list(self.script.arguments),
            environment=variables,
            directory=job.directory,
            output=job.output,
            error=job.error,
            input=job.input,
            append=job.append,
            limit=job.limit,
            grace=grace,
        )


def _moment(asked: Options, name: str) -> float:
    if name not in asked:
        return 0.0
    found = environment.moment(asked.text(name), now=time.time())
    if found is None:
        raise Refused(f"sbatch: error: Invalid --{name} specification\n")
    return found
