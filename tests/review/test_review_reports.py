"""A report is believed only if it can be read, and speaks of the job that was asked for."""

from __future__ import annotations

import json
from pathlib import Path

from orchestration.errors import OutputMissing
from orchestration.globus import compute_remote
from orchestration.jobs import JobSpec, Output
from orchestration.ledger.service import Document, Failed, Succeeded
from orchestration.remote import verdict
from orchestration.science.running.report import OUTPUT_MISSING
from orchestration.science.running.runner import Orders, Runner


def spec(folder: str = "/site/results") -> JobSpec:
    outputs = (Output(path="/site/results/a.json"), Output(path="b.json"))
    return JobSpec(executable="/bin/true", directory=folder, duration=5.0, outputs=outputs)


def report(*paths: str) -> Document:
    return {"reason": "exited", "code": 0, "outputs": [{"path": path, "problem": ""} for path in paths]}


def test_a_report_that_speaks_of_every_output_is_believed() -> None:
    told = report("/site/results/a.json", "/site/results/b.json")
    for folder in ("/site/results", "/site/results/"):
        assert isinstance(verdict("t", told, where="here", spec=spec(folder)), Succeeded)


def test_the_report_of_another_job_is_no_success() -> None:
    for told in (report(), report("/site/results/a.json"), report("/elsewhere/a.json", "/elsewhere/b.json")):
        found = verdict("t", told, where="here", spec=spec())
        assert isinstance(found, Failed)
        assert isinstance(found.error, OutputMissing)
        assert "/site/results/b.json" in found.error.what


def test_a_damaged_report_is_the_end_of_its_job_and_no_success(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text('{"reason": "exited", "code": 0, "outp')
    (tmp_path / "started.json").write_text("{}")
    order = {"folder": str(tmp_path), "words": ["/bin/false"], "input": "", "probe": [], "submitted": 1.0}
    for found in (
        compute_remote.run_job(order)["report"],
        compute_remote.look(str(tmp_path), "", 5.0)["report"],
        compute_remote.look(str(tmp_path), "cancelled", 0.0)["report"],
    ):
        end = verdict("t", found, where="here")
        assert isinstance(end, Failed)
        assert "its report is damaged" in end.error.what
        assert end.error.next_step


def test_a_job_with_a_damaged_report_is_not_run_again(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text("{")
    mark = tmp_path / "mark"
    orders = {
        "folder": str(tmp_path),
        "executable": "/bin/touch",
        "arguments": [str(mark)],
        "directory": str(tmp_path),
        "duration": 5.0,
        "environment": {},
        "outputs": [],
    }
    assert Runner(Orders.parse(json.dumps(orders))).run() == OUTPUT_MISSING
    assert not mark.exists()
