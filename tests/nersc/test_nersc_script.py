"""Scripts as sbatch and bash read them."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from orchestration.config import Container, NerscSite
from orchestration.errors import ConfigError, InvalidInput
from orchestration.jobs import JobSpec, Resources
from orchestration.nersc.script import BatchScript, job_name, outside, token_of
from orchestration.remote import Launch
from orchestration.sandbox.superfacility.local import options

HOSTILE = [
    "plain",
    "two words",
    "it's",
    '"; touch pwned; "',
    "$(touch pwned)",
    "`touch pwned`",
    "${HOME}",
    "\n#SBATCH --qos=premium\n",
    "\nexit 0\n",
    "#SBATCH --account=other",
    "-rf",
    "--",
    "*",
    "\\",
    "ü\u202e\t",
    "a'\"'b",
    "!!",
    "EOF",
]


def site(**changes: Any) -> NerscSite:
    words = {
        "kind": "nersc",
        "raw_endpoint": "raw",
        "scratch_endpoint": "scratch",
        "job_folder": "/pscratch/sd/a/alsdev/jobs",
        "python": sys.executable,
        "queue": "realtime",
        "account": "als",
        "constraint": "cpu",
    }
    return NerscSite.model_validate(words | changes).known_as("perlmutter")


def spec(**changes: Any) -> JobSpec:
    words: dict[str, Any] = {"executable": "/bin/true", "directory": "/tmp", "duration": 600.0}
    return JobSpec(**words | changes)


def script(spec: JobSpec, site: NerscSite, token: str = "key-1") -> str:
    return BatchScript(launch=Launch(site=site, spec=spec, token=token), site=site).text


def test_the_options_are_those_of_the_site_and_the_job() -> None:
    resources = Resources(nodes=2, cores=128, processes_per_node=4, gpus=4, memory=1_500_000_000, exclusive=True)
    text = script(spec(resources=resources, queue="debug", reservation="beamtime", start_within=60.0), site())
    found = dict(options.read(text).values)
    assert found == {
        "job-name": "beamline.key-1",
        "output": "/pscratch/sd/a/alsdev/jobs/key-1.log",
        "error": "/pscratch/sd/a/alsdev/jobs/key-1.log",
        "open-mode": "append",
        "qos": "debug",
        "account": "als",
        "constraint": "cpu",
        "reservation": "beamtime",
        "nodes": "2",
        "ntasks-per-node": "4",
        "cpus-per-task": "32",
        "gpus-per-node": "4",
        "mem": "1431M",
        "exclusive": "",
        "time": "12",
        "deadline": f"now+{60 + 12 * 60}",
        "no-requeue": "",
    }


def test_what_is_not_asked_for_is_no_option() -> None:
    found = options.read(script(spec(), site(queue="", account="", constraint=""))).values
    assert not {"qos", "account", "constraint", "reservation", "mem", "exclusive", "gpus-per-node"} & set(found)


def test_every_job_has_time_for_its_report_within_what_the_queue_gives() -> None:
    limit = site(walltime={"maximum_seconds": 3600})
    longest = limit.walltime.seconds(10**15)
    assert longest == 3600 - 120
    assert options.read(script(spec(duration=longest), limit)).text("time") == "60"
    assert options.read(script(spec(duration=10.0), limit)).text("time") == "3"
    assert limit.walltime.seconds(0) == 900
    assert site(walltime={"maximum_seconds": 60}).walltime.seconds(0) == 30


def run_by_bash(tmp_path: Path, job: JobSpec) -> None:
    found = site(job_folder=str(tmp_path / "jobs"))
    text = script(job, found)
    (tmp_path / "jobs").mkdir()
    plain = replace(job, arguments=(), directory="/tmp", environment={}, name="")
    assert options.read(text) == options.read(script(plain, found))
    subprocess.run(["bash", "-s"], input=text, text=True, cwd=tmp_path, check=True, capture_output=True, timeout=60)


def test_hostile_words_arrive_as_they_are_and_do_nothing_else(tmp_path: Path) -> None:
    program = "import json, os, sys; open('seen', 'w').write(json.dumps([sys.argv[1:], os.environ['WORD']]))"
    everything = "".join(HOSTILE)
    job = JobSpec(
        executable=sys.executable,
        arguments=("-c", program, *HOSTILE, *(f"x{name}" for name in HOSTILE), everything),
        directory=str(tmp_path / "work"),
        duration=60.0,
        environment={"WORD": everything},
        name=everything,
    )
    run_by_bash(tmp_path, job)
    assert json.loads((tmp_path / "work" / "seen").read_text()) == [list(job.arguments[2:]), everything]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["jobs", "work"]


@pytest.mark.parametrize("name", ["it's", "$(touch pwned)", "\n#SBATCH --qos=premium\n", "-rf", "*"])
def test_a_program_of_a_hostile_name_in_a_folder_of_that_name_is_run(tmp_path: Path, name: str) -> None:
    program = tmp_path / "bin" / f"{name}.sh"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\ntouch seen\n")
    program.chmod(0o755)
    run_by_bash(tmp_path, spec(executable=str(program), directory=str(tmp_path / name)))
    assert (tmp_path / name / "seen").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["bin", "jobs", name])


@pytest.mark.parametrize("value", ["a b", "x\n#SBATCH --qos=premium", "$(id)", "a'b", 'a"b', "a#b", "a;b", "\\"])
@pytest.mark.parametrize("field", ["queue", "account", "constraint", "reservation"])
def test_a_hostile_option_is_refused(field: str, value: str) -> None:
    with pytest.raises(InvalidInput, match=field):
        script(spec(**{field: value}), site())


@pytest.mark.parametrize("folder", ["/jobs of als", "/jobs/%u", "/jobs\n#SBATCH", "/jobs/'"])
def test_a_folder_that_slurm_would_not_understand_is_refused(folder: str) -> None:
    with pytest.raises(ConfigError, match="job_folder"):
        script(spec(), site(job_folder=folder))


def test_an_image_is_no_option_of_the_engine() -> None:
    container = Container(engine="podman-hpc", image="registry/als:1", volumes={"/alsdata": "/global/cfs"})
    with pytest.raises(InvalidInput, match="image"):
        script(spec(container="--volume=/:/x"), site(container=container))
    assert " --volume /global/cfs:/alsdata registry/als:1 " in script(spec(), site(container=container))


def test_slurm_and_the_api_call_the_folder_by_the_facilitys_own_name() -> None:
    volumes = {"/data": "/global/cfs/cdirs/als", "/data/jobs": "/pscratch/sd/a/alsdev/jobs"}
    inside = site(job_folder="/data/jobs/832", container={"engine": "shifter", "image": "als:1", "volumes": volumes})
    assert options.read(script(spec(), inside)).text("output") == "/pscratch/sd/a/alsdev/jobs/832/key-1.log"
    assert outside(inside, "/data/raw") == "/global/cfs/cdirs/als/raw"
    assert outside(inside, "/data") == "/global/cfs/cdirs/als"
    assert outside(inside, "/database") == "/database"


def test_orders_that_no_command_line_holds_are_refused() -> None:
    with pytest.raises(InvalidInput, match="too long"):
        script(spec(arguments=("x" * 130_000,)), site())


def test_the_name_of_a_job_tells_whose_it_is() -> None:
    assert token_of(job_name("0a1b-2")) == "0a1b-2"
    assert token_of("beamline") is None
    assert token_of("sbatch") is None
