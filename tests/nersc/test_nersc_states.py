"""Every state that Slurm knows, and what people are told of it."""

from __future__ import annotations

from dataclasses import replace

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
from orchestration.nersc.durations import durations
from orchestration.nersc.ending import Remains
from orchestration.nersc.refusals import certain
from orchestration.nersc.rows import Row, rows
from orchestration.nersc.states import ENDINGS, TRANSIENT, exit_text, note, split_state
from orchestration.remote import Times

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
    left: Document = {"log": "srun: error\nimage not known\n", "stdout": "slice 3\n", "stderr": ""}
    status = remains(found).unreported(ending, left)
    assert type(status.error) is error
    assert "image not known; its last words: slice 3" in status.error.what
    assert status.evidence.items() >= left.items()
    assert (status.evidence["queue_seconds"], status.evidence["run_seconds"]) == (300.0, 150.0)


def test_a_job_that_never_got_a_node_before_its_deadline_did_not_begin() -> None:
    found = row(state="DEADLINE", nodelist="None assigned", start="Unknown")
    ending = remains(found).ending
    assert ending is not None
    assert type(remains(found).unreported(ending, {}).error) is JobNotStarted


def test_who_cancelled_is_told() -> None:
    found = row(state="CANCELLED by 1001")
    ending = remains(found).ending
    assert ending is not None
    assert "by user 1001" in remains(found).unreported(ending, {}).error.what


@pytest.mark.parametrize(
    ("by", "given_up", "error"),
    [("1001", False, Cancelled), ("0", False, JobFailed), ("1001", True, JobLost), ("0", True, JobLost)],
)
@pytest.mark.parametrize("report", [{}, {"reason": "terminated", "code": -15}, {"reason": "exited", "code": 143}])
def test_a_cancellation_is_the_owners_wish_unless_the_facility_or_this_service_made_it(
    by: str, given_up: bool, error: type[JobFailed], report: Document
) -> None:
    found = replace(remains(row(state=f"CANCELLED by {by}", uid="1001")), given_up=given_up)
    assert found.ending is not None
    status = found.reported(REPORT | report) if report else found.unreported(found.ending, {})
    assert isinstance(status, Failed)
    assert type(status.error) is error


def test_whose_job_it_is_squeue_knows_better_than_sacct() -> None:
    """For a moment, accounting has the one who cancelled a job for its owner."""
    found = remains(row(state="CANCELLED by 0", uid="0"))
    seen = replace(found, seen=row(state="RUNNING", uid="1001"))
    assert [each.ending.error if each.ending else None for each in (found, seen)] == [Cancelled, JobFailed]


def test_whose_job_it_is_accounting_does_not_know_before_its_name() -> None:
    found = remains(row(jobname="allocation", state="CANCELLED by 1001", uid="0"))
    assert found.ending is not None
    assert found.ending.error is Cancelled


