"""Random histories of scans and their copies, and what must be true after each step of them."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from history_world import DAY, KEPT_DAYS, NEAR, PLACES, File, World, in_quarantine
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RULE_MARKER,
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)

from orchestration.errors import OrchestrationError
from orchestration.flows.checksumming import verified_again
from orchestration.flows.nightly import decisions
from orchestration.flows.proving import proof_of
from orchestration.flows.pruning import prune
from orchestration.ledger.audit import Verdict
from orchestration.ledger.copy import CopyRecord, CopyState
from orchestration.retention import Finding

SCANS = 3
STEPS = 40
"""Of each history."""

SLACK = 240.0
WANTED = {"detector": 1, "server": 1, "archive": 2}

FAR = [("archive",), ("archive", "cold"), ("cold",), ()]

numbers = st.integers(0, SCANS - 1)
places = st.sampled_from(PLACES)

steps = Counter[str]()
"""How many steps of each kind were taken, in all histories of this process."""

became = Counter[str]()
"""How often a copy became what."""


class Violated(AssertionError):
    """Something was reached that must never be."""


@dataclass(frozen=True)
class Moment:
    """All that there is, as files and as the ledger has it."""

    files: Sequence[File]
    copies: Mapping[int, CopyRecord]
    outside: Mapping[str, bytes]
    flagged: frozenset[str]
    held: frozenset[str]
    at: float

    @property
    def named(self) -> Mapping[tuple[str, str], bytes]:
        return {(file.place, file.path): file.content for file in self.files}

    def homes(self, content: bytes) -> set[str]:
        """The places with a file of that content under its own name."""
        return {file.place for file in self.files if file.content == content and not in_quarantine(file)}


class Histories(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        memory = Path("/dev/shm")
        self.world = World(Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None)) / "world")
        self.crash_after: int | None = None
        self.truth: dict[tuple[str, str], bytes] = {}
        """What was acquired, by scan and version."""
        self.acquired = 0

    def teardown(self) -> None:
        self.world.close()
        self.world.folder.parent.rmdir()

    # ----- the service acts -------------------------------------------------------------------------------------------

    def acts(self, kind: str, action: Callable[[], None]) -> None:
        """Let the service do something, which may be cut short, and see that nothing was lost by it."""
        steps[kind] += 1
        before = self.moment()
        with self.world.crashing(self.crash_after):
            action()
        self.crash_after = None
        self.check(before, self.moment())

    @rule(number=numbers, far=st.sampled_from(FAR))
    def carry(self, number: int, far: Sequence[str]) -> None:
        """As a scan's flow does: to the server, and on from there."""
        self.learn(number)
        self.acts("copy", lambda: self.world.copy(number, "detector", "server"))
        for place in far:
            self.acts("copy", lambda place=place: self.world.copy(number, "server", place))  # type: ignore[misc]

    @precondition(lambda self: self.world.calendar.timers)
    @rule(which=st.integers(0, 1000), early=st.booleans(), again=st.booleans())
    def timer(self, which: int, early: bool, again: bool) -> None:
        """A timer fires: when it is due, or too early, or once more."""
        timers = self.world.calendar.timers
        timer = timers[which % len(timers)]
        if not early and timer.scheduled_time is not None:
            self.world.clock = max(self.world.clock, timer.scheduled_time.timestamp())
        self.acts("timer", lambda: self.world.fire(timer))
        if again:
            self.acts("timer", lambda: self.world.fire(timer))

    @rule()
    def sweep(self) -> None:
        self.acts("sweep", self.world.sweep)

    @rule(number=numbers, place=places)
    def by_hand(self, number: int, place: str) -> None:
        def ask() -> None:
            with self.world.work() as work:
                prune(work, self.world.settings.endpoint(place), self.world.path(number))

        self.acts("by hand", ask)

    @rule(number=numbers)
    def restore(self, number: int) -> None:
        self.acts("restore", lambda: self.world.restore(number))

    @rule(number=numbers, place=places)
    def verify(self, number: int, place: str) -> None:
        def compute() -> None:
            with self.world.work() as work:
                for copy in self.world.copies(number):
                    if copy.endpoint == place and copy.state is CopyState.PRESENT:
                        verified_again(work, copy)

        self.acts("verify", compute)

    @rule()
    def survey(self) -> None:
        """What the sweep does not try could not be proved."""
        steps["survey"] += 1
        with self.world.work() as work:
            for decision in decisions(work):
                if decision.finding is Finding.UNPROVEN:
                    with suppress(OrchestrationError):
                        proof_of(work, self.world.ledger.copies.get(decision.row.id))
                        raise Violated(f"the sweep passes over {decision.row}, which is proved")

    # ----- the world happens ------------------------------------------------------------------------------------------

    def happens(self, kind: str) -> None:
        steps[kind] += 1

    @initialize()
    def begin(self) -> None:
        for number in range(SCANS):
            self.acquire(number, flagged=False)
            self.carry(number, FAR[number])

    @rule(number=numbers, flagged=st.booleans())
    def acquire(self, number: int, flagged: bool) -> None:
        self.happens("acquire")
        if not (self.world.folder / "detector").is_dir():
            return
        self.acquired += 1
        self.world.clock += 60.0  # so that no two versions are of one second
        self.world.acquire(number, f"scan {number} number {self.acquired}".encode())
        self.world.scan(number, flagged=flagged and self.acquired % 4 == 0)

    @rule(number=numbers, place=places, how=st.sampled_from(["shorten", "rewrite", "rot", "lose"]))
    def spoil(self, number: int, place: str, how: str) -> None:
        self.happens(how)
        file = self.world.file(place, self.world.path(number))
        if not file.is_file():
            return
        content, facts = file.read_bytes(), file.stat()
        match how:
            case "lose":
                file.unlink()
            case "shorten":
                file.write_bytes(content[:-1])
            case "rewrite":
                file.write_bytes(bytes(reversed(content)))
                os.utime(file, (self.world.clock + SLACK, self.world.clock + SLACK))
            case "rot":
                file.write_bytes(bytes([content[0] ^ 1]) + content[1:])
                os.utime(file, ns=(facts.st_atime_ns, facts.st_mtime_ns))
                self.world.clock += 8 * DAY  # what was verified since is younger than the rot

    @rule(days=st.sampled_from([-0.05, 0.5, 3.0, 12.0]))
    def time_passes(self, days: float) -> None:
        self.happens("clock")
        self.world.clock += days * DAY

    @rule(number=numbers, place=places, what=st.sampled_from(["outage", "hold", "release", "disk fails", "disk works"]))
    def trouble(self, number: int, place: str, what: str) -> None:
        self.happens(what)
        match what:
            case "outage":
                self.world.down(place)
            case "hold":
                self.world.ledger.holds.place(self.world.scan(number).id, why="paper", who="ada")
            case "release":
                self.world.ledger.holds.release(self.world.scan(number).id, who="ada")
            case _:
                self.world.deletions.fail = what == "disk fails"

    @precondition(lambda self: self.world.is_down)
    @rule()
    def back(self) -> None:
        self.happens("back")
        self.world.up()

    @precondition(lambda self: self.crash_after is None)
    @rule(after=st.integers(0, 40))
    def will_crash(self, after: int) -> None:
        self.happens("crash")
        self.crash_after = after

    @rule(number=numbers, place=st.sampled_from(NEAR), really=st.sampled_from([False, False, True]))
    def link_away(self, number: int, place: str, really: bool) -> None:
        """Somebody puts a link in the place of a folder: behind it is the same, and it is not ours."""
        if not really:
            return
        self.happens("link")
        folder = self.world.file(place, self.world.path(number)).parent
        if not folder.is_dir() or folder.is_symlink():
            return
        away = self.world.folder / "outside" / f"{place}-{self.acquired}-{sum(steps.values())}"
        folder.rename(away)
        folder.symlink_to(away)

    # ----- what must be true ------------------------------------------------------------------------------------------

    def learn(self, number: int) -> None:
        """What the detector has now is the truth of its version, unless that was carried before."""
        file = self.world.file("detector", self.world.path(number))
        if file.is_file():
            scan = self.world.scan(number)
            self.truth.setdefault((scan.id, scan.fingerprint), file.read_bytes())

    def moment(self) -> Moment:
        ledger = self.world.ledger
        scans = ledger.scans.latest()
        copies = [copy for scan in scans for copy in ledger.copies.of_scan(scan.id)]
        return Moment(
            files=self.world.files(),
            copies={copy.id: copy for copy in copies},
            outside=self.world.outside(),
            flagged=frozenset(scan.path.text for scan in scans if scan.export_controlled),
            held=frozenset(scan.id for scan in scans if ledger.holds.standing(scan.id)),
            at=ledger.now(),
        )

    def check(self, before: Moment, after: Moment) -> None:
        for number, copy in after.copies.items():
            known = before.copies.get(number)
            if known is not None and known.state is not copy.state:
                became[copy.state.value] += 1
        if dict(before.outside) != dict(after.outside):
            raise Violated("a file outside all endpoints was touched")
        for copy in before.copies.values():
            self.check_copy(copy, before, after)
        self.check_truth(before, after)
        self.check_flagged(before, after)
        self.check_audit()

    def check_copy(self, copy: CopyRecord, before: Moment, after: Moment) -> None:
        where = (copy.endpoint, copy.lies_at.text)
        now = after.copies[copy.id]
        if now.state is CopyState.DELETED and copy.state is not CopyState.DELETED and where in after.named:
            raise Violated(f"{where} is said to be deleted, and is there")
        if where not in before.named or where in after.named:
            return
        leaving = copy.state is CopyState.DELETING or copy.deletion is not None
        if copy.state is CopyState.QUARANTINED and (now.state is CopyState.PRESENT or _came_back(copy, before, after)):
            return  # the ledger may not have been told yet
        if copy.scan_id in before.held and not leaving:
            raise Violated(f"{where} was deleted while it was held")
        if copy.state in {CopyState.CHANGED, CopyState.MISSING}:
            raise Violated(f"{where} was {copy.state}, and was deleted")
        kept = (
            copy.quarantined_at + 2 * DAY if copy.quarantined_at else copy.verified_at + KEPT_DAYS[copy.endpoint] * DAY
        )
        if not leaving and (copy.delete_after is None or max(copy.delete_after, kept) > after.at + SLACK):
            raise Violated(f"{where} was deleted before it was due")
        truth = self.truth.get((copy.scan_id, copy.version))
        if before.named[where] == truth and not leaving:
            others = after.homes(truth) - {copy.endpoint}
            if len(others) < WANTED[copy.endpoint]:
                raise Violated(f"{where} was deleted; the same bytes are at {sorted(others)}")

    def check_truth(self, before: Moment, after: Moment) -> None:
        """Nothing but a newer version under the same name takes the last bytes of one away.

        Whoever brought it may have died before the ledger had its copy.
        """
        newer = {copy.path.text for copy in after.copies.values() if before.copies.get(copy.id) != copy}
        for (scan_id, version), content in self.truth.items():
            had = any(file.content == content for file in before.files)
            has = any(file.content == content for file in after.files)
            overwritten = any(
                before.named.get(where, content) == content and there != content for where, there in after.named.items()
            )
            later = {other for (of, _), other in self.truth.items() if of == scan_id} - {content}
            replaced = any(
                there == content and after.named.get(where) in later for where, there in before.named.items()
            )
            if had and not has and not (overwritten and newer) and not replaced:
                raise Violated(f"version {version} of scan {scan_id} is nowhere any more")

    def check_flagged(self, before: Moment, after: Moment) -> None:
        for where, content in after.named.items():
            place, path = where
            if place not in NEAR and path in before.flagged and before.named.get(where) != content:
                raise Violated(f"{path} is flagged, and got to {place}")

    def check_audit(self) -> None:
        for scan in self.world.ledger.scans.latest():
            lines = [line for line in self.world.ledger.audit.of_scan(scan.id) if line.verdict is Verdict.DELETED]
            told = Counter((line.dataset, line.endpoint, line.path, line.generation) for line in lines)
            if told and max(told.values()) > 1:
                raise Violated(f"a copy was deleted twice: {told.most_common(1)}")


