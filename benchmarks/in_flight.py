"""How many jobs one host can have in flight: memory, requests, and the time until a run knows that its job has ended.

``python benchmarks/in_flight.py --jobs 1000 --json`` starts a sandbox with Prefect, a worker and a watcher, gives the
Superfacility API stand-in so many jobs, each of a suspended run of its own, and then lets some of them end. What is
measured is a watcher as it is shipped, asking through the unmodified sfapi-client, and real processes of resumed runs.
"""

from __future__ import annotations

import json
import os
import random
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import click
import in_flight_flow
import yaml
from prefect.client.schemas.objects import State
from prefect.states import Pending, Running, Suspended

from orchestration import config
from orchestration.flows.main import use_environment
from orchestration.flows.server import insist, prefect_server
from orchestration.flows.services import Services
from orchestration.ledger import Ledger
from orchestration.ledger.owner import Owner
from orchestration.ledger.perform import perform
from orchestration.ledger.runs import RunState
from orchestration.ledger.service import Document
from orchestration.ledger.waiting import Waiting
from orchestration.sandbox import processes
from orchestration.sandbox.client import SandboxClient
from orchestration.sandbox.faults import FaultKind
from orchestration.sandbox.supervisor import Supervisor
from orchestration.sandbox.testing_supervisor import running_sandbox
from orchestration.sandbox.trials.world import write_project

HERE = Path(__file__).parent
QUEUE_LIMIT = 4
"""Resumed runs that may have a process at the same time."""

STATUS_REQUESTS = "GET .*/compute/jobs"
MEMORY_TARGET = 2 * 1024**3
KNOWN_SECONDS = 2.0
KNOWN_SHARE = 0.03
"""From the end of a job to its run's knowing it, in 19 cases of 20: one of both, the second of the job's time."""
THREADS = 4


@dataclass(frozen=True, kw_only=True)
class Report:
    jobs: int
    peak_memory_bytes: int
    """Of the worker, the watcher and all processes of runs together."""
    watcher_peak_bytes: int
    watched_seconds: float
    polls: int
    """Rounds in which the watcher asked the site."""
    status_requests: int
    """That reached the site in that time."""
    requests_per_poll: float
    ended: int
    noticed_after_p50: float
    """Seconds from the end of a job at the site until Prefect was told to resume its run."""
    resumed_after_p50: float
    """Seconds from the end of a job at the site to the process of its run that has taken it up again."""
    resumed_after_p95: float
    elapsed_p50: float
    """Seconds from the submission of those jobs to their end."""
    share_p50: float
    kept: bool


@dataclass
class Memory:
    """Samples what our processes hold."""

    roots: dict[str, int]
    peak: int = 0
    peaks: dict[str, int] = field(default_factory=dict)

    def sample(self) -> None:
        children: dict[int, list[int]] = {}
        sizes: dict[int, int] = {}
        for entry in Path("/proc").iterdir():
            if not entry.name.isdecimal():
                continue
            try:
                status = (entry / "status").read_text()
            except OSError:
                continue
            parent = re.search(r"^PPid:\s+(\d+)", status, re.MULTILINE)
            size = re.search(r"^VmRSS:\s+(\d+)", status, re.MULTILINE)
            if parent and size:
                children.setdefault(int(parent[1]), []).append(int(entry.name))
                sizes[int(entry.name)] = int(size[1]) * 1024
        held = {name: _tree(pid, children, sizes) for name, pid in self.roots.items()}
        self.peak = max(self.peak, sum(held.values()))
        self.peaks = {name: max(size, self.peaks.get(name, 0)) for name, size in held.items()}

    @contextmanager
    def sampling(self) -> Iterator[None]:
        stop = threading.Event()

        def run() -> None:
            while not stop.wait(0.5):
                self.sample()

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


def _tree(pid: int, children: dict[int, list[int]], sizes: dict[int, int]) -> int:
    return sizes.get(pid, 0) + sum(_tree(child, children, sizes) for child in children.get(pid, ()))


