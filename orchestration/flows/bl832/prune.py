"""Deletions of 8.3.2, one flow per endpoint under the names that acquisition and operators know.

They are scheduled when a copy is made. When the time has come they prove another verified copy, or fail and delete
nothing.
"""

from __future__ import annotations

from typing import Any

from prefect import flow

from orchestration.flows.cancelling import say_cancelled
from orchestration.flows.main import command
from orchestration.flows.pruning import prune_flow, run_prune
from orchestration.ledger.service import Document

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


@flow(
    name="prune_globus_endpoint",
    flow_run_name="prune {source_endpoint}: {relative_path}",
    on_failure=[say_cancelled],
)
def prune_globus_endpoint(relative_path: str, source_endpoint: str, generation: int | None = None) -> Document:
    """Delete a copy on any endpoint of config.yml, once another verified copy of it is proved.

    Which copies count is the endpoint's retention rule, not the caller's choice.
    """
    return run_prune("prune_globus_endpoint", source_endpoint, relative_path, generation)


def main(argv: list[str] | None = None) -> Any:
    return command(prune_globus_endpoint, argv)


if __name__ == "__main__":
    main()
