"""Maintenance of the machine's files and commands, as the API shows it and as this service's jobs meet it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import httpx
import pytest
from superfacility_lab import Lab, until

from orchestration.config import Credentials, NerscSite
from orchestration.errors import ServiceUnavailable
from orchestration.jobs import JobSpec, Output
from orchestration.ledger.service import Running, Status, Succeeded
from orchestration.nersc.jobs import NerscJobs
from orchestration.nersc.memory import Patience
from orchestration.sandbox.superfacility.knobs import Maintenance, Service
from orchestration.sandbox.testing import submit

KINDS = [Maintenance.UNAVAILABLE, Maintenance.ERROR, Maintenance.NULL]


def asked(lab: Lab) -> list[httpx.Response]:
    """Each question about files and commands of the machine, once."""
    headers = {"Authorization": f"Bearer {lab.token}"}
    url = f"{lab.variables['SFAPI_API_URL']}/utilities"
    with httpx.Client(headers=headers, verify=False, timeout=60.0) as http:
        return [
            http.get(f"{url}/ls/perlmutter{lab.folder}"),
            http.get(f"{url}/download/perlmutter{lab.folder}/file"),
            http.put(f"{url}/upload/perlmutter{lab.folder}/file", files={"file": b"new"}),
            http.post(f"{url}/command/perlmutter", data={"executable": f"touch {lab.folder}/touched"}),
        ]


@pytest.mark.parametrize("kind", KINDS)
def test_files_and_commands_can_be_in_maintenance_alone(lab: Lab, kind: Maintenance) -> None:
    (lab.folder / "file").write_text("old")
    lab.control.begin_maintenance(kind, "new disks", services=[Service.UTILITIES])
    answers = asked(lab)
    if kind is Maintenance.UNAVAILABLE:
        assert [(one.status_code, one.json()) for one in answers] == [(503, {"detail": "new disks"})] * 4
    else:
        assert {(one.status_code, one.json()["status"], one.json()["error"]) for one in answers} == {
            (200, "ERROR", "new disks")
        }
        assert answers[0].json()["entries"] == (None if kind is Maintenance.NULL else [])
    assert [path.name for path in lab.folder.iterdir()] == ["file"]
    assert (lab.folder / "file").read_text() == "old"
    assert lab.client.get(f"utilities/download/dtn01/{lab.folder}/file").json()["file"] == "old"
    assert lab.submit("true")
    lab.control.end_maintenance()
    assert [one.json()["status"] for one in asked(lab)] == ["OK"] * 4


def jobs_of(lab: Lab) -> NerscJobs:
    site = NerscSite.model_validate(
        {
            "kind": "nersc",
            "raw_endpoint": "raw",
            "scratch_endpoint": "scratch",
            "job_folder": str(lab.folder / "jobs"),
            "python": sys.executable,
            "queue": "realtime",
            "account": "als",
            "constraint": "cpu",
            "api_url": lab.variables["SFAPI_API_URL"],
            "token_url": lab.variables["SFAPI_TOKEN_URL"],
        }
    ).known_as("perlmutter")
    credentials = Credentials(
        path_nersc_client_id=Path(lab.variables["PATH_NERSC_CLIENT_ID"]),
        path_nersc_pri_key=Path(lab.variables["PATH_NERSC_PRI_KEY"]),
    )
    return NerscJobs(site, credentials, patience=Patience(settle=0.4, task=60.0, report=0.0, unknown=0.0, status=0.0))


def job(lab: Lab) -> JobSpec:
    return JobSpec(
        executable="/bin/sh",
        arguments=("-c", "echo done > result"),
        directory=str(lab.folder / "work"),
        outputs=(Output(path="result"),),
        duration=60.0,
        name="reconstruct",
    )


def settled(jobs: NerscJobs, spec: JobSpec, handle: str) -> Status:
    found: Status = until(lambda: None if isinstance(status := jobs.poll(spec, handle), Running) else status)
    return found


@pytest.mark.parametrize(
    ("kind", "services"), [*((kind, [Service.UTILITIES]) for kind in KINDS), (Maintenance.ERROR, list(Service))]
)
def test_how_a_job_ended_is_not_known_before_its_report_can_be_read(
    lab: Lab, kind: Maintenance, services: Sequence[Service]
) -> None:
    jobs, spec = jobs_of(lab), job(lab)
    handle = submit(jobs, spec, jobs.reserve("key-1"))
    lab.control.begin_maintenance(kind, "new disks", services=services)
    lab.ended(handle.partition(" ")[0])
    for _ in range(2):
        with pytest.raises(ServiceUnavailable, match="new disks"):
            jobs.poll(spec, handle)
    lab.control.end_maintenance()
    status = settled(jobs, spec, handle)
    assert isinstance(status, Succeeded), status


@pytest.mark.parametrize("kind", [Maintenance.UNAVAILABLE, Maintenance.ERROR])
def test_nothing_is_submitted_while_it_cannot_be_seen_whether_the_folder_for_jobs_is_there(
    lab: Lab, kind: Maintenance
) -> None:
    jobs, spec = jobs_of(lab), job(lab)
    lab.control.begin_maintenance(kind, "new disks", services=[Service.UTILITIES])
    lab.control.set_status("active")  # the status page knows nothing of it
    with pytest.raises(ServiceUnavailable):
        submit(jobs, spec, jobs.reserve("key-1"))
    assert lab.facility.client.effects("job") == []
    lab.control.end_maintenance()
    assert isinstance(settled(jobs, spec, submit(jobs, spec, jobs.reserve("key-1"))), Succeeded)
    assert len(lab.facility.client.effects("job")) == 1
