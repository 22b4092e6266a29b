"""Jobs end as Slurm's do."""

from __future__ import annotations

import os
import time
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from superfacility_lab import HEAD, Lab, SfApiError, alive, running_lab, until

from orchestration.sandbox.superfacility.local.options import seconds
from orchestration.sandbox.superfacility.scheduler import EndState

SLEEP = "touch started; exec sleep 60"


def test_a_job_is_followed_by_the_client_until_it_completes(lab: Lab) -> None:
    job = lab.machine.submit_job(
        f"{HEAD}#SBATCH -J demo --comment key=1\n#SBATCH -o {lab.folder}/%x-%j.txt\necho hello\n"
    )
    assert job.complete(timeout=60) == "COMPLETED"
    assert (lab.folder / f"demo-{job.jobid}.txt").read_text() == "hello\n"
    told = lab.machine.job(job.jobid)
    assert (told.state, told.exitcode, told.jobname, told.account) == ("COMPLETED", "0:0", "demo", "als")
    assert (told.qos, told.comment, told.user, told.timelimit) == ("realtime", "key=1", "alsdev", "00:05:00")
    assert lab.machine.jobs(user="alsdev") == []  # not in the queue any more


def test_a_running_job_is_in_the_queue_and_in_the_accounts(lab: Lab) -> None:
    job = lab.submit(SLEEP, "-J demo", f"-D {lab.folder}")
    lab.running(job, mark="started")
    (row,) = lab.machine.jobs(user="alsdev", partition="realtime")
    assert (row.jobid, row.name, row.state, row.st, row.work_dir) == (job, "demo", "RUNNING", "R", str(lab.folder))
    assert lab.machine.job(job).state == "RUNNING"
    assert lab.machine.jobs(user="nobody") == lab.machine.jobs(partition="gpu_ss11") == []
    found = lab.machine.jobs(jobids=[job, 99_999_999])
    assert [each.jobid for each in found] == [job]


@pytest.mark.parametrize(
    ("commands", "state", "code"),
    [
        ("exit 3", "FAILED", "3:0"),
        ("kill -SEGV $$", "FAILED", "0:11"),
        ("sleep 60 & exit 0", "COMPLETED", "0:0"),
        ("nosuchcommand", "FAILED", "127:0"),
        ("srun -n 2 --cpu-bind=cores false; date", "COMPLETED", "0:0"),
        ("set -e; srun -n2 -c 4 sh -c 'exit 7'; date", "FAILED", "7:0"),
        ("srun nosuchcommand", "FAILED", "2:0"),
    ],
)
def test_the_exit_code_of_the_script_decides(lab: Lab, commands: str, state: str, code: str) -> None:
    info = lab.ended(lab.submit(commands))
    assert (info.state, info.exit) == (state, code)


def test_a_job_whose_output_cannot_be_written_fails_without_a_word(lab: Lab) -> None:
    job = str(lab.machine.submit_job(f"{HEAD}#SBATCH -o {lab.folder}/missing/%j.log\ntrue\n").jobid)
    assert (lab.ended(job).state, lab.ended(job).exit) == ("FAILED", "0:53")
    assert list(lab.folder.iterdir()) == []


def test_error_and_output_go_where_they_are_told(lab: Lab) -> None:
    job = lab.submit("echo out; echo err >&2", f"-e {lab.folder}/%j.err", f"--chdir={lab.folder}")
    lab.ended(job)
    assert (lab.log(job), (lab.folder / f"{job}.err").read_text()) == ("out\n", "err\n")


def test_a_job_finds_what_slurm_gives_it(lab: Lab) -> None:
    asked = '"$SLURM_JOB_ID $SLURM_JOB_NAME $SLURM_CPUS_PER_TASK $USER $SLURM_NNODES" "$HOME" "$PWD"'
    job = lab.submit(f"printf '%s\\n' {asked} $EXTRA; which srun", "-J some", "-c 8", "--export=ALL,EXTRA=more")
    lab.ended(job)
    first, home, here, extra, srun = lab.log(job).splitlines()
    assert (first, home, here) == (f"{job} some 8 alsdev 1", str(lab.home), str(lab.home))
    assert (extra, Path(srun).name) == ("more", "srun")
    secrets = [name for name in os.environ if name.startswith(("PYTEST_", "BEAMLINE_"))]
    assert not [name for name in secrets if name in lab.log(job)]


