"""`beamline config`, its schema, and every example of a settings file in the documentation."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from jsonschema import Draft202012Validator

from orchestration import config
from orchestration.commands.config import config_group

Write = Callable[..., Path]

REPOSITORY = Path(__file__).parents[2]
FENCE = re.compile(r"^```ya?ml[^\n]*\n(?P<text>.*?)^```", re.MULTILINE | re.DOTALL)


def examples() -> Iterator[tuple[str, str]]:
    """The YAML blocks of the documentation that have a section of the settings file at the top."""
    for page in [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]:
        if not page.is_file():
            continue
        for number, match in enumerate(FENCE.finditer(page.read_text(encoding="utf-8"))):
            data = yaml.safe_load(match["text"])
            if isinstance(data, dict) and set(data) & set(config.Settings.model_fields):
                yield f"{page.relative_to(REPOSITORY)}:{number}", match["text"]


EXAMPLES = dict(examples())


def merged(base: object, more: object) -> object:
    if isinstance(base, dict) and isinstance(more, dict):
        return {**base, **{key: merged(base.get(key), value) for key, value in more.items()}}
    return more


@pytest.fixture(scope="module")
def validator() -> Draft202012Validator:
    schema = config.settings_schema()
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def test_the_projects_file_is_valid_by_the_schema(validator: Draft202012Validator) -> None:
    validator.validate(yaml.safe_load((REPOSITORY / "config.yml").read_text()))


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_of_the_documentation_is_valid_and_loads(
    name: str, validator: Draft202012Validator, write_config: Write
) -> None:
    example = yaml.safe_load(EXAMPLES[name])
    validator.validate(example)
    whole = merged(yaml.safe_load((REPOSITORY / "config.yml").read_text()), example)
    config.load(write_config(yaml.safe_dump(whole)))


def test_there_are_examples_in_the_documentation() -> None:
    assert len(EXAMPLES) >= 5


def test_the_schema_refuses_what_the_loader_refuses(validator: Draft202012Validator) -> None:
    assert not validator.is_valid({"ledgr": {}})
    assert not validator.is_valid({"globus": {"globus_endpoints": {"a": {"rooth_path": "/"}}}})
    assert not validator.is_valid({"retention": {"a": {"after_days": -1, "requires": {"any_of": ["b"]}}}})
    assert not validator.is_valid({"retention": {"a": {"endpoint": "a"}}})


def test_the_schema_lets_any_value_be_a_variable(validator: Draft202012Validator) -> None:
    assert validator.is_valid({"ledger": {"lease_seconds": "${BEAMLINE_LEASE:-60}"}})
    assert not validator.is_valid({"ledger": {"lease_seconds": "sixty"}})


def test_the_committed_schema_is_the_one_of_this_code() -> None:
    committed = json.loads((REPOSITORY / "docs/reference/config.schema.json").read_text())
    assert committed == config.settings_schema(), "run `beamline config schema > docs/reference/config.schema.json`"


def test_every_key_is_in_the_reference() -> None:
    page = (REPOSITORY / "docs/reference/configuration.md").read_text()
    definitions = config.settings_schema()["$defs"]
    assert isinstance(definitions, dict)
    keys: set[str] = set(config.Settings.model_fields)
    for definition in definitions.values():
        if isinstance(definition, dict) and isinstance(definition.get("properties"), dict):
            keys |= set(definition["properties"])  # type: ignore[arg-type]
    assert sorted(key for key in keys if f"`{key}`" not in page) == []


def test_check_says_that_a_file_is_right(write_config: Write) -> None:
    path = write_config("ledger: {lease_seconds: 5}")
    result = CliRunner().invoke(config_group, ["check", str(path)])
    assert result.exit_code == 0
    assert f"{path}: right" in result.stdout
    assert "GLOBUS_CLIENT_ID" in result.stdout


def test_check_lists_what_is_wrong_as_file_and_line_and_ends_with_1(write_config: Write) -> None:
    path = write_config("ledgr: {}\ntransfer: {min_seconds: no}\n")
    result = CliRunner().invoke(config_group, ["check", str(path)])
    assert result.exit_code == 1
    assert f"{path}:line 1: ledgr: unknown key `ledgr`, did you mean `ledger`?" in result.stderr
    assert f"{path}:line 2: transfer.min_seconds:" in result.stderr
    assert "2 problems" in result.stderr


def test_check_answers_in_json(write_config: Write) -> None:
    path = write_config("\nledgr: {}\n")
    result = CliRunner().invoke(config_group, ["check", str(path), "--json"])
    assert result.exit_code == 1
    answer = json.loads(result.stdout)
    assert answer["ok"] is False
    assert answer["file"] == str(path)
    assert [(item["line"], item["key"]) for item in answer["problems"]] == [(2, "ledgr")]


def test_check_notes_what_will_stop_a_flow_on_this_machine(write_config: Write, tmp_path: Path) -> None:
    text = """
globus:
  globus_endpoints:
    acquisition: {uuid: 1f0c64a4-3f52-4b50-9d65-62a2f7a3f0a1, mount: MOUNT}
    server: {uuid: 1f0c64a4-3f52-4b50-9d65-62a2f7a3f0a2}
    here: {mount: here}
beamlines:
  b: {acquisition: acquisition, server: server, raw: server, scratch: acquisition}
compute_sites:
  local: {kind: local, raw_endpoint: here, scratch_endpoint: here}
"""
    path = write_config(text.replace("MOUNT", str(tmp_path / "gone")))
    result = CliRunner().invoke(config_group, ["check", str(path)])
    assert result.exit_code == 0
    assert f"note: the mount of acquisition, {tmp_path}/gone, is not a directory" in result.stdout
    assert "note: b: nothing moves data from server to here" in result.stdout
    assert "from here to acquisition" not in result.stdout

    path = write_config(text.replace(", mount: MOUNT", ""))
    answer = json.loads(CliRunner().invoke(config_group, ["check", str(path), "--json"]).stdout)
    assert answer["ok"] is True
    assert "b: scans cannot be read here: set the `mount` of server" in answer["notes"]


def test_check_of_a_file_that_is_not_there_ends_with_1() -> None:
    result = CliRunner().invoke(config_group, ["check", "nowhere.yml"])
    assert result.exit_code == 1
    assert "there is no settings file nowhere.yml" in result.stderr


def test_check_never_shows_a_secret(write_config: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLOBUS_CLIENT_SECRET", "hush-hush")
    path = write_config("globus: {globus_apps: {a: {client_secret: '${GLOBUS_CLIENT_SECRET}', client_id: [1]}}}")
    for arguments in (["check", str(path)], ["check", str(path), "--json"]):
        assert "hush-hush" not in CliRunner().invoke(config_group, arguments).output


def test_schema_prints_the_schema() -> None:
    result = CliRunner().invoke(config_group, ["schema"])
    assert result.exit_code == 0
    assert json.loads(result.stdout) == config.settings_schema()
