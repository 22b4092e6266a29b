"""A world whose reconstructions are real, and what the same scan comes to at each site."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Mapping

from orchestration.ledger.overview import Overview, overview
from orchestration.sandbox.trials.nursery import Nursery
from orchestration.sandbox.trials.world import BEAMLINE, DELETIONS, World

FLOWS = "orchestration.flows.bl832"
NEW_FILE = f"{FLOWS}.move:process_new_832_file_flow"
LOCAL = f"{FLOWS}.local:local_recon_flow"


class Room:
    def __init__(self, world: World, environment: Mapping[str, str] | None = None) -> None:
        self.world = world
        self.nursery: Nursery = world.nursery(environment=environment)

    def close(self) -> None:
        self.nursery.close()

    def run(self, target: str, file_path: str) -> None:
        ended = self.nursery.run(target, {"file_path": file_path})
        assert ended.completed, ended

    def demo_scan(self) -> str:
        """A simulated scan, moved, and with its deletions planned as for any other."""
        made = self.nursery.run(
            "orchestration.sandbox.trials.deployments:make", {"beamline": BEAMLINE, "names": [*DELETIONS]}
        )
        assert made.completed, made
        file = self.world.root("spot832") / "raw" / "ALS-00001" / "demo scan.h5"
        file.parent.mkdir(parents=True)
        words = ["-m", "orchestration.science", "tomography", "simulate", str(file), "--size=96", "--angles=120"]
        subprocess.run([sys.executable, *words], check=True, capture_output=True)
        file_path = "/global/raw/ALS-00001/demo scan.h5"
        self.run(NEW_FILE, file_path)
        return file_path

    def results(self, name: str) -> dict[str, str]:
        """The SHA-256 of each slice and of each chunk of the volume that a reconstruction left on the server."""
        folder = self.world.root("data832_scratch") / "ALS-00001"
        files = [
            *sorted((folder / name).rglob("*.tiff")),
            *sorted(path for path in (folder / f"{name}.zarr").rglob("*") if path.is_file()),
        ]
        digests = {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
        return {str(path.relative_to(folder)).replace(name, "rec"): digest for path, digest in digests.items()}

    def overview(self, file_path: str) -> Overview:
        with self.world.ledger() as ledger:
            return overview(ledger, ledger.scans.find(file_path.removeprefix("/global/")))


def same_bytes(room: Room, file_path: str, flow: str, site: str) -> None:
    """Reconstruct here and there, and compare what came back."""
    room.run(LOCAL, file_path)
    room.run(f"{FLOWS}.{flow}", file_path)
    here, there = room.results("recdemo scan"), room.results(f"recdemo scan_{site}")
    assert len(here) > 96  # slices, and the parts of the volume
    assert there == here
    found = room.overview(file_path)
    (job,) = [operation for operation in found.operations if operation.step == f"reconstruct at {site}"]
    assert job.evidence is not None
    assert job.evidence["queue_seconds"] is not None
    assert job.evidence["run_seconds"] is not None
    assert [result.receipt.site for result in found.results] == ["local", site]
