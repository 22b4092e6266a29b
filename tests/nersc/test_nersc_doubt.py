"""Lost and late answers, lags, tokens that end, maintenance: nothing is submitted twice, and no job fails of it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from joserfc.jwk import RSAKey
from late_proxy import late_proxy
from nersc_ground import UNTIL_GO, Ground, ended, failed, token_of, until

from orchestration.config import Credentials
from orchestration.errors import ConfigError, JobLost, JobPreempted, ServiceUnavailable
from orchestration.ledger.service import CancelAnswer, Failed, Running, Succeeded
from orchestration.nersc.client import Clients
from orchestration.nersc.jobs import NerscJobs
from orchestration.sandbox.superfacility.clients import new_key, private_pem, public_jwk
from orchestration.sandbox.testing import submit

SUBMISSION = "POST .*/compute/jobs/"


def find_patiently(jobs: NerscJobs, ground: Ground, token: str) -> str | None:
    """As `perform` asks: again after each silence."""
    spec = ground.shell("true")
    end = time.monotonic() + 60
    while True:
        try:
            return jobs.find(spec, token)
        except ServiceUnavailable:
            assert time.monotonic() < end
            time.sleep(0.05)


def submitted_again(jobs: NerscJobs, ground: Ground, handle: str) -> str:
    """Under the same token, by a process that thinks it is the first to do so."""
    jobs._memory.unsent(token_of(handle))
    return submit(jobs, ground.shell("true"), token_of(handle))


def posts(ground: Ground) -> Callable[[], int]:
    """Counts the submissions that arrive from now on."""
    rule = ground.facility.client.faults.add(SUBMISSION, "latency", times=0)
    return lambda: next(each.hits for each in ground.facility.client.faults.every() if each.id == rule.id)


@pytest.mark.parametrize("fault", [{"kind": "lost_answer"}, {"kind": "drop"}, {"status": 504}, {"status": 503}])
def test_a_submission_is_one_request_whatever_becomes_of_its_answer(ground: Ground, fault: dict[str, Any]) -> None:
    """The client library would repeat it, and after a lost answer submit the job a second time."""
    jobs = ground.jobs()
    spec = ground.shell("true")
    token = jobs.reserve("key1-1")
    rule = ground.facility.client.faults.add(SUBMISSION, times=0, **fault)
    with pytest.raises(ServiceUnavailable):
        submit(jobs, spec, token)
    hits = {each.id: each.hits for each in ground.facility.client.faults.every()}
    assert hits[rule.id] == 1
    ground.facility.client.faults.clear()

    handle = find_patiently(jobs, ground, token)
    acted = fault.get("kind") == "lost_answer"
    assert (handle is not None) is acted
    handle = handle or submit(jobs, spec, token)
    assert isinstance(ended(jobs, spec, handle), Succeeded)
    assert len(ground.real("key1-1")) == ground.asked() == 1


@pytest.mark.slow
def test_an_answer_that_is_eleven_seconds_late_submits_one_job(ground: Ground) -> None:
    """The client library gives up after ten, and would submit again."""
    with late_proxy(ground.facility.url, SUBMISSION, delay=11.0) as (url, seen):
        site = ground.site.model_copy(update={"api_url": ground.site.api_url.replace(ground.facility.url, url)})
        jobs = NerscJobs(site, ground.credentials, patience=ground.patience)
        spec = ground.shell("true")
        token = jobs.reserve("key1-1")
        with pytest.raises(ServiceUnavailable, match="ReadTimeout"):
            submit(jobs, spec, token)
        handle = find_patiently(jobs, ground, token)
        assert handle is not None
        assert isinstance(ended(jobs, spec, handle), Succeeded)
        assert len(seen) == ground.asked() == 1


@pytest.mark.parametrize("restarted", [False, True])
def test_a_submission_that_the_api_sits_on_is_waited_for(ground: Ground, restarted: bool) -> None:
    ground.control.turn(submit_delay=3600.0)
    (ground.folder / "jobs").mkdir()  # so that the submission is the only task
    jobs = ground.jobs(task=0.0)
    token = jobs.reserve("key1-1")
    with pytest.raises(ServiceUnavailable, match="has not given it to Slurm yet"):
        submit(jobs, ground.shell("true"), token)
    if restarted:
        jobs = ground.jobs()
    ground.control.turn(submit_delay=0.0)
    assert find_patiently(jobs, ground, token) is not None
    assert ground.asked() == 1


@pytest.mark.parametrize("late", [False, True])
def test_a_task_that_failed_is_looked_up_by_the_name_of_its_job(ground: Ground, late: bool) -> None:
    jobs = ground.jobs()
    spec = ground.shell("true")
    (ground.folder / "jobs").mkdir()  # so that the submission is the only task
    token = jobs.reserve("key1-1")
    ground.control.fail_tasks(1, late=late)
    with pytest.raises(ServiceUnavailable, match="lost a submission"):
        submit(jobs, spec, token)
    handle = find_patiently(jobs, ground, token)
    assert (handle is not None) is late
    assert submit(jobs, spec, token)
    assert len(ground.real("key1-1")) == 1


def test_the_same_token_twice_is_one_job(ground: Ground) -> None:
    jobs = ground.jobs()
    spec = ground.shell(UNTIL_GO)
    token = jobs.reserve("key1-1")
    first = submit(jobs, spec, token)
    assert submit(jobs, spec, token) == first
    assert submit(ground.jobs(), spec, token) == first
    assert ground.asked() == 1


def test_a_job_of_the_same_work_that_another_ledger_began_is_adopted(ground: Ground) -> None:
    """A ledger that was restored, or a second one: it plans what is going on, perhaps as an earlier attempt."""
    spec = ground.shell(f"echo run >> runs.txt; {UNTIL_GO}")
    first, second = ground.jobs(), ground.jobs()
    one = submit(first, spec, first.reserve("key1-2"))
    assert submit(second, spec, second.reserve("key1-1")) == one
    assert not second.reserve("key11-1").startswith(token_of(one))
    ground.go()
    for jobs in (first, second):
        assert isinstance(ended(jobs, spec, one), Succeeded)
    assert ground.work("runs.txt").read_text() == "run\n"
    assert ground.asked() == 1


def test_what_an_earlier_job_of_the_same_key_left_is_not_taken_for_that_of_a_new_one(ground: Ground) -> None:
    """The outputs are gone, and so is the ledger in which the job had succeeded; its folder is there."""
    spec = ground.shell("echo run >> runs.txt", outputs=("runs.txt",))
    first, second = ground.jobs(), ground.jobs()
    one = submit(first, spec, first.reserve("key1-1"))
    assert isinstance(ended(first, spec, one), Succeeded)
    ground.left(one, "cancel").touch()
    ground.work("runs.txt").unlink()
    two = submit(second, spec, second.reserve("key1-1"))
    status = ended(second, spec, two)
    assert isinstance(status, Succeeded)
    assert status.evidence["job"] == two.partition(" ")[0] != one.partition(" ")[0]
    assert ground.work("runs.txt").read_text() == "run\n"


def test_an_earlier_job_of_the_same_work_that_is_being_stopped_is_waited_for(ground: Ground) -> None:
    ground.control.turn(held=True)
    jobs = ground.jobs()
    spec = ground.shell("true")
    one = submit(jobs, spec, jobs.reserve("key1-1"))
    ground.left(one, "cancel").mkdir(parents=True)
    with pytest.raises(ServiceUnavailable, match="earlier one for the same work"):
        jobs.reserve("key1-2")
    until(lambda: all(job.over for job in ground.real("key1")))  # and is cancelled at Slurm as well
    assert jobs.reserve("key1-2").startswith("key1-2-")


def test_what_was_never_submitted_is_known_to_be_so_after_a_while(ground: Ground) -> None:
    began = time.monotonic()
    assert find_patiently(ground.jobs(), ground, "key1-1") is None
    assert time.monotonic() - began >= ground.patience.settle
    fresh = ground.jobs()
    assert fresh.find(ground.shell("true"), fresh.reserve("key2-1")) is None  # at once: this process would know


def test_a_job_that_slurm_forgot_is_found_by_what_its_runner_left(ground: Ground) -> None:
    """squeue forgets in minutes, and sacct asked for a user tells only of today."""
    folder = ground.folder / "jobs" / "key1-1"
    folder.mkdir(parents=True)
    (folder / "started.json").write_text(json.dumps({"job": "4711"}))
    assert find_patiently(ground.jobs(), ground, "key1-1") == "4711 key1-1"
    (folder / "started.json").write_text(json.dumps({"job": ""}))  # a container that hides the variables of Slurm
    jobs, spec = ground.jobs(), ground.shell("true")
    handle = find_patiently(jobs, ground, "key1-1")
    assert handle == "0 key1-1"
    assert isinstance(jobs.poll(spec, handle), Running)
    (folder / "report.json").write_text(json.dumps({"reason": "exited", "code": 0, "outputs": []}))
    assert isinstance(jobs.poll(spec, handle), Succeeded)
    assert jobs.cancel(handle) is CancelAnswer.ALREADY_FINISHED


def test_a_job_that_no_query_shows_yet_is_waited_for(ground: Ground) -> None:
    ground.control.turn(hidden=3600.0)
    jobs = ground.jobs()
    spec = ground.shell(UNTIL_GO)
    handle = submit(jobs, spec, jobs.reserve("key1-1"))
    status = jobs.poll(spec, handle)
    assert isinstance(status, Running)
    assert "squeue does not list it" in status.progress.note
    ground.control.turn(hidden=0.0)
    ground.go()
    assert isinstance(ended(jobs, spec, handle), Succeeded)


@pytest.mark.parametrize("stale", [False, True])
def test_a_job_that_left_squeue_before_sacct_knows_is_believed_to_its_report(ground: Ground, stale: bool) -> None:
    """Accounting shows nothing yet, or the job as it was at its submission."""
    ground.control.turn(sacct_lag=3600.0, sacct_stale=stale)
    jobs = ground.jobs()
    for number, (text, kind) in enumerate([("true", Succeeded), ("exit 3", Failed)]):
        spec = ground.shell(text)
        status = ended(jobs, spec, submit(jobs, spec, jobs.reserve(f"key{number}-1")))
        assert isinstance(status, kind)
        assert isinstance(status, Succeeded | Failed)
        assert not {"state", "slurm_exit_code", "nodes"} & set(status.evidence)
        assert isinstance(status.evidence["queue_seconds"], float)
        assert isinstance(status.evidence["run_seconds"], float)


def test_how_long_a_job_waited_is_what_squeue_told_where_sacct_is_behind(ground: Ground) -> None:
    ground.control.turn(sacct_lag=3600.0, sacct_stale=True)
    jobs = ground.jobs()
    spec = ground.shell(UNTIL_GO)
    handle = submit(jobs, spec, jobs.reserve("key1-1"))
    until(ground.work("begun").exists)
    row = jobs.mine()[0]
    assert isinstance(jobs.poll(spec, handle), Running)
    ground.go()
    status = ended(jobs, spec, handle)
    assert isinstance(status, Succeeded)
    assert status.evidence["queue_seconds"] == row.times.queued


def test_accounting_that_comes_in_time_is_part_of_what_is_told(ground: Ground) -> None:
    ground.control.turn(sacct_lag=3600.0, sacct_stale=True)
    jobs = ground.jobs(accounting=60.0)
    spec = ground.shell("true")
    handle = submit(jobs, spec, jobs.reserve("key1-1"))
    until(ground.left(handle, "report.json").exists)
    until(lambda: not jobs.mine())
    status = jobs.poll(spec, handle)
    assert isinstance(status, Running)
    assert "its report is here" in status.progress.note
    ground.control.turn(sacct_lag=0.0)
    status = jobs.poll(spec, handle)
    assert isinstance(status, Succeeded)
    assert status.evidence["state"] == "COMPLETED"


def test_why_a_job_was_stopped_is_waited_for(ground: Ground) -> None:
    ground.control.turn(sacct_lag=3600.0)
    jobs = ground.jobs()
    spec = ground.shell("touch begun; sleep 600")
    handle = submit(jobs, spec, jobs.reserve("key1-1"))
    until(ground.work("begun").exists)
    ground.control.end_job(handle.partition(" ")[0], "PREEMPTED")
    until(ground.left(handle, "report.json").exists)
    assert isinstance(jobs.poll(spec, handle), Running)
    ground.control.turn(sacct_lag=0.0)
    assert type(failed(jobs, spec, handle).error) is JobPreempted


def test_a_report_that_never_comes_is_not_waited_for_for_ever(ground: Ground) -> None:
    jobs = ground.jobs()
    spec = ground.shell("true")
    handle = submit(jobs, spec, jobs.reserve("key1-1"))
    until(lambda: all(job.over for job in ground.real("key1-1")))
    report = ground.left(handle, "report.json")
    whole = report.read_text()
    report.write_text(whole[: len(whole) // 2])  # as much as a slow file system shows
    assert isinstance(jobs.poll(spec, handle), Running)
    report.write_text(whole)
    assert isinstance(jobs.poll(spec, handle), Succeeded)
    report.unlink()
    assert type(failed(jobs, spec, handle).error) is JobLost


def test_a_second_job_of_a_token_does_nothing_and_is_not_taken_for_the_first(ground: Ground) -> None:
    """However it came about: two processes that knew nothing of each other."""
    spec = ground.shell(f"echo run >> runs.txt; {UNTIL_GO}")
    first, second = ground.jobs(), ground.jobs()
    one = submit(first, spec, first.reserve("key1-1"))
    until(ground.work("begun").exists)
    two = submitted_again(second, ground, one)
    assert one != two
    until(lambda: any(job.over for job in ground.real("key1-1")))
    assert isinstance(second.poll(spec, two), Running)
    ground.go()
    assert isinstance(ended(second, spec, two), Succeeded)
    assert isinstance(ended(first, spec, one), Succeeded)
    assert (ground.folder / "work" / "runs.txt").read_text() == "run\n"


def test_cancelling_ends_every_job_of_a_token(ground: Ground) -> None:
    ground.control.turn(held=True)
    spec = ground.shell("true")
    first, second = ground.jobs(), ground.jobs()
    handle = submit(first, spec, first.reserve("key1-1"))
    submitted_again(second, ground, handle)
    assert first.cancel(handle) is CancelAnswer.CANCELLED
    assert [job.over for job in ground.real("key1-1")] == [True, True]


def test_a_token_that_was_revoked_is_renewed(ground: Ground) -> None:
    jobs = ground.jobs()
    spec = ground.shell("sleep 600")
    handle = submit(jobs, spec, jobs.reserve("key1-1"))
    assert ground.control.revoke_tokens() > 0
    assert isinstance(jobs.poll(spec, handle), Running)
    ground.control.revoke_tokens()
    assert submit(jobs, spec, jobs.reserve("key2-1"))
    assert ground.asked() == 2


def test_a_token_of_a_moment_is_enough(ground: Ground) -> None:
    """One that ends within a minute is renewed before each request: the client library's leeway is as long."""
    ground.control.turn(token_lifetime=30)
    jobs = ground.jobs()
    spec = ground.shell("true")
    assert isinstance(ended(jobs, spec, submit(jobs, spec, jobs.reserve("key1-1"))), Succeeded)


