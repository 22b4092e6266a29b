"""`beamline watch`: wait in the place of all suspended runs."""

from __future__ import annotations

import json
import logging
import threading
from contextlib import closing
from pathlib import Path

import click

from orchestration import config
from orchestration.flows.main import use_environment
from orchestration.flows.services import Services
from orchestration.flows.watching import Watcher
from orchestration.ledger import Ledger
from orchestration.signals import on_stop

_LINES = "%(asctime)s %(levelname)s %(message)s"


@click.command(short_help="Wait in the place of suspended runs.")
@click.option("--ready-file", type=click.Path(path_type=Path), help="A file to make once it watches.")
@click.option("--verbose", is_flag=True, help="Tell of each question to a service, too.")
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object at the end.")
def watch(ready_file: Path | None, *, verbose: bool, as_json: bool) -> None:
    """Wait for what suspended runs wait for, and let each go on when that has ended. Runs until it is told to stop.

    A run of a deployment that has waited for some minutes gives its process up if such a watcher lives. One is enough;
    several share the work, and one takes over from another that dies.
    """
    use_environment()
    settings = config.load()
    stop = threading.Event()
    on_stop(stop.set)
    _log_to_terminal(logging.DEBUG if verbose else logging.INFO)

    def began() -> None:
        click.echo("watching", err=True)
        if ready_file is not None:
            ready_file.touch()

    with (
        closing(Services(settings)) as services,
        Ledger.of(settings) as ledger,
    ):
        watcher = Watcher(ledger, services, began=began)
        watcher.run(stop)
    if as_json:
        click.echo(json.dumps({"resumed": watcher.resumed}))


def _log_to_terminal(level: int) -> None:
    own = logging.getLogger("orchestration")
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter(_LINES))
    own.addHandler(handler)
    own.propagate = False  # Prefect would write the same a second time
    own.setLevel(level)
