"""The nightly sweep over a ledger of very many copies: how long its decisions take, and how much memory.

``python benchmarks/retention.py --copies 1000000 --json`` makes a ledger of scans with three copies each (or fills the
database that ``--url`` names), as a year of a busy beamline leaves it when nothing was deleted for a month: a sixth of
the copies is due, some scans are held, some copies have no witness. It then decides, in a process of its own, what
`sweep_deletions` would try to delete. It ends with 1 if that takes more than 60 s or 500 MB.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
from sqlalchemy import Connection, Table, create_engine, insert, text

from orchestration.config import Settings
from orchestration.flows.nightly import known
from orchestration.ledger import Ledger, tables
from orchestration.ledger.copy import CopyState, Role
from orchestration.ledger.database import migrate
from orchestration.ledger.manifests import FileEvidence, keep
from orchestration.ledger.scan import scan_identity
from orchestration.paths import RelativePath
from orchestration.retention import Finding, survey

SECONDS, MEGABYTES = 60.0, 500.0

DAY = 24 * 3600.0
ENDPOINTS = ("detector", "server", "archive")
KEPT = {"detector": DAY, "server": 35 * DAY}
_ROWS = 20_000


@dataclass(frozen=True, kw_only=True)
class Report:
    copies: int
    sweep_seconds: float
    peak_mb: float
    due: int
    held: int
    unproven: int
    database: str

    @property
    def met(self) -> bool:
        return self.sweep_seconds <= SECONDS and self.peak_mb <= MEGABYTES


def settings() -> Settings:
    endpoints = {name: {"root_path": f"/{name}", "mount": f"/nowhere/{name}"} for name in ENDPOINTS}
    rules = {
        "detector": {"after_days": 1, "requires": {"any_of": ["server", "archive"]}},
        "server": {"after_days": 35, "requires": {"any_of": ["archive"]}},
    }
    return Settings.model_validate({"globus": {"globus_endpoints": endpoints}, "retention": rules})


def fill(url: str, copies: int) -> None:
    """Each scan has a copy at every endpoint; of every 50th the archive's is missing, each 200th is held."""
    migrate(url)
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    now, count = time.time(), copies // len(ENDPOINTS)
    with engine.begin() as connection:
        manifest = keep(connection, [FileEvidence(path="", size=10**9, checksum="md5:" + "0" * 32)])
        _add(connection, tables.scans, (_scan(number, now) for number in range(count)))
        _add(connection, tables.copies, _copies(count, now, manifest))
        _add(connection, tables.holds, (_hold(number, now) for number in range(0, count, 200)))
        if connection.dialect.name == "postgresql":
            connection.execute(text("analyze"))  # as its autovacuum does in time
    engine.dispose()


def _add(connection: Connection, table: Table, rows: Iterator[Mapping[str, Any]]) -> None:
    some: list[Mapping[str, Any]] = []
    for row in rows:
        some.append(row)
        if len(some) == _ROWS:
            connection.execute(insert(table), some)
            some = []
    if some:
        connection.execute(insert(table), some)


def _path(number: int) -> RelativePath:
    return RelativePath(f"raw/proposal-{number // 1000}/20260101_{number:08}_sample.h5")


def _scan(number: int, now: float) -> Mapping[str, Any]:
    path = _path(number)
    return {
        "id": scan_identity("bench", path),
        "beamline": "bench",
        "path": path.text,
        "fingerprint": f"{10**9}:{number}",
        "export_controlled": False,
        "facts": {},
        "registered_at": now - 40 * DAY,
    }


def _copies(count: int, now: float, manifest: str) -> Iterator[Mapping[str, Any]]:
    for number in range(count):
        path = _path(number)
        for endpoint in ENDPOINTS:
            if endpoint == "archive" and number % 50 == 0:
                continue
            age = (number % 70) * DAY
            yield {
                "scan_id": scan_identity("bench", path),
                "dataset": "raw",
                "endpoint": endpoint,
                "path": path.text,
                "version": f"{10**9}:{number}",
                "role": Role.ORIGINAL if endpoint == "detector" else Role.REPLICA,
                "state": CopyState.DELETED if endpoint == "detector" and age > 2 * DAY else CopyState.PRESENT,
                "generation": 1,
                "size": 10**9,
                "files": 1,
                "manifest": manifest,
                "method": "globus.transfer",
                "verified_at": now - age,
                "delete_after": now - age + KEPT[endpoint] if endpoint in KEPT else None,
            }


def _hold(number: int, now: float) -> Mapping[str, Any]:
    scan = scan_identity("bench", _path(number))
    return {"scan_id": scan, "why": "paper", "who": "ada", "placed_at": now, "until": None}


def sweep(url: str, copies: int) -> Report:
    began = time.monotonic()
    found: Counter[Finding] = Counter()
    due: dict[str, list[int]] = {}
    with Ledger(url) as ledger:
        before = ledger.now()
        for decision in survey(
            ledger.due.scans(before),
            settings=settings(),
            days=lambda rule: rule.after_days,
            known=known(ledger, catalogue=False),
            before=before,
        ):
            found[decision.finding] += 1
            if decision.finding is Finding.DUE:
                due.setdefault(decision.row.endpoint, []).append(decision.row.id)
    return Report(
        copies=copies,
        sweep_seconds=round(time.monotonic() - began, 2),
        peak_mb=round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        due=found[Finding.DUE],
        held=found[Finding.HELD],
        unproven=found[Finding.UNPROVEN],
        database=url.partition(":")[0],
    )


@click.command
@click.option("--copies", default=1_000_000, show_default=True)
@click.option("--url", help="Empty database to fill instead of a SQLite file, such as a PostgreSQL of your own.")
@click.option("--json", "as_json", is_flag=True)
@click.option("--filled", is_flag=True, hidden=True)
def main(copies: int, url: str | None, *, as_json: bool, filled: bool) -> None:
    if filled:
        click.echo(json.dumps(asdict(sweep(str(url), copies))))
        return
    with tempfile.TemporaryDirectory() as folder:
        database = url or f"sqlite:///{Path(folder) / 'ledger.sqlite'}"
        fill(database, copies)
        report = Report(**json.loads(_apart(["--filled", "--copies", str(copies), "--url", database])))
    click.echo(json.dumps(asdict(report)) if as_json else _told(report))
    sys.exit(0 if report.met else 1)


def _apart(arguments: Sequence[str]) -> str:
    """In a process of its own, so that the memory is that of the sweep."""
    done = subprocess.run([sys.executable, __file__, *arguments], check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout


def _told(report: Report) -> str:
    found = f"{report.due} due, {report.held} held, {report.unproven} unproven"
    return f"{report.copies} copies ({report.database}): {report.sweep_seconds} s, {report.peak_mb} MB; {found}"


if __name__ == "__main__":
    main()
