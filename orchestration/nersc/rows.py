"""The rows of squeue and sacct, as the Superfacility API hands them on: text, by headers in lower case."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime

from orchestration.errors import ServiceUnavailable
from orchestration.ledger.service import Json
from orchestration.nersc.states import ENDINGS, split_state
from orchestration.remote import Times

_UNNAMED = "allocation"
"""What sacct calls a job until accounting has heard of its beginning; its owner is then wrong as well."""

_NO_NODES = ("", "None", "None assigned", "(null)", "n/a", "N/A")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One job. `owner` and `by`, who cancelled it, are numbers of users, empty where that is not known.

    `exit_code` is Slurm's ``code:signal``. The times are naive: see `_time`.
    """

    id: str
    name: str
    state: str
    owner: str = ""
    by: str = ""
    reason: str = ""
    exit_code: str = ""
    nodes: str = ""
    times: Times = field(default_factory=Times)

    @property
    def over(self) -> bool:
        """Whether its state is one that does not change any more."""
        return self.state in ENDINGS

    @property
    def began(self) -> bool:
        return bool(self.nodes) and self.times.started is not None


def rows(output: Json, *, machine: str) -> list[Row]:
    """The jobs in an answer, without their steps.

    Raises:
        ServiceUnavailable: if this is not a list of rows: null is what an API answers that could not ask Slurm.
    """
    if not isinstance(output, list):
        raise ServiceUnavailable(f"{machine} does not say how its jobs are")
    found = (_row({key: str(value) for key, value in each.items()}) for each in output if isinstance(each, dict))
    return [row for row in found if row.id and "." not in row.id]


def _row(words: dict[str, str]) -> Row:
    state, by = split_state(words.get("state", ""))
    nodes = words.get("nodelist") or words.get("exec_host") or ""
    name = words.get("jobname") or words.get("name") or ""
    return Row(
        id=words.get("jobid", ""),
        name=name,
        state=state,
        owner="" if name == _UNNAMED else words.get("uid", ""),
        by=by,
        reason=words.get("reason", ""),
        exit_code=words.get("exitcode", ""),
        nodes="" if nodes in _NO_NODES else nodes,
        times=Times(
            submitted=_time(words.get("submit") or words.get("submit_time")),
            # Of a job that waits, squeue tells when it is expected to start.
            started=None if state == "PENDING" else _time(words.get("start") or words.get("start_time")),
            ended=_time(words.get("end") or words.get("end_time")),
        ),
    )


def _time(text: str | None) -> float | None:
    """Slurm tells the facility's wall clock without a zone: only the difference of two times means something."""
    try:
        return datetime.fromisoformat(text or "").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None  # Unknown, N/A, None: not yet, or never