def test_a_client_whose_time_has_passed_is_to_be_made_anew(ground: Ground) -> None:
    jobs = ground.jobs()
    ground.control.expire_client("sandboxclient")
    with pytest.raises(ConfigError, match=r"client expired.*iris\.nersc\.gov"):
        submit(jobs, ground.shell("true"), jobs.reserve("key1-1"))


def test_a_client_that_was_made_anew_is_used_without_a_restart(ground: Ground, tmp_path: Path) -> None:
    id_path, key_path = ground.credentials.path_nersc_client_id, ground.credentials.path_nersc_pri_key
    assert id_path is not None
    assert key_path is not None
    mine = Credentials(
        path_nersc_client_id=Path(shutil.copy(id_path, tmp_path)),
        path_nersc_pri_key=Path(shutil.copy(key_path, tmp_path)),
    )
    jobs = NerscJobs(ground.site, mine, patience=ground.patience)
    spec = ground.shell(UNTIL_GO)
    handle = submit(jobs, spec, jobs.reserve("key1-1"))
    ground.control.expire_client("sandboxclient")
    ground.control.revoke_tokens()
    key = new_key()
    ground.control.register("another_clien", public_jwk(key))
    (tmp_path / id_path.name).write_text("another_clien\n")
    (tmp_path / key_path.name).write_text(private_pem(key))
    ground.go()
    assert isinstance(ended(jobs, spec, handle), Succeeded)


