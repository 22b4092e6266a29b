"""Reading the settings file: what it accepts, and how it says what is wrong."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

import pytest
from pydantic import SecretStr

from orchestration import config
from orchestration.errors import ConfigError, UnknownName
from orchestration.policy import Zone

Write = Callable[..., Path]

SEED_SHAPED = """
globus:
  globus_endpoints:

    # 1.2.3 ENDPOINTS
    acq123:
      root_path: /
      uri: acq123.example.org
      uuid: 1f0c64a4-3f52-4b50-9d65-62a2f7a3f0a1
      name: acq123

    bl733-example-data_raw:
      root_path: /staging/bl733/raw/
      uri: staging.example.org
      uuid: 1f0c64a4-3f52-4b50-9d65-62a2f7a3f0a2
      name: data733_raw

    later123:
      root_path: / # not yet made
      uri: hpc.example.org
      uuid: TBD
      name: later123

  globus_apps:
    als_transfer:
      client_id: ${GLOBUS_CLIENT_ID}
      client_secret: ${GLOBUS_CLIENT_SECRET}

harbor_images832:
  recon_image: recon@sha256:0123
  multires_image: recon@sha256:0123

ghcr_images832:
  recon_image: ghcr.io/example/recon:main
  multires_image: ghcr.io/example/recon:main

prefect:
  deployments:
  - type_spec: new_file_832
    uuid: 1f0c64a4-3f52-4b50-9d65-62a2f7a3f0a3

scicat:
  jobs_api_url: https://catalogue.example.org/api/ingest/jobs
"""

BEAMLINE = """
globus:
  globus_endpoints:
    near: {root_path: /data, uri: near.org, uuid: 1f0c64a4-3f52-4b50-9d65-62a2f7a3f0a1, zone: beamline}
    near_raw: {root_path: /data/raw, uri: near.org, uuid: 1f0c64a4-3f52-4b50-9d65-62a2f7a3f0a1, zone: beamline}
    far: {root_path: /far, uri: far.org, uuid: 1f0c64a4-3f52-4b50-9d65-62a2f7a3f0a2}
    here: {mount: here}