@pytest.mark.parametrize(
    ("state", "code", "report", "error"),
    [
        ("COMPLETED", "0:0", {}, None),
        ("FAILED", "3:0", {"code": 3, "stderr": "no rings\n"}, JobFailed),
        ("TIMEOUT", "0:0", {"reason": "terminated", "code": -15}, JobTimedOut),
        ("PREEMPTED", "0:0", {"reason": "terminated", "code": -15}, JobPreempted),
        ("CANCELLED by 7", "0:0", {"reason": "terminated", "code": -15}, Cancelled),
        ("NODE_FAIL", "0:0", {"reason": "terminated", "code": -15}, NodeFailed),
        ("PREEMPTED", "0:0", {"reason": "terminated", "code": 130}, JobPreempted),
        ("PREEMPTED", "0:0", {"code": 143}, JobPreempted),
        ("CANCELLED by 7", "0:0", {"code": 130}, Cancelled),
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


@pytest.mark.parametrize("state", ["PENDING", "RUNNING"])
def test_a_row_that_is_behind_tells_nothing_of_the_end(state: str) -> None:
    times: Document = {"start": "Unknown", "end": "Unknown"} if state == "PENDING" else {"end": "Unknown"}
    status = remains(row(state=state, **times)).reported(REPORT)
    assert isinstance(status, Succeeded)
    assert not {"state", "slurm_exit_code", "nodes"} & set(status.evidence)
    assert status.evidence["queue_seconds"] == (None if state == "PENDING" else 300.0)
    assert status.evidence["run_seconds"] == 140.0


@pytest.mark.parametrize(
    ("slurm", "report", "reserved", "sent", "expected"),
    [
        # As told.
        (Times(submitted=0, started=900, ended=1000), REPORT, None, None, (900, 100)),
        (Times(submitted=9, started=8.0, ended=8.0), {}, None, None, (0, 0)),
        # An hour was left out while it waited or ran, ...
        (Times(submitted=0, started=4500, ended=4640), REPORT, 90.0, None, (900, 140)),
        (Times(submitted=0, started=900, ended=4650), REPORT, None, None, (900, 150)),
        # ... or came twice.
        (Times(submitted=0, started=-2700, ended=-2550), REPORT, 90.0, None, (900, 150)),
        (Times(submitted=0, started=900, ended=-2550), REPORT, None, None, (900, 150)),
        (Times(submitted=0, started=900, ended=-2550), {}, None, None, (900, 150)),
        # Slurm does not tell.
        (Times(submitted=0), REPORT, 90.0, 100.0, (900, 140)),
        (Times(), REPORT, 90.0, None, (None, 140)),
        (Times(), {}, 90.0, 100.0, (None, None)),
    ],
)
def test_no_change_of_the_clock_is_time_that_a_job_waited_or_ran(
    slurm: Times,
    report: Document,
    reserved: float | None,
    sent: float | None,
    expected: tuple[float | None, float | None],
) -> None:
    found = durations(slurm, report, reserved=reserved, sent=sent)
    assert (found["queue_seconds"], found["run_seconds"]) == expected


def test_when_a_waiting_job_is_expected_to_start_is_not_when_it_did() -> None:
    assert row(state="PENDING", nodelist="").times.queued is None


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


FAILED = "sbatch: error: Batch job submission failed:"


@pytest.mark.parametrize(
    "said",
    [
        f"{FAILED} Invalid qos specification",
        f"{FAILED} Invalid account or account/partition combination specified",
        f"{FAILED} Invalid partition name specified",
        f"{FAILED} Invalid feature specification",
        f"{FAILED} Invalid generic resource (gres) specification",
        f"{FAILED} Requested time limit is invalid (missing or exceeds some limit)",
        f"{FAILED} Requested node configuration is not available",
        f"{FAILED} Node count specification invalid",
        f"{FAILED} Access/permission denied",
        f"{FAILED} Requested reservation is invalid",
        f"sbatch: error: QOSMaxWallDurationPerJobLimit {FAILED} Job violates accounting/QOS policy (job submit limit)",
        f"sbatch: error: AssocGrpCPUMinutesLimit {FAILED} Job violates accounting/QOS policy (job submit limit)",
        f"sbatch: error: You must specify node features with -C: cpu or gpu {FAILED} Unspecified error",
        f"sbatch: error: Job request does not match any supported policy. {FAILED} Unspecified error",
        "sbatch: unrecognized option '--frobnicate' Try \"sbatch --help\" for more information",
        "sbatch: error: Invalid --time specification",
        'sbatch: error: Invalid numeric value "x" for --nodes.',
        "sbatch: error: Batch script is empty!",
    ],
)
def test_what_slurm_will_never_take_is_a_refusal(said: str) -> None:
    assert certain(said)


@pytest.mark.parametrize(
    "said",
    [
        "",
        "Command timed out",
        "Timeout waiting for command",
        "Read timed out",
        "ssh: connect to host login05 port 22: No route to host",
        "Permission denied (publickey)",
        "Fatal error: unable to fork",
        "slurmstepd: error: unable to open /var/spool: No space left on device",
        f"{FAILED} Message receive failure",
        f"{FAILED} Unexpected message received",
        f"{FAILED} Socket timed out on send/recv operation",
        f"{FAILED} Zero Bytes were transmitted or received",
        f"{FAILED} Unable to contact slurm controller (connect failure)",
        f"{FAILED} Protocol authentication error",
        f"{FAILED} Invalid authentication credential",
        f"{FAILED} Invalid job credential",
        f"{FAILED} Invalid user id",
        f"{FAILED} Slurm backup controller in standby mode",
        f"{FAILED} Requested partition configuration not available now",
        f"{FAILED} Requested operation is presently disabled",
        f"{FAILED} System submissions disabled",
        f"{FAILED} Resource temporarily unavailable",
        f"{FAILED} Unspecified error",
        f"{FAILED} Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)",
        f"sbatch: error: AssocMaxSubmitJobLimit {FAILED} Job violates accounting/QOS policy (job submit limit)",
        f"sbatch: error: QOSMaxSubmitJobPerUserLimit {FAILED} Job violates accounting/QOS policy (job submit limit)",
        f"sbatch: error: QOSGrpSubmitJobsLimit {FAILED} Job violates accounting/QOS policy (job submit limit)",
        "sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying",
    ],
)
def test_everything_else_may_be_said_of_a_job_that_slurm_has_or_will_take(said: str) -> None:
    assert not certain(said)


@pytest.mark.parametrize("output", [None, "text", {}])
def test_an_answer_without_rows_is_no_answer(output: None) -> None:
    with pytest.raises(ServiceUnavailable):
        rows(output, machine="perlmutter")


def test_the_steps_of_a_job_are_not_the_job() -> None:
    found = rows([SACCT, SACCT | {"jobid": "12.batch", "state": "FAILED"}, {"jobid": ""}], machine="perlmutter")
    assert [(row.id, row.state) for row in found] == [("12", "COMPLETED")]