def test_a_directory_that_is_not_there_is_told_and_left(lab: Lab) -> None:
    job = lab.submit("pwd", "-D /no/such/place")
    assert lab.ended(job).state == "COMPLETED"
    assert "couldn't chdir" in lab.log(job)
    assert lab.log(job).endswith("/tmp\n")


def test_a_job_is_stopped_at_the_end_of_its_time_first_politely(lab: Lab) -> None:
    job = lab.submit("trap 'echo asked' TERM; sleep 60 & wait; wait", "-t 0:01")
    assert (lab.ended(job).state, lab.ended(job).exit) == ("TIMEOUT", "0:0")
    (row,) = lab.client.get(f"compute/jobs/perlmutter/{job}", {"sacct": True}).json()["output"]
    assert datetime.fromisoformat(row["end"]) - datetime.fromisoformat(row["start"]) >= timedelta(seconds=1)
    assert "asked" in lab.log(job)
    assert "DUE TO TIME LIMIT" in lab.log(job)


def test_cancelling_ends_a_job_with_all_that_it_started(lab: Lab) -> None:
    job = lab.submit("setsid sleep 61 & echo $! > child; touch started; sleep 60", f"-D {lab.folder}")
    lab.running(job, mark="started")
    found = lab.machine.jobs(jobids=[job])[0]
    found.cancel(wait=True)
    info = lab.ended(job)
    assert (info.state, info.exit) == (f"CANCELLED by {os.getuid()}", "0:0")
    child = int((lab.folder / "child").read_text())
    until(lambda: not alive(child))
    assert "CANCELLED AT" in lab.log(job)


def test_a_job_that_does_not_listen_is_killed(lab: Lab) -> None:
    job = lab.submit("trap '' TERM; touch started; while true; do sleep 0.1; done", f"-D {lab.folder}")
    lab.running(job, mark="started")
    lab.client.delete(f"compute/jobs/perlmutter/{job}")
    assert lab.ended(job).state.startswith("CANCELLED")


def test_a_pending_job_is_cancelled_without_having_run(lab: Lab) -> None:
    lab.control.turn(held=True)
    job = lab.submit("touch ran", f"-D {lab.folder}")
    assert lab.machine.jobs(jobids=[job])[0].state == "PENDING"
    lab.client.delete(f"compute/jobs/perlmutter/{job}")
    assert until(lambda: lab.ended(job)).state.startswith("CANCELLED by")
    lab.control.turn(held=False)
    assert lab.ended(lab.submit("true")).state == "COMPLETED"
    assert not (lab.folder / "ran").exists()


def result(lab: Lab, task: str) -> str | None:
    found: str | None = lab.client.get(f"tasks/{task}").json()["result"]
    return found


def test_cancelling_what_is_over_or_unknown_changes_nothing(lab: Lab) -> None:
    job = lab.submit("true")
    lab.ended(job)
    for each, status in ((job, "ok"), ("12", "error")):
        task = lab.client.delete(f"compute/jobs/perlmutter/{each}").json()["task_id"]
        assert f'"status": "{status}"' in until(partial(result, lab, task))
    assert lab.state(job) == "COMPLETED"


@pytest.mark.parametrize("state", list(EndState))
def test_a_running_job_can_be_made_to_end_in_any_state(lab: Lab, state: EndState) -> None:
    job = lab.submit(SLEEP, f"-D {lab.folder}")
    lab.running(job, mark="started")
    lab.control.end_job(job, state)
    info = lab.ended(job)
    assert info.state.split()[0] == state
    assert info.exit == {"FAILED": "1:0", "OUT_OF_MEMORY": "0:125"}.get(state.value, "0:0")
    assert lab.machine.job(job).state == state


def test_a_job_can_be_ended_at_any_moment_of_its_beginning(lab: Lab) -> None:
    for number in range(6):
        job = lab.submit("exec sleep 60")
        time.sleep(number * 0.008)  # the moments are the test: from before its supervisor runs to after
        lab.control.end_job(job, "NODE_FAIL" if number % 2 else "CANCELLED")
        assert lab.ended(job).state.split()[0] in {"NODE_FAIL", "CANCELLED"}


