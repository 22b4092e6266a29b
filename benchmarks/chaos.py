"""Random trials: scans carried by the real flows while processes are killed and services fail, at random.

``python benchmarks/chaos.py --trials 300 --seed 1 --json`` starts a world of stand-ins with a real Prefect server, and
ends with 1 if any effect happened twice, any is missing, or the ledger says what is not so. After each batch
`reconcile` runs, and nothing may go on anywhere any more. A bad trial is repeated by ``--first N --trials 1`` with the
same seed.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import click
import yaml

from orchestration.ledger.service import Json
from orchestration.sandbox.trials.aftermath import RECONCILE, untruths
from orchestration.sandbox.trials.audit import (
    ALCF_FLOW,
    ANY_FLOW,
    LOCAL_FLOW,
    NERSC_FLOW,
    NEW_FILE_FLOW,
    Audit,
    Fault,
)
from orchestration.sandbox.trials.kills import Ended, Kill
from orchestration.sandbox.trials.nursery import Nursery
from orchestration.sandbox.trials.world import BEAMLINE, DELETIONS, World

TARGETS = {
    NEW_FILE_FLOW: "orchestration.flows.bl832.move:process_new_832_file_flow",
    LOCAL_FLOW: "orchestration.flows.bl832.local:local_recon_flow",
    NERSC_FLOW: "orchestration.flows.bl832.nersc:nersc_recon_flow",
    ALCF_FLOW: "orchestration.flows.bl832.alcf:alcf_recon_flow",
    ANY_FLOW: "orchestration.flows.bl832.anywhere:any_recon_flow",
}


@dataclass(frozen=True)
class Step:
    """A flow of a scan. `site` is for `any_recon_flow`, if it is to go to a certain one."""

    flow: str
    site: str = ""

    def __str__(self) -> str:
        return f"{self.flow} at {self.site}" if self.site else self.flow

    def arguments(self, file_path: str) -> dict[str, Json]:
        return {"file_path": file_path, **({"site": self.site} if self.site else {})}


MOVED = Step(NEW_FILE_FLOW)
CHAINS = (
    (MOVED,),
    (MOVED, Step(LOCAL_FLOW)),
    (MOVED, Step(NERSC_FLOW)),
    (MOVED, Step(NERSC_FLOW)),
    (MOVED, Step(ALCF_FLOW)),
    (MOVED, Step(ALCF_FLOW)),
    (MOVED, Step(ANY_FLOW, site="iri")),
    (MOVED, Step(ANY_FLOW)),
)
"""What is done with a scan, one flow after the other; each trial takes one."""

SITES = ("nersc", "alcf", "iri", "local")
"""Where the flow may go that chooses."""

MOST_RUNS = 12
"""A scan that is not complete after so many runs, the last of them undisturbed, is lost."""

BATCH = 20
"""So many trials are judged together: what was done is then read once."""

GIVEN_UP = "gave up"

STORMS = 0.2
"""Of the runs that are disturbed."""

OUTAGES = 0.3
"""Of the sites, while a run chooses among them."""

JOB_ROUTES = (
    r"POST /nersc/",
    r"/nersc/.*/compute/",
    r"/nersc/.*/tasks/",
    r"POST /compute/",
    r"/compute/",
    r"POST /iri/",
    r"/iri/",
)
"""Requests about jobs, on which the hand of chance lies a little heavier."""


@dataclass
class Trial:
    """One scan, and what was done to its runs."""

    number: int
    random: random.Random
    steps: tuple[Step, ...]
    file_path: str = ""
    kills: int = 0
    faults: int = 0
    repeated: bool = False
    """Whether a request was sent twice on the way."""
    story: list[str] = field(default_factory=list)
    complaints: list[tuple[str, str]] = field(default_factory=list)

    @property
    def flows(self) -> tuple[str, ...]:
        return tuple(step.flow for step in self.steps)

    def tell(self, what: str) -> None:
        self.story.append(what)


@dataclass(frozen=True, kw_only=True)
class Report:
    trials: int
    duplicates: int
    losses: int
    untruthful: int
    seconds: float
    kills: int
    faults: int
    bad: list[dict[str, object]]


class Chaos:
    def __init__(self, world: World, nursery: Nursery) -> None:
        self._world = world
        self._nursery = nursery
        self._boundaries: dict[Step, int] = {}

    def measure(self) -> None:
        """Where an undisturbed run of each flow could be killed."""
        for number, chain in enumerate(dict.fromkeys(CHAINS)):
            file_path = self._world.scan(f"measured{number}.h5")
            for step in chain:
                ended = self._nursery.run(TARGETS[step.flow], step.arguments(file_path))
                if not ended.completed:
                    raise click.ClickException(f"{step} failed without being disturbed: {ended.error}")
                self._boundaries[step] = len(ended.boundaries)

    def reconcile(self) -> list[str]:
        """What is wrong with the world after the flow of that name has run."""
        began = datetime.now(UTC)
        ended = self._nursery.run(RECONCILE, {})
        failed = [] if ended.completed else [f"reconcile: {ended.error or ended.error_type}"]
        return [*failed, *untruths(self._world, reconciled_at=began)]

    def run(self, trial: Trial) -> None:
        """Carry the scan to its end, disturbed now and then."""
        trial.file_path = self._world.scan(
            f"chaos{trial.number:05}.h5", size=trial.random.choice((5_000, 20_000, 200_000))
        )
        for step in trial.steps:
            for attempt in range(MOST_RUNS):
                ended = self._attempt(trial, step, disturbed=attempt < MOST_RUNS - 4)
                if ended.completed:
                    break
                if not ended.killed:
                    trial.complaints.append((Fault.LOSS, f"{step} {GIVEN_UP}: {ended.error or ended.error_type}"))
            else:
                trial.complaints.append((Fault.LOSS, f"{step} did not complete in {MOST_RUNS} runs"))

    def _attempt(self, trial: Trial, step: Step, *, disturbed: bool) -> Ended:
        chance = trial.random
        kill = None
        if disturbed and chance.random() < 0.5:
            kill = Kill(nth=chance.randint(1, self._boundaries[step]))
            trial.tell(f"{step}: to be {kill}")
        if disturbed:
            self._add_faults(trial)
            self._storm(trial)
            if step == Step(ANY_FLOW):
                self._take_down(trial)
        child = self._nursery.start(TARGETS[step.flow], step.arguments(trial.file_path), kill=kill)
        if disturbed and chance.random() < 0.35:
            threading.Event().wait(chance.uniform(0.05, 1.0))
            self._disturb(trial, child.signal)
        ended = child.wait()
        trial.kills += ended.killed
        trial.tell(f"{step}: {'killed' if ended.killed else ended.error or 'completed'}")
        self._world.facility.faults.clear()
        self._bring_up()
        return ended

    def _add_faults(self, trial: Trial) -> None:
        chance = trial.random
        for _ in range(chance.choice((0, 0, 1, 1, 2, 3))):
            kind = chance.choice(("lost_answer", "lost_answer", "drop", "status", "latency", "repeat"))
            trial.repeated |= kind == "repeat"
            status = chance.choice((429, 502, 503, 504))
            rule = self._world.facility.faults.add(
                chance.choice(
                    (r".*", r".*", r"POST ", r"POST /transfer/", r"/scicat/", r"GET /transfer/", *JOB_ROUTES)
                ),
                kind,
                status=status,
                retry_after=chance.choice((None, None, 1)) if kind == "status" else None,
                delay=chance.uniform(0.0, 0.3) if kind == "latency" else 0.0,
                skip=chance.randint(0, 12),
                times=chance.choice((1, 1, 2)),
            )
            trial.faults += 1
            trial.tell(f"fault: {kind} of {rule.match!r} after {rule.skip}, {rule.times} times ({status})")

    def _storm(self, trial: Trial) -> None:
        """One request in ten fails, for as long as the run lasts."""
        if trial.random.random() < STORMS:
            status = trial.random.choice((500, 502, 503, 504))
            self._world.facility.faults.add(".*", "status", status=status, times=0, chance=0.1)
            trial.faults += 1
            trial.tell(f"one request in ten is answered {status}")

    def _take_down(self, trial: Trial) -> None:
        """Some of the sites, perhaps, for as long as the run lasts; this machine is always there."""
        facility, down = self._world.facility, [site for site in SITES if trial.random.random() < OUTAGES]
        if "nersc" in down:
            facility.superfacility.set_status("unavailable", notes=["taken down by chance"])
        if "iri" in down:
            facility.iri.switch("down")
        if "alcf" in down:
            facility.compute.switch(self._world.environment["GLOBUS_COMPUTE_ENDPOINT"], online=False)
        trial.faults += len({*down} - {"local"})
        trial.tell(f"down: {', '.join(down) or 'nothing'}")

    def _bring_up(self) -> None:
        facility = self._world.facility
        facility.superfacility.set_status("active", notes=[])
        facility.iri.all_up()
        facility.compute.switch(self._world.environment["GLOBUS_COMPUTE_ENDPOINT"], online=True)

    def _disturb(self, trial: Trial, kill: Callable[[], None]) -> None:
        chance = trial.random
        what = chance.choice(("kill", "kill", "expire tokens", "offline", "restart"))
        trial.tell(what)
        trial.faults += what != "kill"
        if what == "kill":
            kill()
        elif what == "expire tokens":
            self._world.facility.expire_tokens()
        elif what == "offline":
            collection = str(self._world.settings().endpoint(chance.choice(("data832", "nersc832"))).require_uuid())
            self._world.facility.collections.set(collection, connected=False)
            threading.Event().wait(chance.uniform(0.1, 0.8))
            self._world.facility.collections.set(collection, connected=True)
        else:
            self._world.kill("facility")
            self._world.start("facility")


def judge(world: World, trials: Sequence[Trial], chaos: Chaos) -> None:
    """What is wrong with the world as a whole is put down to the last of the trials."""
    trials[-1].complaints += [(Fault.UNTRUTH, f"afterwards: {text}") for text in chaos.reconcile()]
    audit = Audit(world)
    for trial in trials:
        found = audit.complaints(trial.file_path, flows=trial.flows, repeated=trial.repeated)
        trial.complaints += [(complaint.fault, complaint.text) for complaint in found]


def report(trials: Sequence[Trial], seconds: float) -> Report:
    faults = Counter(fault for trial in trials for fault in {fault for fault, _ in trial.complaints})
    return Report(
        trials=len(trials),
        duplicates=faults[Fault.DUPLICATE],
        losses=faults[Fault.LOSS],
        untruthful=faults[Fault.UNTRUTH],
        seconds=round(seconds, 1),
        kills=sum(trial.kills for trial in trials),
        faults=sum(trial.faults for trial in trials),
        bad=[
            {"trial": one.number, "flows": one.flows, "complaints": one.complaints, "story": one.story}
            for one in trials
            if one.complaints
        ],
    )


def _offer(world: World, sites: Sequence[str]) -> None:
    """To the flow that chooses."""
    path = world.layout.config_file
    document = yaml.safe_load(path.read_text())
    document["beamlines"][BEAMLINE]["sites"] = [*sites]
    path.write_text(yaml.safe_dump(document, sort_keys=False))


def carry_out(directory: Path, numbers: Sequence[int], seed: int, tell: Callable[[str], None]) -> Report:
    trials: list[Trial] = []
    with World(directory) as world, world.nursery() as nursery:
        made = nursery.run(
            "orchestration.sandbox.trials.deployments:make", {"beamline": BEAMLINE, "names": [*DELETIONS]}
        )
        if not made.completed:
            raise click.ClickException(f"the deployments were not made: {made}")
        _offer(world, SITES)
        chaos = Chaos(world, nursery)
        chaos.measure()
        began = time.monotonic()
        for number in numbers:
            chance = random.Random(f"{seed}/{number}")
            trials.append(Trial(number=number, random=chance, steps=chance.choice(CHAINS)))
            chaos.run(trials[-1])
            if len(trials) % BATCH == 0 or number == numbers[-1]:
                batch = trials[-(len(trials) % BATCH or BATCH) :]
                judge(world, batch, chaos)
                for trial in batch:
                    if trial.complaints:
                        tell(f"trial {trial.number}: {'; '.join(text for _, text in trial.complaints)}")
                bad = sum(1 for trial in trials if trial.complaints)
                tell(f"{len(trials)} trials, {bad} bad, {time.monotonic() - began:.0f} s")
        return report(trials, time.monotonic() - began)


@click.command()
@click.option("--trials", default=50, show_default=True)
@click.option("--first", default=0, show_default=True, help="Number of the first trial.")
@click.option("--seed", default=1, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Write one JSON object.")
@click.option("--keep", type=click.Path(path_type=Path), help="Work in this directory, and leave it behind.")
def main(trials: int, first: int, seed: int, keep: Path | None, *, as_json: bool) -> None:
    """Carry scans through chaos, and say what came of it."""
    with tempfile.TemporaryDirectory(prefix="chaos-") as temporary:
        directory = keep or Path(temporary) / "world"
        found = carry_out(directory, range(first, first + trials), seed, lambda text: click.echo(text, err=True))
    document = asdict(found)
    if as_json:
        click.echo(json.dumps(document))
    else:
        click.echo(
            f"{found.trials} trials in {found.seconds} s, {found.kills} processes killed, {found.faults} faults: "
            f"{found.duplicates} with duplicates, {found.losses} with losses, {found.untruthful} untruthful"
        )
        for bad in found.bad:
            click.echo(json.dumps(bad, indent=2))
    sys.exit(1 if found.bad else 0)


if __name__ == "__main__":
    main()
