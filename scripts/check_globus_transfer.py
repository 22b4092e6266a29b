"""Can this service read, write and delete at its Globus endpoints? Tries each, and leaves nothing behind.

    python scripts/check_globus_transfer.py [ENDPOINT ...] [--no-write]

Endpoints are names in config.yml; all that are on a collection if none is given. Ends with 1 if one cannot be used.
"""

from __future__ import annotations

import sys
from contextlib import nullcontext

import click

from orchestration import config
from orchestration.doctor.endpoint import EndpointCheck
from orchestration.doctor.once import trials
from orchestration.errors import ConfigError, OrchestrationError
from orchestration.globus.auth import TransferClients
from orchestration.ledger import Ledger


@click.command(help=__doc__)
@click.argument("names", nargs=-1, metavar="[ENDPOINT ...]")
@click.option("--write/--no-write", default=True, show_default=True, help="Also make a folder there, and delete it.")
def main(names: tuple[str, ...], *, write: bool) -> None:
    config.load_environment()
    try:
        settings = config.load()
        wanted = [settings.endpoint(name) for name in names] or [
            endpoint for endpoint in settings.endpoints.values() if endpoint.uuid is not None
        ]
        clients = TransferClients(config.credentials())
        with trials() if write else nullcontext() as ledger:
            failed = [each.name for each in wanted if not _works(EndpointCheck(clients, each), ledger)]
    except OrchestrationError as error:
        raise click.ClickException(error.sentence) from error
    click.echo(f"{len(wanted) - len(failed)} of {len(wanted)} endpoints can be used")
    sys.exit(1 if failed else 0)


def _works(check: EndpointCheck, ledger: Ledger | None) -> bool:
    name = check.endpoint.name
    try:
        seen = check.read()
        done = "not written to" if ledger is None else check.write_and_delete(ledger)
    except ConfigError:
        raise
    except OrchestrationError as error:
        click.echo(f"!! {name}: {error.sentence}")
        return False
    click.echo(f"ok {name}: {seen} can be read, {done}")
    return True


if __name__ == "__main__":
    main()