@pytest.mark.parametrize("kind", ["unavailable", "error", "null"])
def test_a_maintenance_fails_no_job_and_says_when_it_ends(ground: Ground, kind: str) -> None:
    """The API may answer 503, or 200 with status ERROR and rows of null: on that the client library falls over."""
    jobs = ground.jobs()
    spec = ground.shell("true")
    handle, another = submit(jobs, spec, jobs.reserve("key1-1")), jobs.reserve("key2-1")
    now = datetime.now(UTC)
    ground.control.add_outage(now - timedelta(hours=1), now + timedelta(hours=3), status="Active")
    ground.control.begin_maintenance(kind, "the file system is replaced")
    try:
        said = f"the file system is replaced.*planned to end at {now + timedelta(hours=3):%Y-%m-%d %H:%M}"
        with pytest.raises(ServiceUnavailable, match=said):
            jobs.poll(spec, handle)
        with pytest.raises(ServiceUnavailable, match=said):
            jobs.poll_many([(spec, handle)])
        with pytest.raises(ServiceUnavailable, match=said):
            jobs.cancel(handle)
        with pytest.raises(ServiceUnavailable, match=said):
            jobs.reserve("key3-1")
        with pytest.raises(ServiceUnavailable, match="nothing was submitted"):
            submit(jobs, spec, another)
        assert jobs.find(spec, another) is None
    finally:
        ground.control.end_maintenance()
        ground.control.clear_outages()
    assert isinstance(ended(jobs, spec, handle), Succeeded)
    assert ground.asked() == 1


