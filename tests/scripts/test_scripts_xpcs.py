"""The client scripts of XPCS, as acquisition and people run them, against a facility and a real Prefect server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import yaml
from click.testing import CliRunner, Result
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.context import refresh_global_settings_context
from prefect.states import Completed
from prefect.states import Failed as FailedState
from xpcs_stand_in import SPOILED

from orchestration import config
from orchestration.doctor.once import once as once_more
from orchestration.doctor.once import trials
from orchestration.errors import OperationFailed, RunFailed
from orchestration.flows.aps8idi.client import Started, Until, report_all, wait
from orchestration.flows.aps8idi.finding import Source
from orchestration.flows.aps8idi.published import Publication
from orchestration.flows.runs import RunRequest
from orchestration.flows.services import Services
from orchestration.globus.published_files import PublishedFile
from orchestration.globus.publishing import Located, Reprocessing
from orchestration.ledger.service import Document
from orchestration.paths import RelativePath
from orchestration.sandbox import blueprint
from orchestration.sandbox.components import Component
from orchestration.sandbox.trials.nursery import Nursery
from orchestration.sandbox.trials.world import World
from orchestration.science.xpcs.movie import MovieDescription
from orchestration.science.xpcs.simulate import write_metadata, write_qmap, write_raw

SCRIPTS = Path(__file__).parents[2] / "scripts"
HERE = Path(__file__).parent

FLOWS = ("xpcs_online", "xpcs_reprocess", "xpcs_batch")
EXPERIMENT = "2026-3/foo202611"
POSIX = f"/gdata/dm/8IDI/{EXPERIMENT}"
RAW, QMAP = f"{POSIX}/data/a01/a01.h5", f"{POSIX}/foo_qmap.hdf"


class WholeWorld(World):
    """With all services of Prefect's server, so that it hears of the tasks of a run."""

    def _component(self, name: str) -> Component:
        found = super()._component(name)
        kept = {key: value for key, value in found.environment.items() if key != "PREFECT__SERVER_WEBSERVER_ONLY"}
        return replace(found, environment=kept)


@dataclass(frozen=True)
class Desk:
    """Where people type."""

    world: World
    nursery: Nursery

    @property
    def environment(self) -> dict[str, str]:
        return {**blueprint.clean_environment(self.world.layout), **self.world.environment}

    def start(self, script: str, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, str(SCRIPTS / f"xpcs_{script}_client.py"), *words],
            env=self.environment,
            cwd=self.world.layout.root,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, script: str, *words: str, answer: str = "") -> Result:
        """In this process, which is quicker."""
        return invoke(script, *words, answer=answer)

    def parameters(self, run_id: str) -> Document:
        with get_client(sync_client=True) as client:
            found: Document = client.read_flow_run(UUID(run_id)).parameters
        return found


def invoke(script: str, *words: str, answer: str = "") -> Result:
    sys.path.insert(0, str(SCRIPTS))
    try:
        main = import_module(f"xpcs_{script}_client").main
    finally:
        sys.path.remove(str(SCRIPTS))
    return CliRunner().invoke(main, list(words), input=answer)


def measure(source: Path) -> None:
    movie = MovieDescription(rows=32, columns=32, frames=64, photons=0.5, contrast=0.4, decay=4.0)
    folder = source / EXPERIMENT / "data" / "a01"
    folder.mkdir(parents=True)
    write_raw(folder / "a01.h5", movie, "nexus")
    write_metadata(folder / "a01_metadata.hdf", movie)
    write_qmap(source / EXPERIMENT / "foo_qmap.hdf", movie, rings=3)
    (folder.parent / "a02").mkdir()
    (source / EXPERIMENT / "old_results.hdf").touch()
    (source / "calibration").mkdir()


@contextmanager
def _desk(folder: Path) -> Iterator[Desk]:
    with WholeWorld(folder / "world", real=True) as world:
        document = yaml.safe_load(world.layout.config_file.read_text())
        document["xpcs"] |= {"settle_seconds": 0.2, "patience_seconds": 1.0}
        world.layout.config_file.write_text(yaml.safe_dump(document, sort_keys=False))
        search = os.pathsep.join([str(HERE), blueprint.clean_environment(world.layout)["PYTHONPATH"]])
        with world.nursery("xpcs_stand_in", environment={"PYTHONPATH": search}) as nursery:
            arguments: Document = {"beamline": "aps8idi", "names": [*FLOWS]}
            made = nursery.run("orchestration.sandbox.trials.deployments:make", arguments)
            assert made.completed, made
            measure(world.root("aps8idi"))
            yield Desk(world, nursery)


