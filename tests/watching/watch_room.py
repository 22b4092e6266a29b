"""A bench with real folders as endpoints, and copies in them, for what needs no Prefect."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestration.config import Settings
from orchestration.flows.alarms import Alarms
from orchestration.flows.explaining import bench
from orchestration.flows.inventory import Budget, Looks, look_through
from orchestration.flows.services import Services
from orchestration.flows.work import Work
from orchestration.ledger import Ledger
from orchestration.ledger.copy import RAW, CopyRecord, CopyState, Role
from orchestration.ledger.manifests import FileEvidence
from orchestration.paths import RelativePath

ENDPOINTS = ("detector", "server", "archive")
BEAMLINE = {"acquisition": "detector", "server": "server", "raw": "server", "scratch": "server", "nersc": "archive"}


@dataclass
class Clock:
    """Time that passes when it is told to."""

    ahead: float = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead

    def days(self, number: float) -> None:
        self.ahead += number * 24 * 3600.0


@dataclass
class Room:
    folder: Path
    work: Work
    clock: Clock

    @classmethod
    def at(cls, folder: Path, ledger: Ledger, clock: Clock, **sections: Mapping[str, Any]) -> Room:
        endpoints = {name: {"root_path": f"/{name}", "mount": str(folder / name)} for name in ENDPOINTS}
        for name, more in sections.pop("endpoints", {}).items():
            endpoints[name] |= more
        document = {
            "globus": {"globus_endpoints": endpoints},
            "beamlines": {"bl": {**BEAMLINE, "sites": [], **sections.pop("beamline", {})}},
            **sections,
        }
        settings = Settings.model_validate(document, context=folder)
        for name in ENDPOINTS:
            (folder / name).mkdir(exist_ok=True)
            (folder / name / "README").write_text("an endpoint is never quite empty")
            os.utime(folder / name / "README", (1e9, 1e9))
        return cls(folder, bench(settings, ledger, Services(settings)), clock)

    @property
    def ledger(self) -> Ledger:
        return self.work.ledger

    def file(self, endpoint: str, path: str) -> Path:
        return self.folder / endpoint / path

    def put(self, endpoint: str, path: str, files: Mapping[str, bytes] | bytes = b"scan", **more: Any) -> CopyRecord:
        """A verified copy, of a file or of a folder with files, written an hour ago."""
        content = {"": files} if isinstance(files, bytes) else files
        for name, body in content.items():
            file = self.file(endpoint, f"{path}/{name}".rstrip("/"))
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(body)
            os.utime(file, (time.time() - 3600, time.time() - 3600))
        scan = self.ledger.scans.register(beamline="bl", path=RelativePath(path))
        sums = {name: f"sha256:{hashlib.sha256(body).hexdigest()}" for name, body in content.items()}
        values: dict[str, Any] = {
            "dataset": RAW,
            "role": Role.REPLICA,
            "method": "test",
            "verified_by": None,
            **more,
        }
        return self.ledger.copies.record(
            scan_id=scan.id,
            endpoint=endpoint,
            path=RelativePath(path),
            manifest=[FileEvidence(path=name, size=len(content[name]), checksum=sums[name]) for name in sorted(sums)],
            **values,
        )

    def state(self, copy: CopyRecord) -> CopyState:
        return self.ledger.copies.get(copy.id).state

    def look(self, *, copies: int = 1000, seconds: float = 60.0, only: str = "") -> tuple[Looks, Alarms]:
        """One pass."""
        alarms = Alarms(self.work)
        budget = Budget(copies=copies, until=time.monotonic() + seconds)
        return look_through(self.work, alarms, budget, only=only), alarms
