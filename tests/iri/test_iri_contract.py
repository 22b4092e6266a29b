"""Every operation of both versions, with good requests and bad ones; each answer is held to the API's description."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from iri_contract import Contract
from iri_ground import CLUSTER, QUICK, SCRATCH, Ground, ended, failure, until

from orchestration.conditions import SiteState
from orchestration.errors import JobLost
from orchestration.jobs import Resources
from orchestration.ledger.service import CancelAnswer, Succeeded
from orchestration.sandbox.effects import Effects
from orchestration.sandbox.globus.tokens import Tokens
from orchestration.sandbox.iri.facility import VERSIONS, Iri
from orchestration.sandbox.iri.settings import TOKEN
from orchestration.sandbox.settings import Settings
from orchestration.sandbox.store import Store
from orchestration.sandbox.testing import submit

OK, NONE = 200, 204
STATUSES = {"mkdir", "symlink", "compress", "extract", "mv", "cp"}
QUERIED = {"file", "stat", "ls", "head", "view", "tail", "checksum", "rm", "download"}
"""Operations on files whose arguments are in the address in the first version."""
PUT = {"chmod", "chown"}


def operation(api: httpx.Client, version: int, name: str, **args: Any) -> httpx.Response:
    """Begin an operation on files, as this version asks for it."""
    path = f"filesystem/{name}/{SCRATCH}"
    if version == 2 or name in STATUSES:
        return api.post(path, json=args)
    if name in PUT:
        return api.put(path, json=args)
    words = {key: str(value).lower() if isinstance(value, bool) else value for key, value in args.items()}
    return api.delete(path, params=words) if name == "rm" else api.get(path, params=words)


def result(api: httpx.Client, answer: httpx.Response) -> tuple[str, Any]:
    """Status and output of the task that was begun, once it is over."""
    task = answer.json()["task_id"]
    until(lambda: api.get(f"task/{task}").json()["status"] not in {"pending", "active"})
    found = api.get(f"task/{task}").json()
    return found["status"], found["result"]["output"]


def do(api: httpx.Client, version: int, name: str, **args: Any) -> Any:
    answer = operation(api, version, name, **args)
    assert answer.status_code == (201 if name in STATUSES else OK), answer.text
    status, output = result(api, answer)
    assert status == "completed", output
    return output


def test_the_stand_in_has_exactly_the_operations_that_are_described(
    ground: Ground, contract: Contract, version: int
) -> None:
    with closing(Store(ground.folder / "facility.sqlite")) as store:
        iri = Iri(Settings(state=ground.folder), store=store, effects=Effects(store), tokens=Tokens(store, lifetime=1))
        mine = {(each.name, each.method, each.path, each.public) for each in iri.operations(VERSIONS[version - 1])}
        iri.close()
    theirs = {
        (row["operationId"], method.upper(), path.removeprefix(f"/api/v{version}"), not row.get("security"))
        for path, rows in contract.document["paths"].items()
        for method, row in rows.items()
    }
    assert mine == theirs


def test_the_public_half(ground: Ground, api: httpx.Client, version: int) -> None:
    api.headers.pop("authorization")
    ground.control.switch("down")
    ground.control.announce("maintenance", start="2027-01-01T08:00:00Z", end="2027-01-01T12:00:00Z")

    facility = api.get("facility").json()
    site = api.get("facility/sites", params={"name": "machine", "short_name": "sandbox"}).json()[0]
    assert facility["site_uris"] == [site["self_uri"]]
    assert api.get(site["self_uri"]).json() == site

    kind = "compute" if version == 1 else "urn:doe-iri:resource:compute"
    unit = "node_hours" if version == 1 else "urn:doe-iri:allocation:compute:node-hours"
    found = api.get("status/resources", params={"resource_type": kind, "capability": unit, "current_status": "down"})
    assert [row["id"] for row in found.json()] == [CLUSTER]
    assert api.get(f"status/resources/{CLUSTER}").json()["current_status"] == "down"
    assert api.get("status/resources", params={"limit": 1, "offset": 1}).json()[0]["id"] == SCRATCH

    planned = api.get("status/incidents", params={"type": "planned", "resource_id": CLUSTER}).json()
    assert [row["name"] for row in planned] == ["maintenance"]
    at = {"time": "2027-01-01T09:00:00Z", "from": "2026-12-31T00:00:00Z", "to": "2027-01-02T00:00:00Z"}
    assert api.get("status/incidents", params=at | {"type": "planned"}).json() == planned
    assert api.get("status/incidents", params={"to": "2026-01-01T00:00:00Z"}).json() == []
    assert api.get(planned[0]["self_uri"]).json() == planned[0]

    unplanned = api.get("status/incidents", params={"type": "unplanned", "resolution": "unresolved"}).json()[0]
    events = api.get("status/events", params={"incident_id": unplanned["id"], "status": "down"}).json()
    assert unplanned["event_uris"] == [events[0]["self_uri"]]
    assert api.get(events[0]["self_uri"]).json() == events[0]
    ground.control.switch("up")
    assert api.get(unplanned["self_uri"]).json()["resolution"] == "completed"


def test_accounts(ground: Ground, api: httpx.Client) -> None:
    capabilities = api.get("account/capabilities", params={"name": "cluster"}).json()
    assert api.get(capabilities[0]["self_uri"]).json() == capabilities[0]
    project = api.get("account/projects").json()[0]
    assert api.get(project["self_uri"]).json() == project
    base = f"account/projects/{project['id']}/project_allocations"
    allocation = api.get(base).json()[0]
    assert allocation["capability_uri"] == capabilities[0]["self_uri"]
    assert api.get(f"{base}/{allocation['id']}").json()["entries"] == allocation["entries"]
    user = api.get(f"{base}/{allocation['id']}/user_allocations").json()[0]
    assert api.get(f"{base}/{allocation['id']}/user_allocations/{user['id']}").json() == user
    assert user["project_allocation_uri"].endswith(allocation["id"])


def test_jobs(ground: Ground, api: httpx.Client, version: int) -> None:
    assert [row["id"] for row in api.get("compute/resources").json()] == [CLUSTER]
    ground.control.hold()
    spec = {
        "executable": "/bin/sh",
        "arguments": ["-c", 'echo "$WORD"; pwd; exit 3'],
        "name": f"{ground.folder.name} one",
        "directory": str(ground.folder),
        "environment": {"WORD": "a 'quoted' $word"},
        "stdout_path": str(ground.folder / "out.txt"),
        "stderr_path": str(ground.folder / "err.txt"),
        "resources": {"node_count": 1, "cpu_cores_per_process": 1},
        "attributes": {"duration": 60, "account": "als", "custom_attributes": {"constraint": "cpu"}},
    }
    job = api.post(f"compute/job/{CLUSTER}", json=spec).json()["id"]
    one = f"compute/status/{CLUSTER}/{job}"
    assert api.get(one, params={"include_spec": True}).json()["job_spec"] == spec
    until(lambda: api.get(one).json()["status"]["state"] == "held")
    renamed = spec | {"name": f"{ground.folder.name} two"}
    assert api.put(f"compute/job/{CLUSTER}/{job}", json=renamed).status_code == OK
    many = f"compute/status/{CLUSTER}"
    rows = api.post(many, json={"name": renamed["name"], "states": ["held"]}, params={"include_spec": True}).json()
    assert [row["job_spec"]["name"] for row in rows] == [renamed["name"]]

    ground.control.hold(held=False)
    until(lambda: api.get(one).json()["status"]["state"] == "failed")
    status = api.get(one).json()["status"]
    assert (status["exit_code"], status["meta_data"]["scheduler_state"]) == (3, "FAILED")
    assert (ground.folder / "out.txt").read_text() == f"a 'quoted' $word\n{ground.folder}\n"
    assert api.post(many, json={"jobIds": [job]}).json() == []
    assert [row["id"] for row in api.post(many, json={"jobIds": [job]}, params={"historical": True}).json()] == [job]

    spec["arguments"] = ["-c", "sleep 30"]
    other = api.post(f"compute/job/{CLUSTER}", json=spec).json()["id"]
    assert api.delete(f"compute/cancel/{CLUSTER}/{other}").status_code == NONE
    until(lambda: api.get(f"compute/status/{CLUSTER}/{other}").json()["status"]["state"] == "canceled")


def test_files(ground: Ground, api: httpx.Client, version: int) -> None:
    folder = ground.folder / "files"
    here: Mapping[str, str] = {"path": str(folder)}
    method = api.post if version == 2 else api.get
    assert {row["id"] for row in method("filesystem/resources").json()} == {CLUSTER, SCRATCH}

    do(api, version, "mkdir", path=str(folder / "a"), parent=True)
    file = str(folder / "a" / "x.txt")
    sent = api.post(f"filesystem/upload/{SCRATCH}", params={"path": file}, files={"file": b"one\ntwo\nthree\n"})
    assert result(api, sent)[0] == "completed"
    assert do(api, version, "file", path=file) == "file"
    assert do(api, version, "stat", path=file)["size"] == 14
    assert do(api, version, "view", path=file, size=3, offset=4)["content"] == "two"
    assert do(api, version, "head", path=file, lines=1)["content"] == "one\n"
    assert do(api, version, "head", path=file, bytes=4, skipTrailing=True)["content"] == "one\ntwo\nth"
    assert do(api, version, "tail", path=file, lines=2)["content"] == "two\nthree\n"
    assert do(api, version, "tail", path=file, lines=2, skipHeading=True)["content"] == "three\n"
    assert do(api, version, "checksum", path=file)["algorithm"] == "SHA-256"
    assert do(api, version, "download", path=file) == "b25lCnR3bwp0aHJlZQo="
    assert do(api, version, "chmod", path=file, mode="600")["permissions"] == "rw-------"
    owner = Path(file).owner()
    assert do(api, version, "chown", path=file, owner=owner)["user"] == owner
    do(api, version, "symlink", path=file, link_path=str(folder / "link"))
    do(api, version, "cp", path=file, target_path=str(folder / "y.txt"))
    do(api, version, "mv", path=str(folder / "y.txt"), target_path=str(folder / "z.txt"))
    names = [row["name"] for row in do(api, version, "ls", recursive=True, **here)]
    assert names == ["a", "a/x.txt", "link", "z.txt"]
    gzip = {} if version == 2 else {"compression": "gzip"}
    archive = str(ground.folder / "a.tar.gz")
    do(api, version, "compress", path=str(folder / "a"), target_path=archive, match_pattern=r"\.txt$", **gzip)
    do(api, version, "extract", path=archive, target_path=str(folder / "b"))
    assert (folder / "b" / "a" / "x.txt").read_text() == "one\ntwo\nthree\n"
    do(api, version, "rm", path=str(folder / "a"))
    assert not (folder / "a").exists()

    missing = operation(api, version, "view", path=str(folder / "none"), size=1)
    assert result(api, missing) == ("failed", f"{folder}/none: No such file or directory")
    outside = operation(api, version, "checksum", path="/etc/passwd")
    assert result(api, outside) == ("failed", "/etc/passwd: Permission denied")


def test_a_task_can_be_called_off(ground: Ground, api: httpx.Client, version: int) -> None:
    ground.control.turn(task_delay=5.0)
    task = operation(api, version, "checksum", path=str(ground.folder)).json()["task_id"]
    assert task in {row["id"] for row in api.get("task").json()}
    assert "deleted" in api.delete(f"task/{task}").json()
    assert api.get(f"task/{task}").json()["status"] == "canceled"


def test_storage(ground: Ground, api: httpx.Client, version: int) -> None:
    if version == 1:
        assert api.get(f"storage/locations/{SCRATCH}").status_code == 404
        return
    assert api.get(f"storage/locations/{SCRATCH}", params={"intent": "staging"}).json()[0]["access"]["write"]
    assert api.get(f"storage/locations/{SCRATCH}", params={"logicalpath": "archive"}).json() == []
    assert api.get(f"storage/locations/{SCRATCH}", params={"project": "other"}).status_code == 403
    endpoints = api.get(f"storage/access-endpoints/{SCRATCH}", params={"protocol": "globus"}).json()
    assert {row["display_name"] for row in endpoints} == {"beamline", "facility"}


def _refusals() -> Iterator[tuple[str, int, str, str, dict[str, Any]]]:
    """What, the status, the method and the path of requests that must be refused."""
    job = f"compute/job/{CLUSTER}"
    good = {"executable": "/bin/true", "attributes": {"account": "als"}}
    yield "an unknown resource", 404, "GET", "status/resources/none", {}
    yield "an unknown incident", 404, "GET", "status/incidents/none", {}
    yield "an unknown event", 404, "GET", "status/events/none", {}
    yield "an unknown site", 404, "GET", "facility/sites/none", {}
    yield "an unknown capability", 404, "GET", "account/capabilities/none", {}
    yield "an unknown project", 404, "GET", "account/projects/none", {}
    yield "an unknown job", 404, "GET", f"compute/status/{CLUSTER}/none", {}
    yield "an unknown job cancelled", 404, "DELETE", f"compute/cancel/{CLUSTER}/none", {}
    yield "an unknown task", 404, "GET", "task/none", {}
    yield "an unknown state", 400, "GET", "status/resources?current_status=asleep", {}
    yield "no time", 400, "GET", "facility?modified_since=yesterday", {}
    yield "too many", 400, "GET", "status/events?limit=1001", {}
    yield "a negative offset", 400, "GET", "status/incidents?offset=-1", {}
    yield "an unknown parameter", 422, "GET", "status/resources?colour=red", {}
    yield "a parameter twice", 422, "GET", "status/resources?name=a&name=b", {}
    yield "a job without an account", 400, "POST", job, {"json": {"executable": "/bin/true"}}
    yield "a job without a program", 400, "POST", job, {"json": {"attributes": {"account": "als"}}}
    yield "another's account", 400, "POST", job, {"json": good | {"attributes": {"account": "them"}}}
    yield "an unknown word", 400, "POST", job, {"json": good | {"script": "x"}}
    yield "no nodes", 400, "POST", job, {"json": good | {"resources": {"node_count": 0}}}
    yield "half a node", 400, "POST", job, {"json": good | {"resources": {"node_count": 1.5}}}
    yield "too long", 400, "POST", job, {"json": good | {"attributes": {"account": "als", "duration": 10**7}}}
    yield "a variable that is none", 400, "POST", job, {"json": good | {"environment": {"-S x": "y"}}}
    yield "not JSON", 400, "POST", job, {"content": b"{"}
    yield "a list", 400, "POST", job, {"json": [good]}
    yield "storage that computes", 400, "POST", f"compute/job/{SCRATCH}", {"json": good}
    yield "conditions that are none", 400, "POST", f"compute/status/{CLUSTER}", {"json": {"colour": "red"}}
    yield "no file", 400, "POST", f"filesystem/upload/{SCRATCH}?path=/x", {"data": {"file": "text"}}
    yield "another method", 405, "PATCH", "facility", {}


@pytest.mark.parametrize(
    ("status", "method", "path", "options"), [row[1:] for row in _refusals()], ids=[row[0] for row in _refusals()]
)
def test_refusals_are_problem_documents(
    api: httpx.Client, status: int, method: str, path: str, options: dict[str, Any]
) -> None:
    answer = api.request(method, path, **options)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert answer.json()["status"] == status
    assert answer.json()["detail"]


def test_operations_on_files_want_all_their_arguments(api: httpx.Client, version: int, ground: Ground) -> None:
    path = str(ground.folder)
    for name in (*sorted(QUERIED), *sorted(PUT), *sorted(STATUSES)):
        assert operation(api, version, name).status_code == 400
    assert operation(api, version, "head", path=path).status_code == 400
    assert operation(api, version, "tail", path=path, lines=1, bytes=1).status_code == 400
    assert operation(api, version, "view", path=path, size=10**7).status_code == 400
    assert operation(api, version, "compress", path=path, target_path=path, compression="zip").status_code == 400


def test_a_bad_token_a_resource_that_is_down_and_what_has_not_changed(ground: Ground, api: httpx.Client) -> None:
    assert api.get("facility", params={"modified_since": "2027-01-01T00:00:00Z"}).status_code == 304
    ground.control.switch("down")
    answer = api.post(f"compute/status/{CLUSTER}")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    for path in ("account/projects", "task", f"compute/status/{CLUSTER}/1"):
        refused = api.get(path, headers={"Authorization": "Bearer wrong"})
        assert (refused.status_code, refused.headers["www-authenticate"]) == (401, "Bearer")
    assert api.get("account/projects", headers={"Authorization": ""}).status_code == 401


def test_no_operation_is_left_out(ground: Ground, api: httpx.Client, contract: Contract, version: int) -> None:
    contract.seen.clear()
    test_the_public_half(ground, api, version)
    ground.control.all_up()
    api.headers["authorization"] = f"Bearer {TOKEN}"
    test_accounts(ground, api)
    test_jobs(ground, api, version)
    test_files(ground, api, version)
    test_a_task_can_be_called_off(ground, api, version)
    test_storage(ground, api, version)
    succeeded = {name for name, statuses in contract.seen.items() if statuses & {200, 201, 204}}
    assert succeeded == contract.operations.keys()


def test_all_that_the_adapter_asks_for_is_what_the_api_has(ground: Ground, contract: Contract, version: int) -> None:
    """As in every other test of the adapter, where the descriptions are; here each of its questions comes up."""
    contract.asked.clear()
    patience = replace(QUICK, unknown=0.0)
    jobs = ground.jobs(version, patience=patience, options={"filesystems": "eagle"}, storage="scratch", queue="debug")
    spec = ground.spec(resources=Resources(cores=4, processes_per_node=2, memory=10**9, gpus=1))
    token = ground.token(jobs)
    handle = submit(jobs, spec, token)
    assert isinstance(ended(jobs, spec, handle), Succeeded)
    assert jobs.find(spec, token) == handle
    assert jobs.poll_many([(spec, handle)]).keys() == {handle}
    assert jobs.cancel(handle) is CancelAnswer.ALREADY_FINISHED
    assert jobs.status.condition().state is SiteState.UP
    ground.facility.client.faults.add("filesystem/view", status=501)
    assert isinstance(jobs.poll(spec, handle), Succeeded)
    assert isinstance(failure(ended(jobs, spec, f"4711@{token}-2")).error, JobLost)
    assert contract.asked == {
        *("getResources", "getResource", "getIncidents"),
        *("getProjects", "getProjectAllocationsByProject", "getUserAllocationsByProjectAllocation"),
        *("launchJob", "getJob", "getJobs", "cancelJob"),
        *("view", "download", "mkdir", "ls", "getTask"),
    }