@pytest.fixture
def desk(once: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    found: Desk = once("desk", lambda: _desk(Path(tmp_path_factory.mktemp("xpcs"))))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in found.world.environment.items():
            patch.setenv(name, value)
        refresh_global_settings_context()
        yield found
    refresh_global_settings_context()


# ----- one dataset ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_acquisition_goes_on_once_the_results_are_back(desk: Desk, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with desk.start("corr", "--raw", RAW, "--qmap", QMAP, "--avg-frame", "2", "--wait", "results") as script:
        assert script.stdout is not None
        run_id = script.stdout.readline().split()[2]
        child = desk.nursery.start("xpcs_stand_in:carry", {"run_id": run_id, "gate": str(gate)})
        assert script.stderr is not None
        said, complained = script.stdout.read(), script.stderr.read()
    assert script.returncode == 0, complained
    assert "results are back" in said
    assert f"aps8idi_results:{EXPERIMENT}/data/a01/foo_qmap_" in said
    assert f"/runs/flow-run/{run_id}" in said
    assert desk.parameters(run_id) == {"raw": RAW, "qmap": QMAP, "options": {"avg_frame": 2}}

    gate.write_text(SPOILED)  # the run has not ended yet: now it fails
    assert child.wait().error is not None
    started = Started(request=RunRequest(deployment="xpcs_online_flow/xpcs_online"), run_id=run_id)
    with pytest.raises(RunFailed, match="the pictures were not drawn"):
        wait(started, Until.END, lambda note: None)
    assert wait(started, Until.RESULTS, lambda note: None) == "results are back"


def test_a_run_that_fails_before_has_no_results(desk: Desk, tmp_path: Path) -> None:
    ended = desk.run("corr", "--raw", RAW, "--qmap", QMAP, "--json")
    run_id = json.loads(ended.stdout)["run"]
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(UUID(run_id), FailedState(message="the raw data is truncated"), force=True)
    started = Started(request=RunRequest(deployment="xpcs_online_flow/xpcs_online"), run_id=run_id)
    with pytest.raises(OperationFailed, match="the raw data is truncated"):
        wait(started, Until.RESULTS, lambda note: None)


def test_a_dry_run_writes_what_would_be_done_and_starts_nothing(desk: Desk) -> None:
    effects = len(desk.world.facility.effects())
    ended = desk.run("corr", "--raw", RAW, "--qmap", QMAP, "--dry-run", "--batch_size", "256")
    assert ended.exit_code == 0, ended.output
    found = json.loads(ended.stdout)
    assert (found["files"], found["site"]) == (["a01.h5", "a01_metadata.hdf"], "local_xpcs")
    assert "--batch_size is ignored" in ended.stderr
    assert len(desk.world.facility.effects()) == effects


def test_what_is_computed_again_goes_to_a_folder_of_its_own(desk: Desk) -> None:
    words = ("--raw", RAW, "--qmap", QMAP, "--json")
    found = [json.loads(desk.run("corr", *words, *more).stdout) for more in ((), (), ("--overwrite",))]
    first, second, third = (each["results"] for each in found)
    assert first == second != third
    assert desk.parameters(found[2]["run"])["request"]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--output", "/tmp"), 2, "--output cannot be chosen: results lie below"),
        (("--wait", "results", "--skip-transfer-back"), 2, "no results come back"),
        (("--wait", "end", "--dry-run"), 2, "starts no run"),
        (("--walltime", "soon"), 2, "walltime 'soon' is not like"),
        (("--group", "my friends"), 2, "group 'my friends' is not the UUID of a Globus group"),
        (("--dq-selection", "5-1", "--type", "Twotime"), 2, "5-1"),
        (("--type", "TwoTime"), 2, "'TwoTime' is not one of"),
        (("--deployment", "elsewhere"), 1, "elsewhere"),
        (("--qmap", "/home/me/qmap.hdf"), 1, "'/home/me/qmap.hdf' is not below /gdata/dm/8IDI"),
        (("--raw", "a01.h5"), 1, "lies in no folder of its own"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is_started(
    words: Sequence[str], code: int, said: str, desk: Desk
) -> None:
    ended = desk.run("corr", "--raw", RAW, "--qmap", QMAP, *words)
    assert ended.exit_code == code, ended.output
    assert said in " ".join(ended.stderr.split())
    assert ended.stdout == ""


# ----- again ----------------------------------------------------------------------------------------------------------


def publish(desk: Desk, name: str, *, reprocessing: Reprocessing | None = None, experiment: str = "foo202611") -> str:
    """The final record of a dataset; its subject."""
    settings = desk.world.settings()
    subject = f"globus://portal/{name}{'' if reprocessing is None else '_again'}"
    publication = Publication(
        deployment=settings.xpcs.deployment(),
        title=name,
        dataset=name,
        experiment=experiment,
        cycle="2026-3",
        raw=Located(name=f"{name}.h5", endpoint="aps8idi", path=f"{EXPERIMENT}/data/{name}/{name}.h5"),
        qmap=Located(name="foo_qmap.hdf", endpoint="aps8idi", path=f"{EXPERIMENT}/foo_qmap.hdf"),
        parent=f"{EXPERIMENT}/data",
        parameters={},
        taken=datetime(2026, 11, 20, tzinfo=UTC),
        reprocessing=reprocessing,
    )
    picture = PublishedFile(
        filename="a.png",
        url=f"{subject}/a.png",
        https_url="",
        mime_type="image/png",
        length=1,
        sha256="0" * 64,
    )
    index = settings.search.index("xpcs")
    request = publication.final(index, subject, metadata={}, files=[picture])
    with trials() as ledger, closing(Services(settings)) as services:
        once_more(ledger, request, services.globus_publish, place=index.place, seconds=30.0).run()
    return subject


def test_published_datasets_are_correlated_again_one_or_all_of_an_experiment(desk: Desk) -> None:
    subjects = [publish(desk, name) for name in ("p01", "p02")]
    publish(desk, "p01", reprocessing=Reprocessing(original=subjects[0], suffix="_x"))
    words = ("--qmap", QMAP, "--suffix", "_finer", "--json")
    one = json.loads(desk.run("reproc", subjects[0], *words).stdout)["runs"]
    assert desk.parameters(one[0]["run"]) == {"subject": subjects[0], "qmap": QMAP, "suffix": "_finer"}
    of_all = ("--experiment", "foo202611", "--cycle", "2026-3", *words)
    declined = desk.run("reproc", *of_all, answer="n\n")
    assert declined.stdout == ""
    assert "2 records" in declined.stderr
    runs = json.loads(desk.run("reproc", *of_all, "--yes").stdout)["runs"]
    assert [desk.parameters(each["run"])["subject"] for each in runs] == subjects


@pytest.mark.slow
def test_all_that_is_correlated_again_is_waited_for_and_one_that_failed_is_named(desk: Desk) -> None:
    subjects = [publish(desk, name, experiment="more202611") for name in ("w01", "w02")]
    of_all = ("--experiment", "more202611", "--qmap", QMAP, "--suffix", "_waited", "--yes")
    with desk.start("reproc", *of_all, "--wait", "end") as script:
        assert script.stdout is not None
        runs = [script.stdout.readline().split()[2] for _ in subjects]
        with get_client(sync_client=True) as client:
            failed: State[None] = FailedState(message="the raw data is truncated")
            client.set_flow_run_state(UUID(runs[0]), failed, force=True)
            client.set_flow_run_state(UUID(runs[1]), Completed(), force=True)
        said, complained = script.communicate(timeout=60)
    assert script.returncode == 1, complained
    assert f"run {runs[0]}: run xpcs_reprocess: w01" in complained
    assert "the raw data is truncated" in complained
    assert said.startswith(f"run {runs[1]}: the run has completed: http")
    assert said.endswith(f"/runs/flow-run/{runs[1]}\n")


def test_a_program_that_waits_for_runs_is_told_of_each(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    subject = publish(desk, "j01", experiment="told202611")
    ended = desk.run("reproc", subject, "--qmap", QMAP, "--suffix", "_told", "--json")
    (run,) = json.loads(ended.stdout)["runs"]
    assert run["failed"] is None
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(UUID(run["run"]), FailedState(message="no space"), force=True)
    started = Started(request=RunRequest(deployment=run["deployment"]), run_id=run["run"], page=run["url"])
    with pytest.raises(SystemExit) as left:
        report_all([started], Until.END, as_json=True)
    assert left.value.code == 1
    told = json.loads(capsys.readouterr().out)
    assert told["waited_for"] == "end"
    assert "no space" in told["runs"][0]["failed"]


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("globus://nobody/knows",), 1, "no record of 'globus://nobody/knows'"),
        ((), 1, "every record of the index"),
        (("--experiment", "bar"), 1, "no final record fits"),
        (("some", "--search", "thing"), 2, "either a SUBJECT"),
        (("some", "--wait", "end", "--dry-run"), 2, "starts no run"),
        (("some", "--wait", "results", "--skip-transfer-back"), 2, "no results come back"),
    ],
)
def test_a_reprocessing_of_nothing_is_refused(words: Sequence[str], code: int, said: str, desk: Desk) -> None:
    ended = desk.run("reproc", *words, "--qmap", QMAP)
    assert (ended.exit_code, said in ended.stderr) == (code, True), ended.output


