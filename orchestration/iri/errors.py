"""What an answer of an IRI facility means."""

from __future__ import annotations

import json
import re
import time
from email.utils import parsedate_to_datetime
from http import HTTPStatus

import httpx

from orchestration.errors import ConfigError, JobFailed, OrchestrationError, ServiceUnavailable

_AGAIN = frozenset({408, 425, 429})
NOT_IMPLEMENTED = 501
_LONGEST = 400


class Unserved(ServiceUnavailable):
    """Raised when a request was not served; `status` is None where there was no answer at all."""

    status: int | None = None


class Refused(Exception):
    """A certain no, as the facility put it. It stays inside this package: `translated` is what others see."""

    def __init__(self, status: int, said: str, *, where: str, retry_after: float | None = None) -> None:
        super().__init__(f"{status}: {said}")
        self.status = status
        self.said = said
        self.where = where
        self.retry_after = retry_after

    @property
    def unknown(self) -> bool:
        """Whether it only says that there is no such thing; some facilities say so with 400."""
        missing = re.search(r"not found|no such|unknown job|does not exist", self.said, re.IGNORECASE)
        return self.status in (404, 410) or (self.status == 400 and missing is not None)

    @property
    def about_key(self) -> bool:
        return "idempotency" in self.said.lower()

    def doubt(self) -> ServiceUnavailable:
        """For a no that leaves open what was done."""
        return ServiceUnavailable(self.said, where=self.where, retry_after=self.retry_after)

    def translated(self, what: str, *, next_step: str = "") -> OrchestrationError:
        if self.status == HTTPStatus.FORBIDDEN:
            return ConfigError(
                f"{what}, because this service's identity may not do that there: {self.said}",
                where=self.where,
                next_step="ask the facility to give the owner of the access token that right",
            )
        return JobFailed(
            f"{what}: {self.said}",
            where=self.where,
            next_step=next_step or "correct what is named there in the settings of the site, then start the flow again",
        )


def refusal(response: httpx.Response) -> OrchestrationError | Refused:
    """What to raise for an answer that is not a success."""
    status, said, where = response.status_code, _said(response), _place(response)
    if status in _AGAIN or (status >= 500 and status != NOT_IMPLEMENTED):
        unserved = Unserved(f"the facility cannot serve now: {said}", where=where, retry_after=retry_after(response))
        unserved.status = status
        return unserved
    if response.is_redirect:
        target = response.headers.get("location", "elsewhere")
        return ConfigError(
            f"the facility sends this service to {target}",
            where=where,
            next_step="set `api_url` of the site to the address of the API itself",
        )
    return Refused(status, said, where=where, retry_after=retry_after(response))


def unanswered(error: httpx.RequestError, where: str) -> Unserved:
    return Unserved(f"the facility does not answer ({str(error) or type(error).__name__})", where=where)


def not_iri(where: str) -> ServiceUnavailable:
    # A gateway's own page, most often: it says nothing about what the facility did.
    return ServiceUnavailable("the answer is not one of the IRI API", where=where)


def not_let_in(refused: Refused, *, token: str) -> ConfigError:
    """`token` says where the token comes from, never what it is."""
    return ConfigError(
        f"the facility does not accept this service's access token: {refused.said}",
        where=refused.where,
        next_step=f"put a new one where it comes from ({token})",
    )


def retry_after(response: httpx.Response) -> float | None:
    """Seconds; the header may name a time instead."""
    text = str(response.headers.get("retry-after", ""))
    if re.fullmatch(r"\d+(\.\d+)?", text):
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except ValueError:
        return None


def _said(response: httpx.Response) -> str:
    """Title and detail of a problem document; the beginning of anything else."""
    code = f"HTTP {response.status_code}"
    try:
        body = response.json()
    except ValueError:
        body = None
    if not isinstance(body, dict):
        text = " ".join(response.text.split())[:80]
        return f"{text} ({code})" if text else code
    title, detail = body.get("title"), body.get("detail") or body.get("message")
    words = [each if isinstance(each, str) else json.dumps(each) for each in (title, detail) if each]
    line = " ".join(": ".join(words).split())[:_LONGEST]
    return f"{line} ({code})" if line else code


def _place(response: httpx.Response) -> str:
    # Without the query: it may be long, and says nothing that the message does not.
    return f"{response.request.method} {response.request.url.copy_with(query=None)}"
