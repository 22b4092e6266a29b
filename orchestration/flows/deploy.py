"""Makes pools, queues, variables and deployments: ``python -m orchestration.flows.deploy [beamline ...]``.

Run again, it changes nothing and says so.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TypeAlias

import click
from prefect.client.orchestration import SyncPrefectClient

from orchestration import config
from orchestration.errors import OrchestrationError, ServiceUnavailable
from orchestration.flows import catalogue
from orchestration.flows.catalogue import Catalogue
from orchestration.flows.deployments import ensure_deployment, load_flow
from orchestration.flows.main import use_environment
from orchestration.flows.provision import (
    Change,
    Effect,
    Queue,
    ensure_automation,
    ensure_pool,
    ensure_queue,
    ensure_variable,
)
from orchestration.flows.server import api_url, insist, prefect_server
from orchestration.ledger.service import Document

Step: TypeAlias = Callable[[SyncPrefectClient], Change]

PATIENCE = 60.0
"""Seconds for which a step is repeated while the server does not answer. Every step looks before it makes anything."""

SOURCES = Path(__file__).resolve().parents[2]
"""The folder that holds the package: the checkout, or site-packages."""


def deploy(
    catalogues: Iterable[Catalogue],
    *,
    variables: dict[str, Document],
    directory: Path,
    tell: Callable[[Change], object] = lambda change: None,
) -> Sequence[Change]:
    """Bring the server to what the catalogues say; `tell` hears of every step as it is done.

    Raises:
        ConfigError: if a catalogue names a flow that does not exist; nothing was changed then.
        ServiceUnavailable: if the server went away; run again, it carries on from there.
    """
    chosen = list(catalogues)
    flows = [(spec, load_flow(spec)) for item in chosen for spec in item.deployments]
    steps: list[Step] = [partial(ensure_variable, name=name, value=value) for name, value in variables.items()]
    steps += [partial(ensure_pool, name=pool) for item in chosen for pool in item.pools]
    steps += [partial(ensure_queue, queue=queue) for item in chosen for queue in _queues(item)]
    steps += [partial(ensure_deployment, spec=spec, flow=flow, directory=directory) for spec, flow in flows]
    done = []
    for step in [*steps, ensure_automation]:
        done.append(insist(partial(_take, step), seconds=PATIENCE))
        tell(done[-1])
    return done


def _take(step: Step) -> Change:
    with prefect_server() as client:
        return step(client)


def _queues(item: Catalogue) -> Iterator[Queue]:
    for pool, names in item.pools.items():
        for name in names:
            yield Queue(pool=pool, name=name, limit=item.definitions.queue_limits.get(name))


def wait_for_server(seconds: float) -> None:
    """Return when the server answers.

    Raises:
        ServiceUnavailable: if it does not in that time.
    """

    def ask() -> None:
        with prefect_server() as client:
            client.request("GET", "/health")

    try:
        insist(ask, seconds=seconds)
    except ServiceUnavailable as silence:
        raise ServiceUnavailable(
            f"the Prefect server did not answer within {seconds:.0f} s",
            where=api_url(),
            next_step="start it (`prefect server start`, or `beamline sandbox up`), or correct PREFECT_API_URL",
        ) from silence


def working_directory() -> Path:
    """Where runs start: the checkout, or with an installed package the folder of config.yml."""
    return SOURCES if (SOURCES / "pyproject.toml").is_file() else config.locate().resolve().parent


def default_variables(settings: config.Settings) -> dict[str, Document]:
    """The variables that operators change, with their defaults."""
    return {name: dict(value) for name, value in settings.prefect.variables.documents().items()}


@click.command()
@click.argument("beamlines", nargs=-1)
@click.option("--file", "files", multiple=True, type=click.Path(path_type=Path), help="A prefect.yaml of your own.")
@click.option("--pool", default="", help="Put every deployment into this one pool, so that one worker serves all.")
@click.option("--wait", default=180.0, show_default=True, help="Seconds to wait for the server.")
@click.option("--quiet", is_flag=True, help="Say only what was changed.")
def main(beamlines: tuple[str, ...], files: tuple[Path, ...], pool: str, wait: float, *, quiet: bool) -> None:
    """Make the Prefect deployments of BEAMLINES (all, if none is named)."""
    began = time.monotonic()

    def tell(change: Change) -> None:
        if not quiet or change.effect is not Effect.UNCHANGED:
            click.echo(str(change))

    try:
        use_environment()
        settings = config.load()
        names = beamlines or (() if files else catalogue.beamlines())
        chosen = [*(catalogue.of_beamline(name) for name in names), *(catalogue.load(file) for file in files)]
        if pool:
            chosen = [item.in_one_pool(pool) for item in chosen]
        wait_for_server(wait)
        done = deploy(chosen, variables=default_variables(settings), directory=working_directory(), tell=tell)
    except OrchestrationError as error:
        raise click.ClickException(str(error)) from error
    changed = sum(1 for change in done if change.effect in {Effect.CREATED, Effect.CHANGED})
    summary = f"{changed} made or changed" if changed else "nothing to change"
    click.echo(f"{summary}, {len(done)} checked in {time.monotonic() - began:.1f} s at {api_url()}")


if __name__ == "__main__":
    main()
