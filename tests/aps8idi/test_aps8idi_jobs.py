"""The job that the options of a run give, as its facility gets it: asked of the batch system, told to the program."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jinja2
import jsonschema
import pytest
import yaml
from jinja2.sandbox import SandboxedEnvironment

from orchestration import config
from orchestration.config import ComputeSite, Credentials, GlobusComputeSite, IriSite, NerscSite, RemoteSite, Settings
from orchestration.errors import InvalidInput
from orchestration.flows.aps8idi.checking import Checked
from orchestration.flows.aps8idi.jobs import correlating
from orchestration.flows.aps8idi.many import job_of
from orchestration.flows.aps8idi.measurement import Measurement
from orchestration.flows.aps8idi.options import Options
from orchestration.flows.aps8idi.payload import Payload
from orchestration.flows.aps8idi.products import Correlation, Qmap
from orchestration.globus.compute import GlobusCompute
from orchestration.globus.compute_job import order
from orchestration.globus.endpoints.layout import lay_out
from orchestration.iri.request import document, launch_of
from orchestration.jobs import JobSpec
from orchestration.ledger.operation import Operation
from orchestration.ledger.scan import Scan
from orchestration.nersc.script import BatchScript
from orchestration.paths import RelativePath
from orchestration.remote import Launch
from orchestration.sandbox.blueprint import project_config
from orchestration.sandbox.superfacility.local import options as sbatch
from orchestration.sandbox.testing import submit
from orchestration.science.xpcs import options as of_program
from orchestration.science.xpcs.correlate import Request
from orchestration.science.xpcs.correlate_cli import correlate
from orchestration.science.xpcs.frames import Selection
from orchestration.science.xpcs.parameters import Parameters
from orchestration.science.xpcs.tasks import read_tasks
from orchestration.transfers import FileFacts

POLARIS, NERSC, LOCAL = "polaris_xpcs", "nersc", "local_xpcs"

FOLDER = RelativePath("2026-3/foo202611/data/a01")
FACTS = FileFacts(
    is_directory=True, size=1_100_000, modified=1.8e9, manifest=(("a01.h5", 1_000_000), ("a01_metadata.hdf", 100_000))
)
MEASUREMENT = Measurement(folder=FOLDER, raw="a01.h5", parts=("a01.h5",), metadata="a01_metadata.hdf", facts=FACTS)
SCAN = Scan(
    id="scan",
    beamline="aps8idi",
    path=FOLDER,
    fingerprint=FACTS.version,
    export_controlled=False,
    facts={},
    registered_at=1.8e9,
)

QUEUED = Options(queue="debug", walltime="0:30:00", nodes=2)

CHOSEN = Options(
    type="Both",
    begin_frame=-32,
    avg_frame=2,
    normalize_frame=False,
    dq_selection="1,3-4",
    smooth="dqmap",
    save_g2=True,
    num_partial_g2=2,
    crop_ratio_threshold=0.25,
    gpu_id=2,
)
PARAMETERS = Parameters(
    type="Both",
    frames=Selection(begin=-32, average=2),
    normalize_frame=False,
    dq_selection="1,3-4",
    smooth="dqmap",
    save_G2=True,
    num_partial_g2=2,
    crop_ratio_threshold=0.25,
    gpu_id=2,
)
"""The same, as the program knows them."""


@dataclass(frozen=True)
class Bench:
    settings: Settings

    def site(self, name: str) -> Any:
        """Of the project's settings; there is none that is asked by the IRI API."""
        return _iri(self.settings.site(NERSC)) if name == "iri" else self.settings.site(name)

    def checked(self, site: ComputeSite, options: Options) -> Checked:
        given = {"raw": FOLDER.text, "qmap": "2026-3/qmaps/q.hdf", "suffix": "_b"}
        payload = Payload.parse(self.settings, given, options)
        source = self.settings.endpoint(payload.deployment.source)
        qmap = Qmap(endpoint=source, path=payload.qmap, facts=FileFacts(is_directory=False, size=9, modified=1.8e9))
        correlation = Correlation(
            measurement=MEASUREMENT, qmap=qmap, folder=payload.result_folder, options=options, suffix=payload.suffix
        )
        return Checked(
            payload=payload,
            site=site,
            plot_site=site,
            source=source,
            results=None,
            index=None,
            correlation=correlation,
        )

    def operation(self, site: ComputeSite, options: Options) -> Operation[JobSpec]:
        return correlating(self.settings, SCAN, site, self.checked(site, options).correlation).operation

    def job(self, site: ComputeSite, options: Options) -> JobSpec:
        return self.operation(site, options).request