def test_a_machine_that_is_called_unavailable_gets_no_job(ground: Ground) -> None:
    """The client library looks at the status of the wrong object, and submits."""
    counted = posts(ground)
    jobs = ground.jobs()
    token = jobs.reserve("key1-1")
    ground.control.set_status("unavailable", notes=["power"])
    try:
        with pytest.raises(ServiceUnavailable, match="power"):
            submit(jobs, ground.shell("true"), token)
    finally:
        ground.control.set_status("active", notes=[])
    assert counted() == 0
    assert submit(jobs, ground.shell("true"), token)


@pytest.mark.parametrize("fault", [{"kind": "drop"}, {"status": 500}, {"status": 429, "retry_after": 7}])
def test_whatever_the_api_answers_instead_is_only_a_doubt(ground: Ground, fault: dict[str, Any]) -> None:
    jobs = ground.jobs()
    spec = ground.shell("true")
    handle = submit(jobs, spec, jobs.reserve("key1-1"))
    rule = ground.facility.client.faults.add("nersc/api", times=0, **fault)
    with pytest.raises(ServiceUnavailable) as caught:
        jobs.poll(spec, handle)
    # The client library would ask ten times, for a minute. The other is what the status page says.
    hits = next(each.hits for each in ground.facility.client.faults.every() if each.id == rule.id)
    assert hits <= 3
    assert caught.value.retry_after == fault.get("retry_after")
    for ask in (
        lambda: jobs.reserve("key9-1"),
        lambda: jobs.find(spec, "key9-1"),
        lambda: jobs.poll_many([(spec, handle)]),
        lambda: jobs.cancel(handle),
    ):
        with pytest.raises(ServiceUnavailable):
            ask()


