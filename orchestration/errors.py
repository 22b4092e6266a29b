"""Every error of this project, grouped by what the reader of it can do.

::

    OrchestrationError
    ├── ConfigError                 a settings file or the environment is wrong: mend it
    │   └── NotSetUp                a setting or a credential is not there: nobody can use this yet
    ├── InvalidInput                the request is wrong: ask for something else
    │   ├── InvalidPath             a name that cannot be carried, or leads outside its root
    │   ├── UnknownName             no such beamline, endpoint, scan, deployment, ...
    │   └── ScanUnreadable          the file is not a scan: empty, truncated, not HDF5, incomplete
    ├── PolicyRefused               the data may not go there
    │   ├── ExportControlled
    │   ├── Embargoed               everybody would see it too early
    │   ├── NotTheOwner             others than those of its proposal would get it, or be told of it
    │   └── Unpermitted             it reached an adapter without a decision, or does not say what it does and where
    ├── ServiceUnavailable          no answer, or "not now": nothing is known; asked again until the deadline
    ├── OperationFailed             the outside world did not do what was asked, and that is certain
    │   ├── TransferFailed
    │   │   ├── SourceMissing
    │   │   ├── AccessDenied
    │   │   ├── SourceChanged       the file grew or shrank while it was copied
    │   │   ├── ChecksumMismatch
    │   │   ├── NoSpace
    │   │   ├── TransferConflict    another task moves the same paths
    │   │   ├── TransferWithdrawn   called off: the work that needs the data is done elsewhere
    │   │   └── EndpointRefused     wrong kind of path, consent missing, paused by its administrator, ...
    │   ├── JobFailed               exit code, and the program's own error where it left one
    │   │   ├── JobLost             the machine forgot it
    │   │   ├── JobTimedOut         it was stopped at the end of its walltime
    │   │   ├── JobNotStarted       it did not begin in the time it was given, and will not any more
    │   │   ├── JobPreempted        it had to make room for another
    │   │   ├── OutOfMemory
    │   │   ├── NodeFailed          the computer it ran on failed
    │   │   └── OutputMissing       exit code 0, but a declared output is absent or not valid
    │   ├── CatalogueRefused        SciCat, or the search index, does not accept the record
    │   ├── SiteUnavailable         no compute site can take the work now
    │   ├── RunFailed               a Prefect run that this one waits for did not complete
    │   ├── BatchIncomplete         some datasets of a batch have no result; the ledger names each, and why
    │   ├── MailRefused             the mail server does not take a message, or not for whom it is meant
    │   ├── DeletionUnproven        no proof of another verified copy: nothing was deleted
    │   ├── Cancelled
    │   └── DeadlinePassed
    └── LedgerError
        ├── LeaseLost               another live run took the operation over
        ├── NameTaken               another operation makes, or has just made, what this one was to make
        └── LedgerOutdated          the database has another schema version than this code

Each says what happened, where, and what to do next, in one sentence (``str(error)``), and keeps the three apart.
"""

from __future__ import annotations

from typing import ClassVar


class OrchestrationError(Exception):
    """Base of all errors that are meant to be read by a person."""

    next_step_default: ClassVar[str] = "read the log of this run, then run the same command again"

    def __init__(self, what: str, *, where: str = "", next_step: str = "") -> None:
        self.what = what.rstrip(".")
        self.where = where
        self.next_step = next_step.rstrip(".") or self.next_step_default
        super().__init__(self.sentence)

    @property
    def sentence(self) -> str:
        """What, where and what next, as one line."""
        place = f" ({self.where})" if self.where else ""
        return f"{self.what}{place}. Next: {self.next_step}."

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions are pickled by their args, which here are the sentence; the parts must survive a process border.
        return (_rebuild, (type(self), dict(self.__dict__)))


def _rebuild(kind: type[OrchestrationError], parts: dict[str, object]) -> OrchestrationError:
    error = kind(str(parts["what"]), where=str(parts["where"]), next_step=str(parts["next_step"]))
    error.__dict__.update(parts)
    return error


class ConfigError(OrchestrationError):
    """Raised when a settings file or the environment is wrong."""

    next_step_default = "mend the setting, then run `beamline config check`"


class NotSetUp(ConfigError):
    """Raised when something is used for which a setting or a credential is not there yet."""


class InvalidInput(OrchestrationError):
    """Raised when what was asked for cannot be done by anybody."""

    next_step_default = "correct the request and start it again"


class InvalidPath(InvalidInput):
    """Raised when a path cannot be carried, or leads outside the root of its endpoint."""

    next_step_default = "rename the file, or give a path below the endpoint's root"


class UnknownName(InvalidInput):
    """Raised when a beamline, endpoint, scan or deployment of that name does not exist."""


class ScanUnreadable(InvalidInput):
    """Raised when a file is not the scan it should be."""

    next_step_default = "check that acquisition has finished and the file opens, then start the flow again"


class PolicyRefused(OrchestrationError):
    """Raised when data may not go where it was sent.

    `scan` is the id of the scan that may not, if it was asked for with others; empty if it was asked for alone.
    """

    next_step_default = "ask the owner of the data or the facility's data officer"

    def __init__(self, what: str, *, where: str = "", next_step: str = "", scan: str = "") -> None:
        self.scan = scan
        super().__init__(what, where=where, next_step=next_step)


class ExportControlled(PolicyRefused):
    """Raised when export-controlled data would leave the beamline."""

    next_step_default = "process it at the beamline; nothing was sent"


