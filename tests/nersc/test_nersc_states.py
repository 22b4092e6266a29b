"""Every state that Slurm knows, and what people are told of it."""

from __future__ import annotations

import pytest

from orchestration.errors import (
    Cancelled,
    JobFailed,
    JobLost,
    JobNotStarted,
    JobPreempted,
    JobTimedOut,
    NodeFailed,
    OutOfMemory,
    OutputMissing,
    ServiceUnavailable,
)
from orchestration.ledger.service import Document, Failed, Json, Succeeded
from orchestration.nersc.ending import Remains
from orchestration.nersc.rows import Row, rows
from orchestration.nersc.states import ENDINGS, TRANSIENT, busy, exit_text, note, split_state

ALL_STATES = {
    "BOOT_FAIL", "CANCELLED", "COMPLETED", "CONFIGURING", "COMPLETING", "DEADLINE", "FAILED", "NODE_FAIL",
    "OUT_OF_MEMORY", "PENDING", "PREEMPTED", "RUNNING", "RESV_DEL_HOLD", "REQUEUE_FED", "REQUEUE_HOLD", "REQUEUED",
    "RESIZING", "REVOKED", "SIGNALING", "SPECIAL_EXIT", "STAGE_OUT", "STOPPED", "SUSPENDED", "TIMEOUT",
}  # fmt: skip

SACCT: Document = {
    "jobid": "12", "jobname": "beamline.k-1", "state": "COMPLETED", "exitcode": "0:0", "nodelist": "nid001",
    "submit": "2026-11-20T10:00:00", "start": "2026-11-20T10:05:00", "end": "2026-11-20T10:07:30",
}  # fmt: skip
REPORT: Document = {
    "reason": "exited",
    "code": 0,
    "outputs": [],
    "started_at": 1000.0,
    "seconds": 140.0,
    "host": "nid001",
}


def row(**changes: Json) -> Row:
    return rows([SACCT | changes], machine="perlmutter")[0]


def remains(found: Row | None) -> Remains:
    return Remains(title="reconstruct", site="perlmutter", job="12", row=found, log="/jobs/k-1.log")


def test_every_state_of_slurm_is_either_an_end_or_passes() -> None:
    assert set(ENDINGS) | set(TRANSIENT) == ALL_STATES
    assert not set(ENDINGS) & set(TRANSIENT)


@pytest.mark.parametrize(
    ("state", "error"),
    [
        ("COMPLETED", JobLost),
        ("FAILED", JobFailed),
        ("TIMEOUT", JobTimedOut),
        ("OUT_OF_MEMORY", OutOfMemory),
        ("NODE_FAIL", NodeFailed),
        ("BOOT_FAIL", NodeFailed),
        ("CANCELLED by 1001", Cancelled),
        ("CANCELLED+", Cancelled),
        ("PREEMPTED", JobPreempted),
        ("DEADLINE", JobTimedOut),
        ("REVOKED", JobLost),
    ],
)
def test_a_job_without_a_report_is_never_a_success(state: str, error: type[JobFailed]) -> None:
    found = row(state=state)
    ending = remains(found).ending
    assert ending is not None
    status = remains(found).unreported(ending, "srun: error\nimage not known\n")
    assert type(status.error) is error
    assert "image not known" in status.error.what
    assert status.evidence["log"] == "srun: error\nimage not known\n"
    assert (status.evidence["queue_seconds"], status.evidence["run_seconds"]) == (300.0, 150.0)


def test_a_job_that_never_got_a_node_before_its_deadline_did_not_begin() -> None:
    found = row(state="DEADLINE", nodelist="None assigned", start="Unknown")
    ending = remains(found).ending
    assert ending is not None
    assert type(remains(found).unreported(ending, "").error) is JobNotStarted


def test_who_cancelled_is_told() -> None:
    found = row(state="CANCELLED by 1001")
    ending = remains(found).ending
    assert ending is not None
    assert "by user 1001" in remains(found).unreported(ending, "").error.what