@pytest.mark.parametrize("status", [400, 403, 404])
def test_an_api_that_refuses_to_tell_of_a_job_fails_no_job(ground: Ground, status: int) -> None:
    jobs = ground.jobs()
    spec = ground.shell("true")
    handle = submit(jobs, spec, jobs.reserve("key1-1"))
    ground.facility.client.faults.add("GET .*/compute/jobs", status=status)
    with pytest.raises(ConfigError, match=f"{status}"):
        jobs.poll(spec, handle)
    assert isinstance(ended(jobs, spec, handle), Succeeded)


def test_a_facility_that_nobody_reaches_is_only_a_doubt(ground: Ground) -> None:
    gone = ground.site.model_copy(update={"api_url": "http://127.0.0.1:9/api", "token_url": "http://127.0.0.1:9/token"})
    jobs = NerscJobs(gone, ground.credentials, patience=ground.patience)
    spec = ground.shell("true")
    token = ground.jobs().reserve("key1-1")
    jobs._memory.unsent(token)
    with pytest.raises(ServiceUnavailable, match=r"does not answer \(ConnectError\)"):
        submit(jobs, spec, token)
    assert jobs.find(spec, token) is None


def test_a_folder_that_cannot_be_made_is_a_setting_to_mend(ground: Ground) -> None:
    (ground.folder / "file").write_text("")
    site = ground.site.model_copy(update={"job_folder": str(ground.folder / "file" / "jobs")})
    jobs = NerscJobs(site, ground.credentials, patience=ground.patience)
    with pytest.raises(ConfigError, match=r"cannot be made: .*Not a directory.*job_folder"):
        submit(jobs, ground.shell("true"), jobs.reserve("key1-1"))
    assert ground.asked() == 0


