"""What is asked is looked at before anything is done."""

from __future__ import annotations

import pytest
from pydantic import SecretStr

from orchestration import config
from orchestration.config import Settings
from orchestration.config.models import GlobusApp
from orchestration.errors import ConfigError, InvalidInput, InvalidPath, OrchestrationError
from orchestration.flows.aps8idi.checking import demand_account
from orchestration.flows.aps8idi.options import Options
from orchestration.flows.aps8idi.payload import Payload
from orchestration.ledger.service import Json
from orchestration.sandbox.blueprint import project_config

RAW = "/gdata/dm/8IDI/2026-3/foo202611/data/A001/A001_x.h5"


@pytest.fixture
def settings() -> Settings:
    found, problems = config.inspect(project_config())
    assert found is not None, problems
    return found


def payload(settings: Settings, options: Options | None = None, /, **given: Json) -> Payload:
    return Payload.parse(settings, {"raw": RAW, "qmap": "2026-3/qmaps/q.hdf", **given}, options or Options())


def test_cycle_and_experiment_are_found_in_the_path(settings: Settings) -> None:
    found = payload(settings)
    assert (found.found_cycle, found.found_experiment, found.dataset) == ("2026-3", "foo202611", "A001")
    assert (found.folder.text, found.raw_name) == ("2026-3/foo202611/data/A001", "A001_x.h5")
    said = payload(settings, cycle="2025-1", experiment="bar")
    assert (said.found_cycle, said.found_experiment) == ("2025-1", "bar")


def test_what_gives_other_numbers_lies_in_another_folder(settings: Settings) -> None:
    changes: list[dict[str, Json]] = [{}, {"suffix": "_b"}, {"request": "again"}, {"qmap": "2026-3/qmaps/r.hdf"}]
    folders = {payload(settings, **change).result_folder for change in changes}
    folders.add(payload(settings, Options(avg_frame=2)).result_folder)
    assert len(folders) == len(changes) + 1
    same = [Options(queue="debug"), Options(skip_publish=True), Options(walltime="0:30:00", nodes=2)]
    assert {payload(settings, each).result_folder for each in same} == {payload(settings).result_folder}


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"raw": "/gdata/dm/other/a.h5"}, InvalidPath),
        ({"raw": "../../etc/passwd"}, InvalidPath),
        ({"raw": "a.h5"}, InvalidInput),
        ({"suffix": "a/b"}, InvalidInput),
        ({"deployment": "voyager"}, InvalidInput),
    ],
)
def test_what_leads_nowhere_is_refused(
    settings: Settings, given: dict[str, Json], error: type[OrchestrationError]
) -> None:
    with pytest.raises(error):
        _ = payload(settings, **given).folder


@pytest.mark.parametrize(
    "given",
    [{"type": "TwoTime"}, {"stride_frame": 0}, {"dq_selection": "3-1"}, {"walltime": "1h"}, {"atype": "Both"}],
    ids=str,
)
def test_options_that_would_compute_nothing_are_refused(given: dict[str, Json]) -> None:
    with pytest.raises(InvalidInput, match=next(iter(given))):
        Options.parse(given)


def test_another_account_than_the_deployments_is_refused(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GLOBUS_CLIENT_ID", "00000000-0000-4000-8000-000000000001")
    monkeypatch.setenv("GLOBUS_CLIENT_SECRET", "x")
    app = GlobusApp(client_id="00000000-0000-4000-8000-000000000002", client_secret=SecretStr("y"))
    globus = settings.globus.model_copy(update={"globus_apps": {"aps": app}})
    with pytest.raises(ConfigError, match="must be 00000000-0000-4000-8000-000000000002"):
        demand_account(settings.model_copy(update={"globus": globus}), "aps")
