"""Two directories of this machine, and runs that carry files from one to the other."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestration import config
from orchestration.config import Beamline, Endpoint
from orchestration.flows.batching import Sent, Together, copy_together
from orchestration.flows.copying import Dataset
from orchestration.flows.services import Services
from orchestration.flows.suspending import Suspension
from orchestration.flows.work import Work, _logger, register
from orchestration.ledger import Ledger
from orchestration.ledger.arrivals import Arrival, Route, Waiting
from orchestration.ledger.copy import RAW
from orchestration.ledger.operation import Operation, OperationRecord
from orchestration.ledger.owner import Owner
from orchestration.ledger.perform import Outcome, perform
from orchestration.ledger.scan import Scan
from orchestration.transfers import TransferItem, TransferRequest


@dataclass
class Run(Work):
    """Performs without Prefect's stages."""

    def perform(self, operation: Operation[Any], service: Any, **_: Any) -> Outcome:
        return perform(self.ledger, operation, service, run_id=self.run_id)


@dataclass(frozen=True)
class World:
    folder: Path
    here: Endpoint
    there: Endpoint
    far: Endpoint
    beamline: Beamline

    @classmethod
    def make(cls, folder: Path, **transfer: float) -> World:
        zones = {"here": "beamline", "there": "beamline", "far": "external"}
        endpoints = {
            name: {"root_path": f"/{name}", "mount": str(folder / name), "zone": zone} for name, zone in zones.items()
        }
        for name in endpoints:
            (folder / name).mkdir(parents=True)
        places = {"acquisition": "here", "server": "there", "raw": "there", "scratch": "there", "nersc": "far"}
        document = {
            "globus": {"globus_endpoints": endpoints},
            "beamlines": {"bench": {**places, "sites": []}},
            "ledger": {"url": f"sqlite:///{folder / 'ledger.sqlite'}"},
            "transfer": {"batch_seconds": 0.0, **transfer},
        }
        (folder / "config.yml").write_text(json.dumps(document))
        settings = config.load(folder / "config.yml")
        here, there, far = (settings.endpoint(name) for name in endpoints)
        return cls(folder, here, there, far, settings.beamline("bench"))

    def file(self, name: str, content: bytes | None = None) -> str:
        path = self.folder / "here" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode() * 100 if content is None else content)
        return name

    def add_beamline(self, name: str) -> Beamline:
        """One with the same places."""
        file = self.folder / "config.yml"
        document = json.loads(file.read_text())
        document["beamlines"][name] = document["beamlines"]["bench"]
        file.write_text(json.dumps(document))
        return config.load(file).beamline(name)

    def files(self, count: int) -> list[str]:
        return [self.file(f"raw/{number:04}.dat") for number in range(count)]

    @contextmanager
    def run(self, run_id: str = "run") -> Iterator[Run]:
        settings = config.load(self.folder / "config.yml")
        with closing(Services(settings)) as services, Ledger.of(settings) as ledger:
            ledger.runs.begin(run_id=run_id, flow="test", parameters={}, owner=Owner.here())
            suspension = Suspension(ledger, run_id, None, settings.waiting.inline_seconds)
            yield Run(settings, ledger, services, run_id, _logger(), suspension)

    def sent(self, run: Work, names: list[str], **flags: Any) -> list[Sent]:
        found = []
        for name in names:
            file = self.folder / "here" / name
            version = f"{file.stat().st_size}:{file.stat().st_mtime:.0f}" if file.exists() else "1"
            scan = register(run, name, beamline=self.beamline, fingerprint=version, carried=False, **flags)
            found.append(Sent(scan=scan, dataset=Dataset(name=RAW, path=scan.path)))
        return found

    def carry(self, run: Work, names: list[str], *, destination: Endpoint | None = None) -> Together:
        return copy_together(run, self.sent(run, names), source=self.here, destination=destination or self.there)

    def arrived(self, place: str = "there") -> dict[str, bytes]:
        root = self.folder / place
        return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def transfers(run: Work, names: list[str]) -> list[OperationRecord]:
    """All that carried any of these, each once."""
    found = {}
    for scan in run.ledger.scans.latest(limit=10_000):
        if scan.path.text in names:
            for record in run.ledger.operations.of_scan(scan.id):
                found[record.key] = record
    return sorted(found.values(), key=lambda record: record.created_at)


def arrived(world: World, work: Work, scans: Sequence[Scan], run_id: str) -> Route:
    """They wait to be carried."""
    route = Route(source=world.here.name, destination=world.there.name)
    waiting = [Waiting(scan_id=each.id, dataset=RAW, path=each.path, version="1", size=1) for each in scans]
    work.ledger.arrivals.enter(route, waiting, run_id=run_id)
    return route


def batch(world: World, members: Sequence[Arrival], scans: Mapping[str, Scan]) -> Operation[TransferRequest]:
    items = tuple(TransferItem(source=each.path, destination=each.path) for each in members)
    request = TransferRequest(source=world.here, destination=world.there, items=items, label="many")
    first, *others = (scans[each.scan_id] for each in members)
    return Operation(
        scan=first,
        others=tuple(others),
        step="copy many",
        request=request,
        destination=world.there.place,
        deadline=60,
    )
