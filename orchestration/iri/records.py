"""A job as the facility tells of it."""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass, field

from orchestration.iri.errors import not_iri
from orchestration.ledger.service import Document, Json

_NAMES = ("name", "job_name", "jobname", "JobName", "Job_Name")


class JobState(enum.StrEnum):
    NEW = "new"
    QUEUED = "queued"
    HELD = "held"
    ACTIVE = "active"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELED = "canceled"
    OTHER = "other"
    """A word that the API does not have, or none at all."""

    @property
    def over(self) -> bool:
        return self in {JobState.COMPLETED, JobState.FAILED, JobState.CANCELED}


@dataclass(frozen=True, kw_only=True)
class IriJob:
    """`time` is since when it is in its state, in seconds since the epoch. `name` is empty where it was not told."""

    id: str
    state: JobState
    said: str = ""
    time: float | None = None
    message: str = ""
    exit_code: int | None = None
    name: str = ""
    meta: Document = field(default_factory=dict)

    @classmethod
    def parse(cls, found: Json, where: str) -> IriJob:
        """Raises: ServiceUnavailable for what is no job."""
        if not isinstance(found, dict) or not isinstance(found.get("id"), str | int):
            raise not_iri(where)
        status = _object(found.get("status"))
        meta = _object(status.get("meta_data"))
        said = str(status.get("state") or "")
        time, code = status.get("time"), status.get("exit_code")
        return cls(
            id=str(found["id"]),
            state=_state(said),
            said=said,
            time=float(time) if isinstance(time, int | float) else None,
            message=str(status.get("message") or ""),
            exit_code=code if isinstance(code, int) else None,
            name=next(_named(_object(found.get("job_spec")), meta), ""),
            meta=meta,
        )

    @property
    def words(self) -> str:
        """All that the facility says of how it is, for reading its scheduler's own words out of it."""
        told = [str(value) for value in self.meta.values() if isinstance(value, str)]
        return " ".join([self.said, self.message, *told])


def _named(spec: Document, meta: Document) -> Iterator[str]:
    for place in (spec, meta):
        yield from (str(place[key]) for key in _NAMES if place.get(key))


def _state(said: str) -> JobState:
    word = {"cancelled": "canceled"}.get(said.lower(), said.lower())
    return JobState(word) if word in set(JobState) else JobState.OTHER


def _object(found: Json) -> Document:
    return found if isinstance(found, dict) else {}
