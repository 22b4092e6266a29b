"""`beamline doctor`: what works, what does not, and what to do about it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from functools import partial

import click
from rich.text import Text

from orchestration import config
from orchestration.commands import page
from orchestration.config import Settings
from orchestration.doctor import compute, data, mail, search, service, xpcs
from orchestration.doctor.check import Check, Health, Look, Shared, together
from orchestration.doctor.once import trials
from orchestration.flows import catalogue
from orchestration.flows.main import use_environment
from orchestration.ledger import Ledger

STYLES = {Health.WORKS: "green", Health.UNUSED: "dim", Health.DOUBTFUL: "yellow", Health.BROKEN: "bold red"}
SIGNS = {Health.WORKS: "ok", Health.UNUSED: "--", Health.DOUBTFUL: "?", Health.BROKEN: "!!"}
SECONDS = 300.0
"""For all of it; each part gives up much earlier."""
WRITING_SECONDS = 600.0
"""With jobs that wait for their turn, and are cancelled if it does not come."""
PART = 0.9
"""Of that time for what is made of other parts, so that it can still say which of them did not answer."""


@click.command()
@click.option(
    "--write",
    is_flag=True,
    help="Also make and delete a folder at every endpoint and an entry in every index, and run a job at each site.",
)
@click.option("--only", multiple=True, metavar="PART", help="Only this part: settings, ledger, Prefect, Globus, ...")
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object.")
def doctor(*, write: bool, only: Sequence[str], as_json: bool) -> None:
    """Look at everything that a scan needs on its way, and say how each part is.

    Ends with 1 if anything is broken. Nothing is changed without --write.
    """
    use_environment()
    settings = config.load()
    with trials() if write else nullcontext() as ledger:
        looks = _looks(settings, ledger)
        wanted = {name.lower() for name in only}
        if unknown := wanted - {what.lower() for what, _ in looks}:
            names = ", ".join(what for what, _ in looks)
            raise click.BadParameter(f"there is no part {' or '.join(sorted(unknown))}; there are: {names}")
        chosen = [look for look in looks if not wanted or look[0].lower() in wanted]
        found = together(chosen, seconds=WRITING_SECONDS if write else SECONDS)
    broken = any(check.worst is Health.BROKEN for check in found)
    if as_json:
        click.echo(json.dumps({"ok": not broken, "checks": [check.document() for check in found]}, indent=2))
    else:
        _show(found)
    raise SystemExit(1 if broken else 0)


def _looks(settings: Settings, ledger: Ledger | None) -> list[tuple[str, Look]]:
    beamlines = tuple(name for name in settings.beamlines if name in catalogue.beamlines())
    sites = {
        site.name: Shared(partial(compute.site_check, settings, site, ledger=ledger))
        for site in settings.compute_sites.values()
    }
    indexes = {
        index.name: Shared(partial(search.index_check, index, ledger=ledger))
        for index in settings.search.indexes.values()
    }
    looks: list[tuple[str, Look]] = [
        ("settings", partial(service.settings_check, settings)),
        ("ledger", partial(service.ledger_check, settings)),
        ("Prefect", partial(service.prefect_check, settings, beamlines)),
        ("Globus", partial(data.globus_check, settings, ledger=ledger)),
        ("disks", partial(data.disks_check, settings)),
        ("SciCat", partial(data.catalogue_check, settings)),
        ("mail", partial(mail.mail_check, settings)),
        *((f"site {name}", look) for name, look in sites.items()),
        *((f"index {name}", look) for name, look in indexes.items()),
    ]
    if settings.xpcs.deployments:
        seconds = SECONDS if ledger is None else WRITING_SECONDS
        deployments = partial(xpcs.deployments_check, settings, sites=sites, indexes=indexes)
        looks.append(("XPCS", partial(deployments, seconds=PART * seconds)))
    return looks


def _show(found: Sequence[Check]) -> None:
    console = page.terminal()
    for check in found:
        page.write(console, [*_branch(check, "", "")])
    if not sum(_count(check) for check in found):
        page.write(console, [Text("everything that was looked at works", style="green")])


def _branch(check: Check, first: str, others: str) -> Iterator[Text]:
    """The lines of a check and its parts; `first` is drawn before the first of them, `others` before the rest."""
    line = Text(first)
    line.append(f"{SIGNS[check.worst]:2} ", style=STYLES[check.worst])
    line.append(check.what, style=page.HEAD)
    yield line.append(f"  {check.note}") if check.note else line
    if check.remedy and check.health is not Health.WORKS:
        yield Text(f"{others}{'│' if check.parts else ' '}  next: {check.remedy}")
    for part in check.parts:
        last = part is check.parts[-1]
        yield from _branch(part, f"{others}{'└─ ' if last else '├─ '}", f"{others}{'   ' if last else '│  '}")


def _count(check: Check) -> int:
    """Of what does not work."""
    return (check.health is not Health.WORKS) + sum(_count(part) for part in check.parts)