# ----- many -----------------------------------------------------------------------------------------------------------


def test_one_looks_at_what_there_is(desk: Desk) -> None:
    assert desk.run("batch", "list-cycles").stdout.split() == ["2026-3"]
    assert desk.run("batch", "list-experiments", "2026-3").stdout.split() == ["foo202611"]
    assert desk.run("batch", "list-qmaps", POSIX).stdout.split() == [QMAP]
    assert json.loads(desk.run("batch", "list-datasets", f"{EXPERIMENT}/data", "--json").stdout) == ["a01", "a02"]
    nothing = desk.run("batch", "list-qmaps", f"{EXPERIMENT}/data")
    assert (nothing.exit_code, nothing.stdout, nothing.stderr) == (0, "", "nothing of that kind is there\n")
    missing = desk.run("batch", "list-datasets", "2026-3/bar")
    assert (missing.exit_code, "there is no folder 2026-3/bar" in missing.stderr) == (1, True)


def test_storage_that_is_not_mounted_is_listed_by_globus(desk: Desk, tmp_path: Path) -> None:
    document = yaml.safe_load(desk.world.layout.config_file.read_text())
    document["globus"]["globus_endpoints"]["aps8idi"].pop("mount")
    elsewhere = tmp_path / "config.yml"
    elsewhere.write_text(yaml.safe_dump(document))
    settings = config.load(elsewhere)
    with closing(Services(settings)) as services:
        source = Source(services=services, settings=settings, deployment=settings.xpcs.deployment())
        assert source.cycles() == ["2026-3"]
        assert source.folders(f"{EXPERIMENT}/data") == ("a01", "a02")
        assert source.qmaps(EXPERIMENT) == [QMAP]


