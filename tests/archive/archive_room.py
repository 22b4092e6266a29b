"""Where proposals are archived: the file system of NERSC, the tape archive, and flows in processes of their own."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import uuid
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import yaml

from orchestration.ledger.copy import CopyRecord, Role
from orchestration.ledger.manifests import FileEvidence
from orchestration.ledger.operation import Event, OperationRecord
from orchestration.ledger.scan import Scan
from orchestration.ledger.service import Json
from orchestration.paths import RelativePath
from orchestration.sandbox.superfacility.local.hpss import OBJECTS
from orchestration.sandbox.trials.kills import Ended, Kill
from orchestration.sandbox.trials.nursery import Nursery
from orchestration.sandbox.trials.world import BEAMLINE, World

STORE = "orchestration.flows.bl832.archive:cfs_to_hpss_flow"
ARCHIVE, SOURCE = "hpss832", "nersc832"
APRIL_2026, AUGUST_2026 = 1_775_000_000, 1_786_000_000


@dataclass(frozen=True)
class Room:
    world: World
    nursery: Nursery

    def calm(self) -> None:
        self.world.facility.superfacility.archive_fails()
        self.world.facility.faults.clear()
        self.settle({})

    def settle(
        self, changes: dict[str, Json], *, always: bool = False, tape: bool = False, patience: float = 60.0
    ) -> None:
        """What `archives.hpss832` says for the flows that are started from now on; NERSC's copies may go at once."""
        document = yaml.safe_load(self.world.layout.config_file.read_text())
        usual = {"member_limit": "65GB", "bundle_limit": "2TB", "read_again_days": 180}
        document["archives"][ARCHIVE] |= {**usual, **changes}
        rule = {"after_days": 0, "requires": {"any_of": [ARCHIVE]}, "evidence_days": 0 if always else None}
        document["retention"][SOURCE] = rule
        document["retention"].pop(ARCHIVE, None)
        if tape:
            document["retention"][ARCHIVE] = {"after_days": 0, "requires": {"any_of": [SOURCE]}}
        document["transfer"]["min_seconds"] = patience  # so long a look waits for an answer
        self.world.layout.config_file.write_text(yaml.safe_dump(document))

    def project(self) -> str:
        """A new proposal."""
        return f"ALS-{uuid.uuid4().hex[:8]}"

    @property
    def cfs(self) -> Path:
        return self.world.root(SOURCE)

    def file(self, project: str, name: bytes, content: bytes, *, at: float = APRIL_2026) -> Path:
        path = Path(os.fsdecode(os.path.join(os.fsencode(self.cfs / "raw" / project), name)))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        os.utime(path, (at, at))
        return path

    def scan(self, project: str, name: str, content: bytes, *, inside: str = "") -> Scan:
        """One that was carried to NERSC before: a file, or a folder with that file in it."""
        self.file(project, (f"{name}/{inside}" if inside else name).encode(), content)
        path = RelativePath(f"raw/{project}/{name}")
        digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
        with self.world.ledger() as ledger:
            scan = ledger.scans.register(beamline=BEAMLINE, path=path, fingerprint=f"{len(content)}:1")
            ledger.copies.record(
                scan_id=scan.id,
                dataset="raw",
                endpoint=SOURCE,
                path=path,
                role=Role.REPLICA,
                manifest=[FileEvidence(path=inside, size=len(content), checksum=digest)],
                method="globus.transfer",
                verified_by=None,
                version=scan.fingerprint,
            )
        return scan

    def known(self, project: str, name: str) -> Scan:
        with self.world.ledger() as ledger:
            return ledger.scans.register(beamline=BEAMLINE, path=RelativePath(f"raw/{project}/{name}"))

    def run(self, target: str, file_path: str, *, kill: Kill | None = None, **arguments: Json) -> Ended:
        return self.nursery.run(target, {"file_path": file_path, **arguments}, kill=kill)

    def store(self, project: str, *, kill: Kill | None = None, **arguments: Json) -> Ended:
        return self.run(STORE, f"/global/raw/{project}", kill=kill, **arguments)

    def prune(self, scan: Scan, *, kill: Kill | None = None) -> Ended:
        """Delete the copy at NERSC, which is due."""
        with self.world.ledger() as ledger:
            for copy in self.copies(scan, SOURCE):
                ledger.copies.schedule_all([(copy, ledger.now() - 1.0)])
        words: dict[str, Json] = {"relative_path": scan.path.text, "dry_run": False}
        return self.nursery.run(f"orchestration.flows.bl832.prune:prune_{SOURCE}", words, kill=kill)

    def age(self, scan: Scan, *, days: float) -> None:
        """What is on tape of it was stored, and read back, so long ago."""
        for file in (self.tape / scan.path.text.split("/")[1]).iterdir():
            os.utime(file, (file.stat().st_atime, file.stat().st_mtime - days * 86_400))
        path = self.world.layout.root / "ledger.sqlite"
        with closing(sqlite3.connect(path)) as database, database:
            query = "update copies set verified_at = verified_at - ? where scan_id = ? and endpoint = ?"
            database.execute(query, (days * 86_400, scan.id, ARCHIVE))

    def readings(self, scan: Scan) -> int:
        """How often it was read back."""
        with self.world.ledger() as ledger:
            known = ledger.operations.of_scan(scan.id)
        return sum(each.step.startswith("read raw back") for each in known)

    def copies(self, scan: Scan, endpoint: str = ARCHIVE) -> Sequence[CopyRecord]:
        with self.world.ledger() as ledger:
            return [copy for copy in ledger.copies.of_scan(scan.id) if copy.endpoint == endpoint]

    def folder(self, project: str) -> Scan:
        with self.world.ledger() as ledger:
            return ledger.scans.register(beamline=BEAMLINE, path=RelativePath(f"raw/{project}"))

    def operations(self, project: str) -> Sequence[OperationRecord]:
        with self.world.ledger() as ledger:
            return ledger.operations.of_scan(self.folder(project).id)

    def permissions(self, project: str) -> Sequence[Event]:
        with self.world.ledger() as ledger:
            return [*ledger.operations.permissions(self.folder(project).id).values()]

    @property
    def tape(self) -> Path:
        """The root of the archive, as the stand-in keeps it."""
        root = self.world.settings().archive(ARCHIVE).root
        return self.world.layout.root / "facility" / "superfacility" / "hpss" / OBJECTS / root.lstrip("/")

    def stored(self, project: str) -> set[str]:
        folder = self.tape / project
        return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}

    def flip(self, name: str, part: bytes) -> None:
        """One bit of what is stored of a file with this in it."""
        byte = (self.tape / name).read_bytes().index(part) + len(part) // 2
        self.world.facility.superfacility.flip(f"{self.world.settings().archive(ARCHIVE).root}/{name}", byte=byte)
