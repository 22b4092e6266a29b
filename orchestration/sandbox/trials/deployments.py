"""Deployments for a world without a worker: what is scheduled stands in Prefect's calendar and waits."""

from __future__ import annotations

from collections.abc import Sequence

from orchestration import config
from orchestration.flows import catalogue
from orchestration.flows.deploy import default_variables, deploy, wait_for_server, working_directory


def make(beamline: str, names: Sequence[str]) -> None:
    """The deployments of these names, and the variables."""
    whole = catalogue.of_beamline(beamline)
    chosen = tuple(spec for spec in whole.deployments if spec.name in names)
    queues = {spec.work_pool.work_queue_name for spec in chosen}
    limits = {name: limit for name, limit in whole.definitions.queue_limits.items() if name in queues}
    definitions = whole.definitions.model_copy(update={"queue_limits": limits})
    part = whole.model_copy(update={"deployments": chosen, "definitions": definitions})
    wait_for_server(60.0)
    deploy([part.in_one_pool("trials")], variables=default_variables(config.load()), directory=working_directory())
