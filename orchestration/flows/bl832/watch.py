"""The look at all copies from time to time, deployed with 8.3.2."""

from __future__ import annotations

from orchestration.flows.main import command
from orchestration.flows.pruners import SWITCHES
from orchestration.flows.watching_copies import watch_copies

__all__ = ["watch_copies"]

if __name__ == "__main__":
    command(watch_copies, switches=SWITCHES)
