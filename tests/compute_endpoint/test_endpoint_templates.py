"""The files for facilities, with no more than Jinja, YAML and JSON Schema: what the service may ask, what comes out."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
import jsonschema
import pytest
import yaml
from jinja2.sandbox import SandboxedEnvironment

from orchestration.errors import ConfigError, UnknownName
from orchestration.globus.endpoints.layout import Endpoint, facilities, lay_out

SITE = {"BEAMLINE_SCIENCE": "/eagle/als/it's science", "BEAMLINE_ENDPOINT": "/home/als/endpoint"}
BATCH = ("alcf", "nersc")
ALL = [(facility, kind) for facility, kinds in facilities().items() for kind in kinds]


def laid_out(directory: Path, facility: str, kind: str = "compute", **values: str) -> Endpoint:
    account = {"BEAMLINE_ACCOUNT": "als"} if kind == "compute" and facility in BATCH else {}
    return lay_out(facility, kind, directory, SITE | account | values)


def schema_of(endpoint: Endpoint) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((endpoint.folder / "user_config_schema.json").read_text())
    return found


def rendered(endpoint: Endpoint, options: Mapping[str, Any], runtime: Mapping[str, Any] | None = None) -> Any:
    """As the daemon does it: options held to the schema, strings as JSON, what is undefined refused."""
    jsonschema.validate(dict(options), schema_of(endpoint))
    environment = SandboxedEnvironment(
        undefined=jinja2.StrictUndefined, loader=jinja2.FileSystemLoader(endpoint.folder), autoescape=False
    )
    template = environment.from_string((endpoint.folder / "user_config_template.yaml.j2").read_text())
    quoted = {key: json.dumps(value) if isinstance(value, str) else value for key, value in options.items()}
    reserved = {"env": os.environ | endpoint.environment, "user_runtime": dict(runtime or {})}
    return yaml.safe_load(template.render(**quoted, _GC=reserved))


def test_there_are_both_endpoints_for_each_facility() -> None:
    assert facilities() == dict.fromkeys(("alcf", "local", "nersc"), ("compute", "non_compute"))


@pytest.mark.parametrize(("facility", "kind"), ALL)
def test_every_template_renders_without_options_and_names_no_download(tmp_path: Path, facility: str, kind: str) -> None:
    endpoint = laid_out(tmp_path, facility, kind)
    config = rendered(endpoint, {})
    assert config["engine"]["type"] in {"GlobusComputeEngine", "ThreadPoolEngine"}
    assert config["engine"].get("max_retries_on_system_failure", 0) == 0
    assert "engine" not in yaml.safe_load((endpoint.folder / "config.yaml").read_text())
    for file in endpoint.folder.iterdir():
        assert not {"curl", "wget", "pip", "uv"} & set(file.read_text().split()), file


@pytest.mark.parametrize("facility", BATCH)
def test_what_the_service_asks_for_reaches_the_batch_system(tmp_path: Path, facility: str) -> None:
    options = {"account": "als_g", "queue": "realtime", "walltime": "02:30:00", "nodes": 2, "max_blocks": 3}
    provider = rendered(laid_out(tmp_path, facility), options)["engine"]["provider"]
    assert provider["account"] == "als_g"
    assert provider["queue" if facility == "alcf" else "qos"] == "realtime"
    assert (provider["walltime"], provider["nodes_per_block"], provider["max_blocks"]) == ("02:30:00", 2, 3)
    assert (provider["init_blocks"], provider["min_blocks"]) == (0, 0)


@pytest.mark.parametrize("facility", BATCH)
def test_what_the_service_leaves_out_is_the_sites(tmp_path: Path, facility: str) -> None:
    endpoint = laid_out(tmp_path, facility, BEAMLINE_QUEUE="preemptable", BEAMLINE_WALLTIME="00:30:00")
    provider = rendered(endpoint, {})["engine"]["provider"]
    assert (provider["account"], provider["walltime"]) == ("als", "00:30:00")
    assert provider["queue" if facility == "alcf" else "qos"] == "preemptable"


@pytest.mark.parametrize("facility", BATCH)
def test_a_batch_job_takes_no_task_that_it_could_not_finish(tmp_path: Path, facility: str) -> None:
    endpoint = laid_out(tmp_path, facility)
    assert rendered(endpoint, {"walltime": "01:00:00", "task_seconds": 900})["engine"]["drain_period"] == 2700
    assert rendered(endpoint, {"walltime": "01:00:00"})["engine"]["drain_period"] == 1800
    with pytest.raises(jinja2.UndefinedError, match="its batch job ends after 3600 s"):
        rendered(endpoint, {"walltime": "01:00:00", "task_seconds": 3600})


@pytest.mark.parametrize("facility", BATCH)
def test_workers_of_a_node_share_its_gpus(tmp_path: Path, facility: str) -> None:
    endpoint = laid_out(tmp_path, facility)
    assert "available_accelerators" not in rendered(endpoint, {"gpus": 4})["engine"]
    shared = rendered(endpoint, {"gpus": 4, "workers_per_node": 2})["engine"]
    assert (shared["max_workers_per_node"], shared["available_accelerators"]) == (2, ["0,1", "2,3"])


def test_a_shared_node_of_nersc_is_asked_for_by_the_core(tmp_path: Path) -> None:
    endpoint = laid_out(tmp_path, "nersc")
    options = {"queue": "shared", "exclusive": False, "cores": 16, "memory_gb": 32, "reservation": "beamtime"}
    shared = rendered(endpoint, options)["engine"]["provider"]
    assert (shared["exclusive"], shared["cores_per_node"], shared["mem_per_node"]) == (False, 16, 32)
    assert shared["scheduler_options"] == "#SBATCH --reservation=beamtime"
    assert "cores_per_node" not in rendered(endpoint, {"cores": 16})["engine"]["provider"]
    assert rendered(endpoint, {"constraint": "gpu&hbm80g"})["engine"]["provider"]["gpus_per_node"] == 4


INJECTIONS = (
    "als\n#PBS -W block=true",
    "als\n",
    "als; rm -rf ~",
    "$(id)",
    "`id`",
    "als'",
    'als"',
    "als\\",
    "{{ 7 * 7 }}",
    "-x",
    "als $HOME",
    "als\r",
    "als\x00",
    "",
    "\u0430ls",
    "a" * 65,
)


@pytest.mark.parametrize("value", INJECTIONS)
@pytest.mark.parametrize(("facility", "kind"), [(facility, "compute") for facility in (*BATCH, "local")])
def test_no_option_can_carry_shell_or_scheduler_words(tmp_path: Path, facility: str, kind: str, value: str) -> None:
    schema = schema_of(laid_out(tmp_path, facility, kind))
    texts = [name for name, rule in schema["properties"].items() if rule["type"] == "string"]
    assert {"account", "queue", "walltime"} <= set(texts)
    for name in texts:
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({name: value}, schema)


@pytest.mark.parametrize("walltime", ["1:00:00", "00:00:00", "01:60:00", "01:00:30", "01:00", "60", "٠١:٠٠:٠٠"])
def test_a_walltime_is_hours_and_minutes(tmp_path: Path, walltime: str) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"walltime": walltime}, schema_of(laid_out(tmp_path, "alcf")))


@pytest.mark.parametrize(("facility", "kind"), ALL)
def test_options_that_nobody_knows_are_refused(tmp_path: Path, facility: str, kind: str) -> None:
    schema = schema_of(laid_out(tmp_path, facility, kind))
    jsonschema.Draft202012Validator.check_schema(schema)
    for name in ("worker_init", "scheduler_options", "endpoint_setup", "BEAMLINE_WORKER_INIT", "provider", "nodes "):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({name: "x"}, schema)
    for name, value in {"nodes": 0, "max_blocks": "3", "gpus": -1, "task_seconds": True}.items():
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({name: value}, schema)


@pytest.mark.parametrize(("facility", "kind"), [one for one in ALL if one != ("local", "non_compute")])
def test_workers_find_the_science_environment_first_whatever_its_name(tmp_path: Path, facility: str, kind: str) -> None:
    endpoint = laid_out(tmp_path, facility, kind, BEAMLINE_WORKER_INIT="export SITE=here", BEAMLINE_UMASK="007")
    lines = rendered(endpoint, {})["engine"]["provider"]["worker_init"]
    shown = subprocess.run(
        ["bash", "-euc", f'{lines}\numask\nprintf "%s\\n" "$PATH" "$SITE"'],
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )
    path = "/eagle/als/it's science/bin:/home/als/endpoint/bin:/usr/bin:/bin"
    assert shown.stdout.splitlines() == ["0007", path, "here"]


@pytest.mark.parametrize(("facility", "kind"), ALL)
def test_another_version_of_python_can_be_refused_before_a_worker_dies_of_it(
    tmp_path: Path, facility: str, kind: str
) -> None:
    newer = {"python": {"version_tuple": [3, 12, 1]}}
    rendered(laid_out(tmp_path, facility, kind), {}, newer)
    endpoint = laid_out(tmp_path, facility, kind, BEAMLINE_PYTHON="3.11")
    rendered(endpoint, {}, {"python": {"version_tuple": [3, 11, 2]}})
    with pytest.raises(jinja2.UndefinedError, match=r"takes functions of Python 3\.11, not of Python 3\.12"):
        rendered(endpoint, {}, newer)


@pytest.mark.parametrize(("facility", "kind"), ALL)
def test_a_value_that_somebody_took_out_is_named(tmp_path: Path, facility: str, kind: str) -> None:
    endpoint = laid_out(tmp_path, facility, kind)
    file = endpoint.folder / "user_environment.yaml"
    template = (endpoint.folder / "user_config_template.yaml.j2").read_text()
    for name in endpoint.environment:
        if not name.startswith("BEAMLINE_") or name not in template:
            continue
        text = file.read_text()
        file.write_text(text.replace(f"{name}:", "X:"))
        with pytest.raises(jinja2.UndefinedError, match=f"has no {name}"):
            rendered(endpoint, {})
        file.write_text(text)


def test_values_that_a_site_has_edited_survive_an_update(tmp_path: Path) -> None:
    first = laid_out(tmp_path, "alcf", BEAMLINE_QUEUE="prod")
    (first.folder / "config.yaml").write_text("display_name: ours\n")
    (first.folder / "common.j2").write_text("old")
    (first.folder / "endpoint.json").write_text("{}")
    again = lay_out("alcf", "compute", tmp_path, {"BEAMLINE_WALLTIME": "00:10:00"})
    assert (again.environment["BEAMLINE_QUEUE"], again.environment["BEAMLINE_WALLTIME"]) == ("prod", "00:10:00")
    assert (again.folder / "config.yaml").read_text() == "display_name: ours\n"
    assert (again.folder / "common.j2").read_text() != "old"
    assert (again.folder / "endpoint.json").exists()
    assert rendered(again, {})["engine"]["provider"]["queue"] == "prod"


def test_what_a_site_has_added_or_emptied_survives_an_update(tmp_path: Path) -> None:
    first = laid_out(tmp_path, "alcf", BEAMLINE_MODULES="conda", BEAMLINE_UMASK="077")
    file = first.folder / "user_environment.yaml"
    text = file.read_text().replace('BEAMLINE_MODULES: "conda"', "BEAMLINE_MODULES:").replace('"077"', "027")
    file.write_text(f'{text}# ours\nhttp_proxy: "http://proxy:3128"\nLD_LIBRARY_PATH: /opt/lib\n')
    for _ in range(2):
        again = lay_out("alcf", "compute", tmp_path, {}).environment
        assert (again["http_proxy"], again["LD_LIBRARY_PATH"]) == ("http://proxy:3128", "/opt/lib")
        assert (again["BEAMLINE_MODULES"], again["BEAMLINE_UMASK"]) == ("", "027")
    assert yaml.safe_load(file.read_text()) == again  # to the daemon as well


def test_a_value_that_is_missing_or_unknown_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no value for BEAMLINE_ACCOUNT.*add BEAMLINE_ACCOUNT=\.\.\."):
        lay_out("alcf", "compute", tmp_path, SITE)
    with pytest.raises(UnknownName, match=r"no value BEAMLINE_ACOUNT.*BEAMLINE_ACCOUNT"):
        lay_out("alcf", "compute", tmp_path, SITE | {"BEAMLINE_ACOUNT": "als"})
    with pytest.raises(UnknownName, match=r"'olcf'.*use one of alcf, local, nersc"):
        lay_out("olcf", "compute", tmp_path, SITE)
    with pytest.raises(UnknownName, match=r"'gpu' at alcf.*compute, non_compute"):
        lay_out("alcf", "gpu", tmp_path, SITE)
    with pytest.raises(ConfigError, match="no name for an endpoint"):
        lay_out("alcf", "non_compute", tmp_path, SITE, name="../elsewhere")
    assert not list(tmp_path.iterdir())


def test_the_start_program_gives_the_daemon_its_credentials_and_nobody_else(tmp_path: Path) -> None:
    venv = tmp_path / "a venv"
    (venv / "bin").mkdir(parents=True)
    program = venv / "bin" / "globus-compute-endpoint"
    program.write_text('#!/bin/sh\necho "$GLOBUS_COMPUTE_USER_DIR|$GLOBUS_COMPUTE_CLIENT_SECRET|$*"\n')
    program.chmod(0o700)
    endpoint = lay_out("local", "compute", tmp_path / "user dir", SITE, venv=venv)
    (endpoint.directory / "credentials.env").write_text("GLOBUS_COMPUTE_CLIENT_SECRET='s3 cret'\n")
    shown = subprocess.run([endpoint.script, "start", "--detach"], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == f"{endpoint.directory}|s3 cret|start beamline-local-compute --detach"
    assert stat.S_IMODE(endpoint.script.stat().st_mode) == 0o700
    assert endpoint.environment["GLOBUS_COMPUTE_CLIENT_SECRET"] == ""
