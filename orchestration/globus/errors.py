"""What Globus Transfer's codes and refusals mean to somebody who waits for data."""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass

import globus_sdk

from orchestration.errors import (
    AccessDenied,
    Cancelled,
    ChecksumMismatch,
    ConfigError,
    DeadlinePassed,
    EndpointRefused,
    NoSpace,
    OperationFailed,
    OrchestrationError,
    ServiceUnavailable,
    SourceChanged,
    SourceMissing,
    TransferConflict,
    TransferFailed,
)


class Patience(enum.Enum):
    """How long a task that reports a code may go on."""

    FINE = enum.auto()
    """It is no trouble."""
    NONE = enum.auto()
    """Globus would try again for days; it will not get better by itself."""
    REPEATS = enum.auto()
    """A few times: once can be an accident of the network, which Globus mends by sending again."""
    SOME = enum.auto()
    """As long as the settings say a transfer may stand still."""
    DEADLINE = enum.auto()
    """Until the deadline: somebody has paused it on purpose and will resume it."""


@dataclass(frozen=True)
class Meaning:
    error: type[OperationFailed]
    patience: Patience
    what: str
    next_step: str = ""


_CONNECTION = "check at app.globus.org that both collections are online, then start the flow again"

MEANINGS: Mapping[str, Meaning] = {
    "OK": Meaning(TransferFailed, Patience.FINE, "healthy"),
    "Queued": Meaning(TransferFailed, Patience.FINE, "queued"),
    "STARTED": Meaning(TransferFailed, Patience.FINE, "started"),
    "PROGRESS": Meaning(TransferFailed, Patience.FINE, "moving"),
    "SUCCEEDED": Meaning(TransferFailed, Patience.FINE, "succeeded"),
    "UNPAUSED": Meaning(TransferFailed, Patience.FINE, "resumed"),
    "FILE_NOT_FOUND": Meaning(SourceMissing, Patience.NONE, "there is no such file or directory"),
    "PERMISSION_DENIED": Meaning(AccessDenied, Patience.NONE, "permission denied"),
    "NO_SPACE_LEFT": Meaning(NoSpace, Patience.NONE, "no space is left"),
    "QUOTA_EXCEEDED": Meaning(NoSpace, Patience.NONE, "the quota is exceeded"),
    "FILE_SIZE_CHANGED": Meaning(SourceChanged, Patience.NONE, "the file changed while it was copied"),
    "VERIFY_CHECKSUM": Meaning(ChecksumMismatch, Patience.REPEATS, "checksum verification failed again and again"),
    "EXTERNAL_CHECKSUM_MISMATCH": Meaning(ChecksumMismatch, Patience.NONE, "it has not the checksum that was given"),
    "IS_A_DIRECTORY": Meaning(EndpointRefused, Patience.NONE, "a directory stands where a file is needed"),
    "NOT_A_DIRECTORY": Meaning(EndpointRefused, Patience.NONE, "a file stands where a directory is needed"),
    "INVALID_PATH_NAME": Meaning(EndpointRefused, Patience.NONE, "the endpoint cannot have a file of that name"),
    "AMBIGUOUS_PATH": Meaning(EndpointRefused, Patience.NONE, "the path is ambiguous at the endpoint"),
    "AUTH": Meaning(
        EndpointRefused, Patience.SOME, "the endpoint does not accept this service's identity", "give it access there"
    ),
    "CONNECTION_RESET": Meaning(TransferFailed, Patience.SOME, "the connection breaks", _CONNECTION),
    "CONNECT_FAILED": Meaning(TransferFailed, Patience.SOME, "the endpoint cannot be reached", _CONNECTION),
    "GC_NOT_CONNECTED": Meaning(TransferFailed, Patience.SOME, "Globus Connect is not connected", _CONNECTION),
    "ENDPOINT_ERROR": Meaning(TransferFailed, Patience.SOME, "the endpoint reports an error", _CONNECTION),
    "ENDPOINT_TOO_BUSY": Meaning(TransferFailed, Patience.SOME, "the endpoint is too busy", _CONNECTION),
    "TIMEOUT": Meaning(TransferFailed, Patience.SOME, "the endpoint does not answer in time", _CONNECTION),
    "UNKNOWN": Meaning(TransferFailed, Patience.SOME, "the endpoint reports an error of unknown kind", _CONNECTION),
    "GC_PAUSED": Meaning(EndpointRefused, Patience.DEADLINE, "Globus Connect is paused", "resume it"),
    "PAUSED": Meaning(EndpointRefused, Patience.DEADLINE, "the task is paused", "ask the endpoint's administrator"),
    "PAUSED_BY_ADMIN": Meaning(
        EndpointRefused, Patience.DEADLINE, "paused by the endpoint's administrator", "ask the administrator"
    ),
    "SKIPPED_ERRORS": Meaning(TransferFailed, Patience.NONE, "some files were left out"),
    "CANCELED": Meaning(Cancelled, Patience.NONE, "it was cancelled"),
    "EXPIRED": Meaning(
        DeadlinePassed, Patience.NONE, "it did not end by its deadline", "find out why it is slow, then start it again"
    ),
}
"""Every event code that Globus is known to use; one that is not here is taken for UNKNOWN."""