@pytest.mark.parametrize("form", ["pem", "jwk", "client library"])
def test_nersc_takes_the_key_in_every_form(ground: Ground, tmp_path: Path, form: str) -> None:
    assert ground.credentials.path_nersc_pri_key is not None
    pem = ground.credentials.path_nersc_pri_key.read_text()
    jwk = RSAKey.import_key(pem).as_dict(private=True)
    texts = {"pem": pem, "jwk": json.dumps(jwk), "client library": json.dumps({"client_id": "x", "secret": jwk})}
    path = tmp_path / "key"
    path.touch(mode=0o600)
    path.write_text(texts[form])
    credentials = Credentials(path_nersc_client_id=ground.credentials.path_nersc_client_id, path_nersc_pri_key=path)
    clients = Clients(site=ground.site, credentials=credentials)
    assert clients.call(lambda client: client.get("account/").json())["name"] == "alsdev"


WITH_HTTPX2 = """
import sys, httpx, httpx2
from pathlib import Path
from orchestration.config import NerscSite, credentials
from orchestration.errors import ServiceUnavailable
from orchestration.jobs import JobSpec
from orchestration.nersc.jobs import NerscJobs
from orchestration.sandbox.superfacility.clients import new_key, private_pem, public_jwk
from orchestration.nersc.errors import foreign
from orchestration.sandbox.testing import submit
assert httpx2.HTTPError is not httpx.HTTPError
jobs = NerscJobs(NerscSite.model_validate_json(sys.argv[1]), credentials())
spec = JobSpec(executable="/bin/true", directory="/tmp", duration=10.0)
try:
    submit(jobs, spec, jobs.reserve("key1-1"))
except ServiceUnavailable as error:
    assert isinstance(error.__cause__, httpx2.HTTPError) and not isinstance(error.__cause__, httpx.HTTPError)
    print(error)
"""


def test_the_package_that_takes_away_the_clients_retries_takes_nothing_from_us(ground: Ground, tmp_path: Path) -> None:
    """Authlib prefers httpx2, whose errors the client library does not know as its own."""
    assert httpx.__file__ is not None
    shutil.copytree(Path(httpx.__file__).parent, tmp_path / "httpx2")
    for module in (tmp_path / "httpx2").rglob("*.py"):
        module.write_text(
            module.read_text().replace("from httpx", "from httpx2").replace("import httpx", "import httpx2")
        )
    ground.facility.client.faults.add(SUBMISSION, "lost_answer")
    words = ground.facility.nersc_environment() | {
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": f"{tmp_path}:{Path(__file__).parents[2]}",
        "BEAMLINE_ENV_FILE": "",
    }
    done = subprocess.run(
        [sys.executable, "-c", WITH_HTTPX2, ground.site.model_dump_json()],
        env=words,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "does not answer (RemoteProtocolError)" in done.stdout
    assert ground.asked() == 1
