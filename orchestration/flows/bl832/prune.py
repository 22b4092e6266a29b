"""Deletions of 8.3.2, one flow per endpoint under the names that acquisition and operators know.

They are scheduled when a copy is made. When the time has come they prove another verified copy, or fail and delete
nothing.
"""

from __future__ import annotations

import json
from typing import Any

from prefect import Flow, flow

from orchestration.flows.main import command
from orchestration.flows.pruning import prune
from orchestration.flows.work import working
from orchestration.ledger.service import Document
from orchestration.paths import RelativePath


def _prune(flow_name: str, endpoint_name: str, relative_path: str, generation: int | None) -> Document:
    parameters: Document = {
        "source_endpoint": endpoint_name,
        "relative_path": relative_path,
        "generation": generation,
    }
    with working(flow_name, parameters) as work:
        endpoint = work.settings.endpoint(endpoint_name)
        done = prune(work, endpoint, RelativePath.parse(relative_path), generation=generation)
        work.logger.info("proof: %s", json.dumps(done))
        return done


def _prune_flow(endpoint_name: str) -> Flow[..., Document]:
    """The flow ``prune_<endpoint>``: it takes the path of the copy below that endpoint's root."""
    name = f"prune_{endpoint_name}"

    def prune_endpoint(relative_path: str, generation: int | None = None) -> Document:
        return _prune(name, endpoint_name, relative_path, generation)

    prune_endpoint.__name__ = name
    prune_endpoint.__doc__ = f"Delete a copy on {endpoint_name}, once another verified copy of it is proved."
    return flow(name=name, flow_run_name=f"{name}: {{relative_path}}", validate_parameters=True)(prune_endpoint)


prune_spot832 = _prune_flow("spot832")
prune_data832 = _prune_flow("data832")
prune_data832_raw = _prune_flow("data832_raw")
prune_data832_scratch = _prune_flow("data832_scratch")
prune_nersc832 = _prune_flow("nersc832")
prune_nersc832_alsdev_pscratch_raw = _prune_flow("nersc832_alsdev_pscratch_raw")
prune_nersc832_alsdev_pscratch_scratch = _prune_flow("nersc832_alsdev_pscratch_scratch")
prune_alcf832_raw = _prune_flow("alcf832_raw")
prune_alcf832_scratch = _prune_flow("alcf832_scratch")
prune_local832_raw = _prune_flow("local832_raw")
prune_local832_scratch = _prune_flow("local832_scratch")


@flow(name="prune_globus_endpoint", flow_run_name="prune {source_endpoint}: {relative_path}")
def prune_globus_endpoint(relative_path: str, source_endpoint: str, generation: int | None = None) -> Document:
    """Delete a copy on any endpoint of config.yml, once another verified copy of it is proved.

    Which copies count is the endpoint's retention rule, not the caller's choice.
    """
    return _prune("prune_globus_endpoint", source_endpoint, relative_path, generation)


def main(argv: list[str] | None = None) -> Any:
    return command(prune_globus_endpoint, argv)


if __name__ == "__main__":
    main()