@dataclass(frozen=True)
class End:
    """Of one job: when, seconds until a process had taken its run up, and seconds that it had taken."""

    run: str
    at: float
    resumed_after: float
    elapsed: float

    def noticed_after(self, log: str) -> float:
        """By what the watcher wrote."""
        found = re.search(rf"^(\S+ \S+),(\d+) INFO run {self.run} goes on", log, re.MULTILINE)
        if found is None:
            raise click.ClickException(f"the watcher did not resume run {self.run}")
        told = time.mktime(time.strptime(found[1], "%Y-%m-%d %H:%M:%S")) + int(found[2]) / 1000
        return told - self.at


@dataclass
class Flight:
    """Jobs, each of a run that is suspended."""

    supervisor: Supervisor
    ledger: Ledger
    services: Services
    facility: SandboxClient
    folder: str
    handles: dict[str, str] = field(default_factory=dict)
    """By run."""

    def fill(self, jobs: int) -> None:
        with ThreadPoolExecutor(THREADS) as pool:
            runs = list(pool.map(self._suspended_run, range(jobs)))
            list(pool.map(self._submit, runs, range(jobs)))

    def _suspended_run(self, number: int) -> str:
        """As Prefect has a run that has left; without its first process, for a thousand would take an hour."""
        parameters = {"number": number, "folder": self.folder}
        token = str(uuid.uuid4())

        def ask() -> str:
            with prefect_server() as client:
                found = client.read_deployment_by_name(f"{in_flight_flow.NAME}/{in_flight_flow.NAME}")
                run = client.create_flow_run_from_deployment(
                    found.id, parameters=parameters, state=Pending(), idempotency_key=token
                )
                steps: tuple[State[None], ...] = (Running(), Suspended())
                for state in steps:
                    client.set_flow_run_state(run.id, state)
                return str(run.id)

        return insist(ask, seconds=120.0)

    def _submit(self, run: str, number: int) -> None:
        parameters: Document = {"number": number, "folder": self.folder}
        self.ledger.runs.begin(run_id=run, flow=in_flight_flow.NAME, parameters=parameters, owner=Owner.here())
        operation = in_flight_flow.job(in_flight_flow.scan_of(self.ledger, number), number, folder=self.folder)
        service = self.services.named("nersc.jobs@nersc")
        try:
            perform(self.ledger, operation, service, run_id=run, may_leave=lambda since, waited: True)
        except Waiting as waiting:
            self.ledger.runs.wait(run, waiting.awaited)
        self.handles[run] = str(self.ledger.operations.get(operation.key).handle)

    def end(self, run: str) -> End:
        (operation,) = self.ledger.operations.of_run(run)
        number = re.search(r"\d+", self.handles[run])
        if number is None:
            raise click.ClickException(f"no number of a job in {self.handles[run]}")
        self.facility.superfacility.end_job(number[0], "COMPLETED")
        ended_at = time.time()
        while True:
            record = self.ledger.runs.get(run)
            if record is not None and record.state is not RunState.WAITING:
                elapsed = ended_at - (operation.submitted_at or ended_at)
                return End(run, ended_at, resumed_after=time.time() - ended_at, elapsed=elapsed)
            if time.time() - ended_at > 300.0:
                raise click.ClickException(f"run {run} was not resumed within five minutes")
            time.sleep(0.05)


def measure(jobs: int, *, ends: int, every: float, seconds: float, folder: Path, tell: Any) -> Report:
    project = write_project(folder / "site")
    with running_sandbox(
        folder / "sandbox", project_file=project, deployments=[_deployment(folder)], search=[HERE]
    ) as supervisor:
        os.environ.update(supervisor.environment)
        use_environment()
        settings = config.load()
        with (
            Ledger(settings.ledger.url, lease_seconds=settings.ledger.lease_seconds) as ledger,
            SandboxClient(supervisor.environment["BEAMLINE_SANDBOX_URL"]) as facility,
        ):
            facility.superfacility.turn(held=True)
            flight = Flight(supervisor, ledger, Services(settings), facility, folder=str(folder / "work"))
            began = time.monotonic()
            flight.fill(jobs)
            tell(f"{jobs} jobs are in flight after {time.monotonic() - began:.0f} s")
            return _observe(flight, ends=ends, every=every, seconds=seconds, log=folder / "watcher.log", tell=tell)


