"""Turning the knobs of the Superfacility API stand-in from outside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import quote

import httpx

from orchestration.ledger.service import Document, Json
from orchestration.sandbox import documents
from orchestration.sandbox.superfacility.knobs import Knobs, Maintenance, Service
from orchestration.sandbox.superfacility.places import SUPERFACILITY_CONTROL as BASE
from orchestration.sandbox.superfacility.scheduler import EndState


@dataclass(frozen=True, kw_only=True)
class JobInfo:
    """A job as the batch system knows it now, whatever the lags show. `exit` is ``code:signal``."""

    id: str
    name: str
    state: str
    exit: str

    @property
    def over(self) -> bool:
        return self.state.partition(" ")[0] not in {"PENDING", "RUNNING", "COMPLETING", "CONFIGURING", "REQUEUED"}


class SuperfacilityClient:
    def __init__(self, http: httpx.Client) -> None:
        self._http = http

    def archive_fails(self, *, down: bool = False, lies: bool = False) -> None:
        """hsi and htar of jobs get no answer, or end with exit code 0 whatever happens; with neither, all is well."""
        self._sent("hpss/faults", {"down": down, "lies": lies})

    def flip(self, path: str, *, byte: int) -> None:
        """A bit of an object of the archive changes, and nothing else."""
        self._sent("hpss/flip", {"path": path, "byte": byte})

    def turn(
        self,
        *,
        submit_delay: float | None = None,
        hidden: float | None = None,
        sacct_lag: float | None = None,
        sacct_stale: bool | None = None,
        token_lifetime: int | None = None,
        held: bool | None = None,
        hours_left: dict[str, float] | None = None,
    ) -> Knobs:
        """Turn the knobs that are named; `Knobs` says what each does."""
        hours: Document | None = None if hours_left is None else dict(hours_left)
        named: dict[str, Json] = {
            "submit_delay": submit_delay,
            "hidden": hidden,
            "sacct_lag": sacct_lag,
            "sacct_stale": sacct_stale,
            "token_lifetime": token_lifetime,
            "held": held,
            "hours_left": hours,
        }
        changes: Document = {name: value for name, value in named.items() if value is not None}
        return Knobs().turned(self._sent("knobs", changes))

    def fail_tasks(self, times: int = 1, *, error: str = "ssh: connect timed out", late: bool = False) -> None:
        """Let the next tasks fail; `late`: after they have done their work, such as submitting a job."""
        self._sent("knobs", {"failing_tasks": times, "task_error": error, "failing_late": late})

    def set_status(
        self,
        status: str | None = None,
        *,
        machine: str = "perlmutter",
        description: str | None = None,
        notes: list[str] | None = None,
    ) -> None:
        """`status` is ``active``, ``unavailable``, ``degraded`` or ``other``."""
        listed: list[Json] | None = None if notes is None else list[Json](notes)
        changes: Document = {"status": status, "description": description, "notes": listed}
        self._sent(f"status/{machine}", {name: value for name, value in changes.items() if value is not None})

    def add_outage(
        self,
        start: datetime,
        end: datetime,
        *,
        machine: str = "perlmutter",
        status: str = "Planned",
        description: str = "Scheduled Maintenance",
    ) -> None:
        """Announce an outage: ``Planned``, ``Active``, ``Completed``, ``Cancelled`` or ``Extended``."""
        outage: Document = {
            "name": machine,
            "start_at": start.isoformat(),
            "end_at": end.isoformat(),
            "status": status,
            "description": description,
        }
        self._sent("outages", outage)

    def clear_outages(self) -> None:
        self._http.delete(f"{BASE}/outages").raise_for_status()

    def begin_maintenance(
        self,
        kind: Maintenance | str = Maintenance.UNAVAILABLE,
        text: str = "",
        *,
        services: Sequence[Service | str] = (Service.COMPUTE,),
    ) -> None:
        """The machine is unavailable; these of its services say so in the way of `kind`."""
        told: Document = {"kind": Maintenance(kind).value, "services": [Service(name).value for name in services]}
        if text:
            told["text"] = text
        self._sent("maintenance", told)

    def end_maintenance(self) -> None:
        self._http.delete(f"{BASE}/maintenance").raise_for_status()

    def revoke_tokens(self) -> int:
        """How many there were."""
        return documents.whole(self._sent("revoke_tokens", {}), "revoked")

    def register(self, client_id: str, jwk: Document, *, user: str = "alsdev", expires: float | None = None) -> None:
        """Register a client of the API by its public key; `expires` is in seconds since the epoch."""
        self._sent(f"clients/{quote(client_id)}", {"jwk": jwk, "user": user, "expires": expires})

    def expire_client(self, client_id: str) -> None:
        self._sent(f"clients/{quote(client_id)}/expire", {})

    def jobs(self) -> list[JobInfo]:
        """All jobs, oldest first, without any lag."""
        answer = self._http.get(f"{BASE}/jobs")
        answer.raise_for_status()
        return [_info(row) for row in documents.objects(documents.decode(answer.content), "jobs")]

    def job(self, job_id: str) -> JobInfo:
        """Raises: KeyError."""
        for one in self.jobs():
            if one.id == job_id:
                return one
        raise KeyError(job_id)

    def end_job(self, job_id: str, state: EndState | str) -> None:
        """Make a job that is pending or runs end in this state."""
        self._sent(f"jobs/{job_id}/end", {"state": EndState(state).value})

    def forget_job(self, job_id: str) -> None:
        """Show a job in no answer of the API any more; `jobs` here still knows it."""
        self._sent(f"jobs/{job_id}/forget", {})

    def _sent(self, path: str, body: Document) -> Document:
        answer = self._http.post(f"{BASE}/{path}", json=body)
        if answer.is_client_error:
            raise ValueError(documents.text(documents.decode(answer.content), "message", answer.text))
        answer.raise_for_status()
        return documents.decode(answer.content)


def _info(row: Document) -> JobInfo:
    words = (documents.text(row, name) for name in ("jobid", "jobname", "state", "exitcode"))
    id_, name, state, exit_ = words
    return JobInfo(id=id_, name=name, state=state, exit=exit_)
