"""The check of an endpoint leaves nothing behind, and the scripts that do it say what is wrong."""

from __future__ import annotations

import runpy
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from orchestration import config
from orchestration.config import Settings
from orchestration.doctor.endpoint import EndpointCheck
from orchestration.doctor.once import trials
from orchestration.errors import AccessDenied, EndpointRefused, ServiceUnavailable
from orchestration.globus.auth import TransferClients
from orchestration.ledger import Ledger
from orchestration.paths import QUARANTINE
from orchestration.sandbox.testing import RunningFacility

PROJECT = Path(__file__).parents[2]


@pytest.fixture
def check(settings: Settings) -> EndpointCheck:
    return EndpointCheck(TransferClients(config.credentials()), settings.endpoint("scratch"))


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    with trials() as ledger:
        yield ledger


def left(facility: RunningFacility) -> list[Path]:
    return list((facility.root("scratch") / "data").iterdir())


def test_a_folder_that_was_made_without_an_answer_is_deleted(
    check: EndpointCheck, facility: RunningFacility, ledger: Ledger
) -> None:
    facility.client.faults.add("POST .*/mkdir", "lost_answer")
    with pytest.raises(ServiceUnavailable):
        check.write_and_delete(ledger)
    assert left(facility) == []


def test_a_deletion_is_made_in_spite_of_silence(
    check: EndpointCheck, facility: RunningFacility, ledger: Ledger
) -> None:
    facility.client.faults.add("POST .*/delete$", "lost_answer")
    facility.client.faults.add("GET .*/task/", status=503, times=6)
    assert check.write_and_delete(ledger) == "a folder was made and deleted"
    assert left(facility) == []


def test_where_nothing_may_be_made_nothing_is_deleted(
    check: EndpointCheck, facility: RunningFacility, ledger: Ledger
) -> None:
    before = len(facility.client.effects("delete"))
    facility.client.collections.set(facility.collection_id("scratch"), writable=False)
    with pytest.raises(AccessDenied):
        check.write_and_delete(ledger)
    facility.client.collections.set(facility.collection_id("scratch"), writable=True)
    assert len(facility.client.effects("delete")) == before


def test_a_folder_is_set_aside_and_deleted_there(
    check: EndpointCheck, facility: RunningFacility, ledger: Ledger
) -> None:
    facility.client.faults.add("POST .*/rename$", "lost_answer")
    assert check.set_aside(ledger) == "a folder was set aside and deleted"
    assert [path.name for path in left(facility)] == [QUARANTINE]
    assert list((facility.root("scratch") / "data" / QUARANTINE).iterdir()) == []
    (facility.root("scratch") / "data" / QUARANTINE).rmdir()


def test_a_quarantine_on_another_file_system_is_found_out_and_nothing_is_left(
    check: EndpointCheck, facility: RunningFacility, ledger: Ledger
) -> None:
    scratch = facility.collection_id("scratch")
    facility.client.collections.set(scratch, volumes=[f"/data/{QUARANTINE}"])
    with pytest.raises(EndpointRefused, match="different file systems") as caught:
        check.set_aside(ledger)
    facility.client.collections.set(scratch, volumes=[])
    assert "can_rename: false" in caught.value.next_step
    assert [path.name for path in left(facility)] == [QUARANTINE]
    assert list((facility.root("scratch") / "data" / QUARANTINE).iterdir()) == []
    (facility.root("scratch") / "data" / QUARANTINE).rmdir()


@pytest.mark.parametrize("script", ["check_globus_transfer.py", "check_globus_compute.py"])
def test_a_name_that_nobody_knows_is_one_line(script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BEAMLINE_CONFIG", str(PROJECT / "config.yml"))
    main = runpy.run_path(str(PROJECT / "scripts" / script))["main"]
    done = CliRunner().invoke(main, ["nowhere"], catch_exceptions=False)
    assert done.exit_code == 1
    assert done.output.startswith("Error: ")
    assert "nowhere" in done.output
