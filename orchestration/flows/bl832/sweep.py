"""The nightly deletion of all that is due, deployed with 8.3.2."""

from __future__ import annotations

from orchestration.flows.main import command
from orchestration.flows.nightly import sweep_deletions
from orchestration.flows.pruners import SWITCHES

__all__ = ["sweep_deletions"]

if __name__ == "__main__":
    command(sweep_deletions, switches=SWITCHES)
