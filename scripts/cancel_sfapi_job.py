#!/usr/bin/env python3
"""Cancel jobs at NERSC, by the Superfacility API: some by their numbers, or those of this service.

    python scripts/cancel_sfapi_job.py                  list the jobs of this service that wait or run
    python scripts/cancel_sfapi_job.py 31234567 ...     cancel these, whoever of this account submitted them
    python scripts/cancel_sfapi_job.py --ours           cancel all jobs of this service
    python scripts/cancel_sfapi_job.py --ours=0a1b      cancel those of them whose key begins so

What will be cancelled is shown, and asked about, unless --yes is given. Jobs of other accounts are never touched. A run
that waits for a job of this service ends as cancelled; to end the run itself, `beamline cancel` is the better way.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from orchestration import config
from orchestration.config import NerscSite
from orchestration.errors import OrchestrationError, UnknownName
from orchestration.ledger.service import CancelAnswer
from orchestration.nersc.jobs import NerscJobs
from orchestration.nersc.rows import Row
from orchestration.nersc.script import token_of
from orchestration.nersc.states import note

_GOOD = (CancelAnswer.CANCELLED, CancelAnswer.ALREADY_FINISHED)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("jobs", nargs="*", metavar="NUMBER", help="of a job at Slurm")
    parser.add_argument("--ours", nargs="?", const="", metavar="KEY", help="those of this service, by how a key begins")
    parser.add_argument("--site", default="", help="in config.yml, if there are several machines of kind nersc")
    parser.add_argument("--config", type=Path, help="config.yml, if it is not found by itself")
    parser.add_argument("--yes", action="store_true", help="do not ask")
    asked = parser.parse_args()
    try:
        jobs = NerscJobs(site=_site(asked.site, asked.config), credentials=config.credentials())
        mine = jobs.mine()
        if not asked.jobs and asked.ours is None:
            return _show([row for row in mine if token_of(row.name) is not None], "")
        chosen = _chosen(mine, asked.jobs, asked.ours)
        _show(chosen, "to be cancelled")
        if not chosen or not (asked.yes or _agreed()):
            return 0
        answers = {row.id: jobs.cancel_number(row.id) for row in chosen}
    except OrchestrationError as error:
        print(error, file=sys.stderr)
        return 1
    for number, answer in answers.items():
        print(f"{number}: {answer.value}")
    return 0 if all(answer in _GOOD for answer in answers.values()) else 1


def _site(name: str, path: Path | None) -> NerscSite:
    settings = config.load(path)
    found = {key: site for key, site in settings.compute_sites.items() if isinstance(site, NerscSite)}
    if name in found:
        return found[name]
    machines = {(site.api_url, site.machine) for site in found.values()}
    if not name and len(machines) == 1:
        return next(iter(found.values()))  # all of them see the same jobs
    raise UnknownName(
        f"there is no site {name!r} of kind nersc" if name else "sites of kind nersc are not one machine",
        where="compute_sites of config.yml",
        next_step=f"name one with --site: {', '.join(found) or 'but none is configured'}",
    )


def _chosen(mine: list[Row], numbers: list[str], key: str | None) -> list[Row]:
    unknown = sorted(set(numbers) - {row.id for row in mine})
    if unknown:
        raise UnknownName(
            f"no job {', '.join(unknown)} of this account waits or runs",
            next_step="run this without arguments to see those of this service",
        )
    by_key = [row for row in mine if key is not None and (token_of(row.name) or "\n").startswith(key)]
    ours = [row for row in by_key if token_of(row.name) is not None]
    return [row for row in mine if row.id in numbers or row in ours]


def _show(rows: list[Row], what: str) -> int:
    for row in rows:
        print(f"{row.id}  {row.name}  {note(row.state, row.reason)}")
    print(f"{len(rows)} job{'' if len(rows) == 1 else 's'} {what}".rstrip())
    return 0


def _agreed() -> bool:
    try:
        return input("Cancel? [y/N] ").strip().lower() in ("y", "yes")
    except EOFError:
        print("not asked, as nobody can answer here; --yes cancels without asking")
        return False


if __name__ == "__main__":
    sys.exit(main())
