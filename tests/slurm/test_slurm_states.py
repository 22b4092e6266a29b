"""How jobs of a real Slurm end, as the unmodified client sees it through the stand-in."""

from __future__ import annotations

import re

import pytest
from slurm_lab import Lab, client_library, until

from orchestration.sandbox.slurm import namespace
from orchestration.sandbox.superfacility.local import options
from orchestration.sandbox.superfacility.scheduler import EndState

pytestmark = pytest.mark.slurm

SLEEP = "sleep 300"


@pytest.mark.parametrize(
    ("commands", "options", "state", "exitcode"),
    [
        ("true", (), "COMPLETED", "0:0"),
        ("exit 3", (), "FAILED", "3:0"),
        ("kill -SEGV $$", (), "FAILED", "0:11"),
        ("true", ("--output=/nowhere/log",), "FAILED", "0:53"),
    ],
    ids=["well", "by-its-code", "by-a-signal", "without-a-log"],
)
def test_a_job_ends_by_itself(lab: Lab, commands: str, options: tuple[str, ...], state: str, exitcode: str) -> None:
    job = lab.submit(commands, *options)
    assert lab.ended(job, state) == exitcode


def test_a_failing_step_is_the_end_of_a_careful_script_only(lab: Lab) -> None:
    """Scripts that go on after a failed srun are COMPLETED: what the exit code alone is worth."""
    failing = "srun podman-hpc run --volume /nowhere:/data microct true"
    careless, careful = lab.submit(f"{failing}\ndate"), lab.submit(f"set -e\n{failing}\ndate")
    assert lab.ended(careless) == "0:0"
    assert lab.ended(careful, "FAILED") == "125:0"


def test_a_cancelled_job(lab: Lab) -> None:
    job = lab.submit(SLEEP)
    job.running(timeout=120)
    job.cancel()
    lab.ended(job, "CANCELLED")
    waiting = lab.submit(SLEEP, "--hold")
    waiting.cancel()
    lab.ended(waiting, "CANCELLED")


def test_a_job_that_needs_more_memory_than_it_asked_for(lab: Lab) -> None:
    if not namespace.groups_possible():
        pytest.skip("this machine's control groups limit no memory of jobs")
    job = lab.submit('python3 -c "b = bytearray(600 << 20)"', "--mem=50")
    lab.ended(job, "OUT_OF_MEMORY")


def test_a_job_whose_node_fails_never_ends_for_the_client(lab: Lab) -> None:
    job = lab.submit(SLEEP, "--no-requeue")
    job.running(timeout=120)
    lab.facility.client.superfacility.end_job(job.jobid, EndState.NODE_FAIL)
    lab.ended(job, "NODE_FAIL")
    with pytest.raises(TimeoutError):
        job.complete(timeout=2)


def test_a_job_past_its_time_limit(lab: Lab) -> None:
    job = lab.submit(SLEEP)
    job.running(timeout=120)
    lab.facility.client.superfacility.end_job(job.jobid, EndState.TIMEOUT)
    lab.ended(job, "TIMEOUT")


def test_a_preempted_job(lab: Lab) -> None:
    whole = ("--exclusive", "--nodelist=nid002000", "--constraint=gpu", "--partition=realtime")
    job = lab.submit(SLEEP, "--qos=preempt", *whole)
    job.running(timeout=120)
    urgent = lab.submit("true", *whole)
    lab.ended(job, "PREEMPTED")
    lab.ended(urgent)


def test_a_job_that_is_put_back_begins_again(lab: Lab) -> None:
    lab.scratch("began").unlink(missing_ok=True)
    job = lab.submit("echo x >>began; [ $(wc -l <began) -ge 2 ] || sleep 300", "--requeue")
    until(lab.scratch("began").exists)
    lab.cluster.command(("scontrol", "requeue", job.jobid))
    assert lab.machine.job(job.jobid, "squeue").state.value in {"PENDING", "COMPLETING", "REQUEUED", "RUNNING"}
    lab.ended(job)
    assert lab.scratch("began").read_text() == "x\nx\n"


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ("--qos=sunday", "Invalid qos specification"),
        ("--account=nobody", "Invalid account or account/partition combination specified"),
        ("--constraint=quantum", "Invalid feature specification"),
        ("--constraint=", "You must specify node features with -C"),
        ("--nodes=100", "Node count specification invalid"),
        ("--time=9999", "Requested time limit is invalid"),
        ("--gpus=64", "Requested node configuration is not available"),
        ("--reservation=never", "Requested reservation is invalid"),
    ],
)
def test_slurm_says_itself_why_it_takes_no_job(lab: Lab, option: str, text: str) -> None:
    with pytest.raises(client_library().SfApiError, match=text):
        lab.submit("true", option)


def test_a_job_longer_than_its_quality_of_service_allows(lab: Lab) -> None:
    with pytest.raises(client_library().SfApiError, match="QOSMaxWallDurationPerJobLimit"):
        lab.submit("true", "--qos=debug", "--time=60")


def test_gpus_are_given_to_tasks(lab: Lab) -> None:
    job = lab.submit(
        "srun --ntasks=4 --gpus-per-task=1 sh -c 'echo $CUDA_VISIBLE_DEVICES' | sort >gpus",
        *("--constraint=gpu", "--gpus=4", "--ntasks=4", "--mem=1000"),
    )
    lab.ended(job)
    assert sorted(set(lab.scratch("gpus").read_text().split())) == ["0", "1", "2", "3"]


def test_jobs_wait_while_the_machine_is_held(lab: Lab) -> None:
    control = lab.facility.client.superfacility
    control.turn(held=True)
    try:
        job = lab.submit("true")
        until(lambda: lab.machine.job(job.jobid, "squeue").reason == "PartitionDown")
    finally:
        control.turn(held=False)
    lab.ended(job)


def test_every_option_of_sbatch_is_one_that_the_facility_reads(lab: Lab) -> None:
    """Or it would not know the name of a job that Slurm has taken."""
    shown = lab.cluster.command(("sbatch", "--help"))
    names = set(re.findall(r"^ +(?:-\w, )?--([a-z-]+)", shown, re.MULTILINE)) - {"help", "usage", "version"}
    assert len(names) > 60
    for name in names:
        assert name in options.read(f"#!/bin/sh\n#SBATCH --{name}=1\n")
