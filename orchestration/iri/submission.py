"""Submitting a job so that it is one job, and finding what was submitted."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus

from orchestration.errors import ConfigError, JobFailed, OrchestrationError, ServiceUnavailable
from orchestration.iri import request as asking
from orchestration.iri.calls import Calls
from orchestration.iri.errors import Refused, Unserved
from orchestration.iri.memory import Memory
from orchestration.iri.records import IriJob, JobState
from orchestration.jobs import JobSpec
from orchestration.remote import dated, dated_at

DUPLICATE = 76
"""Exit code of a second job of the same token, which did nothing: see `orchestration.science.running.report`."""

_FRESH_SECONDS = 20 * 3600.0
"""Facilities remember keys for a day, unless they say otherwise; this is well within."""


@dataclass(frozen=True, kw_only=True)
class Submission:
    """`patience` is how many seconds a facility may not show a job that it has accepted."""

    calls: Calls
    memory: Memory
    patience: float

    def reserve(self, key: str) -> str:
        token = dated(key)
        self.memory.begin("unsent", token)
        return token

    def find(self, token: str) -> str | None:
        """The identifier of the job of this token, by its name; None if there is none.

        Nothing found means nothing until the facility has had time to show a job that it accepted: it may also have
        forgotten a key and not the job.
        """
        if self.memory.began("unsent", token):
            return None
        try:
            found = self.calls.named(token)
        except Refused as refused:
            raise refused.doubt() from refused
        if found:
            return foremost(found).id
        if self.memory.waited("in doubt", token) < self.patience:
            raise ServiceUnavailable(
                "a job that was perhaps submitted is not shown yet",
                where=self.calls.client.where,
                retry_after=self.patience / 5,
            )
        return None

    def by_key(self, request: JobSpec, token: str) -> str | None:
        """As `find`, where lists cannot be had, and the key says it too: it is asked by submitting again, which makes
        the job if there was none.
        """
        asked = dated_at(token)
        fresh = asked is not None and time.time() - asked < _FRESH_SECONDS
        if not self.calls.idempotent or not fresh or self.memory.began("failed at it", token):
            raise ServiceUnavailable("its key does not tell whether there is such a job", where=self.calls.client.where)
        try:
            return self._send(request, token).id
        except Refused as refused:
            if refused.status == HTTPStatus.CONFLICT or refused.about_key:
                raise refused.doubt() from refused
            return None  # so there is nothing under this key: it would have answered with that

    def submit(self, request: JobSpec, token: str) -> str:
        """The identifier of the job.

        Raises:
            JobFailed: for what the facility refuses, and where this service is not let in: nothing was submitted.
        """
        try:
            return self._send(request, token).id
        except ConfigError as wrong:
            raise _of_the_job(wrong) from wrong
        except Refused as refused:
            if refused.status == HTTPStatus.CONFLICT:
                raise refused.doubt() from refused
            if refused.status == HTTPStatus.UNPROCESSABLE_ENTITY and refused.about_key:
                return self._other(token, refused)
            raise _of_the_job(refused.translated("the facility refuses the job")) from refused

    def _other(self, token: str, refused: Refused) -> str:
        """The job that there is under this key, which was asked for in other words: by other settings, mostly."""
        try:
            found = self.calls.named(token)
        except Refused as second:
            raise second.doubt() from second
        if not found:
            raise refused.doubt() from refused
        return foremost(found).id

    def _send(self, request: JobSpec, token: str) -> IriJob:
        site = self.calls.client.site
        body = asking.document(site, asking.launch_of(site, request, token))
        self.calls.client.resource(site.resource)  # so that nothing but the submission is in doubt below
        unsent = self.memory.over("unsent", token)
        try:
            return self.calls.submit(body, token)
        except Unserved as doubt:
            if doubt.status == HTTPStatus.TOO_MANY_REQUESTS:
                if unsent:
                    self.memory.begin("unsent", token)
                raise
            self.memory.begin("in doubt", token)
            if doubt.status is not None:
                # Where a facility failed at it, it may have forgotten the key and not the job.
                self.memory.begin("failed at it", token)
            raise


def _of_the_job(error: OrchestrationError) -> OrchestrationError:
    """What keeps this service from submitting at all is certain, and another site may take the job."""
    if isinstance(error, ConfigError):
        return JobFailed(error.what, where=error.where, next_step=error.next_step)
    return error


def foremost(found: Sequence[IriJob]) -> IriJob:
    """Of several jobs of one token the one that did, or does, its work: a second one that began ends at once."""
    worked = [each for each in found if each.exit_code != DUPLICATE]
    return next((each for each in worked if each.state is not JobState.CANCELED), (worked or found)[0])
