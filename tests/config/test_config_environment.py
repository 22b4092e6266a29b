"""Environment files and credentials."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from dotenv import dotenv_values

from orchestration import config
from orchestration.errors import ConfigError

Write = Callable[..., Path]

FIRST_VARIABLES = [
    "GLOBUS_CLIENT_ID",
    "GLOBUS_CLIENT_SECRET",
    "GLOBUS_COMPUTE_CLIENT_ID",
    "GLOBUS_COMPUTE_CLIENT_SECRET",
    "GLOBUS_COMPUTE_ENDPOINT",
    "PREFECT_API_URL",
    "PREFECT_API_KEY",
    "SCICAT_API_URL",
    "SCICAT_INGEST_USER",
    "SCICAT_INGEST_PASSWORD",
    "PATH_NERSC_CLIENT_ID",
    "PATH_NERSC_PRI_KEY",
]


def test_credentials_are_read_when_asked_for_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLOBUS_CLIENT_ID", "client")
    monkeypatch.setenv("GLOBUS_CLIENT_SECRET", "hush-hush")
    found = config.credentials()
    identifier, secret = found.globus()
    assert (identifier, secret.get_secret_value()) == ("client", "hush-hush")
    assert "hush-hush" not in repr(found)


@pytest.mark.parametrize(
    ("ask", "variable"),
    [
        (lambda: config.credentials().globus(), "GLOBUS_CLIENT_ID"),
        (lambda: config.credentials().globus_compute(), "GLOBUS_CLIENT_ID"),
        (lambda: config.credentials().compute_endpoint(), "GLOBUS_COMPUTE_ENDPOINT"),
        (lambda: config.credentials().scicat(), "SCICAT_INGEST_USER"),
        (lambda: config.credentials().nersc(), "PATH_NERSC_CLIENT_ID"),
    ],
)
def test_a_missing_credential_is_named_with_the_place_for_it(ask: Callable[[], object], variable: str) -> None:
    with pytest.raises(ConfigError, match=rf"{variable} .* is not set .*Next: set {variable} .*\.env"):
        ask()


def test_the_second_half_of_a_credential_is_missed_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SCICAT_INGEST_USER", "ingestor")
    with pytest.raises(ConfigError, match="SCICAT_INGEST_PASSWORD"):
        config.credentials().scicat()


def test_compute_has_its_own_client_or_that_of_transfers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLOBUS_CLIENT_ID", "mover")
    monkeypatch.setenv("GLOBUS_CLIENT_SECRET", "m")
    assert config.credentials().globus_compute()[0] == "mover"
    monkeypatch.setenv("GLOBUS_COMPUTE_CLIENT_ID", "computer")
    with pytest.raises(ConfigError, match="GLOBUS_COMPUTE_CLIENT_SECRET"):
        config.credentials().globus_compute()
    monkeypatch.setenv("GLOBUS_COMPUTE_CLIENT_SECRET", "c")
    assert config.credentials().globus_compute()[0] == "computer"


def test_the_file_in_the_working_directory_is_read_and_never_overrides(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("GLOBUS_CLIENT_ID=from-file\nSCICAT_INGEST_USER=from-file\nBEAMLINE_X=${HOME}$y\n")
    monkeypatch.setenv("GLOBUS_CLIENT_ID", "from-environment")
    found = config.credentials()
    assert found.globus_client_id == "from-environment"
    assert found.scicat_ingest_user == "from-file"
    assert os.environ["BEAMLINE_X"] == "${HOME}$y"


def test_empty_lines_of_the_file_count_as_not_set() -> None:
    Path(".env").write_text("GLOBUS_CLIENT_ID=\nSCICAT_INGEST_USER=  \n")
    config.load_environment()
    assert "GLOBUS_CLIENT_ID" not in os.environ
    assert config.credentials().scicat_ingest_user is None


def test_the_sandbox_is_found_only_without_a_file_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    assert config.environment_file() is None
    Path(".sandbox").mkdir()
    Path(".sandbox/env").write_text("BEAMLINE_X=sandbox\n")
    assert config.environment_file() == Path(".sandbox/env")
    Path(".env").write_text("BEAMLINE_X=own\n")
    assert config.environment_file() == Path(".env")
    Path("named").write_text("BEAMLINE_X=named\n")
    monkeypatch.setenv("BEAMLINE_ENV_FILE", "named")
    config.load_environment()
    assert os.environ["BEAMLINE_X"] == "named"


def test_a_named_file_that_does_not_exist_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BEAMLINE_ENV_FILE", "nowhere")
    with pytest.raises(ConfigError, match=r"environment file nowhere does not exist.*BEAMLINE_ENV_FILE"):
        config.credentials()


def test_the_file_can_name_the_settings(write_config: Write) -> None:
    path = write_config("ledger: {url: 'sqlite:///${BEAMLINE_X}'}")
    Path(".env").write_text(f"BEAMLINE_CONFIG={path}\nBEAMLINE_X=from-file\n")
    assert config.load().ledger.url == "sqlite:///from-file"


def test_the_example_has_the_agreed_variables_first_in_order_and_explains_each(repository: Path) -> None:
    lines = (repository / ".env.example").read_text().splitlines()
    names = [line.split("=", 1)[0] for line in lines if line and not line.startswith("#")]
    assert names[: len(FIRST_VARIABLES)] == FIRST_VARIABLES
    ours = names[len(FIRST_VARIABLES) :]
    assert ours[:2] == ["BEAMLINE_CONFIG", "BEAMLINE_LEDGER_URL"]
    assert len(set(names)) == len(names)
    paragraphs = "\n".join(lines).split("\n\n")
    assert all(paragraph.startswith("# ") for paragraph in paragraphs), "every group of variables is explained"
    assert all(line.endswith("=") for line in lines if line and not line.startswith("#")), "no values in the example"


def test_every_variable_of_the_settings_file_is_in_the_example(repository: Path) -> None:
    used = set(re.findall(r"\$\{([A-Z_0-9]+)", (repository / "config.yml").read_text().split("globus:", 1)[1]))
    explained = set(dotenv_values(repository / ".env.example"))
    assert used <= explained


def test_a_copy_of_the_example_that_is_not_filled_in_changes_nothing(repository: Path) -> None:
    before = dict(os.environ)
    Path(".env").write_text((repository / ".env.example").read_text())
    config.load(repository / "config.yml")
    assert dict(os.environ) == before