def _observe(flight: Flight, *, ends: int, every: float, seconds: float, log: Path, tell: Any) -> Report:
    pids = {one.name: one.pid for one in flight.supervisor.status()}
    processes.stop([found for found in [processes.Process.of(pids["watcher"] or 0)] if found], patience=5.0)
    rule = flight.facility.faults.add(STATUS_REQUESTS, FaultKind.LATENCY, times=0)
    with log.open("wb") as output:
        argv = [sys.executable, "-m", "orchestration.cli", "watch", "--verbose"]
        watcher = subprocess.Popen(argv, stdout=output, stderr=subprocess.STDOUT)
    memory = Memory({"worker": pids["worker"] or 0, "watcher": watcher.pid})
    try:
        with memory.sampling():
            time.sleep(seconds)
            hits = next(each.hits for each in flight.facility.faults.every() if each.id == rule.id)
            polls = log.read_text().count("asked nersc.jobs@nersc about")
            tell(f"{polls} polls, {hits} requests in {seconds:.0f} s; now jobs end")
            chosen = random.sample(sorted(flight.handles), ends)
            with ThreadPoolExecutor(ends) as pool:
                waiting = [pool.submit(_delayed, partial(flight.end, run), every * n) for n, run in enumerate(chosen)]
                found = [each.result() for each in waiting]
    finally:
        watcher.terminate()
        watcher.wait(30.0)
    written = log.read_text()
    after = sorted(one.resumed_after for one in found)
    elapsed = statistics.median(one.elapsed for one in found)
    p95 = after[min(len(after) - 1, round(0.95 * (len(after) - 1)))]
    return Report(
        jobs=len(flight.handles),
        peak_memory_bytes=memory.peak,
        watcher_peak_bytes=memory.peaks.get("watcher", 0),
        watched_seconds=seconds,
        polls=polls,
        status_requests=hits,
        requests_per_poll=round(hits / max(1, polls), 2),
        ended=ends,
        noticed_after_p50=round(statistics.median(one.noticed_after(written) for one in found), 2),
        resumed_after_p50=round(statistics.median(after), 2),
        resumed_after_p95=round(p95, 2),
        elapsed_p50=round(elapsed, 1),
        share_p50=round(statistics.median(after) / elapsed, 4),
        kept=memory.peak < MEMORY_TARGET and hits <= polls + 1 and p95 < max(KNOWN_SECONDS, KNOWN_SHARE * elapsed),
    )


def _delayed(work: Any, seconds: float) -> Any:
    time.sleep(seconds)
    return work()


def _deployment(folder: Path) -> Path:
    document = {
        "name": in_flight_flow.NAME,
        "definitions": {"queue_limits": {"in_flight": QUEUE_LIMIT}},
        "deployments": [
            {
                "name": in_flight_flow.NAME,
                "flow_name": in_flight_flow.NAME,
                "entrypoint": "in_flight_flow.in_flight",
                "work_pool": {"name": "in_flight_pool", "work_queue_name": "in_flight"},
            }
        ],
    }
    path = folder / "in_flight.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


@click.command()
@click.option("--jobs", default=1000, show_default=True, help="Jobs in flight.")
@click.option("--ends", default=30, show_default=True, help="How many of them end, one after another.")
@click.option("--every", default=10.0, show_default=True, help="Seconds between two ends.")
@click.option("--seconds", default=60.0, show_default=True, help="How long it is watched before any ends.")
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object.")
def main(jobs: int, ends: int, every: float, seconds: float, *, as_json: bool) -> None:
    """Have JOBS in flight, each of a suspended run."""
    with tempfile.TemporaryDirectory(prefix="in-flight-") as folder:
        tell = partial(click.echo, err=True)
        report = measure(jobs, ends=min(ends, jobs), every=every, seconds=seconds, folder=Path(folder), tell=tell)
    if as_json:
        click.echo(json.dumps(asdict(report), indent=2))
        sys.exit(0 if report.kept else 1)
    click.echo(f"{report.jobs} jobs in flight: {report.peak_memory_bytes / 1e6:.0f} MB at most in all our processes")
    click.echo(f"{report.requests_per_poll} status requests per poll ({report.status_requests} in {seconds:.0f} s)")
    click.echo(
        f"from end to noticed: {report.noticed_after_p50} s (p50); "
        f"to resumed: {report.resumed_after_p50} s (p50), {report.resumed_after_p95} s (p95), "
        f"{report.share_p50:.1%} of the time of a job"
    )
    sys.exit(0 if report.kept else 1)


if __name__ == "__main__":
    main()
