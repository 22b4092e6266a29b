"""What a caller says of a request is not believed where the request itself knows better."""

from __future__ import annotations

from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from orchestration.config import Endpoint
from orchestration.errors import ExportControlled, InvalidInput
from orchestration.flows.runs import RunRequest
from orchestration.flows.starting import checked_parameters, start
from orchestration.ledger import Ledger
from orchestration.ledger.operation import Operation, canonical
from orchestration.ledger.service import Document
from orchestration.paths import RelativePath
from orchestration.policy import Place, Zone
from orchestration.transfers import TransferRequest

PATH = RelativePath("raw/p/secret.h5")


def test_a_place_that_the_caller_calls_the_beamline_is_not_taken_for_it(tmp_path: Path) -> None:
    here = Endpoint(root_path="/here", mount=tmp_path, zone=Zone.BEAMLINE).known_as("here")
    away = Endpoint(root_path="/away", mount=tmp_path).known_as("away")
    with Ledger(f"sqlite:///{tmp_path / 'ledger.sqlite'}") as ledger:
        scan = ledger.scans.register(beamline="bl832", path=PATH, export_controlled=True)
        operation = Operation(
            scan=scan,
            step="copy",
            request=TransferRequest.of(PATH, source=here, destination=away),
            destination=Place("the beamline, honestly", Zone.BEAMLINE),
            deadline=1.0,
        )
        with pytest.raises(ExportControlled, match="away is outside the beamline"):
            ledger.operations.plan(operation, service="globus.transfer")
        assert not ledger.operations.of_scan(scan.id)


@pytest.mark.parametrize("name", ["out", "help", "--out"])
def test_options_of_the_program_are_no_parameters(name: str) -> None:
    with pytest.raises(InvalidInput, match="no parameter"):
        checked_parameters({name: "/elsewhere"})


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"center": 10}, {"center": 10.0}),
        ({"filter": "ramp", "center": None}, {}),
        ({"threads": 2, "mask": False}, {"mask": False, "threads": 2}),
    ],
)
def test_equal_parameters_have_one_spelling(one: Document, other: Document) -> None:
    assert canonical(checked_parameters(one)) == canonical(checked_parameters(other))


@pytest.mark.parametrize(
    ("url", "zone"),
    [
        ("https://api.prefect.cloud/api/accounts/a", Zone.EXTERNAL),
        ("http://prefect:4200/api", Zone.BEAMLINE),
    ],
)
def test_names_of_files_do_not_go_to_a_server_that_is_not_the_facility_s(url: str, zone: Zone) -> None:
    with temporary_settings({PREFECT_API_URL: url}):
        assert RunRequest(deployment="flow/deployment").place.zone is zone


def test_nor_do_those_of_a_flagged_scan_for_which_a_person_starts_a_run() -> None:
    cloud = temporary_settings({PREFECT_API_URL: "https://api.prefect.cloud/api/accounts/a"})
    with cloud, pytest.raises(ExportControlled, match="Prefect Cloud is outside the beamline"):
        start("bl832", "dispatcher", {"file_path": "raw/p/secret.h5"}, export_controlled=True)
