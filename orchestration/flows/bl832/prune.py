"""Deletions of 8.3.2, one flow per endpoint under the names that acquisition and operators know.

They are scheduled when a copy is made. When the time has come they prove another verified copy, or fail and delete
nothing.
"""

from __future__ import annotations

from typing import Any

from orchestration.flows.main import command
from orchestration.flows.pruners import SWITCHES, prune_filesystem_endpoint, prune_flow, prune_globus_endpoint

__all__ = ["prune_filesystem_endpoint", "prune_globus_endpoint"]

prune_spot832 = prune_flow("spot832")
prune_data832 = prune_flow("data832")
prune_data832_raw = prune_flow("data832_raw")
prune_data832_scratch = prune_flow("data832_scratch")
prune_nersc832 = prune_flow("nersc832")
prune_nersc832_alsdev_scratch = prune_flow("nersc832_alsdev_scratch")
prune_nersc832_alsdev_pscratch_raw = prune_flow("nersc832_alsdev_pscratch_raw")
prune_nersc832_alsdev_pscratch_scratch = prune_flow("nersc832_alsdev_pscratch_scratch")
prune_alcf832_raw = prune_flow("alcf832_raw")
prune_alcf832_scratch = prune_flow("alcf832_scratch")
prune_local832_raw = prune_flow("local832_raw")
prune_local832_scratch = prune_flow("local832_scratch")


def main(argv: list[str] | None = None) -> Any:
    return command(prune_globus_endpoint, argv, switches=SWITCHES)


if __name__ == "__main__":
    main()
