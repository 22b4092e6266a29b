"""What a job waits for besides a free place."""

from __future__ import annotations

import re
from dataclasses import dataclass

from orchestration.sandbox.superfacility.local.job import Job, Jobs, State

_CONDITION = re.compile(r"(after|afterany|afterok|afternotok):([\d:+]+)")


@dataclass(frozen=True, kw_only=True)
class Wait:
    """Why a job does not begin: nothing where `reason` is empty.

    `seconds` is after how long to look again in any case; a `state` says that it never begins.
    """

    reason: str = ""
    seconds: float | None = None
    state: State | None = None


class Dependencies:
    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs

    def wait(self, job: Job) -> Wait:
        """All conditions of ``--dependency`` have to hold."""
        for condition in filter(None, job.waits_for.split(",")):
            held = self._singleton(job) if condition == "singleton" else self._all_hold(condition)
            if held is None:
                return Wait(reason="DependencyNeverSatisfied")
            if not held:
                return Wait(reason="Dependency")
        return Wait()

    def _singleton(self, job: Job) -> bool:
        """No older job of this name and user is there."""
        others = (one for one in self._jobs.present() if one.id < job.id)
        return not any(one.name == job.name and one.user == job.user for one in others)

    def _all_hold(self, condition: str) -> bool | None:
        found = _CONDITION.fullmatch(condition)
        if found is None:
            return None
        kind, ids = found[1], [int(word.partition("+")[0]) for word in found[2].split(":")]
        answers = [_holds(kind, self._jobs.get(id_)) for id_ in ids]
        return None if None in answers else all(answers)


def valid(text: str) -> bool:
    """Whether ``--dependency`` may say so."""
    return all(word == "singleton" or _CONDITION.fullmatch(word) for word in text.split(","))


def _holds(kind: str, other: Job | None) -> bool | None:
    """None: it will never hold. A job that nobody knows is over."""
    if kind == "after":
        return other is None or other.state is not State.PENDING
    if other is None or not other.over:
        return other is None
    if kind == "afterany":
        return True
    return ((other.state is State.COMPLETED) == (kind == "afterok")) or None
