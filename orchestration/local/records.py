"""What the submitter of a job and its supervisor tell each other. Standard library only."""

from __future__ import annotations

import enum
from dataclasses import asdict, dataclass

from orchestration.jobs import Output, OutputKind
from orchestration.local.jobfolder import EXIT, SPEC, JobFolder
from orchestration.science.running.outputs import CheckedOutput


@dataclass(frozen=True, kw_only=True)
class Orders:
    """What to run. Times are in seconds; `start_by` is since the epoch, 0 for no limit.

    `slots_folder` holds the places of all jobs of this machine, of which this one takes `cores`. `memory` is the most
    that each of its processes may have, in bytes; None for no limit.
    """

    executable: str
    arguments: tuple[str, ...]
    directory: str
    duration: float
    environment: dict[str, str]
    outputs: tuple[Output, ...]
    cores: int
    slots: int
    slots_folder: str
    grace: float
    start_by: float = 0.0
    memory: int | None = None

    def write(self, folder: JobFolder) -> None:
        folder.write(SPEC, asdict(self))

    @classmethod
    def read(cls, folder: JobFolder) -> Orders | None:
        found = folder.read(SPEC)
        if found is None:
            return None
        outputs = tuple(Output(**{**row, "kind": OutputKind(row["kind"])}) for row in found["outputs"])
        return cls(**{**found, "arguments": tuple(found["arguments"]), "outputs": outputs})


class Reason(enum.StrEnum):
    """Why a job is over."""

    EXITED = "exited"
    TIMEOUT = "timeout"
    CANCELLED = "cancelled"
    TERMINATED = "terminated"
    """Its supervisor was told to end, as when the machine is shut down."""
    LATE = "late"
    """There was no place for it in time; it did not begin at all."""
    UNSTARTABLE = "unstartable"
    LOST = "lost"


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How a job ended. `code` is negative for a signal; None where the command was never run or nobody saw its end."""

    reason: Reason
    code: int | None = None
    error: str = ""
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    max_rss_bytes: int = 0
    outputs: tuple[CheckedOutput, ...] = ()

    @property
    def good(self) -> bool:
        return self.reason is Reason.EXITED and self.code == 0

    def write(self, folder: JobFolder) -> None:
        folder.write(EXIT, {**asdict(self), "outputs": [output.document() for output in self.outputs]})

    @classmethod
    def read(cls, folder: JobFolder) -> Ending | None:
        found = folder.read(EXIT)
        if found is None:
            return None
        outputs = tuple(CheckedOutput(**row) for row in found["outputs"])
        return cls(**{**found, "reason": Reason(found["reason"]), "outputs": outputs})
