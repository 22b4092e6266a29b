"""A scan with copies on two folders of this machine, of which one may be deleted."""

from __future__ import annotations

import hashlib
import os
import time
from dataclasses import dataclass
from pathlib import Path

from orchestration.config import Endpoint, RetentionRule, Settings
from orchestration.ledger import Ledger
from orchestration.ledger.copies import CopyRecord, Proven, Role
from orchestration.ledger.manifests import FileEvidence
from orchestration.ledger.operation import Operation
from orchestration.ledger.scan import Scan
from orchestration.local.files import inspect
from orchestration.paths import RelativePath
from orchestration.retention import Proof, prove
from orchestration.transfers import DeleteRequest

PATH = RelativePath("raw/p/scan.h5")


@dataclass(frozen=True)
class Bench:
    settings: Settings
    ledger: Ledger
    scan: Scan

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
        return cls(settings, ledger, scan)

    def file(self, endpoint: str, path: RelativePath = PATH) -> Path:
        return self.endpoint(endpoint).local_path(path)

    def endpoint(self, name: str) -> Endpoint:
        return self.settings.endpoint(name)

    def put(
        self, endpoint: str, content: bytes = b"scan", *, role: Role = Role.REPLICA, path: RelativePath = PATH
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
            dataset="raw",
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

    def prove(self, copy: CopyRecord, *, min_copies: int = 1) -> Proof:
        rule = self.settings.retention_rule(copy.endpoint)
        assert isinstance(rule, RetentionRule)
        requires = rule.requires.model_copy(update={"min_copies": min_copies})
        return prove(
            copy,
            rule=rule.model_copy(update={"requires": requires}),
            others=self.ledger.copies.of_scan(self.scan.id),
            holds=self.ledger.holds.standing(copy.scan_id),
            open_operations=[],
            settings=self.settings,
            look=inspect,
        )

    def begin(self, copy: CopyRecord, witness: CopyRecord) -> str:
        """Begin the deletion of a copy for which another stands; why it could not be, or nothing."""
        endpoint = self.endpoint(copy.endpoint)
        operation = Operation(
            scan=self.scan,
            step=f"delete at {endpoint.name}",
            request=DeleteRequest(endpoint=endpoint, paths=(copy.path,)),
            destination=endpoint.place,
            deadline=60.0,
        )
        proven = Proven(copy=copy, witnesses=(witness,))
        refused = self.ledger.copies.begin_deletion([proven], operation, service="local.delete")
        return "".join(why.what for why in refused.values())
