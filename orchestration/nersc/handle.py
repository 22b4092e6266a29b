"""What the ledger keeps of a job at NERSC."""

from __future__ import annotations

from dataclasses import dataclass

UNKNOWN_JOB = "0"
"""Stands for the number of a job that ran, as its folder shows, and that Slurm does not list."""


@dataclass(frozen=True, kw_only=True)
class Handle:
    """Of a job: its number at Slurm, `UNKNOWN_JOB` if that is not known, and its token."""

    job: str
    token: str

    @classmethod
    def parse(cls, text: str) -> Handle:
        job, _, token = text.partition(" ")
        return cls(job=job, token=token)

    def __str__(self) -> str:
        return f"{self.job} {self.token}"

    @property
    def numbered(self) -> tuple[str, ...]:
        return () if self.job == UNKNOWN_JOB else (self.job,)
