"""The command that a facility's scheduler is asked to start, and what the report of it means."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import Any

import pytest

from orchestration.config import Container, NerscSite
from orchestration.errors import (
    Cancelled,
    InvalidInput,
    JobFailed,
    JobLost,
    JobNotStarted,
    JobTimedOut,
    OutputMissing,
)
from orchestration.jobs import JobSpec, Mount, Output, OutputKind, Resources
from orchestration.ledger.service import Failed, Json, Succeeded
from orchestration.remote import Launch, Times, dated, dated_at, undated, verdict


def site(**changes: Any) -> NerscSite:
    plain = {"kind": "nersc", "raw_endpoint": "raw", "scratch_endpoint": "scratch", "job_folder": "/p/jobs"}
    return NerscSite(**plain | changes)


SPEC = JobSpec(
    executable="/opt/python",
    arguments=("-m", "x", "--", "/data/a'b $(id).h5"),
    directory="/p/out",
    duration=60,
    outputs=(Output(path="r.json", kind=OutputKind.JSON),),
    resources=Resources(nodes=2, gpus=4),
    constraint="gpu",
    start_within=600,
    name="people read this",
)


def test_a_job_comes_back_from_the_ledger_as_it_was() -> None:
    found = JobSpec.parse(json.loads(json.dumps(SPEC.document())))
    assert found.document() == SPEC.document()
    assert found == JobSpec(**{**vars(SPEC), "name": ""})


def test_what_is_no_document_of_a_job_is_refused() -> None:
    with pytest.raises(InvalidInput, match="not the document of a job"):
        JobSpec.parse({"executable": "x"})


def test_what_is_not_asked_for_is_no_part_of_a_jobs_identity() -> None:
    plain = JobSpec(executable="x", directory="/", duration=1)
    assert not {"mounts", "constraint", "reservation", "start_within"} & set(plain.document())


def test_the_command_carries_the_orders_as_one_word() -> None:
    launch = Launch(site=site(python="/env/bin/python"), spec=SPEC, token="k-1", start_by=12.5)
    assert launch.command[:5] == ("/env/bin/python", "-P", "-m", "orchestration.science", "run")
    orders = json.loads(launch.command[5])
    assert orders["arguments"] == list(SPEC.arguments)
    assert (orders["folder"], orders["start_by"]) == ("/p/jobs/k-1", 12.5)
    assert len(launch.command) == 6


@pytest.mark.parametrize(
    ("engine", "words"),
    [
        (
            "podman-hpc",
            [
                *("podman-hpc", "run", "--rm", "--env", "SLURM_JOB_ID", "--env", "SLURM_RESTART_COUNT", "--gpu"),
                *("--volume", "/cfs:/data", "--volume", "/p:/in:ro", "i"),
            ],
        ),
        ("shifter", ["shifter", "--image=i", "--gpu", "--volume=/cfs:/data", "--volume=/p:/in:ro"]),
        ("apptainer", ["apptainer", "exec", "--gpu", "--bind", "/cfs:/data", "--bind", "/p:/in:ro", "i"]),
    ],
)
def test_each_engine_is_asked_in_its_own_words(engine: Any, words: list[str]) -> None:
    container = Container(engine=engine, image="i", options=("--gpu",), volumes={"/data": "/cfs"})
    spec = replace(SPEC, mounts=(Mount(source="/p", target="/in", read_only=True),))
    command = Launch(site=site(container=container), spec=spec, token="k").command
    assert list(command[: len(words)]) == words
    assert command[len(words) : len(words) + 2] == ("python", "-P")


@pytest.mark.parametrize("wish", [{"container": "als:1"}, {"mounts": (Mount(source="/p", target="/in"),)}])
def test_a_container_where_the_site_has_none_is_refused(wish: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match="runs none"):
        _ = Launch(site=site(), spec=replace(SPEC, **wish), token="k").command


@pytest.mark.parametrize("token", ["", "../x", "a/b", "-x", "a b", "a\n"])
def test_a_token_that_could_lead_elsewhere_is_refused(token: str) -> None:
    with pytest.raises(InvalidInput):
        Launch(site=site(), spec=SPEC, token=token)


def test_a_token_tells_when_it_was_made_and_of_which_key() -> None:
    before = time.time()
    token = dated("k-1")
    made = dated_at(token)
    assert made is not None
    assert before - 0.001 <= made <= time.time()
    assert (undated(token), undated("k-1"), dated_at("k-1")) == ("k-1", "k-1", None)


@pytest.mark.parametrize("path", ["relative", "/with:colon"])
def test_what_a_container_cannot_mount_is_refused(path: str) -> None:
    with pytest.raises(InvalidInput, match="mounted"):
        Mount(source=path, target="/in")


@pytest.mark.parametrize(
    ("report", "error"),
    [
        ({"reason": "exited", "code": 3, "stderr": "first\nlast words\n"}, JobFailed),
        ({"reason": "exited", "code": -9}, JobFailed),
        ({"reason": "exited", "code": 0, "outputs": [{"path": "r", "problem": "r was not written"}]}, OutputMissing),
        ({"reason": "timeout", "seconds": 60.0}, JobTimedOut),
        ({"reason": "cancelled"}, Cancelled),
        ({"reason": "late", "error": "12 s too late"}, JobNotStarted),
        ({"reason": "terminated", "seconds": 3}, JobLost),
        ({"reason": "unstartable", "error": "No such file"}, JobFailed),
        ({"reason": "outdated", "error": "version 1 is installed"}, JobFailed),
        ({"reason": "of a later version"}, JobFailed),
        ({}, JobFailed),
    ],
)
def test_only_a_good_report_is_a_success(report: dict[str, Any], error: type[Exception]) -> None:
    found = verdict("t", report, where="here")
    assert isinstance(found, Failed)
    assert type(found.error) is error
    assert found.error.next_step


def test_the_last_words_of_a_program_are_in_the_error() -> None:
    found = verdict("t", {"reason": "exited", "code": 3, "stderr": "first\nlast words\n"}, where="here")
    assert isinstance(found, Failed)
    assert "exit code 3: last words" in found.error.what


@pytest.mark.parametrize(
    "report",
    [
        {"reason": "exited", "code": 3},
        {"reason": "exited", "code": 0, "outputs": [{"path": "r", "problem": "r was not written"}]},
        {"reason": "timeout", "seconds": 60.0},
        {"reason": "terminated", "seconds": 3},
        {"reason": "lost"},
    ],
)
@pytest.mark.parametrize(
    ("streams", "said"),
    [
        ({"stdout": "slice 3 of 9\n", "stderr": " \n"}, "slice 3 of 9"),
        ({"stdout": "slice 3 of 9\n", "stderr": "disk full\n\n"}, "disk full"),
    ],
)
def test_whatever_its_end_the_last_words_of_a_program_are_told(
    report: dict[str, Any], streams: dict[str, str], said: str
) -> None:
    found = verdict("t", report | streams, where="here")
    assert isinstance(found, Failed)
    assert found.error.what.endswith(said)


def test_a_job_that_begins_too_late_though_it_did_not_wait_hints_at_the_clock() -> None:
    found = verdict("t", {"reason": "late", "error": "7 s too late", "host": "nid001"}, where="here")
    assert isinstance(found, Failed)
    assert "the clock of nid001 is wrong" in found.error.next_step


def test_the_programs_own_account_is_in_the_error() -> None:
    told: Json = {"type": "NoCenter", "what": "no center", "where": "scan.h5", "next_step": "give one"}
    found = verdict("t", {"reason": "exited", "code": 1, "reported": told}, where="here")
    assert isinstance(found, Failed)
    assert isinstance(found.error, JobFailed)
    assert (found.error.where, found.error.next_step, found.error.cause) == ("scan.h5", "give one", "NoCenter")


def test_a_good_report_is_evidence_with_queue_and_run_apart() -> None:
    facts = {"job": "7", **Times(submitted=100.0, started=160.0, ended=170.0).document}
    found = verdict("t", {"reason": "exited", "code": 0, "outputs": []}, where="here", facts=facts)
    assert isinstance(found, Succeeded)
    assert (found.evidence["queue_seconds"], found.evidence["run_seconds"]) == (60.0, 10.0)
