"""What must be true after a trial, asked of those who did the work: the facility, Prefect's calendar, the disks."""

from __future__ import annotations

import enum
import hashlib
import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import httpx

from orchestration.errors import JobNotStarted, TransferWithdrawn
from orchestration.flows.bl832.dispatcher import NEW_FILE
from orchestration.flows.tomography import Reconstruction
from orchestration.ledger import Ledger
from orchestration.ledger.copy import CopyRecord, CopyState
from orchestration.ledger.operation import OperationRecord, OperationState
from orchestration.ledger.runs import RunState
from orchestration.ledger.scan import Scan
from orchestration.paths import RelativePath
from orchestration.sandbox.effects import Effect
from orchestration.sandbox.trials.world import BEAMLINE, World

NEW_FILE_FLOW = NEW_FILE.partition("/")[0]
LOCAL_FLOW = "local_recon_flow"
NERSC_FLOW = "nersc_recon_flow"
ALCF_FLOW = "alcf_recon_flow"
ANY_FLOW = "any_recon_flow"
SITES = {LOCAL_FLOW: "local", NERSC_FLOW: "nersc", ALCF_FLOW: "alcf"}
"""The flows that reconstruct at one site, and where. That of `ANY_FLOW` is in the ledger."""

_AT_NERSC = ("nersc", "iri")

_SUBMISSIONS = {"globus.transfer": "transfer", "nersc.jobs": "job", "iri.jobs": "job", "globus.compute": "task"}
"""What a facility calls the work that it accepted, by the service that asked for it."""

_RUN_ONCE = ("job", "task")
"""What may be accepted twice without being done twice: the first to begin keeps the other from it."""

_TAKEN_BACK = (JobNotStarted, TransferWithdrawn)
"""How what was begun at a site ends that the work was taken away from."""


Place: TypeAlias = tuple[str, RelativePath]
"""A path below an endpoint."""


class Fault(enum.StrEnum):
    DUPLICATE = "duplicate"
    LOSS = "loss"
    UNTRUTH = "untruth"


@dataclass(frozen=True)
class Complaint:
    fault: Fault
    text: str

    def __str__(self) -> str:
        return f"{self.fault}: {self.text}"