@pytest.mark.parametrize(
    ("state", "code", "report", "error"),
    [
        ("COMPLETED", "0:0", {}, None),
        ("FAILED", "3:0", {"code": 3, "stderr": "no rings\n"}, JobFailed),
        ("TIMEOUT", "0:0", {"reason": "terminated", "code": -15}, JobTimedOut),
        ("PREEMPTED", "0:0", {"reason": "terminated", "code": -15}, JobPreempted),
        ("CANCELLED by 7", "0:0", {"reason": "terminated", "code": -15}, Cancelled),
        ("NODE_FAIL", "0:0", {"reason": "terminated", "code": -15}, NodeFailed),
        ("OUT_OF_MEMORY", "0:125", {"code": 137}, OutOfMemory),
        ("OUT_OF_MEMORY", "0:125", {"code": -9}, OutOfMemory),
        ("FAILED", "137:0", {"code": -9}, JobFailed),
        ("FAILED", "124:0", {"reason": "timeout", "code": -15}, JobTimedOut),
        ("FAILED", "75:0", {"reason": "late"}, JobNotStarted),
        ("TIMEOUT", "0:0", {"code": 1, "stderr": "no rings"}, JobFailed),
        ("TIMEOUT", "0:0", {}, None),
        ("COMPLETED", "0:0", {"outputs": [{"problem": "rec was not written"}]}, OutputMissing),
        ("CANCELLED", "0:0", {"reason": "cancelled"}, Cancelled),
    ],
)
def test_the_report_tells_what_happened_and_slurm_only_by_whose_force(
    state: str, code: str, report: Document, error: type[JobFailed] | None
) -> None:
    status = remains(row(state=state, exitcode=code)).reported(REPORT | report)
    if error is None:
        assert isinstance(status, Succeeded)
    else:
        assert isinstance(status, Failed)
        assert type(status.error) is error
    assert isinstance(status, Succeeded | Failed)
    assert (status.evidence["queue_seconds"], status.evidence["run_seconds"]) == (300.0, 150.0)
    assert status.evidence["job"] == "12"


def test_where_slurm_says_nothing_the_runner_says_how_long_it_ran() -> None:
    status = remains(None).reported(REPORT)
    assert isinstance(status, Succeeded)
    assert (status.evidence["queue_seconds"], status.evidence["run_seconds"]) == (None, 140.0)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("CANCELLED by 1000", ("CANCELLED", "1000")),
        ("CANCELLED+", ("CANCELLED", "")),
        (" RUNNING ", ("RUNNING", "")),
        ("", ("", "")),
    ],
)
def test_states_are_read_as_slurm_writes_them(text: str, expected: tuple[str, str]) -> None:
    assert split_state(text) == expected


@pytest.mark.parametrize(
    ("state", "reason", "expected"),
    [
        ("PENDING", "Priority", "waiting in the queue: others are before it"),
        ("PENDING", "(ReqNodeNotAvail, Reserved for maintenance)", "waiting in the queue: the nodes it needs are not"),
        ("PENDING", "SomethingNew", "waiting in the queue: SomethingNew"),
        ("PENDING", "None", "waiting in the queue"),
        ("RUNNING", "None", "running"),
        ("A_NEW_STATE", "", "in state A_NEW_STATE"),
    ],
)
def test_a_waiting_job_says_why(state: str, reason: str, expected: str) -> None:
    assert note(state, reason).startswith(expected)


def test_a_state_of_which_nobody_knows_is_no_end() -> None:
    assert not row(state="A_NEW_STATE").over


@pytest.mark.parametrize(
    ("code", "expected"),
    [("0:0", ""), ("1:0", "exit code 1"), ("0:11", "signal 11"), ("", ""), ("0:53", "signal 53, its output file")],
)
def test_exit_codes_are_told_in_words(code: str, expected: str) -> None:
    assert exit_text(code).startswith(expected)
    assert bool(exit_text(code)) is bool(expected)


@pytest.mark.parametrize(
    ("said", "passes"),
    [
        ("sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)", True),
        ("sbatch: error: Batch job submission failed: Socket timed out on send/recv operation", True),
        (
            "sbatch: error: AssocMaxSubmitJobLimit\nsbatch: error: Batch job submission failed: Job violates policy",
            True,
        ),
        ("sbatch: error: Batch job submission failed: Invalid qos specification", False),
        ("sbatch: error: Batch job submission failed: Requested time limit is invalid", False),
        ("sbatch: error: You must specify node features with -C: cpu or gpu", False),
    ],
)
def test_a_refusal_of_the_moment_is_told_from_one_for_good(said: str, passes: bool) -> None:
    assert busy(said) is passes


@pytest.mark.parametrize("output", [None, "text", {}])
def test_an_answer_without_rows_is_no_answer(output: None) -> None:
    with pytest.raises(ServiceUnavailable):
        rows(output, machine="perlmutter")


def test_the_steps_of_a_job_are_not_the_job() -> None:
    found = rows([SACCT, SACCT | {"jobid": "12.batch", "state": "FAILED"}, {"jobid": ""}], machine="perlmutter")
    assert [(row.id, row.state) for row in found] == [("12", "COMPLETED")]
