"""The reconstruction at NERSC, by the unmodified sfapi-client and a real Slurm."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
import yaml
from facility_room import Room, same_bytes

from orchestration.sandbox.layout import Layout
from orchestration.sandbox.slurm import requirements
from orchestration.sandbox.slurm.cluster import Cluster
from orchestration.sandbox.slurm.files import SCRATCH, USER
from orchestration.sandbox.slurm.serving import serving
from orchestration.sandbox.trials.world import World

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(600)]

PROJECT = Path(__file__).parents[2]
PREFIX = "/global/common/software/beamline-orchestration"
AT_NERSC = ("nersc832", "nersc832_alsdev_raw")
"""The first endpoint of each of its collections, for which the collection is called."""


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    if obstacle := requirements.obstacle():
        pytest.skip(obstacle)
    cluster = Cluster(tmp_path / "cluster")
    cluster.up()
    yield cluster
    cluster.remove()


def install_science(cluster: Cluster) -> str:
    """As a person does it at NERSC, on a login node; returns the interpreter."""
    script = [str(PROJECT / "scripts" / "install_science.sh"), PREFIX, "--python", "/usr/bin/python3"]
    done = subprocess.run(cluster.entering(script), capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def accounted(cluster: Cluster) -> list[str]:
    """Also what ended before midnight, of which sacct tells only when it is asked."""
    asked = ["sacct", "-X", "-n", "-P", "-S", "now-1days", "-o", "State,User,QOS,Account"]
    return cluster.command(asked).splitlines()


@pytest.fixture
def room(cluster: Cluster, tmp_path: Path) -> Iterator[Room]:
    python = install_science(cluster)
    for name in ("", "raw", "scratch", "jobs"):
        cluster.command(["install", "-d", "-o", USER, str(SCRATCH / "8.3.2" / name)])

    @contextmanager
    def at_nersc(layout: Layout) -> Iterator[str]:
        """Its collections are the file systems that jobs see, and its jobs are those of an ordinary user."""
        facility = yaml.safe_load(layout.facility_file.read_text())
        for row in facility["collections"]:
            if row["name"] in AT_NERSC:
                row["root"] = "/"
        for client in facility["superfacility"]["clients"]:
            client["user"] = USER
        settings = yaml.safe_load(layout.config_file.read_text())
        settings["globus"]["globus_endpoints"]["nersc832"].pop("mount")
        settings["compute_sites"]["nersc"] |= {
            "root": "/",
            "job_folder": str(SCRATCH / "8.3.2" / "jobs"),
            "python": python,
        }
        layout.config_file.write_text(yaml.safe_dump(settings))
        with serving(cluster, facility) as running:
            yield running.url

    with World(tmp_path / "world", real=True, serve=at_nersc) as world, closing(Room(world)) as room:
        yield room


def test_nersc_makes_the_same_bytes_as_this_machine(room: Room, cluster: Cluster) -> None:
    same_bytes(room, room.demo_scan(), "nersc:nersc_recon_flow", "nersc")
    until = time.monotonic() + 60
    while (rows := accounted(cluster)) != [f"COMPLETED|{USER}|realtime|als"]:
        assert time.monotonic() < until, rows  # accounting is behind
        time.sleep(0.2)