class Audit:
    """Judges scans that have been carried to their end by `flows`, whatever happened on the way."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._settings = world.settings()
        self._effects: Sequence[Effect] = world.facility.effects()
        self.calendar = list(_calendar(world.prefect_url))

    def complaints(self, file_path: str, *, flows: Sequence[str], repeated: bool = False) -> list[Complaint]:
        """Everything that is wrong with one scan.

        `repeated`: requests were sent twice on the way. The facility may then have accepted a job twice, of which
        only one may have run; everything else must have happened once all the same.
        """
        with self._world.ledger() as ledger:
            scan = ledger.scans.find(self._settings.beamline(BEAMLINE).relative(file_path).text)
            sites = _sites(ledger, scan, flows)
            expected = Counter(self._expected(scan, flows, sites))
            found = self._found(scan)
            if sites.moved:
                self._forgive(sites, scan, expected, found)
            complaints = [*_compared(expected, found, repeated=repeated)]
            untruths = self._untruths(ledger, scan, flows, moved=sites.moved, repeated=repeated)
            return complaints + [Complaint(Fault.UNTRUTH, text) for text in untruths]

    # ----- what was done --------------------------------------------------------------------------------------------

    def _expected(self, scan: Scan, flows: Sequence[str], sites: _Sites) -> Iterator[str]:
        if NEW_FILE_FLOW in flows:
            yield from self._moves(scan)
            yield from (f"schedule prune_{name} {scan.path}" for name in ("spot832", "data832"))
        yield from self._record(scan.path.stem, "raw")
        for site in sites.used:
            yield from self._reconstruction(Reconstruction(raw=self._below_raw(scan), site=site), scan)

    def _reconstruction(self, made: Reconstruction, scan: Scan) -> Iterator[str]:
        site = self._settings.site(made.site)
        homes = [self._settings.beamline(BEAMLINE).scratch]
        yield f"job {made.base.name}"
        at_nersc = made.site in _AT_NERSC
        if at_nersc:
            homes.append(str(self._settings.beamline(BEAMLINE).nersc_results))
            yield from (f"schedule prune_{homes[0]} {part.path}" for part in made.datasets)
        if made.site != "local":
            near = ("nersc832", scan.path) if at_nersc else ("data832_raw", made.raw)
            yield self._carried([near], [(site.raw_endpoint, made.raw)])
            results = [(site.scratch_endpoint, part.path) for part in made.datasets]
            yield from (self._carried(results, [(home, path) for _, path in results]) for home in homes)
        yield f"schedule prune_{site.raw_endpoint} {made.raw}"
        yield from (f"schedule prune_{site.scratch_endpoint} {part.path}" for part in made.datasets)
        yield from self._record(scan.path.stem, "tiff")
        yield from self._record(scan.path.stem, "zarr")

    def _forgive(self, sites: _Sites, scan: Scan, expected: Counter[str], found: Counter[str]) -> None:
        """What work that was taken back may have left: for each time that it was given to a site, the raw file there,
        from wherever it was carried, and the plan to delete it. A site that it was done at must have both; to this
        machine the facility carries nothing.
        """
        raw, moves = self._below_raw(scan), {*self._moves(scan)}  # to a path that may be that of another place as well
        needed = {self._settings.site(site).raw_endpoint for site in sites.used}
        reached = {self._settings.site(site).raw_endpoint for site in sites.used if site != "local"}
        given = Counter(self._settings.site(site).raw_endpoint for site in sites.decided)
        for place in {*needed, *given}:
            arrival = f" > {self._full((place, raw))}"
            carried, planned = f"raw file at {place}", f"schedule prune_{place} {raw}"
            for counted in (expected, found):
                arrived = [each for each in counted if each.startswith("transfer ") and each.endswith(arrival)]
                for what in {*arrived} - moves:
                    counted[carried] += counted.pop(what)
            for what, least, most in ((carried, place in reached, given[place]), (planned, place in needed, 1)):
                expected[what] = min(max(found[what], least), max(most, least))

    def _below_raw(self, scan: Scan) -> RelativePath:
        beamline = self._settings.beamline(BEAMLINE)
        on_server = self._settings.endpoint(beamline.server).full_path(scan.path)
        return self._settings.endpoint(beamline.raw).relative(on_server)

    def _moves(self, scan: Scan) -> Iterator[str]:
        yield self._carried([("spot832", scan.path)], [("data832", scan.path)])
        yield self._carried([("data832", scan.path)], [("nersc832", scan.path)])

    def _carried(self, sources: Sequence[Place], destinations: Sequence[Place]) -> str:
        """One transfer, of each source to its destination."""
        pairs = zip(sources, destinations, strict=True)
        return f"transfer {' > '.join(self._full(place) for pair in pairs for place in pair)}"

    def _full(self, place: Place) -> str:
        return self._settings.endpoint(place[0]).full_path(place[1])

    @staticmethod
    def _record(stem: str, kind: str) -> Iterator[str]:
        return (f"{what} {kind} {stem}" for what in ("dataset", "origdatablock", "attachment"))

    def _found(self, scan: Scan) -> Counter[str]:
        stem = scan.path.stem
        found: Counter[str] = Counter()
        pids: dict[str, str] = {}
        for effect in self._effects:
            if effect.kind in {"transfer", "delete"} and any(stem in path for path in effect.paths):
                found[f"{effect.kind} {' > '.join(effect.paths)}"] += 1
            elif effect.kind == "dataset" and stem in effect.label:
                pids[effect.id] = f"{_kind(effect)} {stem}"
                found[f"dataset {pids[effect.id]}"] += 1
            elif effect.kind in {"origdatablock", "attachment"} and effect.key in pids:
                found[f"{effect.kind} {pids[effect.key]}"] += 1
        for deployment, path in self.calendar:
            if stem in path:
                found[f"schedule {deployment} {path}"] += 1
        for path, name in _jobs(self._world.jobs_log):
            if Path(path).name == scan.path.name:
                found[f"job {name}"] += 1
        return found

    # ----- what is said of it ---------------------------------------------------------------------------------------

    def _untruths(
        self, ledger: Ledger, scan: Scan, flows: Sequence[str], *, moved: bool, repeated: bool
    ) -> Iterator[str]:
        last = {run.flow: run for run in ledger.runs.of_scan(scan.id)}
        for flow in flows:
            state = last[flow].state if flow in last else None
            if state is not RunState.COMPLETED:
                yield f"the last run of {flow} is {state}"
        for operation in ledger.operations.of_scan(scan.id):
            never_asked = operation.state is OperationState.CANCELLED and operation.token is None
            if moved and (isinstance(operation.error, _TAKEN_BACK) or never_asked):
                continue  # that nothing was done of it is seen from what was done
            yield from self._untrue_operation(operation, repeated=repeated)
        copies = ledger.copies.of_scan(scan.id)
        if not copies:
            yield "the ledger knows no copy"
        for copy in copies:
            yield from self._untrue_copy(copy)

    def _untrue_operation(self, operation: OperationRecord, *, repeated: bool) -> Iterator[str]:
        if operation.state is not OperationState.SUCCEEDED:
            yield f"{operation.step} is {operation.state}: {operation.error}"
        if operation.owner is not None:
            yield f"{operation.step} has ended and is still held by {operation.owner}"
        kind = _SUBMISSIONS.get(operation.service.partition("@")[0])
        if kind is None:
            return
        done = [each.id for each in self._effects if each.kind == kind and str(operation.token) in each.key]
        mine = [id_ for id_ in done if id_ in str(operation.handle)]
        if len(mine) != 1 or (len(done) != 1 and not (repeated and kind in _RUN_ONCE)):
            yield f"{operation.step} has handle {operation.handle}, and the facility has {done}"

    def _untrue_copy(self, copy: CopyRecord) -> Iterator[str]:
        mount = self._settings.endpoint(copy.endpoint).mount
        folder = self._world.root(copy.endpoint) if mount is None else mount
        path = folder / copy.lies_at.text
        if copy.state is CopyState.DELETED:
            if path.exists():
                yield f"{copy.endpoint}:{copy.path} is said to be deleted, and is there"
            return
        for entry in copy.manifest:
            file = path / entry.path if entry.path else path
            if not file.is_file():
                yield f"{copy.endpoint}:{copy.path}/{entry.path} is said to be there, and is not"
            elif file.stat().st_size != entry.size:
                yield f"{file} has another size than the ledger says"
            elif not _matches(file, entry.checksum):
                yield f"{file} has another checksum than the ledger says"


@dataclass(frozen=True)
class _Sites:
    """Where a scan was reconstructed, as the ledger tells, and where it was to be, as often as that was decided."""

    used: Sequence[str]
    decided: Sequence[str]

    @property
    def moved(self) -> bool:
        return bool({*self.decided} - {*self.used})


def _sites(ledger: Ledger, scan: Scan, flows: Sequence[str]) -> _Sites:
    decisions = ledger.decisions.of_scan(scan.id)
    used = [SITES[flow] for flow in flows if flow in SITES]
    if ANY_FLOW in flows:
        used += {decision.subject: decision.site for decision in decisions}.values()  # the newest of each
    return _Sites(used, [decision.site for decision in decisions])


def _compared(expected: Counter[str], found: Counter[str], *, repeated: bool) -> Iterator[Complaint]:
    """What is wrong with the counts. What was sent twice on the way is shown or listed twice, which harms nobody."""
    for what in sorted(expected | found):
        harmless = repeated and what.startswith(("attachment ", "origdatablock "))
        if found[what] > expected[what] and not harmless:
            yield Complaint(Fault.DUPLICATE, f"{what}: {found[what]} times, not {expected[what]}")
        elif found[what] < expected[what]:
            yield Complaint(Fault.LOSS, f"{what}: {found[what]} times, not {expected[what]}")


def _kind(effect: Effect) -> str:
    folder = effect.paths[0] if effect.paths else ""
    name = folder.rstrip("/").rpartition("/")[2]
    return "zarr" if name.endswith(".zarr") else "tiff" if name.startswith("rec") else "raw"


def _matches(file: Path, checksum: str | None) -> bool:
    """True too where the evidence is no digest, as that of a mover which compared both ends itself."""
    algorithm, _, value = (checksum or "").partition(":")
    if algorithm.lower() not in hashlib.algorithms_available:
        return True
    return hashlib.new(algorithm.lower(), file.read_bytes()).hexdigest() == value.lower()


def _jobs(log: Path) -> Iterator[tuple[str, str]]:
    """Of each job: the scan, and what its results are called."""
    for line in log.read_text().splitlines() if log.exists() else ():
        job = json.loads(line)
        names = [word.removeprefix("--name=") for word in job["arguments"] if word.startswith("--name=")]
        yield job["scan"], names[0] if names else ""


def _calendar(api: str) -> Iterator[tuple[str, str]]:
    """The deployment and the path of every deletion in Prefect's calendar."""
    offset = 0
    names: dict[str, str] = {}
    with httpx.Client(base_url=api, timeout=30.0, trust_env=False) as client:
        rows = client.post("/deployments/filter", json={}).raise_for_status().json()
        names = {row["id"]: row["name"] for row in rows}
        while True:
            page = client.post("/flow_runs/filter", json={"offset": offset, "limit": 200, "sort": "START_TIME_ASC"})
            runs = page.raise_for_status().json()
            for run in runs:
                if run["deployment_id"] in names and "relative_path" in run["parameters"]:
                    for path in run["parameters"].get("copies") or [run["parameters"]["relative_path"]]:
                        yield names[run["deployment_id"]], path
            if len(runs) < 200:
                return
            offset += 200
