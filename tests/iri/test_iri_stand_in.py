"""What the stand-in does beyond its description: keys, tokens, lags, restarts."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from iri_ground import CLUSTER, SCRATCH, Ground, ended, http, until

from orchestration import config
from orchestration.iri.jobs import IriJobs
from orchestration.jobs import JobSpec
from orchestration.ledger.service import Succeeded
from orchestration.sandbox import blueprint
from orchestration.sandbox.iri.settings import IriSettings
from orchestration.sandbox.layout import Layout
from orchestration.sandbox.settings import Settings, load
from orchestration.sandbox.testing import running_facility, submit

JOB = f"compute/job/{CLUSTER}"


def body(ground: Ground, *arguments: str) -> dict[str, Any]:
    spec = {"executable": "/bin/echo", "arguments": list(arguments), "name": ground.folder.name}
    return spec | {"attributes": {"account": "als"}}


@pytest.fixture
def v2(ground: Ground) -> Any:
    with http(ground.facility, 2) as client:
        yield client


def test_the_same_key_and_body_is_the_same_job(ground: Ground, v2: httpx.Client) -> None:
    headers = {"Idempotency-Key": ground.folder.name}
    first = v2.post(JOB, json=body(ground), headers=headers)
    second = v2.post(JOB, json=body(ground), headers=headers)
    assert first.json() == second.json()
    assert [each.headers["idempotency-key-reply"] for each in (first, second)] == ["miss", "hit"]
    assert ground.submitted() == 1
    assert v2.post(JOB, json=body(ground, "other"), headers=headers).status_code == 422
    assert ground.submitted() == 1


def test_a_key_in_flight_is_a_conflict(ground: Ground, v2: httpx.Client) -> None:
    ground.control.turn(submit_delay=3600.0)
    headers = {"Idempotency-Key": ground.folder.name}
    answers: list[httpx.Response] = []
    first = threading.Thread(
        target=lambda: answers.append(v2.post(JOB, json=body(ground), headers=headers, timeout=60.0))
    )
    first.start()
    try:
        until(lambda: ground.submitted() == 1)
        refused = v2.post(JOB, json=body(ground), headers=headers)
    finally:
        ground.control.turn(submit_delay=0.0)
        first.join()
    assert (refused.status_code, refused.headers["retry-after"]) == (409, "1")
    assert v2.post(JOB, json=body(ground), headers=headers).json() == answers[0].json()
    assert ground.submitted() == 1


def test_a_key_is_forgotten_after_its_time_and_a_refusal_at_once(ground: Ground, v2: httpx.Client) -> None:
    headers = {"Idempotency-Key": ground.folder.name}
    wrong = body(ground) | {"attributes": {"account": "als", "duration": 10**7}}
    assert v2.post(JOB, json=wrong, headers=headers).status_code == 400
    assert v2.post(JOB, json=body(ground), headers=headers).status_code == 200
    ground.control.turn(idempotency_seconds=0.0)
    assert v2.post(JOB, json=body(ground), headers=headers).status_code == 200
    assert ground.submitted() == 2
    ground.control.turn(idempotent=False)
    assert v2.post(JOB, json=body(ground), headers=headers).status_code == 501


def test_the_first_version_knows_no_keys(ground: Ground) -> None:
    with http(ground.facility, 1) as v1:
        for _ in range(2):
            assert v1.post(JOB, json=body(ground), headers={"Idempotency-Key": "k"}).status_code == 200
    assert ground.submitted() == 2


def test_the_account_may_come_in_a_header_but_from_one_place_only(ground: Ground, v2: httpx.Client) -> None:
    headers = {"X-IRI-Facility-Project": "als"}
    assert v2.post(JOB, json=body(ground), headers=headers).status_code == 400
    assert v2.post(JOB, json=body(ground) | {"attributes": {}}, headers=headers).status_code == 200


def test_a_token_of_globus_is_accepted_until_it_expires(ground: Ground) -> None:
    environment = ground.facility.environment()
    form = {"grant_type": "client_credentials", "scope": "https://auth.globus.org/scopes/iri/all"}
    login = (environment["GLOBUS_CLIENT_ID"], environment["GLOBUS_CLIENT_SECRET"])
    url = f"{environment['GLOBUS_SDK_SERVICE_URL_AUTH']}/v2/oauth2/token"
    token = httpx.post(url, data=form, auth=login).json()["access_token"]
    with http(ground.facility, 2) as client:
        client.headers["authorization"] = f"Bearer {token}"
        assert client.get("account/projects").status_code == 200
        ground.facility.client.expire_tokens()
        assert client.get("account/projects").status_code == 401


def test_a_new_job_can_stay_unseen_for_a_while(ground: Ground, v2: httpx.Client) -> None:
    ground.control.turn(unseen_polls=2)
    job = v2.post(JOB, json=body(ground)).json()["id"]
    answers = [v2.get(f"compute/status/{CLUSTER}/{job}").status_code for _ in range(3)]
    lists = [v2.post(f"compute/status/{CLUSTER}?historical=true", json={"jobIds": [job]}).json() for _ in range(3)]
    assert answers == [404, 404, 200]
    assert [len(rows) for rows in lists] == [0, 0, 1]


def test_lost_answers_leave_their_job(ground: Ground, v2: httpx.Client) -> None:
    ground.facility.client.faults.add(f"POST .*{JOB}", "lost_answer")
    with pytest.raises(httpx.TransportError):
        v2.post(JOB, json=body(ground))
    assert ground.submitted() == 1
    effects = [each for each in ground.facility.client.effects("job") if each.label == ground.folder.name]
    assert [each.id for each in effects] == [row["id"] for row in ground.mine()]


def test_words_of_a_request_never_reach_a_shell(ground: Ground, v2: httpx.Client) -> None:
    hostile = ["$(touch pwned)", "`touch pwned`", "; touch pwned", "a\nb", "-n", "'", '"']
    name = "x'; touch pwned #\n#SBATCH --time=1"
    out = ground.folder / "it's $(out)"
    spec = body(ground, *hostile) | {
        "executable": "/usr/bin/printf",
        "arguments": ["%s|", *hostile],
        "directory": str(ground.folder),
        "name": name,
        "stdout_path": str(out),
        "environment": {"X": "$(touch pwned)"},
        "inherit_environment": False,
    }
    job = v2.post(JOB, json=spec).json()["id"]
    until(lambda: v2.get(f"compute/status/{CLUSTER}/{job}").json()["status"]["state"] == "completed")
    assert out.read_text() == "".join(f"{word}|" for word in hostile)
    assert not list(ground.folder.rglob("pwned"))


def test_links_do_not_lead_out_of_the_roots(ground: Ground, v2: httpx.Client) -> None:
    (ground.folder / "out").symlink_to("/etc")
    task = v2.post(f"filesystem/checksum/{CLUSTER}", json={"path": f"{ground.folder}/out/passwd"}).json()["task_id"]
    until(lambda: v2.get(f"task/{task}").json()["status"] == "failed")


def test_everything_outlives_a_restart(tmp_path: Path) -> None:
    settings = replace(Settings(state=tmp_path), iri=IriSettings(grace=0.5))
    spec = {"executable": "/bin/sleep", "arguments": ["0.7"], "name": "long", "attributes": {"account": "als"}}
    headers = {"Idempotency-Key": "k"}
    with running_facility(tmp_path, settings=settings) as facility, http(facility, 2) as client:
        first = client.post(JOB, json=spec, headers=headers).json()
        facility.client.iri.switch("degraded")
        facility.client.iri.turn(unseen_polls=1)
        facility.client.iri.turn(task_delay=9.0)
        task = client.post(f"filesystem/ls/{CLUSTER}", json={"path": str(tmp_path)}).json()["task_id"]
    with running_facility(tmp_path, settings=settings) as facility, http(facility, 2) as client:
        assert client.post(JOB, json=spec, headers=headers).json() == first
        one = f"compute/status/{CLUSTER}/{first['id']}"
        assert client.get(one).status_code == 404
        assert client.get(f"status/resources/{CLUSTER}").json()["current_status"] == "degraded"
        assert client.get(f"task/{task}").json()["status"] == "failed"
        until(lambda: client.get(one).json()["status"]["state"] == "completed")
        facility.client.reset()
        assert client.get(one).status_code == 404
        assert client.get(f"status/resources/{CLUSTER}").json()["current_status"] == "up"


def test_a_sandbox_leads_the_sites_of_the_settings_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As `beamline sandbox up` does: the project's settings, with another facility."""
    project = yaml.safe_load(blueprint.project_config().read_text())
    project["compute_sites"]["polaris"] = {
        "kind": "iri",
        "api_url": "${IRI_API_URL:-https://api.alcf.anl.gov}",
        "version": 1,
        "resource": "Polaris",
        "storage": "Eagle",
        "raw_endpoint": "alcf832_raw",
        "scratch_endpoint": "alcf832_scratch",
        "root": "/eagle/IRIBeta/als",
        "job_folder": "/eagle/IRIBeta/als/data/jobs",
        "account": "IRIBeta",
    }
    own = tmp_path / "config.yml"
    own.write_text(yaml.safe_dump(project))
    layout = Layout.at(tmp_path / "sandbox")
    layout.root.mkdir()
    blueprint.write(layout, own)
    facility_settings = load(layout.facility_file, state=tmp_path / "state")
    with running_facility(tmp_path / "state", facility_settings.collections, settings=facility_settings) as facility:
        for name, value in facility.environment().items():
            monkeypatch.setenv(name, value)
        written, problems = config.inspect(layout.config_file)
        assert written is not None, problems
        site = written.site("polaris")
        assert isinstance(site, config.IriSite)
        jobs = IriJobs(site)
        spec = JobSpec(executable="/bin/true", directory=f"{site.root}/work", duration=10.0)
        assert isinstance(ended(jobs, spec, submit(jobs, spec, jobs.reserve("key"))), Succeeded)
        assert jobs.status.condition().hours_left is not None
        jobs.close()


def test_maintenance_takes_everything_down_until_it_ends(ground: Ground, v2: httpx.Client) -> None:
    ground.control.begin_maintenance("new switches")
    resource, files = f"status/resources/{CLUSTER}", f"filesystem/ls/{SCRATCH}"
    assert v2.get(resource).json()["current_status"] == "down"
    for refused in (v2.post(JOB, json=body(ground)), v2.post(files, json={"path": str(ground.folder)})):
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "1")
    (incident,) = v2.get("status/incidents", params={"resource_id": CLUSTER}).json()
    assert (incident["name"], incident["type"], incident["end"]) == ("new switches", "planned", None)
    ground.control.end_maintenance()
    assert v2.get(resource).json()["current_status"] == "up"
    assert v2.get(f"status/incidents/{incident['id']}").json()["resolution"] == "completed"
    assert v2.post(files, json={"path": str(ground.folder)}).status_code == 200
    assert ground.submitted() == 0


def test_a_wrong_knob_is_refused(ground: Ground) -> None:
    turn: Callable[..., None] = ground.control.turn
    with pytest.raises(httpx.HTTPStatusError):
        turn(colour="red")