class Embargoed(PolicyRefused):
    """Raised when everybody would get to see something of a scan before its embargo is over."""

    next_step_default = "publish it for its own group, or wait; nothing was sent"


class NotTheOwner(PolicyRefused):
    """Raised when data of one proposal would get into the folder of another, a job would work there, or others would be
    told of it.
    """

    next_step_default = "correct who may see it, or where it goes; nothing was sent"


class Unpermitted(PolicyRefused):
    """Raised when something is to be submitted about which the policy has not decided, or cannot."""

    next_step_default = "report this as a fault of this service; nothing was sent"


class ServiceUnavailable(OrchestrationError):
    """Raised by an adapter when a service gave no answer or asked to come back: what it did is not known.

    `retry_after` is the number of seconds the service asked for, if it did.
    """

    next_step_default = "wait for the service; the operation is asked again until its deadline"

    def __init__(self, what: str, *, where: str = "", next_step: str = "", retry_after: float | None = None) -> None:
        self.retry_after = retry_after
        super().__init__(what, where=where, next_step=next_step)


class OperationFailed(OrchestrationError):
    """Raised when an operation ended badly and that is certain."""


class TransferFailed(OperationFailed):
    """Raised when data did not arrive whole."""


class SourceMissing(TransferFailed):
    """Raised when there is nothing at the source path."""

    next_step_default = "check the path at the source endpoint, then start the flow again"


class AccessDenied(TransferFailed):
    """Raised when an endpoint does not let this service read or write."""

    next_step_default = "give this service's identity access to the path, then start the flow again"


class SourceChanged(TransferFailed):
    """Raised when the source changed while it was being copied."""

    next_step_default = "wait until acquisition has closed the file, then start the flow again"


class ChecksumMismatch(TransferFailed):
    """Raised when the bytes at the destination are not those of the source."""

    next_step_default = "check the disks and the network of both endpoints, then start the flow again"


class NoSpace(TransferFailed):
    """Raised when the destination is full or over its quota."""

    next_step_default = "free space at the destination, then start the flow again"


class TransferConflict(TransferFailed):
    """Raised when another task, not ours, moves the same paths."""

    next_step_default = "wait for or cancel the other task, then start the flow again"


class TransferWithdrawn(TransferFailed):
    """Raised when a transfer was called off because the site that it went to cannot take the work."""

    next_step_default = "start the flow again: it chooses a site anew"


class EndpointRefused(TransferFailed):
    """Raised when an endpoint refuses the request for a reason of its own."""


class JobFailed(OperationFailed):
    """Raised when a job did not do its work.

    `cause` is the type of the error that the program itself reported, or an empty string.
    """

    def __init__(self, what: str, *, where: str = "", next_step: str = "", cause: str = "") -> None:
        self.cause = cause
        super().__init__(what, where=where, next_step=next_step)


class JobLost(JobFailed):
    """Raised when the machine that ran a job no longer knows it and it left no exit code."""


class JobTimedOut(JobFailed):
    """Raised when a job was stopped at the end of the time it was given."""

    next_step_default = "ask for a longer walltime, or find out from its log why it was slow"


class JobNotStarted(JobFailed):
    """Raised when a job did not begin in the time it was given; it will not begin any more."""

    next_step_default = "start the flow again: it chooses a site anew"


class JobPreempted(JobFailed):
    """Raised when a job was stopped to make room for another."""


class OutOfMemory(JobFailed):
    """Raised when a job needed more memory than it was given."""

    next_step_default = "ask for more memory or nodes, then start the flow again"


class NodeFailed(JobFailed):
    """Raised when a computer on which a job ran failed."""


class OutputMissing(JobFailed):
    """Raised when a job ended with exit code 0 without the outputs that it declared."""


class CatalogueRefused(OperationFailed):
    """Raised when the catalogue, or a search index, does not accept a record."""


class SiteUnavailable(OperationFailed):
    """Raised when no compute site can take the work now."""

    next_step_default = "wait until a site is up (`beamline doctor` shows how they are), then start the flow again"


class RunFailed(OperationFailed):
    """Raised when a Prefect run that this one waits for did not complete."""


class BatchIncomplete(OperationFailed):
    """Raised when some of the datasets of a batch have no result."""


class MailRefused(OperationFailed):
    """Raised when a mail server does not take a message, or not for any of its addresses."""

    next_step_default = "correct the addresses under `notify` in config.yml"


class DeletionUnproven(OperationFailed):
    """Raised when no other verified copy could be proved; nothing was deleted."""

    next_step_default = "make or verify another copy; the deletion can then be started again"


class Cancelled(OperationFailed):
    """Raised when an operation was cancelled, here or at the service."""

    next_step_default = "start the flow again if the result is still wanted"


class DeadlinePassed(OperationFailed):
    """Raised when an operation did not end in the time it was given; it was cancelled."""


class LedgerError(OrchestrationError):
    """Raised when the ledger itself cannot be used."""


class LeaseLost(LedgerError):
    """Raised when another live run has taken an operation over; this run must stop touching it."""


class NameTaken(LedgerError):
    """Raised when another operation makes, or has just made, what this one was to make under the same name."""

    next_step_default = "start the flow again when that has ended: it plans anew"


class LedgerOutdated(LedgerError):
    """Raised when the database has another schema version than this code."""

    next_step_default = "run `beamline ledger migrate`"
