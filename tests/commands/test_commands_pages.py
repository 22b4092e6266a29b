"""What the page of a scan says: each thing once, and lists so that they can be read."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest
from command_line import CommandLine

from orchestration.commands.demo.xpcs import CLIENT, batch_command
from orchestration.errors import DeletionUnproven, JobFailed, OrchestrationError
from orchestration.jobs import JobSpec
from orchestration.ledger import Ledger
from orchestration.ledger.operation import Operation
from orchestration.ledger.owner import Owner
from orchestration.ledger.results import Receipt
from orchestration.ledger.runs import RunState
from orchestration.ledger.scan import Scan
from orchestration.paths import RelativePath
from orchestration.policy import Place, Zone

UNPROVEN = DeletionUnproven("no other copy", where="spot832:raw/p1/tooth.h5", next_step="make one")


@contextmanager
def known(command: CommandLine) -> Iterator[tuple[Ledger, Scan]]:
    with Ledger(command.environment["BEAMLINE_LEDGER_URL"]) as ledger:
        yield ledger, ledger.scans.register(beamline="bl832", path=RelativePath("raw/p1/tooth.h5"))


def failed(ledger: Ledger, scan: Scan, flow: str, error: OrchestrationError, *, request: str) -> None:
    run = f"{flow} {request}"
    ledger.runs.begin(run_id=run, flow=flow, parameters={"request": request}, owner=Owner.here(), scan_id=scan.id)
    ledger.runs.finish(run, RunState.FAILED, error)


def test_checks_of_a_result_are_told_apart_and_numbers_of_a_shape_are_joined(alone: CommandLine) -> None:
    quality = {"checks": ["center is sharp, at 36.8", "no ring, no stripe"], "shape": [64, 32, 16]}
    spec = JobSpec(executable="/bin/true", directory="/", duration=1.0)
    with known(alone) as (ledger, scan):
        here = Place("data832", Zone.BEAMLINE)
        made = Operation(scan=scan, step="reconstruct", request=spec, destination=here, deadline=60.0)
        ledger.operations.take(made, Owner.here(), service="local.jobs", redo=True)
        receipt = Receipt(
            inputs=(),
            parameters={},
            code_version="1",
            environment={},
            site="local",
            job="1",
            timings={"read": 1.5, "write": 0.001},
            quality=quality,  # type: ignore[arg-type]
        )
        ledger.results.record(
            scan_id=scan.id,
            operation_key=made.key,
            kind="tomography",
            endpoint="data832_scratch",
            path=RelativePath("p1/rectooth"),
            receipt=receipt,
        )
    page = alone("show", "tooth")
    lines = [line.split(maxsplit=1) for line in page.splitlines()]
    assert ["checks", "center is sharp, at 36.8; no ring, no stripe"] in lines
    assert ["shape", "64 x 32 x 16"] in lines
    assert page.endswith("\n  of which  read 1.5\n")


def test_an_error_in_the_same_words_is_told_once(alone: CommandLine) -> None:
    with known(alone) as (ledger, scan):
        failed(ledger, scan, "nersc_recon_flow", JobFailed("no center was found", next_step="give one"), request="1")
        for number in range(3):
            failed(ledger, scan, "prune_spot832", UNPROVEN, request=str(number))
    page = alone("show", "tooth")
    assert page.count("DeletionUnproven: no other copy") == 1
    assert page.count("JobFailed: no center was found") == 1
    assert page.index("JobFailed") < page.index("DeletionUnproven")
    assert "  next   give one\n" in page
    assert len(alone.json("show", "tooth")["refusals"]) == 3


def test_what_was_interrupted_says_what_starts_it_again(alone: CommandLine) -> None:
    with known(alone) as (ledger, scan):
        dead = replace(Owner.here(), pid=2**22 + 1)  # above the largest that Linux gives
        ledger.runs.begin(run_id="1", flow="local_recon_flow", parameters={}, owner=dead, scan_id=scan.id)
    page = alone("show", "tooth")
    assert page.startswith("raw/p1/tooth.h5  interrupted\n")
    assert "\na run of it ended without a word; `beamline reconcile` starts it again\n" in page


def test_without_batches_it_says_when_there_will_be_one(alone: CommandLine) -> None:
    assert alone("batches") == "No batches yet. One appears here as soon as its run has begun.\n"
    assert alone.json("batches") == []


def test_a_bundle_that_is_not_on_tape_cannot_be_spoilt(command: CommandLine) -> None:
    result = command.result("sandbox", "fault", "hpss832", "--corrupt", "ALS-1/nothing.tar")
    assert result.exit_code == 1
    assert result.stderr.startswith("InvalidInput: there is no such bundle, with a file in it: ")
    assert "(hpss832:ALS-1/nothing.tar). Next: store one first" in result.stderr
    assert result.stderr.count("\n") == 1


def test_the_demo_names_the_batch_client_where_there_is_one(
    alone: CommandLine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(alone.directory)
    assert batch_command("/gdata/data", "/gdata/q.hdf") is None
    CLIENT.parent.mkdir()
    CLIENT.touch()
    said = batch_command("/gdata/data", "/gdata/q.hdf")
    assert said is not None
    assert said.endswith(f" {CLIENT} run /gdata/data --qmap /gdata/q.hdf --wait end")