def test_a_pending_job_can_be_made_to_end_too(lab: Lab) -> None:
    lab.control.turn(held=True)
    job = lab.submit("true")
    lab.control.end_job(job, "DEADLINE")
    assert lab.state(job) == "DEADLINE"
    with pytest.raises(ValueError, match="no job"):
        lab.control.end_job("7", "FAILED")


REJECTED = {
    "Invalid qos specification": "#!/bin/bash\n#SBATCH -q fast -A als -C cpu\n",
    "Invalid account or account/partition": "#!/bin/bash\n#SBATCH -q debug -A nobody -C cpu\n",
    "Invalid feature specification": "#!/bin/bash\n#SBATCH -q debug -A als -C knl\n",
    "You must specify node features": "#!/bin/bash\n#SBATCH -q debug -A als\n",
    "time limit is invalid": "#!/bin/bash\n#SBATCH -q debug -A als -C cpu -t 2-0\n",
    "Invalid --time": "#!/bin/bash\n#SBATCH -q debug -A als -C cpu --time=soon\n",
    "Node count": "#!/bin/bash\n#SBATCH -q debug -A als -C cpu -N 9\n",
    "node configuration": "#!/bin/bash\n#SBATCH -q debug -A als -C cpu -c 300\n",
    "invalid partition": "#!/bin/bash\n#SBATCH -q debug -A als -C cpu -p none\n",
    "unrecognized option '--colour'": "#!/bin/bash\n#SBATCH --colour=red\n",
    "invalid option -- 'Z'": "#!/bin/bash\n#SBATCH -Z\n",
    "requires an argument": "#!/bin/bash\n#SBATCH --qos\n",
    "ambiguous": "#!/bin/bash\n#SBATCH --no\n",
    "Invalid numeric value": "#!/bin/bash\n#SBATCH -q debug -A als -C cpu -N many\n",
    "dependency problem": "#!/bin/bash\n#SBATCH -q debug -A als -C cpu -d whenever\n",
    "DOS line breaks": "#!/bin/bash\r\n#SBATCH -q debug\r\n",
    "job array": "#!/bin/bash\n#SBATCH -q debug -A als -C cpu --array=0-3\n",
}


@pytest.mark.parametrize("why", REJECTED)
def test_a_script_that_slurm_would_refuse_is_refused_in_its_words(lab: Lab, why: str) -> None:
    with pytest.raises(SfApiError, match="sbatch: ") as refused:
        lab.machine.submit_job(REJECTED[why] + "true\n")
    assert why in str(refused.value)
    assert (lab.control.jobs(), lab.facility.client.effects("job")) == ([], [])


def test_options_end_at_the_first_command_and_the_last_one_counts(lab: Lab) -> None:
    script = (
        "#!/bin/bash\n# a comment\n#SBATCH -qregular --account als # as always\n\n#SBATCH -Ccpu -J one --job-n=two\n"
    )
    job = lab.machine.submit_job(f"{script}#SBATCH -o /dev/null\ntrue\n#SBATCH -J three\n#SBATCH -q nonsense\n")
    info = lab.ended(job.jobid)
    assert (info.name, info.state) == ("two", "COMPLETED")


def test_a_script_at_the_facility_is_submitted_with_its_arguments(lab: Lab) -> None:
    path = lab.folder / "job.sh"
    path.write_text(f'{HEAD}#SBATCH -o {lab.folder}/%j.log\nprintf "<%s>" "$@"\n')
    job = lab.machine.submit_job(str(path), args=["a b", "$HOME"])
    assert lab.ended(job.jobid).name == "job.sh"
    assert lab.log(job.jobid) == "<a b><$HOME>"


def test_only_so_many_jobs_run_and_the_urgent_ones_begin_first(lab: Lab) -> None:
    lab.control.turn(held=True)
    wait = f"until test -e {lab.folder}/go; do sleep 0.02; done"
    jobs = [lab.submit(wait, f"-q {quality}") for quality in ("regular", "debug", "regular", "realtime")]
    assert {lab.state(job) for job in jobs} == {"PENDING"}
    lab.control.turn(held=False)
    until(lambda: [lab.state(job) for job in jobs] == ["PENDING", "RUNNING", "PENDING", "RUNNING"])
    (lab.folder / "go").touch()
    assert {lab.ended(job).state for job in jobs} == {"COMPLETED"}
    started = [effect.id for effect in lab.facility.client.effects("job-start")]
    assert started == [jobs[3], jobs[1], jobs[0], jobs[2]]


