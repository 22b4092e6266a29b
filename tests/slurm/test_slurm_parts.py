"""Parts of the cluster that need no Slurm to be looked at."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from orchestration.sandbox.slurm import configuration, namespace, podman_hpc, tables
from orchestration.sandbox.slurm.configuration import Ports
from orchestration.sandbox.slurm.files import Files, Record
from orchestration.sandbox.slurm.podman_hpc import Image, Refusal
from orchestration.sandbox.slurm.scheduler import SlurmScheduler
from orchestration.sandbox.superfacility.scheduler import Accepted, Script
from orchestration.sandbox.superfacility.settings import SuperfacilitySettings

IMAGE = Image(search=("/env/bin",), visible=("/env",), environment=())


def test_tables_have_their_columns_in_lower_case_and_the_last_of_each_name() -> None:
    rows = tables.parse("JOBID|STATE|JOBID\n1|RUNNING|2\n", separator="|", submitted="submit_time")
    assert [dict(row.fields) for row in rows] == [{"jobid": "2", "state": "RUNNING"}]
    assert tables.parse("", separator="|", submitted="submit_time") == []


def test_a_command_of_several_lines_stays_in_its_row() -> None:
    text = "JobID|SubmitLine|End|Submit|State\n7|sbatch a\nb|2026-01-02T00:00:00|2026-01-01T00:00:00|CANCELLED by 5\n"
    [row] = tables.parse(text, separator="|", submitted="submit")
    assert row.fields["submitline"] == "sbatch a\nb"
    assert row.ended == pytest.approx(row.submitted + 86_400)


def test_a_job_that_waits_has_no_end() -> None:
    [row] = tables.parse("State|End|Submit\nPENDING|Unknown|Unknown\n", separator="|", submitted="submit")
    assert (row.ended, row.submitted) == (None, 0.0)


def test_ports_are_all_different_and_those_of_before_where_they_are_free() -> None:
    chosen = configuration.take_ports(())
    assert len(set(chosen)) == 2 + len(configuration.NODES)
    assert configuration.take_ports(chosen) == chosen
    assert f"SlurmctldPort={chosen[0]}" in configuration.slurm_conf(Ports.of(chosen), groups=False)


def test_the_name_of_a_job_is_known_although_the_controller_falls_silent(tmp_path: Path) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, text in (("sbatch", "cat >/dev/null; echo 'a warning'; echo '7;perlmutter'"), ("squeue", "exit 1")):
        (programs / name).write_text(f"#!/bin/sh\n{text}\n")
        (programs / name).chmod(0o755)
    scheduler = SlurmScheduler(SuperfacilitySettings(scheduler="slurm", path=f"{programs}:/usr/bin:/bin"))
    user = pwd.getpwuid(os.getuid()).pw_name
    text = "#!/bin/bash\n#SBATCH -C cpu -J beamline.key-1\ntrue\n"
    assert scheduler.submit(user, Script(text=text)) == Accepted(id="7", name="beamline.key-1")
    assert scheduler.submit(user, Script(text="#!/bin/bash\n")) == Accepted(id="7", name="sbatch")
    script = tmp_path / "job.sh"
    script.write_text("#!/bin/bash\n")
    assert scheduler.submit(user, Script(path=str(script))) == Accepted(id="7", name="job.sh")


def test_what_only_root_can_reach_is_shown_below_a_cover(tmp_path: Path) -> None:
    closed = tmp_path / "root"
    inner = closed / "pyenv" / "3.11"
    inner.mkdir(parents=True)
    home = closed / "cluster"
    home.mkdir()
    opened = [path for path in [tmp_path, *tmp_path.parents] if not path.stat().st_mode & 0o001]
    closed.chmod(0o700)
    expected = opened[-1] if opened else closed
    options = namespace._visibility([inner, inner / "lib"], home=home)
    assert options == [f"cover:{expected}", f"show:{home}", f"show:{inner}"]
    assert namespace._visibility([Path("/usr")], home=home) == []


def test_the_record_of_a_cluster_survives(tmp_path: Path) -> None:
    files = Files.at(tmp_path)
    assert files.read() == Record()
    files.write(Record(ports=(1, 2), group="g"))
    assert files.read() == Record(ports=(1, 2), group="g")


def test_a_container_is_read_as_podman_reads_it(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    words = [
        "--rm",
        "-v",
        f"{tmp_path}/sub:/data/sub:ro",
        f"--volume={tmp_path}:/data",
        "--env",
        "A=b=c",
        "image",
        "ls",
    ]
    run = podman_hpc.parse([*words, "--color"])
    assert (run.image, run.command, run.environment) == ("image", ["ls", "--color"], {"A": "b=c"})
    bound = podman_hpc.sandboxed(run, IMAGE)
    outer, inner = bound.index("/data"), bound.index("/data/sub")
    assert outer < inner, "a volume is not hidden by one that contains it"
    assert (bound[outer - 2], bound[inner - 2]) == ("--bind", "--ro-bind")
    assert bound[-2:] == ["ls", "--color"]
    assert "SLURM_JOB_ID" not in podman_hpc.environment(run, IMAGE)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--volume", "/nowhere/at/all:/data", "image", "ls"], "statfs /nowhere/at/all: no such file"),
        (["--volume", "/tmp:data", "image", "ls"], "must be an absolute path"),
        (["--volume"], "flag needs an argument"),
        (["--rm"], "requires at least 1 arg"),
    ],
)
def test_podmans_refusals(words: list[str], text: str) -> None:
    with pytest.raises(Refusal, match=text):
        podman_hpc.parse(words)


def test_podman_ends_with_its_own_code_where_it_refuses(capsys: pytest.CaptureFixture[str]) -> None:
    assert podman_hpc.main(["launch"]) == 125
    assert "unrecognized command" in capsys.readouterr().err
    assert podman_hpc.main(["pull", "image"]) == 0
