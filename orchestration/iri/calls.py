"""The compute operations that jobs need, on one resource."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import quote

from orchestration.errors import ServiceUnavailable
from orchestration.iri import errors
from orchestration.iri.client import IriClient, objects
from orchestration.iri.errors import Refused
from orchestration.iri.records import IriJob
from orchestration.ledger.service import Document
from orchestration.remote import dated_at

PAGE = 1000
MOST_PAGES = 20
"""A list of more jobs than these pages hold is not read to its end."""

CLOCKS_SECONDS = 300.0
"""The clocks of the facility and of this machine differ by less."""


@dataclass(kw_only=True)
class Calls:
    """Every method may raise ServiceUnavailable, ConfigError (not let in) and, where it says so, Refused."""

    client: IriClient
    _names: bool = field(default=True, init=False)
    _keys: bool = field(default=True, init=False)

    @property
    def idempotent(self) -> bool:
        """Whether a submission made twice is the same one: by the version of the API, and what the facility showed."""
        return self.client.site.version > 1 and self._keys

    def submit(self, body: Document, token: str) -> IriJob:
        """One request; another without the key where the facility says that it keeps no keys. Raises: Refused."""
        path = f"compute/job/{self._resource}"
        if self.idempotent:
            try:
                return self._job_of(self.client.post(path, body, key=token))
            except Refused as refused:
                # It is refused before anything is done.
                if refused.status != errors.NOT_IMPLEMENTED or not refused.about_key:
                    raise
                self._keys = False
        return self._job_of(self.client.post(path, body))

    def job(self, id_: str) -> IriJob | None:
        """None if the facility does not know it, or not yet. Raises: Refused."""
        path = f"compute/status/{self._resource}/{quote(id_, safe='')}"
        try:
            return self._job_of(self.client.get(path, {"historical": True}))
        except Refused as refused:
            if refused.unknown:
                return None
            raise

    def jobs(self, ids: Sequence[str]) -> list[IriJob]:
        """Those that it lists, in one request for each thousand. Raises: Refused."""
        found: list[IriJob] = []
        for start in range(0, len(ids), PAGE):
            found += self._list({"jobIds": [*ids[start : start + PAGE]]}, offset=0, spec=False)
        return found

    def named(self, name: str) -> list[IriJob]:
        """All jobs of this name, ended ones too.

        Raises:
            Refused, ServiceUnavailable: the latter also where a job whose name is not told may be one of them.
        """
        rows = self._candidates(name)
        found = [job for job in rows if job.name == name]
        if not found and any(_may_be(job, name) for job in rows):
            raise ServiceUnavailable(
                "the facility does not tell the names of jobs that it lists: one of them may be this one",
                where=self.client.where,
            )
        return found

    def _candidates(self, name: str) -> list[IriJob]:
        if self._names:
            try:
                return self._every({"name": name})
            except Refused:
                self._names = False  # conditions are each facility's own; without any, all are looked through
        return self._every(None)

    def cancel(self, id_: str) -> None:
        """Ask for it. Raises: Refused."""
        self.client.delete(f"compute/cancel/{self._resource}/{quote(id_, safe='')}")

    def _every(self, filters: Document | None) -> list[IriJob]:
        """Page by page: a facility may make nothing of a condition."""
        rows: list[IriJob] = []
        for page in range(MOST_PAGES):
            found = self._list(filters, offset=page * PAGE, spec=True)
            rows += found
            if len(found) < PAGE:
                return rows
        raise ServiceUnavailable("the facility lists more jobs than can be looked through", where=self.client.where)

    def _list(self, filters: Document | None, *, offset: int, spec: bool) -> list[IriJob]:
        params = {"historical": True, "include_spec": spec, "limit": PAGE, "offset": offset}
        rows = self.client.post(f"compute/status/{self._resource}", filters, params=params)
        return [IriJob.parse(row, self.client.where) for row in objects(rows, self.client.where)]

    def _job_of(self, found: object) -> IriJob:
        return IriJob.parse(found if isinstance(found, dict) else None, self.client.where)

    @property
    def _resource(self) -> str:
        return self.client.resource(self.client.site.resource)


def _may_be(job: IriJob, name: str) -> bool:
    """Whether a job may be that of a token, for all that is told of it: it is alive, and not older than the token."""
    asked = dated_at(name)
    older = job.time is not None and asked is not None and job.time < asked - CLOCKS_SECONDS
    return not job.name and not job.state.over and not older