"""


def complaint(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        config.load(path)
    return str(caught.value)


def test_a_file_of_the_existing_system_loads_unchanged(write_config: Write) -> None:
    settings = config.load(write_config(SEED_SHAPED))

    endpoint = settings.endpoint("bl733-example-data_raw")
    assert (endpoint.name, endpoint.label) == ("bl733-example-data_raw", "data733_raw")
    assert endpoint.root_path == "/staging/bl733/raw"
    assert endpoint.uuid == UUID("1f0c64a4-3f52-4b50-9d65-62a2f7a3f0a2")
    assert endpoint.zone is Zone.EXTERNAL
    assert settings.ghcr_images832.recon_image == "ghcr.io/example/recon:main"
    assert settings.scicat.jobs_api_url == "https://catalogue.example.org/api/ingest/jobs"
    assert settings.retention_rule("acq123", "raw") is None


def test_an_endpoint_still_to_be_decided_is_known_but_cannot_be_used(write_config: Write) -> None:
    endpoint = config.load(write_config(SEED_SHAPED)).endpoint("later123")
    assert endpoint.uuid is None
    with pytest.raises(ConfigError, match=r"later123 is not on a Globus collection.*set its `uuid`"):
        endpoint.require_uuid()


def test_the_credentials_of_a_file_may_be_absent_when_it_is_read(
    write_config: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_config(SEED_SHAPED)
    assert config.load(path).globus.globus_apps["als_transfer"].client_id is None

    monkeypatch.setenv("GLOBUS_CLIENT_ID", "client")
    monkeypatch.setenv("GLOBUS_CLIENT_SECRET", "hush")
    app = config.load(path).globus.globus_apps["als_transfer"]
    assert app.client_id == "client"
    assert app.client_secret == SecretStr("hush")
    assert "hush" not in repr(app)


def test_the_projects_own_file_loads_without_any_variable(repository: Path) -> None:
    settings = config.load(repository / "config.yml")
    beamline = settings.beamline("bl832")
    assert (beamline.acquisition, beamline.server, beamline.nersc) == ("spot832", "data832", "nersc832")
    assert settings.endpoint("spot832").zone is Zone.BEAMLINE
    assert settings.endpoint("nersc832").place.zone is Zone.EXTERNAL
    assert settings.endpoint("local832_raw").mount == Path.home() / ".local/share/beamline/raw"
    assert settings.site("local").place.zone is Zone.BEAMLINE
    rule = settings.retention_rule("data832", "raw")
    assert rule is not None
    assert (rule.endpoint, rule.after_days, rule.requires.any_of) == ("data832", 35, ("nersc832",))
    assert settings.ledger.url == f"sqlite:///{Path.home()}/.local/state/beamline/ledger.sqlite"


def test_an_empty_file_has_the_defaults(write_config: Write) -> None:
    settings = config.load(write_config(""))
    assert dict(settings.endpoints) == {}
    assert settings.ledger.url == f"sqlite:///{Path.home() / '.local/state/beamline/ledger.sqlite'}"
    assert settings.prefect.variables.decision_settings.local_recon is True
    assert settings.prefect.variables.decision_settings.nersc_recon is False


def test_variables_are_replaced_and_defaults_taken(write_config: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "globus: {globus_endpoints: {a: {mount: '${BEAMLINE_LOCAL_RAW:-/default}/${BEAMLINE_SUB:-x}'}}}"
    path = write_config(text + "\nledger: {lease_seconds: '${BEAMLINE_LEASE:-30}'}")
    settings = config.load(path)
    assert settings.endpoint("a").mount == Path("/default/x")
    assert settings.ledger.lease_seconds == 30

    monkeypatch.setenv("BEAMLINE_LOCAL_RAW", "/données/raw")
    monkeypatch.setenv("BEAMLINE_SUB", "")
    assert config.load(path).endpoint("a").mount == Path("/données/raw/x")


def test_an_empty_default_reads_as_a_line_that_is_not_there(write_config: Write) -> None:
    settings = config.load(write_config("ledger: {url: '${BEAMLINE_LEDGER_URL:-}'}\nscicat: {api_url: }\ntransfer:\n"))
    assert settings.ledger.url.startswith("sqlite:///")
    assert settings.scicat.api_url is None
    assert settings.transfer.min_seconds == 600


def test_a_missing_variable_is_named_with_its_line(write_config: Write) -> None:
    path = write_config("globus:\n  globus_endpoints:\n    a:\n      mount: ${BEAMLINE_NOWHERE}\n")
    text = complaint(path)
    assert "line 4: globus.globus_endpoints.a.mount: needs the variable BEAMLINE_NOWHERE" in text
    assert "${BEAMLINE_NOWHERE:-value}" in text
    assert str(path) in text


def test_a_variable_that_is_not_closed_is_an_error(write_config: Write) -> None:
    assert "has a `${` that is not" in complaint(write_config("ledger: {url: 'sqlite:///${HOME'}"))


def test_an_unknown_key_suggests_the_nearest(write_config: Write) -> None:
    path = write_config("globus:\n  globus_endpoints:\n    a:\n      mount: /x\n      rooth_path: /\n")
    text = complaint(path)
    assert "line 5: globus.globus_endpoints.a.rooth_path: unknown key `rooth_path`, did you mean `root_path`?" in text
    assert "Next: mend the setting, then run `beamline config check`." in text


def test_everything_that_is_wrong_is_said_at_once_in_the_order_of_lines(write_config: Write) -> None:
    text = complaint(
        write_config(
            "globus:\n"
            "  globus_endpoints:\n"
            "    a: {root_path: relative, uuid: nope}\n"
            "    b: [1]\n"
            "ledgr: {}\n"
            "transfer: {min_seconds: -1}\n"
        )
    )
    assert "5 problems in config.yml" in text
    lines = [int(line.split()[1].rstrip(":")) for line in text.splitlines() if line.startswith("  line ")]
    assert lines == [3, 3, 4, 5, 6]
    assert "did you mean `ledger`?" in text
    assert "should be a section" in text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ledger: {url: a://b}\nledger: {url: c://d}", "line 2: ledger: given a second time (first on line 1)"),
        ("globus: [", "line 1: not YAML"),
        ("a: 1\n b: 2", "line 2: not YAML"),
        ("- 1\n- 2", "should be a section"),
        ("just text", "should be a section"),
        ("ledger: &x\n  more: [*x]", "an alias that contains itself"),
        ("ledger: !!python/object:os.system {}", "has the tag `tag:yaml.org,2002:python/object:os.system`"),
        ("ledger: {lease_seconds: 2026-02-31}", "put it in quotes if it is text"),
        ("\0", "not YAML"),
        ("globus: {globus_endpoints: {a: {uri: x}}}", "has neither `uuid`"),
        ("globus: {globus_endpoints: {a: {mount: /x, label: y}}}", "unknown key `label`"),
        ("globus: {globus_endpoints: {a: {mount: /x, root_path: /a/../b}}}", "must not have `..`"),
        ("compute_sites: {n: {kind: nersk, raw_endpoint: a, scratch_endpoint: a}}", "did you mean `nersc`?"),
        ("compute_sites: {n: {raw_endpoint: a, scratch_endpoint: a}}", "`kind` is missing"),
        ("compute_sites: {n: {kind: nersc, raw_endpoint: a, scratch_endpoint: a}}", "`job_folder` is missing"),
        (
            "compute_sites: {n: {kind: nersc, raw_endpoint: a, scratch_endpoint: a, job_folder: /j, quue: y}}",
            "unknown key `quue`, did you mean `queue`?",
        ),
        ("retention: {a: {after_days: 1, requires: {any_of: []}}}", "needs at least one entry"),
        ("retention: {a: {after_days: 1, requires: {any_of: [b], min_copies: 2}}}", "asks for 2 copies at 1 endpoint"),
        ("retention: {a: {after_days: 1, requires: {any_of: b}}}", "should be a list"),
        ("retention: {a: {after_days: .inf, requires: {any_of: [b]}}}", "less than or equal to 36500"),
        ("retention: {a: {after_days: yes, requires: {any_of: [b]}}}", "a number of days"),
        ("prefect: {variables: {decision-settings: {local_recon: true}}}", "`local_recon_flow/local_recon_flow`?"),
        ("scicat: {api_url: catalogue.example.org}", "must begin with `https://`"),
        ("ledger: {url: /var/lib/ledger.sqlite}", "must be a database URL"),
    ],
)
def test_a_wrong_file_says_what_is_wrong(write_config: Write, text: str, expected: str) -> None:
    assert expected in complaint(write_config(text))


def test_a_secret_of_the_wrong_type_is_not_shown(write_config: Write) -> None:
    text = complaint(write_config("globus: {globus_apps: {a: {client_secret: 918273645}}}"))
    assert "client_secret" in text
    assert "918273645" not in text


SITE = """compute_sites:
  s: {{kind: globus_compute, raw_endpoint: near, scratch_endpoint: near, job_folder: /j, walltime: {}, options: {}}}"""


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (
            "beamlines: {b: {acquisition: naer, server: near, raw: near_raw, scratch: near}}",
            "line 8: beamlines.b.acquisition: there is no endpoint `naer`: did you mean `near`",
        ),
        (
            "beamlines: {b: {acquisition: near, server: near, raw: near, scratch: near, sites: [x]}}",
            "there is no compute site `x`",
        ),
        (
            "compute_sites: {s: {kind: local, raw_endpoint: heer, scratch_endpoint: here}}",
            "compute_sites.s.raw_endpoint: there is no endpoint `heer`: did you mean `here`",
        ),
        ("retention: {near: {after_days: 1, requires: {any_of: [elsewhere]}}}", "there is no endpoint `elsewhere`"),
        ("retention: {gone: {after_days: 1, requires: {any_of: [near]}}}", "there is no endpoint `gone`"),
        ("retention: {near_raw: {after_days: 1, requires: {any_of: [near]}}}", "`near` is the same storage"),
        ("retention: {near: {after_days: 1, requires: {any_of: [near]}}}", "`near` is the same storage"),
        (
            "retention: {far: {after_days: 1, requires: {any_of: [near, near_raw], min_copies: 2}}}",
            "asks for 2 copies on 1 separate storage",
        ),
        (
            "retention: {near: {after_days: 1, requires: {any_of: [far]}, override: {variable: pruning, key: x}}}",
            "did you mean `pruning-config`?",
        ),
        (
            SITE.format("{maximum_seconds: 3300}", '{walltime: "01:00:00", task_seconds: 3300}'),
            "compute_sites.s.walltime.maximum_seconds: 3300 s and 60 s for its end are more than the 3300 s",
        ),
        (
            SITE.format("{maximum_seconds: 1800}", '{walltime: "01:00:00"}'),
            "more than the 1800 s that the endpoint gives a task: raise task_seconds",
        ),
        (
            SITE.format("{maximum_seconds: 3000}", '{walltime: "01:00:00", task_seconds: 3600}'),
            "task_seconds is 3600, and a batch job ends after 3600 s: raise walltime",
        ),
        (
            """retention: {near: {after_days: 2, requires: {any_of: [far]},
                override: {variable: bl832-settings, key: delete_spot832_files_after_days}}}""",
            "is 2, but prefect.variables.bl832-settings.delete_spot832_files_after_days is 1: make them the same",
        ),
    ],
)
def test_names_that_lead_nowhere_and_proofs_that_prove_nothing_are_errors(
    write_config: Write, more: str, expected: str
) -> None:
    assert expected in complaint(write_config(BEAMLINE + more))


def test_an_unknown_name_lists_the_near_ones(write_config: Write) -> None:
    settings = config.load(write_config(BEAMLINE))
    with pytest.raises(UnknownName, match=r"there is no endpoint 'near_rew': did you mean `near_raw`"):
        settings.endpoint("near_rew")
    with pytest.raises(UnknownName, match="known here: none"):
        settings.beamline("bl832")
    with pytest.raises(UnknownName, match="there is no compute site 'local'"):
        settings.site("local")
    with pytest.raises(UnknownName, match="there is no endpoint 'x'"):
        settings.retention_rule("x", "raw")


def test_a_relative_mount_lies_beside_the_settings_file(write_config: Write) -> None:
    path = write_config(BEAMLINE)
    assert config.load(path).endpoint("here").mount == path.resolve().parent / "here"


def test_settings_are_frozen_and_survive_pickling(write_config: Write) -> None:
    settings = config.load(write_config(BEAMLINE))
    with pytest.raises(ValueError, match="frozen"):
        settings.ledger.url = "sqlite://"
    assert pickle.loads(pickle.dumps(settings)) == settings


def test_the_file_is_found_by_argument_then_variable_then_working_directory(
    write_config: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConfigError, match=r"there is no settings file config.yml.*BEAMLINE_CONFIG"):
        config.load()
    Path("config.yml").write_text("ledger: {url: 'sqlite:///here'}")
    assert config.load().ledger.url == "sqlite:///here"
    monkeypatch.setenv("BEAMLINE_CONFIG", str(write_config("ledger: {url: 'sqlite:///named'}", name="named.yml")))
    assert config.load().ledger.url == "sqlite:///named"
    assert config.load(write_config("ledger: {url: 'sqlite:///given'}")).ledger.url == "sqlite:///given"


def test_a_file_without_the_keys_takes_the_ledger_and_the_catalogue_from_the_environment(
    write_config: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BEAMLINE_LEDGER_URL", "postgresql+psycopg://db/ledger")
    monkeypatch.setenv("SCICAT_API_URL", "https://catalogue.example.org/api/v3/")
    settings = config.load(write_config(SEED_SHAPED))
    assert settings.ledger.url == "postgresql+psycopg://db/ledger"
    assert settings.scicat.require_api_url() == "https://catalogue.example.org/api/v3"


def test_the_ledger_lies_in_the_state_directory_unless_told_otherwise(
    write_config: Write, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("BEAMLINE_STATE", str(tmp_path / "state"))
    assert config.state_directory() == tmp_path / "state"
    assert config.load(write_config("")).ledger.url == f"sqlite:///{tmp_path}/state/ledger.sqlite"


def test_without_a_catalogue_asking_for_it_says_what_to_set(write_config: Write) -> None:
    with pytest.raises(ConfigError, match="set SCICAT_API_URL"):
        config.load(write_config("")).scicat.require_api_url()


def test_a_transfer_gets_time_for_its_size() -> None:
    transfer = config.TransferPolicy(min_seconds=600, floor_mb_per_s=20)
    assert transfer.deadline_seconds(0) == 600
    assert transfer.deadline_seconds(55_290_000_000) == pytest.approx(2764.5)


def test_a_time_of_grace_where_nothing_can_be_set_aside_is_noted(write_config: Write) -> None:
    path = write_config(
        """
        globus:
          globus_endpoints:
            here: {root_path: /here, mount: here, can_rename: false}
            there: {root_path: /there, mount: there}
        retention:
          here: {after_days: 1, grace_days: 3, requires: {any_of: [there]}}
          there: {after_days: 1, grace_days: 3, requires: {any_of: [here]}}
        """
    )
    settings = config.load(path)
    assert [settings.sets_aside(name) for name in ("here", "there")] == [False, True]
    found = [note for note in config.notes(settings) if "grace_days" in note]
    assert found == ["retention.here: `grace_days` has no effect where `can_rename` is false"]
