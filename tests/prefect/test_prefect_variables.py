from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from asking import ask
from prefect.client.schemas.actions import VariableCreate, VariableUpdate
from prefect.settings import PREFECT_API_URL, temporary_settings

from orchestration import config
from orchestration.config import RetentionRule, Settings
from orchestration.doctor.check import Health
from orchestration.doctor.service import prefect_check
from orchestration.errors import ConfigError, ServiceUnavailable
from orchestration.flows.variables import decision_settings, retention_days
from orchestration.ledger.service import Json

PROJECT = Path(__file__).parents[2]
LOCAL = "local_recon_flow/local_recon_flow"
NOWHERE = "http://127.0.0.1:9/api"


@pytest.fixture
def settings() -> Settings:
    return config.load(PROJECT / "config.yml")


def rule(settings: Settings) -> RetentionRule:
    found = settings.retention_rule("data832", "raw")
    assert found is not None
    return found


@contextmanager
def written(name: str, value: Json) -> Iterator[None]:
    """What an operator writes; undone at the end."""
    before = ask(lambda client: client.read_variable_by_name(name))
    assert before is not None
    ask(lambda client: client.update_variable(VariableUpdate(name=name, value=value)))
    try:
        yield
    finally:
        ask(lambda client: client.update_variable(VariableUpdate(name=name, value=before.value)))


@contextmanager
def absent(name: str) -> Iterator[None]:
    before = ask(lambda client: client.read_variable_by_name(name))
    assert before is not None
    ask(lambda client: client.delete_variable_by_name(name))
    try:
        yield
    finally:
        ask(lambda client: client.create_variable(VariableCreate(name=name, value=before.value)))


def test_operators_decide_what_the_dispatcher_starts(server: str, settings: Settings) -> None:
    assert decision_settings(settings)[LOCAL] is True
    with written("decision-settings", {LOCAL: False}):
        assert decision_settings(settings)[LOCAL] is False
        assert decision_settings(settings)["new_832_file_flow/new_file_832"] is True


def test_a_variable_that_nobody_made_has_the_values_of_the_file(server: str, settings: Settings) -> None:
    with absent("decision-settings"):
        assert decision_settings(settings)[LOCAL] is True
    with absent("bl832-settings"):
        assert retention_days(settings, rule(settings)) == 35


def test_operators_decide_how_long_data_stays(server: str, settings: Settings) -> None:
    with written("bl832-settings", {"delete_data832_files_after_days": 365}):
        assert retention_days(settings, rule(settings)) == 365
    with written("bl832-settings", {"delete_spot832_files_after_days": 2}):
        assert retention_days(settings, rule(settings)) == 35


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"delete_data832_files_after_days": "a week"}, "delete_data832_files_after_days"),
        ({"delete_data832_files_after_days": -1}, "delete_data832_files_after_days"),
        ({"delete_data823_files_after_days": 3}, "unknown key `delete_data823_files_after_days`"),
        ("35 days", "should be a JSON object"),
        ([35], "should be a JSON object"),
    ],
)
def test_nonsense_is_named_with_its_key_and_its_remedy(server: str, settings: Settings, value: Json, said: str) -> None:
    with written("bl832-settings", value), pytest.raises(ConfigError, match=said) as caught:
        retention_days(settings, rule(settings))
    assert "bl832-settings" in caught.value.sentence
    assert "prefect variable set bl832-settings" in caught.value.next_step


def test_data_moves_by_the_file_while_the_server_is_away(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    with temporary_settings({PREFECT_API_URL: NOWHERE}), caplog.at_level(logging.WARNING):
        assert decision_settings(settings, patience=0.1)[LOCAL] is True
    assert "taken from config.yml" in caplog.text


def test_no_age_is_guessed_while_the_server_is_away(settings: Settings) -> None:
    with temporary_settings({PREFECT_API_URL: NOWHERE}), pytest.raises(ServiceUnavailable):
        retention_days(settings, rule(settings), patience=0.1)


def test_a_rule_without_an_override_asks_nobody(settings: Settings) -> None:
    plain = rule(settings).model_copy(update={"override": None})
    with temporary_settings({PREFECT_API_URL: NOWHERE}):
        assert retention_days(settings, plain) == 35


def test_an_override_that_leads_nowhere_is_a_mistake_of_the_file(settings: Settings) -> None:
    override = config.VariableKey(variable="bl832-settings", key="delete_data823_files_after_days")
    with pytest.raises(ConfigError, match="did you mean `delete_data832_files_after_days`"):
        retention_days(settings, rule(settings).model_copy(update={"override": override}))
    override = config.VariableKey(variable="bl833-settings", key="x")
    with pytest.raises(ConfigError, match="there is no Prefect Variable 'bl833-settings'"):
        retention_days(settings, rule(settings).model_copy(update={"override": override}))


def test_the_doctor_finds_a_variable_that_is_wrong(server: str, settings: Settings) -> None:
    assert prefect_check(settings, ()).worst is Health.WORKS
    wrong: tuple[Json, ...] = ("soon", {"delete_data832_files_after_days": "soon"})
    for value in wrong:
        with written("bl832-settings", value):
            culprit = prefect_check(settings, ()).culprit
            assert (culprit.what, culprit.health) == ("bl832-settings", Health.BROKEN)
            assert "the Prefect Variable bl832-settings is wrong" in culprit.note
            assert "prefect variable set" in culprit.remedy
    with absent("bl832-settings"):
        assert prefect_check(settings, ()).worst is Health.WORKS