def test_each_submission_is_an_effect_under_its_name(lab: Lab) -> None:
    jobs = [lab.submit("true", "-J key") for _ in range(2)]
    effects = lab.facility.client.effects("job")
    assert [(effect.id, effect.key, effect.label) for effect in effects] == [(job, "key", "alsdev") for job in jobs]


def test_jobs_wait_for_others_as_they_say(lab: Lab) -> None:
    bad = lab.submit(f"until test -e {lab.folder}/go; do sleep 0.02; done; exit 1", "-J same")
    after = lab.submit("true", f"--dependency=afterany:{bad}")
    never = lab.submit("true", f"--dependency=afterok:{bad}")
    single = lab.submit("true", "-J same", "--dependency=singleton")
    lab.running(bad)
    assert {lab.state(job) for job in (after, never, single)} == {"PENDING"}
    (lab.folder / "go").touch()
    assert lab.ended(after).state == lab.ended(single).state == "COMPLETED"
    until(lambda: lab.machine.jobs(jobids=[never])[0].reason == "DependencyNeverSatisfied")


def test_a_job_that_cannot_end_before_its_deadline_never_begins(lab: Lab) -> None:
    lab.control.turn(held=True)
    late = lab.submit("true", "-t 0:10", "--deadline=now+11")
    held = lab.submit("true", "--begin=now+1hour")
    assert lab.ended(late).state == "DEADLINE"
    lab.control.turn(held=False)
    until(lambda: lab.machine.jobs(jobids=[held])[0].reason == "BeginTime")


def test_containers_are_run_without_one_and_missing_images_and_volumes_are_noticed(lab: Lab) -> None:
    image, here = "ghcr.io/als/microct:v1", lab.folder
    good = lab.submit(
        f"srun -n 1 podman-hpc run --rm --gpu -e A=1 --volume {here}:{here} {image} sh -c 'echo podman $A'\n"
        f"srun shifter --image=docker:{image} --volume={here}:{here} sh -c 'echo shifter'\n"
        f"apptainer exec --bind {here} docker://{image} sh -c 'echo apptainer'"
    )
    assert lab.ended(good).state == "COMPLETED"
    assert lab.log(good) == "podman 1\nshifter\napptainer\n"
    unknown = lab.submit("podman-hpc run --rm docker.io/other:1 true")
    missing = lab.submit(f"podman-hpc run -v /no/such:/data {image} true")
    assert lab.ended(unknown).exit == lab.ended(missing).exit == "125:0"
    assert "image not known" in lab.log(unknown)


def test_many_jobs_are_asked_for_at_once(tmp_path: Path) -> None:
    with running_lab(tmp_path) as lab:
        lab.control.turn(held=True)
        jobs = [lab.submit("true") for _ in range(20)]
        asked = ",".join(jobs)
        parameters = {"sacct": "true", "kwargs": [f"jobid={asked}"]}
        rows = lab.client.get("compute/jobs/perlmutter", parameters).json()["output"]
        assert [row["jobid"] for row in rows] == jobs
        part = lab.client.get("compute/jobs/perlmutter", parameters | {"index": 5, "limit": 3}).json()["output"]
        assert [row["jobid"] for row in part] == jobs[5:8]
        (one,) = lab.client.get(f"compute/jobs/perlmutter/{jobs[3]}").json()["output"]
        assert one["state"] == "PENDING"
        lab.facility.client.reset()


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("5", 300),
        ("0:05", 5),
        ("1:02:03", 3723),
        ("1-2", 93_600),
        ("1-2:3", 93_780),
        ("1-2:3:4", 93_784),
        ("UNLIMITED", float("inf")),
        ("0", float("inf")),
        ("soon", None),
        ("1:2:3:4", None),
    ],
)
def test_times_are_read_as_slurm_reads_them(text: str, length: float | None) -> None:
    assert seconds(text) == length
