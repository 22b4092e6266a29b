"""Deletions of 8-ID-I, one flow per endpoint on which working copies are made.

They are scheduled when a copy is made. When the time has come they prove another verified copy, or fail and delete
nothing. The raw data itself has no rule, and is never deleted.
"""

from __future__ import annotations

from typing import Any

from orchestration.flows.main import command
from orchestration.flows.pruners import SWITCHES, prune_filesystem_endpoint, prune_flow, prune_globus_endpoint

__all__ = ["prune_filesystem_endpoint", "prune_globus_endpoint"]

prune_polaris_xpcs_raw = prune_flow("polaris_xpcs_raw")
prune_polaris_xpcs_scratch = prune_flow("polaris_xpcs_scratch")
prune_local8idi_raw = prune_flow("local8idi_raw")
prune_local8idi_scratch = prune_flow("local8idi_scratch")


def main(argv: list[str] | None = None) -> Any:
    return command(prune_globus_endpoint, argv, switches=SWITCHES)


if __name__ == "__main__":
    main()
