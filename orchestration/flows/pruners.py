"""The flows in which deletions run: one for each endpoint that has its own, and two for all others.

What is scheduled acts when its time has come. A person who starts one of them is told what it would do, and has to say
that it shall be done.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from prefect import Flow, flow
from prefect.runtime import flow_run

from orchestration.config import Endpoint, Settings
from orchestration.errors import InvalidInput
from orchestration.flows.calendar import FILESYSTEM_FLOW, GLOBUS_FLOW
from orchestration.flows.cancelling import say_cancelled
from orchestration.flows.pruning import prune
from orchestration.flows.pruning_together import prune_together, rehearse_together
from orchestration.flows.rehearsing import rehearse
from orchestration.flows.work import working
from orchestration.ledger.service import Document
from orchestration.paths import RelativePath

SWITCHES = {"dry_run": "--dry-run/--delete"}
"""What a terminal calls the parameter."""


def _title(name: str = "") -> str:
    """Of a run: what it deletes."""
    given = flow_run.parameters
    copies = given.get("copies")
    what = f"{len(copies)} copies" if copies else str(given.get("relative_path"))
    return f"{name or 'prune ' + str(given.get('source_endpoint'))}: {what}"


def prune_flow(endpoint_name: str) -> Flow[..., Document]:
    """The flow ``prune_<endpoint>``, in which the scheduled deletions of that endpoint run.

    It takes the path of the copy below the endpoint's root, and the generation for which it was scheduled. Without a
    generation it only tells what it would do, unless `dry_run` is false. Scheduled for many, it takes no path, and in
    `copies` the generation of each by its path.
    """
    name = f"prune_{endpoint_name}"

    def prune_endpoint(
        relative_path: str,
        generation: int | None = None,
        dry_run: bool | None = None,
        copies: dict[str, int] | None = None,
    ) -> Document:
        return run_prune(name, endpoint_name, relative_path, generation, dry_run=dry_run, copies=copies)

    def title() -> str:
        return _title(name)

    prune_endpoint.__name__ = name
    prune_endpoint.__doc__ = f"Delete a copy on {endpoint_name}, once another verified copy of it is proved."
    return flow(name=name, flow_run_name=title, on_failure=[say_cancelled])(prune_endpoint)


def run_prune(
    flow_name: str,
    endpoint_name: str,
    relative_path: str,
    generation: int | None,
    *,
    dry_run: bool | None = None,
    copies: Mapping[str, int] | None = None,
) -> Document:
    """The body of every flow that deletes; returns the proof of each copy that is gone now, or would be.

    If nothing is said of `dry_run`, it is one without a `generation`: then no calendar but a person has started it.
    """
    parameters: Document = {
        "source_endpoint": endpoint_name,
        "relative_path": relative_path,
        "generation": generation,
        "dry_run": dry_run,
        "copies": None if copies is None else {**copies},
    }
    with working(flow_name, parameters) as work:
        endpoint = work.settings.endpoint(endpoint_name)
        _demand_possible(flow_name, endpoint, work.settings)
        _demand_one_or_many(flow_name, relative_path, copies)
        by_hand = generation is None and copies is None
        if by_hand if dry_run is None else dry_run:
            work.logger.info("nothing is deleted: start it with dry_run=False, or --delete in a terminal, for that")
            if copies:
                return rehearse_together(work, endpoint, copies)
            return rehearse(work, endpoint, RelativePath.parse(relative_path), generation=generation)
        if copies:
            done = prune_together(work, endpoint, copies)
        else:
            done = prune(work, endpoint, RelativePath.parse(relative_path), generation=generation)
        work.logger.info("proof: %s", json.dumps(done))
        return done


def _demand_possible(flow_name: str, endpoint: Endpoint, settings: Settings) -> None:
    if endpoint.name in settings.archives:
        raise InvalidInput(
            f"{endpoint.name} is a tape archive, of which only whole objects can go",
            where=flow_name,
            next_step="start prune_hpss_endpoint for the bundle",
        )
    if flow_name == FILESYSTEM_FLOW and endpoint.uuid is not None:
        raise InvalidInput(
            f"{endpoint.name} is on a Globus collection",
            where=flow_name,
            next_step=f"start {GLOBUS_FLOW} for it, or prune_{endpoint.name} where there is one",
        )


def _demand_one_or_many(flow_name: str, relative_path: str, copies: Mapping[str, int] | None) -> None:
    if bool(relative_path) == bool(copies):
        raise InvalidInput(
            "it deletes either what is at one path or several copies",
            where=flow_name,
            next_step="give `relative_path`; or, with that empty, `copies`: the generation of each by its path",
        )


@flow(name=GLOBUS_FLOW, flow_run_name=_title, on_failure=[say_cancelled])
def prune_globus_endpoint(
    relative_path: str,
    source_endpoint: str,
    generation: int | None = None,
    dry_run: bool | None = None,
    copies: dict[str, int] | None = None,
) -> Document:
    """Delete a copy on any endpoint of config.yml, once another verified copy of it is proved.

    Which copies count is the endpoint's retention rule, not the caller's choice. A person is told what would be
    deleted, unless dry_run is false.
    """
    return run_prune(GLOBUS_FLOW, source_endpoint, relative_path, generation, dry_run=dry_run, copies=copies)


@flow(name=FILESYSTEM_FLOW, flow_run_name=_title, on_failure=[say_cancelled])
def prune_filesystem_endpoint(
    relative_path: str,
    source_endpoint: str,
    generation: int | None = None,
    dry_run: bool | None = None,
    copies: dict[str, int] | None = None,
) -> Document:
    """Delete a copy on an endpoint that is a directory of this machine, once another verified copy of it is proved.

    Which copies count is the endpoint's retention rule, not the caller's choice. A person is told what would be
    deleted, unless dry_run is false.
    """
    return run_prune(FILESYSTEM_FLOW, source_endpoint, relative_path, generation, dry_run=dry_run, copies=copies)
