"""What an outside service must be able to do so that an operation on it happens exactly once."""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias, TypeVar, runtime_checkable

from orchestration.errors import OrchestrationError
from orchestration.policy import Asked, Permitted, Place

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"
Document: TypeAlias = "dict[str, Json]"


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far an operation is; None where the service does not say."""

    bytes_done: int | None = None
    bytes_total: int | None = None
    files_done: int | None = None
    files_total: int | None = None
    bytes_per_second: float | None = None
    note: str = ""
    """What it is busy with, or why it does not move (a fault that the service is retrying)."""


@dataclass(frozen=True, kw_only=True)
class Running:
    progress: Progress = field(default_factory=Progress)
    queued: bool = False
    """It is known that it has not begun: it waits for its turn."""
    needs_care: bool = False
    """It may have to be given up at any time, by a run that polls it: it is not waited for from elsewhere."""


@dataclass(frozen=True, kw_only=True)
class Succeeded:
    """Ended well, and that was checked; `evidence` says how (sizes, checksums, exit code, identifiers)."""

    evidence: Document = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Failed:
    """Ended badly, and that is certain. An `error` of type Cancelled is an operation that was cancelled."""

    error: OrchestrationError
    evidence: Document = field(default_factory=dict)


Status: TypeAlias = Running | Succeeded | Failed


class CancelAnswer(enum.StrEnum):
    CANCELLED = "cancelled"
    ALREADY_FINISHED = "already finished"
    REFUSED = "refused"
    UNKNOWN = "unknown"


class Request(Asked, Protocol):
    """What is asked of a service: a frozen value with a JSON form, that says what it does with data (`effect`) and,
    unless its service is `Sited`, where it takes it (`place`). The policy believes these, whatever a caller says.

    The digest of the document is part of the operation's key: what is equal here is the same operation.
    """

    def document(self) -> Document: ...


R_contra = TypeVar("R_contra", bound=Request, contravariant=True)


class Service(Protocol[R_contra]):
    """One kind of effect on one outside service.

    Any method may raise `ServiceUnavailable`: nothing is then known about what the service did, and `perform` asks
    `find` before it submits again. Any other error of `orchestration.errors` is an answer: the operation failed.
    Methods return quickly; they never wait for the work itself.
    """

    @property
    def name(self) -> str:
        """Under which the ledger files the operation: ``globus.transfer``, ``local.jobs``, ..."""
        ...

    def reserve(self, key: str) -> str:
        """The token that will travel with the request, stored before the first submission.

        Mostly `key` itself; Globus issues its own (a submission id).
        """
        ...

    def find(self, request: R_contra, token: str) -> str | None:
        """The handle of what was already submitted under this token; None if the service knows nothing of it."""
        ...

    def submit(self, permitted: Permitted[R_contra], token: str) -> str:
        """Start it, and return the handle. The same token twice must give the same work once.

        Nothing but `policy.opened` gives the request out of what was permitted.
        """
        ...

    def poll(self, request: R_contra, handle: str) -> Status:
        """How it stands now. `Succeeded` only when the result was checked."""
        ...

    def cancel(self, handle: str) -> CancelAnswer:
        """Stop it. `CANCELLED` only when the service confirmed it."""
        ...


@runtime_checkable
class Sited(Protocol):
    """A service that runs all that it is given at one place, which its requests need not know."""

    @property
    def place(self) -> Place | None:
        """None of one that stands before another that is not sited."""
        ...


def site_of(service: object) -> Place | None:
    return service.place if isinstance(service, Sited) else None


@runtime_checkable
class Resends(Protocol[R_contra]):
    """A service that can also tell by a second submission what came of the first one: both give the same work once."""

    def find_by_sending(self, permitted: Permitted[R_contra], token: str) -> str | None:
        """As `find`, which did not say. May raise ServiceUnavailable."""
        ...


@runtime_checkable
class BulkService(Protocol[R_contra]):
    """A service that can be asked about many operations at once, and about them by any process of any host.

    To offer it is to say that operations of this service may be waited for from elsewhere: the run that submitted them
    gives its claim back and ends its process, and a watcher polls in its place.
    """

    def poll_many(self, items: Sequence[tuple[R_contra, str]]) -> Mapping[str, Status]:
        """How these operations (request and handle) stand now, by handle, in one request where the service can.

        `Running` means that nobody need look yet (unless it says that it needs care). Anything else makes the run that
        waits go on, which polls for itself: `Succeeded` and `Failed` may be told here without the checks of a result.
        Of a handle that is left out nothing was learned: it is asked about again. May raise ServiceUnavailable.
        """
        ...


@runtime_checkable
class Immediate(Protocol):
    """A service that has done all that it will ever do when `submit` returns: nothing goes on without its caller."""

    immediate: bool


@runtime_checkable
class Limited(Protocol):
    """A service that takes only so many of our operations at once, whoever performs them."""

    @property
    def sessions(self) -> int | None:
        """None: any number."""
        ...


@runtime_checkable
class Sweeping(Protocol):
    """A service that can tell all that goes on there in our name, whether or not anybody here remembers it."""

    def alive(self) -> Mapping[str, str]:
        """The tokens of what waits or runs there, by handle. May raise ServiceUnavailable."""
        ...


@runtime_checkable
class Clears(Protocol):
    """A service that can remove what its jobs leave: their folders, and what their schedulers wrote."""

    def clear(self, tokens: Sequence[str], *, folders: Sequence[str] = (), files: Sequence[str] = ()) -> None:
        """Remove all that is left of jobs that are over; what is not there is no error.

        `folders` and `files` are what they made besides their own folders, by full paths as jobs call them.

        Raises:
            ServiceUnavailable: if it is not certain that it is gone; it may be asked again.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class PollSchedule:
    """How often to ask: quickly at first, then less and less, never later than a few per cent of the elapsed time."""

    first: float = 0.05
    fraction: float = 0.02
    ceiling: float = 30.0

    def interval(self, elapsed: float) -> float:
        """Seconds until the next question, `elapsed` seconds after submission."""
        return min(self.ceiling, max(self.first, self.fraction * elapsed))


Evidence: TypeAlias = Mapping[str, Json]
