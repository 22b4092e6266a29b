"""Do the Globus Compute endpoints of the compute sites work? Asks each, and runs a job of a moment there.

    python scripts/check_globus_compute.py [SITE ...] [--no-run]

Sites are names in config.yml; all of kind globus_compute if none is given. Ends with 1 if one does not work.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import nullcontext

import click

from orchestration import config
from orchestration.config import GlobusComputeSite, Settings
from orchestration.doctor.check import Check, Health
from orchestration.doctor.compute import site_check
from orchestration.doctor.once import trials
from orchestration.errors import ConfigError, OrchestrationError


@click.command(help=__doc__)
@click.argument("names", nargs=-1, metavar="[SITE ...]")
@click.option("--run/--no-run", default=True, show_default=True, help="Also run a job that does nothing.")
def main(names: tuple[str, ...], *, run: bool) -> None:
    config.load_environment()
    try:
        settings = config.load()
        with trials() if run else nullcontext() as ledger:
            found = [site_check(settings, site, ledger=ledger) for site in _sites(settings, names)]
    except OrchestrationError as error:
        raise click.ClickException(error.sentence) from error
    for check in found:
        for line in _lines(check):
            click.echo(line)
    sys.exit(1 if any(check.worst is not Health.WORKS for check in found) else 0)


def _sites(settings: Settings, names: tuple[str, ...]) -> list[GlobusComputeSite]:
    wanted = [settings.site(name) for name in names] or list(settings.compute_sites.values())
    sites = [site for site in wanted if isinstance(site, GlobusComputeSite)]
    if not sites or (names and len(sites) < len(wanted)):
        raise ConfigError(
            "not of kind globus_compute" if names else "no compute site is of kind globus_compute",
            where="compute_sites",
            next_step="name one that is, or add one",
        )
    return sites


def _lines(check: Check, indent: str = "") -> Iterator[str]:
    sign = "ok" if check.worst is Health.WORKS else "!!"
    yield f"{indent}{sign} {check.what}{f': {check.note}' if check.note else ''}"
    if check.remedy and check.health is not Health.WORKS:
        yield f"{indent}   next: {check.remedy}"
    for part in check.parts:
        yield from _lines(part, f"{indent}  ")


if __name__ == "__main__":
    main()
