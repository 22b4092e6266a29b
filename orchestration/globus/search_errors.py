"""What a refusal of Globus Search means to somebody who publishes a result."""

from __future__ import annotations

import json

import globus_sdk

from orchestration.errors import CatalogueRefused, ConfigError, OrchestrationError, ServiceUnavailable
from orchestration.globus import errors

_LONGEST = 600
"""Characters of what the service says in detail."""


def translate(error: globus_sdk.GlobusError, *, where: str) -> OrchestrationError:
    """An error of the SDK as one of ours; `where` names the index."""
    if not isinstance(error, globus_sdk.SearchAPIError):
        return errors.translate(error, where=where)
    said = _said(error)
    if errors.temporary(error):
        waits = errors.retry_after(error)
        return ServiceUnavailable(f"Globus Search cannot serve now: {said}", where=where, retry_after=waits)
    if error.http_status == 401:
        return ConfigError(
            f"Globus Search does not accept this service's credentials: {said}",
            where=where,
            next_step="check GLOBUS_CLIENT_ID and GLOBUS_CLIENT_SECRET at app.globus.org/settings/developers",
        )
    if not error.code:
        # The page of something on the way there: all refusals of Globus Search itself have a code.
        return ServiceUnavailable(f"Globus Search was not reached: {said}", where=where)
    return CatalogueRefused(said, where=where, next_step=_next_step(error))


def missing(error: globus_sdk.GlobusError) -> bool:
    """Whether what was asked for is not in the index, or not for this service to see."""
    return (
        isinstance(error, globus_sdk.SearchAPIError)
        and error.http_status == 404
        and (error.code or "").startswith("NotFound.")
        and error.code != "NotFound.NoSuchIndex"
    )


def in_detail(details: object) -> str:
    """What a service adds to its message, on one line."""
    return json.dumps(details, sort_keys=True, default=str)[:_LONGEST] if details else ""


def _said(error: globus_sdk.SearchAPIError) -> str:
    return ": ".join(filter(None, (errors.first_line(error), in_detail(error.error_data))))


def _next_step(error: globus_sdk.SearchAPIError) -> str:
    if error.http_status == 403:
        return "make this service's client a writer of the index (`globus search index role create`), then start again"
    if error.code == "NotFound.NoSuchIndex":
        return "correct the index's `uuid` under `search.indexes` in config.yml"
    return "correct what the message names in the record, then start the flow again"
