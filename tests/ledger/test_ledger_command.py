"""`beamline ledger`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from ledger_world import errand, gone
from sqlalchemy import create_engine, text

from orchestration.commands.ledger import ledger_group
from orchestration.ledger import Ledger
from orchestration.ledger.database import SCHEMA_VERSION
from orchestration.ledger.owner import Owner
from orchestration.ledger.scan import Scan


@pytest.fixture
def configured(ledger_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    file = tmp_path / "config.yml"
    file.write_text(f"ledger:\n  url: {ledger_url}\n")
    monkeypatch.setenv("BEAMLINE_CONFIG", str(file))
    return ledger_url


def run(*arguments: str) -> Result:
    return CliRunner().invoke(ledger_group, list(arguments))


def test_migrate_makes_an_empty_ledger_and_then_has_nothing_to_do(configured: str) -> None:
    first = run("migrate")
    assert first.exit_code == 0, first.output
    assert f"schema none -> {SCHEMA_VERSION}" in first.output
    assert f"has schema {SCHEMA_VERSION} already" in run("migrate").output
    assert json.loads(run("migrate", "--json").output)["after"] == SCHEMA_VERSION


def test_check_of_a_new_database_says_what_to_do(configured: str) -> None:
    result = run("check")
    assert result.exit_code == 1
    assert "beamline ledger migrate" in result.output


def test_check_tells_what_nobody_holds(configured: str) -> None:
    with Ledger(configured) as ledger:
        scan = _scan(ledger)
        dead = Owner(Owner.here().host, gone(), "1", "dead")
        ledger.operations.take(errand(scan), dead, service="test.books", redo=True)
        ledger.runs.begin(run_id="run-1", flow="f", parameters={}, owner=dead)
    result = run("check", "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.output)
    assert report["ok"]
    assert report["rows"]["operations"] == report["open_operations"] == 1
    assert report["unattended"] == [f"do wash ({errand(scan).key})"]
    assert report["dead_runs"] == ["run-1"]
    assert "held by nobody" in run("check").output


def test_check_finds_what_should_never_be(configured: str) -> None:
    with Ledger(configured) as ledger:
        ledger.operations.plan(errand(_scan(ledger)), service="test.books")
    engine = create_engine(configured)
    with engine.begin() as connection:
        connection.execute(text("update operations set state = 'running'"))
    engine.dispose()
    result = run("check")
    assert result.exit_code == 1
    assert "is running under no handle" in result.output


def test_a_server_that_is_away_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.yml").write_text("ledger:\n  url: postgresql://u:hunter2@127.0.0.1:1/d\n")
    monkeypatch.setenv("BEAMLINE_CONFIG", str(tmp_path / "config.yml"))
    for arguments in (["check"], ["migrate"]):
        result = run(*arguments)
        assert result.exit_code == 1
        assert "does not answer" in result.output
        assert "hunter2" not in result.output
        assert "Traceback" not in result.output


def _scan(ledger: Ledger) -> Scan:
    from orchestration.paths import RelativePath

    return ledger.scans.register(beamline="bl832", path=RelativePath("a.h5"))
