"""What operators write into Prefect Variables."""

from __future__ import annotations

import pytest

from orchestration.config import Bl832Settings, DecisionSettings
from orchestration.config.variables import PrefectVariables
from orchestration.errors import ConfigError


def test_the_variables_have_the_names_and_keys_of_the_existing_system() -> None:
    documents = PrefectVariables().documents()
    assert documents["decision-settings"] == {
        "new_832_file_flow/new_file_832": True,
        "local_recon_flow/local_recon_flow": True,
        "nersc_recon_flow/nersc_recon_flow": False,
        "alcf_recon_flow/alcf_recon_flow": False,
        "any_recon_flow/any_recon_flow": False,
    }
    assert documents["bl832-settings"]["delete_spot832_files_after_days"] == 1
    assert documents["pruning-config"]["delete_data832_files_after_days"] == 14


def test_what_operators_wrote_wins_and_the_rest_stays() -> None:
    first = Bl832Settings(delete_spot832_files_after_days=2, delete_data832_files_after_days=50)
    now = first.updated({"delete_data832_files_after_days": 70}, variable="bl832-settings")
    assert (now.delete_spot832_files_after_days, now.delete_data832_files_after_days) == (2, 70)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (
            {"nersc_recon_flow": True},
            "unknown key `nersc_recon_flow`, did you mean `nersc_recon_flow/nersc_recon_flow`",
        ),
        ({"nersc_recon": True}, "unknown key `nersc_recon`"),
        ({"alcf_recon_flow/alcf_recon_flow": "sometimes"}, "should be a valid boolean"),
        ([True], "should be a JSON object"),
        (None, "should be a JSON object"),
        ("true", "should be a JSON object"),
    ],
)
def test_a_wrong_variable_is_refused_with_its_name_and_the_remedy(value: object, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        DecisionSettings().updated(value, variable="decision-settings")
    assert expected in str(caught.value)
    assert "prefect variable set decision-settings" in str(caught.value)


@pytest.mark.parametrize(
    ("age", "why"),
    [
        (-1, "greater than or equal to 0"),
        (1e9, "less than or equal to 36500"),
        ("inf", "less than or equal to 36500"),
        (float("nan"), "less than or equal to 36500"),
        (True, "a number of days"),
        ("soon", "a valid number"),
    ],
)
def test_an_age_that_no_calendar_has_is_refused(age: object, why: str) -> None:
    with pytest.raises(ConfigError, match=f"`delete_spot832_files_after_days` should be {why}"):
        Bl832Settings().updated({"delete_spot832_files_after_days": age}, variable="bl832-settings")