def _iri(site: ComputeSite) -> IriSite:
    """The same computer by another interface."""
    assert isinstance(site, NerscSite)
    shared = ("raw_endpoint", "scratch_endpoint", "job_folder", "python", "queue", "account", "constraint", "cores")
    words = {name: getattr(site, name) for name in shared}
    return IriSite.model_validate(
        {**words, "kind": "iri", "api_url": "https://api.iri.nersc.gov", "resource": "perlmutter"}
    ).known_as("iri")


@pytest.fixture
def bench() -> Bench:
    found, problems = config.inspect(project_config())
    assert found is not None, problems
    return Bench(found)


# ----- what the adapters make of it -----------------------------------------------------------------------------------


def launch(site: RemoteSite, spec: JobSpec) -> Launch:
    return Launch(site=site, spec=spec, token="key-1")


def batch_script(site: NerscSite, spec: JobSpec) -> str:
    return BatchScript(launch=launch(site, spec), site=site).text


def endpoint_options(site: GlobusComputeSite, spec: JobSpec) -> dict[str, object]:
    """The `user_endpoint_config` of the job's task."""
    return GlobusCompute(site, Credentials())._options(spec)


def provider(endpoint: Path, options: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the endpoint program at ALCF asks its batch system with: as it does, by its schema and its template."""
    site = {"BEAMLINE_SCIENCE": "/eagle/science", "BEAMLINE_ENDPOINT": "/home/endpoint", "BEAMLINE_ACCOUNT": "none"}
    found = lay_out("alcf", "compute", endpoint, site)
    jsonschema.validate(dict(options), json.loads((found.folder / "user_config_schema.json").read_text()))
    environment = SandboxedEnvironment(
        undefined=jinja2.StrictUndefined, loader=jinja2.FileSystemLoader(found.folder), autoescape=False
    )
    template = environment.from_string((found.folder / "user_config_template.yaml.j2").read_text())
    quoted = {name: json.dumps(value) if isinstance(value, str) else value for name, value in options.items()}
    rendered = yaml.safe_load(template.render(**quoted, _GC={"env": found.environment, "user_runtime": {}}))
    asked: Mapping[str, Any] = rendered["engine"]["provider"]
    return asked


def orders(site: RemoteSite, spec: JobSpec) -> Mapping[str, Any]:
    """What the runner at the site is told: taken from what its facility is given."""
    match site:
        case NerscSite():
            text = shlex.split(batch_script(site, spec).splitlines()[-1])[-1]
        case GlobusComputeSite():
            text = str(order(launch(site, spec), 0.0)["input"])
        case IriSite():
            arguments = document(site, launch_of(site, spec, "key-1"))["arguments"]
            assert isinstance(arguments, list)
            text = str(arguments[-1])
    found: Mapping[str, Any] = json.loads(text)
    return found


def understood(arguments: Sequence[str]) -> Request:
    """What the program makes of its command line."""
    program = ["-m", "orchestration.science", "xpcs", "correlate"]
    assert list(arguments[:4]) == program
    found = correlate.make_context("correlate", list(arguments[4:])).params
    return of_program.request(found, overwrite=found["overwrite"])


# ----- the batch system -----------------------------------------------------------------------------------------------


def test_queue_and_nodes_reach_the_batch_system_behind_globus_compute(bench: Bench, tmp_path: Path) -> None:
    site = bench.site(POLARIS)
    usual, asked = (endpoint_options(site, bench.job(site, each)) for each in (Options(), QUEUED))
    assert usual == {**site.options, "queue": "demand", "account": "APSDataProcessing"}
    assert asked == {**usual, "queue": "debug", "nodes": 2}
    found = provider(tmp_path, asked)
    assert (found["queue"], found["nodes_per_block"], found["account"]) == ("debug", 2, "APSDataProcessing")
    assert provider(tmp_path, usual)["nodes_per_block"] == 1


def test_the_walltime_stops_a_task_of_globus_compute_and_changes_no_endpoint(bench: Bench) -> None:
    site = bench.site(POLARIS)
    spec = bench.job(site, Options(walltime="0:30:00"))
    assert orders(site, spec)["duration"] == 1800.0
    assert orders(site, bench.job(site, Options()))["duration"] == pytest.approx(900.0, abs=1.0)
    assert endpoint_options(site, spec) == endpoint_options(site, bench.job(site, Options()))


def test_a_walltime_that_the_endpoint_does_not_give_is_refused_before_it_is_asked(bench: Bench) -> None:
    site = bench.site(POLARIS)
    with pytest.raises(InvalidInput, match="raise task_seconds"):
        submit(GlobusCompute(site, Credentials()), bench.job(site, Options(walltime="1:00:00")), "key-1")


def test_queue_walltime_and_nodes_are_options_of_slurm(bench: Bench) -> None:
    site = bench.site(NERSC)
    usual, asked = (sbatch.read(batch_script(site, bench.job(site, each))).values for each in (Options(), QUEUED))
    changed = {name: value for name, value in asked.items() if value != usual[name]}
    latest = int(site.start_within_seconds) + 32 * 60
    assert changed == {"qos": "debug", "nodes": "2", "time": "32", "deadline": f"now+{latest}"}
    assert (usual["qos"], usual["nodes"]) == (site.queue, "1")


def test_queue_walltime_and_nodes_are_attributes_of_an_iri_job(bench: Bench) -> None:
    site = bench.site("iri")
    found: Any = document(site, launch_of(site, bench.job(site, QUEUED), "key-1"))
    assert (found["attributes"]["queue_name"], found["attributes"]["duration"]) == ("debug", 1860)
    assert found["resources"]["node_count"] == 2


def test_this_machine_has_no_queue_and_no_nodes(bench: Bench) -> None:
    site = bench.site(LOCAL)
    usual, asked = (bench.operation(site, each) for each in (Options(), Options(queue="debug", nodes=2)))
    assert asked.key == usual.key
    assert (asked.request.queue, asked.request.resources) == ("", usual.request.resources)
    assert bench.job(site, QUEUED).duration == 1800.0


# ----- the program ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [POLARIS, NERSC, "iri"])
def test_the_program_is_told_all_that_was_chosen(bench: Bench, name: str) -> None:
    site = bench.site(name)
    raw, scratch = (bench.settings.endpoint(each) for each in (site.raw_endpoint, site.scratch_endpoint))
    found = orders(site, bench.job(site, CHOSEN))
    assert found["executable"] == site.python
    request = understood(found["arguments"])
    assert request.parameters == PARAMETERS
    assert str(request.raw) == site.path(raw, FOLDER / "a01.h5")
    correlation = bench.checked(site, CHOSEN).correlation
    assert str(request.out) == site.path(scratch, correlation.folder) == found["directory"]
    assert site.path(scratch, correlation.result) in {output["path"] for output in found["outputs"]}
    assert (request.suffix, request.overwrite) == ("b", True)


def test_what_was_not_chosen_is_left_to_the_program(bench: Bench) -> None:
    site = bench.site(POLARIS)
    told, usual = orders(site, bench.job(site, QUEUED)), orders(site, bench.job(site, Options()))
    assert told["arguments"] == usual["arguments"]
    assert understood(told["arguments"]).parameters == Parameters()


def test_a_job_of_many_datasets_is_asked_for_likewise(bench: Bench) -> None:
    site = bench.site(POLARIS)
    options = CHOSEN.model_copy(update={"queue": "debug", "walltime": "0:30:00", "nodes": 2})
    spec = job_of(bench.settings, site, {"a01": bench.checked(site, options)})
    asked = {"queue": "debug", "account": "APSDataProcessing", "nodes": 2}
    assert endpoint_options(site, spec) == {**site.options, **asked}
    found = orders(site, spec)
    assert found["duration"] == 1800.0
    (text,) = (each.removeprefix("--tasks=") for each in found["arguments"] if each.startswith("--tasks="))
    (task,) = read_tasks(text)
    assert (task.request.parameters, task.request.suffix) == (PARAMETERS, "b")


@pytest.mark.parametrize("name", [POLARIS, NERSC])
def test_a_job_of_many_large_datasets_asks_for_no_more_than_its_site_gives(bench: Bench, name: str) -> None:
    site = bench.site(name)
    checked = bench.checked(site, Options())
    large = replace(MEASUREMENT, facts=replace(FACTS, manifest=(("a01.h5", 20_000_000_000),)))
    members = {
        f"d{number:03}": replace(
            checked,
            correlation=replace(checked.correlation, measurement=large, folder=FOLDER.beside(f"d{number:03}") / "q"),
        )
        for number in range(20)
    }
    duration = job_of(bench.settings, site, members).duration
    assert duration == site.walltime.seconds(400_000_000_000)
    if isinstance(site, GlobusComputeSite):
        assert not site.excess(duration)
