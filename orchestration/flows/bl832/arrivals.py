"""New files of any beamline, many at a time, deployed with 8.3.2."""

from __future__ import annotations

from orchestration.flows.arrivals import new_files_flow
from orchestration.flows.main import command

__all__ = ["new_files_flow"]

if __name__ == "__main__":
    command(new_files_flow)
