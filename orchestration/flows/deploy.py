"""Makes pools, queues, variables and deployments: ``python -m orchestration.flows.deploy [beamline ...]``.

Run again, it changes nothing and says so.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import click

from orchestration import config
from orchestration.errors import OrchestrationError, ServiceUnavailable
from orchestration.flows import catalogue
from orchestration.flows.catalogue import Catalogue
from orchestration.flows.deployments import ensure_deployment, load_flow
from orchestration.flows.main import use_environment
from orchestration.flows.provision import Change, Effect, ensure_automation, ensure_pool, ensure_queues, ensure_variable
from orchestration.flows.server import api_url, prefect_server
from orchestration.ledger.service import Document

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
    done: list[Change] = []

    def note(change: Change) -> None:
        done.append(change)
        tell(change)

    with prefect_server() as client:
        for name, value in variables.items():
            note(ensure_variable(client, name, value))
        for item in chosen:
            for pool in item.pools:
                note(ensure_pool(client, pool))
            for change in ensure_queues(client, item):
                note(change)
        for spec, flow in flows:
            note(ensure_deployment(client, spec, flow, directory=directory))
        note(ensure_automation(client))
    return done


def wait_for_server(seconds: float) -> None:
    """Return when the server answers.

    Raises:
        ServiceUnavailable: if it does not in that time.
    """
    until = time.monotonic() + seconds
    pause = threading.Event()
    while True:
        with prefect_server() as client:
            if client.api_healthcheck() is None:
                return
        if time.monotonic() > until:
            raise ServiceUnavailable(
                f"the Prefect server did not answer within {seconds:.0f} s",
                where=api_url(),
                next_step="start it (`prefect server start`, or `beamline sandbox up`), or correct PREFECT_API_URL",
            )
        pause.wait(0.2)


def working_directory() -> Path:
    """Where runs start: the checkout, or with an installed package the folder of config.yml."""
    return SOURCES if (SOURCES / "pyproject.toml").is_file() else config.locate().resolve().parent


def default_variables(settings: config.Settings) -> dict[str, Document]:
    """The variables that operators change, with their defaults."""
    document: dict[str, Document] = settings.prefect.variables.model_dump(mode="json", by_alias=True)
    return document


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
