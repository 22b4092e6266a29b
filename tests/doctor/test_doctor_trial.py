"""The trial of a site: a job like every other, which leaves nothing behind and is never forgotten."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from orchestration.config import RemoteSite, Settings
from orchestration.doctor import compute
from orchestration.doctor.check import Check, Health
from orchestration.doctor.once import trials
from orchestration.sandbox.compute.settings import COMPUTE_ENDPOINT, LOGIN_ENDPOINT, endpoint_id
from orchestration.sandbox.testing import RunningFacility


def tried(settings: Settings, name: str) -> dict[str, Check]:
    with trials() as ledger:
        check = compute.site_check(settings, settings.site(name), ledger=ledger)
    return {part.what: part for part in check.parts}


def left(settings: Settings) -> list[Path]:
    site = settings.site("alcf")
    assert isinstance(site, RemoteSite)
    return sorted(Path(site.job_folder).iterdir())


def gone(settings: Settings) -> bool:
    """Within a minute: some sites remove what they are told to a moment later."""
    end = time.monotonic() + 60.0
    while left(settings) and time.monotonic() < end:
        time.sleep(0.1)
    return not left(settings)


@pytest.mark.parametrize("site", ["alcf", "nersc", "iri1", "iri2"])
def test_a_trial_runs_a_job_is_understood_and_leaves_nothing(settings: Settings, site: str) -> None:
    found = tried(settings, site)
    assert found["trial job"].health is Health.WORKS, found["trial job"]
    assert found["trial job"].note.startswith("a job ran, version ")
    assert found["cancelling"].note == "a job that is over is known to be"
    assert gone(settings)


def test_a_trial_goes_on_through_silence(settings: Settings, facility: RunningFacility) -> None:
    facility.client.faults.add("POST .*/submit$", "lost_answer")
    facility.client.faults.add("POST .*/batch_status", status=503, times=3)
    assert tried(settings, "alcf")["trial job"].health is Health.WORKS
    assert gone(settings)


def test_a_queue_that_is_too_long_is_told_and_the_job_never_begins(
    settings: Settings, facility: RunningFacility, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compute, "TRIAL_SECONDS", 1.0)
    facility.client.compute.switch(endpoint_id(COMPUTE_ENDPOINT), held=True)
    found = tried(settings, "alcf")
    assert set(found) == {"status", "trial job"}
    assert found["trial job"].health is Health.DOUBTFUL
    assert found["trial job"].note == "it did not end within 1 s; it was cancelled"
    (folder,) = left(settings)  # what keeps it from beginning
    assert '"reason": "cancelled"' in (folder / "report.json").read_text()


def test_an_endpoint_that_cannot_do_light_work_is_found_out(
    settings: Settings, facility: RunningFacility, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compute, "CANCEL_SECONDS", 0.0)
    facility.client.compute.switch(endpoint_id(LOGIN_ENDPOINT), online=False)
    found = tried(settings, "alcf")
    assert found["trial job"].health is Health.WORKS
    assert "its folder was left there" in found["trial job"].note
    assert found["cancelling"].health is Health.BROKEN
    assert "for light work is offline" in found["cancelling"].note


def test_the_trial_asks_for_all_that_other_jobs_ask_for(settings: Settings) -> None:
    site = settings.site("nersc")
    assert isinstance(site, RemoteSite)
    site = site.model_copy(update={"reservation": "beamtime", "gpus": 4, "nodes": 2})
    spec = compute._nothing(site)
    assert (spec.queue, spec.account, spec.constraint, spec.reservation) == ("realtime", "als", "cpu", "beamtime")
    assert (spec.resources.nodes, spec.resources.gpus, spec.resources.exclusive) == (2, 4, True)