def meaning(code: str) -> Meaning:
    return MEANINGS.get(code, MEANINGS["UNKNOWN"])


def fault(code: str, *, details: str, where: str, subject: str) -> OperationFailed:
    """The error for a task that met `code`; the path and the endpoint are read from the details, if they are there."""
    found = meaning(code)
    named = "" if code in MEANINGS else f" ({code})"
    path, endpoint = _line(details, "File"), _line(details, "Endpoint")
    about = f"{subject}, {path}" if path and path not in subject else subject
    place = "; ".join(filter(None, (endpoint, where)))
    return found.error(f"{about}: {found.what}{named}", where=place, next_step=found.next_step)


def _line(details: str, name: str) -> str:
    match = re.search(rf"^{name}: (.*)$", details, re.MULTILINE)
    return match.group(1).strip() if match else ""


_AGAIN = frozenset({408, 425, 429})
"""Besides all that are 500 and more."""


_TWO_FILE_SYSTEMS = "cross-device link"
"""Globus has no code for it: its answer is that of any endpoint in trouble, with the words of the operating system."""


def translate(error: globus_sdk.GlobusError, *, where: str) -> OrchestrationError:
    """An error of the SDK as one of ours."""
    if isinstance(error, globus_sdk.NetworkError):
        return ServiceUnavailable("Globus does not answer", where=where)
    if isinstance(error, globus_sdk.GlobusAPIError):
        return _refused(error, where)
    return EndpointRefused(f"Globus cannot be asked: {error}", where=where, next_step="correct the request")


def _refused(error: globus_sdk.GlobusAPIError, where: str) -> OrchestrationError:
    code, said = error.code or "", first_line(error)
    certain = _by_code(code, said, where)
    if certain:
        return certain
    if _TWO_FILE_SYSTEMS in (error.message or "").lower():
        return EndpointRefused(
            "the two names are on different file systems, and nothing is renamed from one to the other",
            where=where,
            next_step="keep both names on one file system, or set `can_rename: false` for the endpoint",
        )
    if temporary(error):
        return ServiceUnavailable(f"Globus cannot serve now: {said}", where=where, retry_after=retry_after(error))
    if isinstance(error, globus_sdk.AuthAPIError) or error.http_status == 401:
        return ConfigError(
            f"Globus does not accept this service's credentials: {said}",
            where=where,
            next_step="check GLOBUS_CLIENT_ID and GLOBUS_CLIENT_SECRET at app.globus.org/settings/developers",
        )
    if not code:
        # The page of something on the way there: all refusals of Globus itself have a code.
        return ServiceUnavailable(f"Globus was not reached: {said}", where=where, retry_after=retry_after(error))
    if error.http_status == 403:
        return AccessDenied(said, where=where)
    return EndpointRefused(said, where=where, next_step="correct what was asked for, then start the flow again")


def _by_code(code: str, said: str, where: str) -> OrchestrationError | None:
    if code == "ConsentRequired":
        return EndpointRefused(
            said, where=where, next_step="give this service's client the data_access consent for the collection"
        )
    if code == "Conflict":
        return TransferConflict(said, where=where)
    if code == "EndpointNotFound" or (code.endswith("NotFound") and "ndpoint" in said and "Path" not in said):
        return EndpointRefused(said, where=where, next_step="correct the collection's `uuid` in the settings")
    if code.endswith("NotFound"):
        return SourceMissing(said, where=where)
    if code.endswith("PermissionDenied"):
        return AccessDenied(said, where=where)
    if code.endswith((".NotDirectory", ".Exists")):
        return EndpointRefused(said, where=where, next_step="check what stands at that path")
    return None


def temporary(error: globus_sdk.GlobusAPIError) -> bool:
    """Whether asking again later can help."""
    return error.http_status in _AGAIN or error.http_status >= 500


def first_line(error: globus_sdk.GlobusAPIError) -> str:
    """What the service says, or else the status."""
    lines = (error.message or "").splitlines()
    return lines[0].rstrip(". ") if lines else f"HTTP status {error.http_status}"


def retry_after(error: globus_sdk.GlobusAPIError) -> float | None:
    """Seconds that the service asked for."""
    text = str(error.headers.get("Retry-After", ""))
    return float(text) if re.fullmatch(r"\d+(\.\d+)?", text) else None