def test_a_dry_run_of_a_batch_that_would_fail_ends_with_1_and_says_which(desk: Desk) -> None:
    words = ("batch", "run", f"{EXPERIMENT}/data", "--dataset", "a01", "--dry-run", "--qmap")
    assert desk.run(*words, QMAP).exit_code == 0
    ended = desk.run(*words, f"{EXPERIMENT}/no_qmap.hdf")
    assert ended.exit_code == 1
    assert json.loads(ended.stdout)["a01"]["error"] == "SourceMissing"


def test_a_batch_is_started_looked_at_and_tried_again(desk: Desk) -> None:
    words = ("--qmap", QMAP, "--dataset", "a01", "--run-batch-size", "7", "--type", "Both", "--json")
    ended = desk.run("batch", "run", f"{EXPERIMENT}/data", *words)
    assert desk.parameters(json.loads(ended.stdout)["run"]) == {
        "folder": f"{EXPERIMENT}/data",
        "qmap": QMAP,
        "datasets": ["a01"],
        "run_batch_size": 7,
        "active_runs_limit": 20,
        "max_blocks": 5,
        "options": {"type": "Both"},
    }
    batch = "0a1b2c3d4e5f6071"
    with desk.world.ledger() as ledger:
        ledger.batches.begin(
            id=batch,
            flow="xpcs_batch_flow",
            beamline="aps8idi",
            name="foo",
            parameters={},
            run_id="r",
            items={"a01": {}, "a02": {}},
        )
        scan = ledger.scans.register(beamline="aps8idi", path=RelativePath(f"{EXPERIMENT}/data/a01"))
        ledger.batches.take(batch, "a01", scan_id=scan.id)
        ledger.batches.fail(batch, "a01", OperationFailed("the job ended badly", where="here"))
    lines = desk.run("batch", "status", batch[:8], "--csv").stdout.splitlines()
    assert lines[1].startswith("a01,failed,1,the job ended badly (here)")
    again = json.loads(desk.run("batch", "retry", batch[:8], "--json").stdout)
    assert desk.parameters(again["run"])["batch"] == batch
    with desk.world.ledger() as ledger:
        for name in ("a01", "a02"):
            ledger.batches.take(batch, name, scan_id=scan.id)
            ledger.batches.done(batch, name, evidence={})
    over = desk.run("batch", "retry", batch)
    assert (over.exit_code, "nothing that could be tried again" in over.stderr) == (1, True)
