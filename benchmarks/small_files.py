"""Directories of very many small files: carried, verified and registered, beside what rsync needs for the same.

``python benchmarks/small_files.py --files 100000 --json`` makes a folder of files of 20 kB below ``--folder``, and
carries it to another place on the same disk, alternately by

* this service: a scan is registered, the folder is copied by `local.transfer` (each file durable, read back from the
  disk and compared by SHA-256), and both copies are written to the ledger with size and checksum of every file. A whole
  process with its start, without Prefect's; with the memory of those that it starts;
* rsync: ``rsync -a``, ``sync``, and ``rsync -ac``, which reads both sides and compares their checksums.

With ``--flow`` it is `new_files_flow` as a worker runs it, with Prefect's stages, for a beamline of its own; a Prefect
server is started for that, whose memory does not count.

It ends with 1 if this service takes more than twice as long, or more than 300 MB.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click

MEGABYTES, RATIO = 300.0, 0.5
PER_FOLDER = 1000


@dataclass(frozen=True, kw_only=True)
class Report:
    files: int
    bytes: int
    ours_seconds: float
    rsync_seconds: float | None
    ratio: float | None
    """Our files per second to those of rsync."""
    peak_mb: float

    @property
    def met(self) -> bool:
        return self.peak_mb <= MEGABYTES and (self.ratio is None or self.ratio >= RATIO)


def make(folder: Path, files: int, size: int) -> None:
    content = bytes(range(256)) * (size // 256 + 1)
    for number in range(files):
        file = folder / f"{number // PER_FOLDER:04}" / f"frame_{number:06}.dat"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(number.to_bytes(8, "big") + content[: size - 8])


def carry(folder: Path, state: Path) -> None:
    """As a flow does, without Prefect."""
    from orchestration.config import Settings
    from orchestration.flows.copying import Dataset, copy, record_source
    from orchestration.flows.services import Services
    from orchestration.flows.suspending import Suspension
    from orchestration.flows.work import Work
    from orchestration.ledger import Ledger
    from orchestration.ledger.copy import RAW
    from orchestration.ledger.database import migrate
    from orchestration.ledger.owner import Owner
    from orchestration.ledger.perform import Outcome, perform
    from orchestration.local.transfer import LocalTransfer
    from orchestration.paths import RelativePath

    class Bench(Work):
        def _stage(self, operation: Any, service: Any, *_: object, redo: bool) -> Outcome:
            return perform(self.ledger, operation, service, run_id=self.run_id, redo=redo)

    places = {name: {"root_path": f"/{name}", "mount": str(folder / name)} for name in ("source", "ours")}
    settings = Settings.model_validate({"globus": {"globus_endpoints": places}})
    url = f"sqlite:///{state / 'ledger.sqlite'}"
    migrate(url)
    with Ledger(url) as ledger:
        services = Services(settings)
        vars(services).update(local_transfer=LocalTransfer(state=state))
        ledger.runs.begin(run_id="benchmark", flow="benchmark", parameters={}, owner=Owner.here())
        suspension = Suspension(ledger, "benchmark", None, 300.0)
        work = Bench(settings, ledger, services, "benchmark", logging.getLogger("benchmark"), suspension)
        scan = ledger.scans.register(beamline="bench", path=RelativePath("series"), fingerprint="1")
        source, destination = settings.endpoint("source"), settings.endpoint("ours")
        (made,) = copy(work, scan, [Dataset(name=RAW, path=scan.path)], source=source, destination=destination)
        record_source(work, scan, made, source=source, path=scan.path)
        known = ledger.copies.of_scan(scan.id)
        if {each.files for each in known} != {made.files} or not all(row.checksum for row in known[0].manifest):
            raise SystemExit("the ledger does not have all files")


def carry_in_flow(folder: Path, state: Path) -> None:
    """The real flow."""
    from orchestration.ledger import Ledger
    from orchestration.ledger.database import migrate

    places = {name: {"root_path": f"/{name}", "mount": str(folder / name)} for name in ("source", "ours")}
    beamline = {"acquisition": "source", "server": "ours", "raw": "ours", "scratch": "ours", "sites": []}
    url = f"sqlite:///{state / 'ledger.sqlite'}"
    document = {
        "globus": {"globus_endpoints": places},
        "beamlines": {"bench": beamline},
        "ledger": {"url": url},
        "transfer": {"batch_seconds": 0.0},
    }
    (state / "config.yml").write_text(json.dumps(document))
    os.environ |= {"BEAMLINE_CONFIG": str(state / "config.yml"), "BEAMLINE_STATE": str(state)}
    migrate(url)

    from orchestration.flows.bl832.arrivals import new_files_flow

    new_files_flow(file_paths=["series"], beamline="bench", send_to_nersc=False)
    with Ledger(url) as ledger:
        (scan,) = ledger.scans.latest(limit=2)
        known = ledger.copies.of_scan(scan.id)
        if len(known) != 2 or not all(row.checksum for copy in known for row in copy.manifest):
            raise SystemExit("the ledger does not have all files at both places")


def ours(folder: Path, *, in_flow: bool) -> tuple[float, float]:
    """Seconds, and peak memory in MB."""
    with tempfile.TemporaryDirectory(dir=folder) as state:
        began = time.monotonic()
        command = [sys.executable, __file__, "--carry", str(folder), "--state", state, *(["--flow"] if in_flow else [])]
        peak = 0.0
        with subprocess.Popen(command) as process:
            while process.poll() is None:
                peak = max(peak, memory_of(process.pid))
                time.sleep(0.1)
        seconds = time.monotonic() - began
        if process.returncode:
            raise SystemExit(f"carrying ended with {process.returncode}")
    shutil.rmtree(folder / "ours")
    return seconds, peak


def memory_of(process: int) -> float:
    """The most that it had until now, in MB, or what it and its children have now."""
    words, own = described(process)
    now = float(own.get("VmRSS", "0").split()[0])
    for child in (int(each.name) for each in Path("/proc").glob("[0-9]*")):
        called, facts = described(child)
        # One that is about to become another program still has the memory of its parent.
        if facts.get("PPid", "").strip() == str(process) and called != words:
            now += float(facts.get("VmRSS", "0").split()[0])
    return max(now, float(own.get("VmHWM", "0").split()[0])) / 1024


def described(process: int) -> tuple[bytes, dict[str, str]]:
    """Its command line, and what Linux tells of it; nothing if it has ended."""
    with suppress(FileNotFoundError, ProcessLookupError):
        folder = Path(f"/proc/{process}")
        lines = (folder / "status").read_text().splitlines()
        return (folder / "cmdline").read_bytes(), dict(line.split(":", 1) for line in lines)
    return b"", {}


@contextmanager
def prefect_server(*, needed: bool) -> Iterator[None]:
    """One for the processes that are measured."""
    if not needed:
        yield
        return
    from prefect.settings import PREFECT_API_URL
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=300):
        os.environ["PREFECT_API_URL"] = str(PREFECT_API_URL.value())
        yield


def rsync(folder: Path) -> float:
    began = time.monotonic()
    paths = [f"{folder / 'source'}/", f"{folder / 'rsync'}/"]
    subprocess.run(["rsync", "-a", *paths], check=True)
    subprocess.run(["sync", "-f", str(folder)], check=True)
    subprocess.run(["rsync", "-ac", *paths], check=True)
    seconds = time.monotonic() - began
    shutil.rmtree(folder / "rsync")
    return seconds


def measure(folder: Path, *, files: int, size: int, repeats: int, in_flow: bool) -> Report:
    make(folder / "source" / "series", files, size)
    (folder / "ours").mkdir()
    peer = shutil.which("rsync")
    mine: list[float] = []
    theirs: list[float] = []
    peaks: list[float] = []
    for _ in range(repeats):
        subprocess.run(["sync"], check=True)
        (folder / "ours").mkdir(exist_ok=True)
        seconds, peak = ours(folder, in_flow=in_flow)
        mine.append(seconds)
        peaks.append(peak)
        if peer is not None:
            subprocess.run(["sync"], check=True)
            theirs.append(rsync(folder))
    seconds = statistics.median(mine)
    other = statistics.median(theirs) if theirs else None
    return Report(
        files=files,
        bytes=files * size,
        ours_seconds=round(seconds, 2),
        rsync_seconds=None if other is None else round(other, 2),
        ratio=None if other is None else round(other / seconds, 2),
        peak_mb=round(max(peaks), 1),
    )


@click.command
@click.option("--files", default=100_000, show_default=True)
@click.option("--size", default=20_000, show_default=True, help="Bytes of each.")
@click.option("--repeats", default=3, show_default=True)
@click.option("--folder", type=click.Path(path_type=Path, file_okay=False), help="On the disk to measure.")
@click.option("--flow", "in_flow", is_flag=True, help="In the real flow, with Prefect.")
@click.option("--json", "as_json", is_flag=True)
@click.option("--carry", "carried", type=click.Path(path_type=Path), hidden=True)
@click.option("--state", type=click.Path(path_type=Path), hidden=True)
def main(
    files: int,
    size: int,
    repeats: int,
    folder: Path | None,
    *,
    in_flow: bool,
    as_json: bool,
    carried: Path | None,
    state: Path | None,
) -> None:
    if carried is not None and state is not None:
        (carry_in_flow if in_flow else carry)(carried, state)
        return
    with tempfile.TemporaryDirectory(dir=folder) as place, prefect_server(needed=in_flow):
        report = measure(Path(place), files=files, size=size, repeats=repeats, in_flow=in_flow)
    if as_json:
        click.echo(json.dumps(asdict(report)))
    else:
        peer = "no rsync here" if report.rsync_seconds is None else f"rsync {report.rsync_seconds} s ({report.ratio} x)"
        click.echo(f"{files} files of {size} bytes: {report.ours_seconds} s, {report.peak_mb} MB; {peer}")
    sys.exit(0 if report.met else 1)


if __name__ == "__main__":
    main()