def _came_back(copy: CopyRecord, before: Moment, after: Moment) -> bool:
    """The file that was in the quarantine has its own name again."""
    name = (copy.endpoint, copy.path.text)
    return name not in before.named and after.named.get(name) == before.named[copy.endpoint, copy.lies_at.text]


def _narrowed(among: Collection[str]) -> type[Histories]:
    """Histories in which the other rules are methods like any other: what begins them still calls them."""
    rules = {name: member for name, member in vars(Histories).items() if hasattr(member, RULE_MARKER)}
    if unknown := set(among) - set(rules):
        raise ValueError(f"histories have no rules {sorted(unknown)}")

    def plain(member: Callable[..., None]) -> Callable[..., None]:
        return lambda self, *arguments, **named: member(self, *arguments, **named)

    return type("Histories", (Histories,), {name: plain(rules[name]) for name in set(rules) - set(among)})


def search(*, examples: int, shrink: bool = True, among: Collection[str] = ()) -> None:
    """The same histories each time, for as long as the text of the class is the same.

    With `among`, only these rules are drawn: what needs a few of them is come upon sooner.
    """
    run_state_machine_as_test(
        _narrowed(among) if among else Histories,
        settings=settings(
            max_examples=examples,
            stateful_step_count=STEPS,
            deadline=None,
            derandomize=True,
            database=None,
            print_blob=False,
            phases=[Phase.generate, *([Phase.shrink] if shrink else [])],
            suppress_health_check=list(HealthCheck),
        ),
    )
