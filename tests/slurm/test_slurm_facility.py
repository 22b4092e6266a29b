"""What is at the facility besides its jobs: files, containers, and an end of everything."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import sys
from pathlib import Path

import httpx
import pytest
from slurm_lab import Lab, client_library, until

from orchestration.errors import ConfigError, OperationFailed
from orchestration.sandbox.slurm import namespace
from orchestration.sandbox.slurm.cluster import Cluster
from orchestration.sandbox.slurm.files import HOME, SCRATCH, USER_ID
from orchestration.science.tomography.simulate import ScanDescription, write_scan

pytestmark = pytest.mark.slurm

IMAGE = "ghcr.io/als-computing/microct:master"


class Named(io.BytesIO):
    """What the client takes for a file to send."""

    filename = ""


def inside(cluster: Cluster) -> list[int]:
    """The processes that live in a cluster."""
    numbers = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]
    return [number for number in numbers if namespace.is_inside(cluster.files, number)]


def test_a_scan_is_reconstructed_in_a_container(lab: Lab) -> None:
    lab.folder("raw")
    write_scan(lab.scratch("raw/scan.h5"), ScanDescription(width=64, height=4, angles=90))
    job = lab.submit(
        "set -euo pipefail\n"
        f"srun podman-hpc run --rm --volume {SCRATCH}/raw:/alsdata:ro --volume {SCRATCH}:/alsuser {IMAGE}"
        " python -m orchestration.science tomography reconstruct /alsdata/scan.h5 --out /alsuser/done --progress none",
        *("--exclusive", "--cpus-per-task=64", "--account=als", "--nodes=1", "--mem=8000"),
    )
    lab.ended(job)
    done = lab.scratch("done")
    assert len(list((done / "recscan").glob("*.tiff"))) == 4
    assert json.loads((done / "recscan.json").read_text())
    assert {path.stat().st_uid for path in done.rglob("*")} == {USER_ID}


def test_a_job_without_a_container_runs_the_same_programs(lab: Lab) -> None:
    job = lab.submit(f"{sys.executable} -P -m orchestration.science --help >help", "--mem=1000")
    lab.ended(job)
    assert "tomography" in lab.scratch("help").read_text()


def test_a_container_sees_its_volumes_and_nothing_else_of_the_facility(lab: Lab) -> None:
    lab.folder("seen")
    job = lab.submit(
        f"srun podman-hpc run --volume {SCRATCH}/seen:/data -e GIVEN=1 -e KEY=a=b {IMAGE} sh -c"
        " 'exec >/data/printed 2>&1; ls -d /data /pscratch /global /facility; id -u; echo $GIVEN $KEY [$SLURM_JOB_ID]'"
    )
    lab.ended(job)
    printed = lab.scratch("seen/printed").read_text().splitlines()
    assert "/data" in printed
    assert sum("cannot access" in line for line in printed) == 3
    assert printed[-2:] == ["0", "1 a=b []"]


def test_a_program_in_a_container_is_told_to_end_before_it_is_killed(lab: Lab) -> None:
    lab.folder("told")
    job = lab.submit(
        f"srun podman-hpc run --volume {SCRATCH}/told:/data {IMAGE} sh -c"
        " 'trap \"touch /data/tidied; exit 0\" TERM; touch /data/begun; while :; do sleep 0.1; done'"
    )
    until(lab.scratch("told/begun").exists)
    job.cancel()
    until(lab.scratch("told/tidied").exists)
    lab.ended(job, "CANCELLED")


def test_files_go_in_and_out_by_the_api_only(lab: Lab) -> None:
    assert not Path("/pscratch").exists()
    assert not Path("/global").exists()
    [home] = lab.machine.ls(str(HOME), directory=True)
    content = Named(b"sent \xff")
    content.filename = "upload"
    home.upload(content)
    assert lab.home("upload").read_bytes() == b"sent \xff"
    [sent] = lab.machine.ls(f"{HOME}/upload")
    assert sent.user == "alsdev"
    assert sent.download(binary=True).read() == b"sent \xff"


def test_the_kernel_says_what_a_user_may_do(lab: Lab) -> None:
    error = client_library().SfApiError
    with pytest.raises(error, match="Permission denied"):
        lab.machine.run("cat /facility/etc/slurmdbd.conf")
    with pytest.raises(error, match="Permission denied"):
        lab.machine.run(["touch", "/global/cfs/mine"])
    assert "uid=48321(alsdev)" in lab.machine.run("id")


def test_a_controller_that_is_gone_is_told_and_its_jobs_run_on(lab: Lab) -> None:
    job = lab.submit("until [ -e go ]; do sleep 0.2; done; touch survived")
    job.running(timeout=120)
    controller = int((lab.cluster.files.run / "slurmctld.pid").read_text())
    os.kill(controller, signal.SIGTERM)
    until(lambda: not Path(f"/proc/{controller}").exists())
    answer = httpx.get(
        f"{lab.facility.nersc_environment()['SFAPI_API_URL']}/compute/jobs/perlmutter",
        params={"sacct": "false", "kwargs": f"jobid={job.jobid}"},
        headers={"Authorization": f"Bearer {lab.machine.client.token}"},
        timeout=60.0,  # the client library would ask again after ten seconds
    ).json()
    assert answer["status"] == "ERROR"
    assert "Unable to contact slurm controller" in answer["error"]
    lab.cluster.command(("slurmctld",))
    lab.scratch("go").touch()
    lab.ended(job)
    assert lab.scratch("survived").exists()


def test_two_clusters_run_side_by_side_and_end_alone(lab: Lab, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    other = Cluster(tmp_path / "other")
    request.addfinalizer(other.remove)
    other.up()
    try:
        other.command(
            ("runuser", "-u", "alsdev", "--", "sbatch", "-C", "cpu", "-q", "realtime", "-D", str(SCRATCH)),
            stdin=f"#!/bin/bash\nsrun podman-hpc run {IMAGE} sh -c 'sleep 300'\n",
        )
        until(lambda: other.command(("squeue", "-h", "-o", "%T")).strip() == "RUNNING")
        lab.ended(lab.submit("true"))
        group = other.files.read().group
        members = inside(other)
        assert len(members) > 7
        for number in members[:4]:  # a crash, whatever that takes along
            with contextlib.suppress(ProcessLookupError):
                os.kill(number, signal.SIGKILL)
    finally:
        assert other.down()
    assert inside(other) == []
    assert not group or not list(Path("/sys/fs/cgroup").glob(f"*/{group}"))
    assert not other.down()
    with pytest.raises(OperationFailed, match="no cluster runs there"):
        other.command(("squeue",))
    lab.ended(lab.submit("true"))
    other.up()
    assert other.command(("sinfo", "-h", "-o", "%R")).split()
    other.remove()
    assert not (tmp_path / "other").exists()


def test_a_facility_outside_a_cluster_says_where_it_belongs(lab: Lab, tmp_path: Path) -> None:
    from orchestration.sandbox.slurm.scheduler import SlurmScheduler
    from orchestration.sandbox.superfacility.settings import SuperfacilitySettings

    with pytest.raises(ConfigError, match="there is no cluster here"):
        SlurmScheduler(SuperfacilitySettings(scheduler="slurm")).open()
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "thesis.tex").touch()
    with pytest.raises(ConfigError, match="holds something else"):
        Cluster(folder).up()
    assert (folder / "thesis.tex").exists()
    with pytest.raises(ConfigError, match="neither started nor ended from inside"):
        Cluster(Path("/facility")).up()


def test_a_cluster_is_not_ended_by_one_of_its_own_processes(lab: Lab) -> None:
    ending = (sys.executable, "-m", "orchestration.sandbox.slurm", "down", str(lab.cluster.files.root))
    with pytest.raises(OperationFailed, match="neither started nor ended from inside"):
        lab.cluster.command(ending)
    assert lab.cluster.running


RESET = """
from orchestration.sandbox.slurm.scheduler import SlurmScheduler
from orchestration.sandbox.superfacility.scheduler import Query, Script
from orchestration.sandbox.superfacility.settings import SuperfacilitySettings

scheduler = SlurmScheduler(SuperfacilitySettings())
scheduler.open()
script = Script(text="#!/bin/bash\\n#SBATCH -C cpu -q realtime\\nsleep 300\\n")
print(len(scheduler.queue("alsdev", Query(jobs=(scheduler.submit("alsdev", script).id,)))))
scheduler.reset()
print(len(scheduler.accounting("root", Query())))
print(scheduler.submit("alsdev", script).id in [row.fields["jobid"] for row in scheduler.queue("alsdev", Query())])
scheduler.reset()
"""


def test_a_reset_ends_all_jobs_and_forgets_them(lab: Lab) -> None:
    assert lab.cluster.command((sys.executable, "-c", RESET)).split() == ["1", "0", "True"]
    until(lambda: not lab.cluster.command(("squeue", "-h")))
