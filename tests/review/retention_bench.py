"""A scan with copies on two folders of this machine, of which one may be deleted."""

from __future__ import annotations

import hashlib
import os
import time
from dataclasses import dataclass, field
from pathlib import Path

from orchestration.config import Endpoint, RetentionRule, Settings
from orchestration.errors import ChecksumMismatch
from orchestration.ledger import Ledger
from orchestration.ledger.copy import RAW, CopyRecord, Proven, Role
from orchestration.ledger.manifests import FileEvidence
from orchestration.ledger.operation import Operation
from orchestration.ledger.scan import Scan
from orchestration.local.files import inspect, is_empty
from orchestration.paths import QUARANTINE, RelativePath
from orchestration.retention import Case, Proof, prove
from orchestration.transfers import DeleteRequest, FileFacts

PATH = RelativePath("raw/p/scan.h5")
DAY = 24 * 3600.0


@dataclass
class Eyes:
    """Looks at the folders; computes checksums of single files, and remembers of which."""

    settings: Settings
    ledger: Ledger
    computed: list[str] = field(default_factory=list)
    catalogue: set[str] = field(default_factory=set)

    def look(self, endpoint: Endpoint, path: RelativePath) -> FileFacts | None:
        return inspect(endpoint, path)

    def is_empty(self, endpoint: Endpoint) -> bool:
        return is_empty(endpoint)

    def checked(self, copy: CopyRecord) -> CopyRecord:
        self.computed.append(copy.endpoint)
        content = self.settings.endpoint(copy.endpoint).local_path(copy.path).read_bytes()
        if copy.manifest[0].checksum != f"sha256:{hashlib.sha256(content).hexdigest()}":
            raise ChecksumMismatch("its sha256 checksums are not what they were")
        return self.ledger.copies.verified(copy, method="sha256 computed again")

    def catalogued(self, scan_id: str) -> bool:
        return scan_id in self.catalogue


@dataclass(frozen=True)
class Bench:
    settings: Settings
    ledger: Ledger
    scan: Scan
    eyes: Eyes

    @classmethod
    def at(cls, folder: Path, ledger: Ledger) -> Bench:
        endpoints = {
            name: {"root_path": f"/{name}", "mount": str(folder / name)} for name in ("source", "server", "archive")
        }
        endpoints["server_raw"] = {"root_path": "/server/raw", "mount": str(folder / "server" / "raw")}
        rule = {"after_days": 0.0, "requires": {"any_of": ["server", "server_raw", "archive"], "min_copies": 1}}
        settings = Settings.model_validate(
            {"globus": {"globus_endpoints": endpoints}, "retention": {"source": rule}}, context=folder
        )
        for name in endpoints:
            (folder / name).mkdir(parents=True, exist_ok=True)
        scan = ledger.scans.register(beamline="bl832", path=PATH)
        return cls(settings, ledger, scan, Eyes(settings, ledger))

    def file(self, endpoint: str, path: RelativePath = PATH) -> Path:
        return self.endpoint(endpoint).local_path(path)

    def endpoint(self, name: str) -> Endpoint:
        return self.settings.endpoint(name)

    def put(
        self,
        endpoint: str,
        content: bytes = b"scan",
        *,
        role: Role = Role.REPLICA,
        path: RelativePath = PATH,
        dataset: str = RAW,
    ) -> CopyRecord:
        """A verified copy, written a minute ago."""
        file = self.file(endpoint, path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        os.utime(file, (time.time() - 60, time.time() - 60))
        facts = inspect(self.endpoint(endpoint), path)
        assert facts is not None
        checksum = f"sha256:{hashlib.sha256(content).hexdigest()}"
        return self.ledger.copies.record(
            scan_id=self.scan.id,
            dataset=dataset,
            endpoint=endpoint,
            path=path,
            role=role,
            manifest=[FileEvidence(path="", size=len(content), checksum=checksum)],
            method="test",
            verified_by=None,
            version=facts.version if role is Role.ORIGINAL else self.original_version(),
        )

    def original_version(self) -> str:
        facts = inspect(self.endpoint("source"), PATH)
        return "" if facts is None else facts.version

    def prove(self, copy: CopyRecord, *, days_later: float = 0.0, **rule: object) -> Proof:
        """`rule` is what differs from the settings."""
        known = self.settings.retention_rule(copy.endpoint, copy.dataset)
        assert isinstance(known, RetentionRule)
        case = Case(
            copy=copy,
            rule=known.model_validate({**known.model_dump(), **rule}),
            others=self.ledger.copies.of_scan(self.scan.id),
            holds=self.ledger.holds.standing(copy.scan_id),
            open_operations=[],
            results=self.ledger.results.of_scan(self.scan.id),
            now=self.ledger.now() + days_later * DAY,
        )
        return prove(case, settings=self.settings, inspector=self.eyes)

    def begin(self, copy: CopyRecord, witness: CopyRecord) -> str:
        """Begin the deletion of a copy for which another stands; why it could not be, or nothing."""
        proven = Proven(copy=copy, witnesses=(witness,))
        refused = self.ledger.copies.begin_deletion([proven], self._deletion(copy), service="local.delete")
        return "".join(why.what for why in refused.values())

    def set_aside(self, copy: CopyRecord) -> CopyRecord:
        """Into quarantine, as if its deletion had been proved."""
        aside = RelativePath(f"{QUARANTINE}/2026-11-29/{copy.id}-1/{copy.path.name}")
        self.ledger.copies.begin_deletion(
            [Proven(copy=copy)], self._deletion(copy), service="local.rename", aside=aside
        )
        self.ledger.quarantine.entered(copy, delete_after=0.0)
        self.file(copy.endpoint, aside).parent.mkdir(parents=True)
        self.file(copy.endpoint, copy.path).rename(self.file(copy.endpoint, aside))
        return self.ledger.copies.get(copy.id)

    def _deletion(self, copy: CopyRecord) -> Operation[DeleteRequest]:
        endpoint = self.endpoint(copy.endpoint)
        return Operation(
            scan=self.scan,
            step=f"delete at {endpoint.name}",
            request=DeleteRequest(endpoint=endpoint, paths=(copy.path,)),
            destination=endpoint.place,
            deadline=60.0,
        )
