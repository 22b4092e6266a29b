"""What `reconcile` does about operations that no run holds or waits for."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings
from waiting_world import THERE, BulkSite, RememberedRuns, Settling, Site, SitesOnly, in_doubt, job, leave, suspend

from orchestration.config import NerscSite, Settings
from orchestration.errors import JobLost, RunFailed
from orchestration.flows import orphans, sweeping
from orchestration.flows.orphans import look_after_orphans
from orchestration.flows.runs import PrefectRun, RunRequest
from orchestration.flows.services import Services
from orchestration.flows.suspending import Suspension
from orchestration.flows.sweeping import clear_folders, sweep
from orchestration.flows.work import Work
from orchestration.ledger import Ledger
from orchestration.ledger.operation import Operation, OperationState
from orchestration.ledger.owner import Owner
from orchestration.ledger.runs import RunState
from orchestration.ledger.scan import Scan
from orchestration.ledger.service import Document, Failed, Status


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("orchestration.ledger.cancel.CONFIRM_SECONDS", 0.2)


def reconciling(ledger: Ledger, services: Services) -> Work:
    suspension = Suspension(ledger, "reconcile", None, 60.0)
    return Work(Settings(), ledger, services, "reconcile", logging.getLogger("test"), suspension)


def fates(ledger: Ledger, services: Services) -> dict[str, str]:
    lines = look_after_orphans(reconciling(ledger, services))
    return {str(line["step"]): str(line["fate"]) for line in lines if isinstance(line, dict)}


def test_submissions_in_doubt_are_all_asked_about_until_their_service_must_know(
    ledger: Ledger, scan: Scan, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(orphans, "pause", lambda seconds, subject: pauses.append(seconds))
    site = Settling(after=6, settle_seconds=60.0)
    for name in ("a", "b", "c"):
        in_doubt(ledger, scan, site, name)
    assert fates(ledger, SitesOnly(site)) == dict.fromkeys(
        ("compute a", "compute b", "compute c"), "was never asked for"
    )
    assert len(site.asked_for) == 9
    assert pauses == [15.0, 15.0]


def test_a_service_that_does_not_say_is_not_waited_for_longer_than_it_may_take(ledger: Ledger, scan: Scan) -> None:
    site = Settling(after=10**6, settle_seconds=0.1)
    in_doubt(ledger, scan, site)
    assert fates(ledger, SitesOnly(site)) == {"compute doubt": "unknown"}


def test_what_was_cancelled_and_not_confirmed_is_cancelled_again(ledger: Ledger, scan: Scan) -> None:
    site, operation = BulkSite(), job(scan, "a")
    leave(ledger, operation, site)
    ledger.operations.request_cancel(operation.key)
    assert fates(ledger, SitesOnly(site)) == {"compute a": "cancelled"}
    assert ledger.operations.get(operation.key).state is OperationState.CANCELLED


def test_what_a_run_that_is_being_cancelled_has_going_on_is_left_to_that(ledger: Ledger, scan: Scan) -> None:
    site, prefect, operation = BulkSite(), RememberedRuns(), job(scan, "a")
    suspend(ledger, prefect, "r", leave(ledger, operation, site, run_id="r"))
    ledger.runs.request_cancel("r")
    assert fates(ledger, SitesOnly(site)) == {}


@dataclass(frozen=True, kw_only=True)
class Children(PrefectRun):
    """Runs of Prefect that have all failed."""

    def poll(self, request: RunRequest, handle: str) -> Status:
        return Failed(error=RunFailed(f"run {handle} failed"))


@pytest.mark.parametrize(
    ("parent", "fate"),
    [
        (RunState.FAILED, {"run child": "ended"}),
        (RunState.CANCELLED, {"run child": "ended"}),
        (RunState.RUNNING, {}),
        (RunState.DEAD, {}),
    ],
)
def test_the_child_of_a_run_that_has_ended_is_adopted_and_not_before(
    ledger: Ledger, scan: Scan, parent: RunState, fate: Mapping[str, str]
) -> None:
    """A dead parent comes back as another run, which asks for itself."""
    request, owner = RunRequest(deployment="child/child"), Owner.here()
    operation = Operation(scan=scan, step="run child", request=request, destination=THERE, deadline=60.0)
    ledger.runs.begin(run_id="parent", flow="f", parameters={}, owner=owner)
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        ledger.operations.take(operation, owner, service="prefect.run", redo=True, run_id="parent")
        ledger.operations.permitted(operation, owner, token="token")
    ledger.operations.submitted(operation.key, owner, "child", adopted=False)
    ledger.operations.release(operation.key, owner)
    if parent is not RunState.RUNNING:
        ledger.runs.finish("parent", parent)
    services = SitesOnly(Children())  # type: ignore[arg-type]  # a service as good as any
    assert fates(ledger, services) == fate


@dataclass
class Swept(BulkSite):
    """It tells what lives there, and what is nobody's business here: jobs under tokens of another ledger."""

    living: dict[str, str] = field(default_factory=dict)

    def alive(self) -> Mapping[str, str]:
        return {
            **self.living,
            "97 of another": "0123456789abcdef0123456789abcdef-1",
            "98 odd": "odd",
            **{f"99 {token}": f"{token}-x" for token in self.living.values()},
        }


class OneSite(SitesOnly):
    def __init__(self, site: Site) -> None:
        super().__init__(site)
        self._site = site

    def jobs(self, site: object) -> Site:
        return self._site


def test_a_job_that_lives_on_without_its_operation_is_cancelled(
    ledger: Ledger, scan: Scan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeping, "GRACE_SECONDS", -1.0)
    site = Swept()
    owner = Owner.here()
    wanted, closed = job(scan, "wanted"), job(scan, "closed")
    leave(ledger, wanted, site)
    leave(ledger, closed, site)
    ledger.operations.claim(closed.key, owner, redo=False)
    ledger.operations.failed(closed.key, owner, JobLost("forgotten"), {})
    site.living = {f"{number} {token}": token for number, token in enumerate(site.submitted)}

    work = reconciling(ledger, OneSite(site))
    sites = {"north": NerscSite(name="north", kind="nersc", raw_endpoint="r", scratch_endpoint="s", job_folder="/jobs")}
    work.settings = Settings.model_construct(compute_sites=sites)
    lines: list[Document] = [line for line in sweep(work) if isinstance(line, dict)]

    assert [(line["step"], line["answer"]) for line in lines] == [("compute closed", "cancelled")]
    assert len(site.cancels) == 1
    assert f"{closed.key}-1" in site.cancels[0]
    monkeypatch.setattr(sweeping, "GRACE_SECONDS", 60.0)
    assert sweep(work) == []  # it may just be ending


@dataclass
class Cleared(BulkSite):
    """It removes what its jobs have left."""

    tokens: list[str] = field(default_factory=list)

    def clear(self, tokens: Sequence[str], *, folders: Sequence[str] = (), files: Sequence[str] = ()) -> None:
        self.tokens += tokens


def test_what_is_still_to_be_read_keeps_nothing_younger_from_being_cleared(
    ledger: Ledger, scan: Scan, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeping, "AT_ONCE", 2)
    monkeypatch.setattr(sweeping, "PAGE", 2)
    north = {"kind": "nersc", "raw_endpoint": "r", "scratch_endpoint": "r", "job_folder": "/jobs"}
    tape = {"kind": "hpss", "site": "north", "source": "r", "root": "/home/a", "log_folder": "/logs"}
    work = reconciling(ledger, OneSite(site := Cleared()))
    places = {"r": {"root_path": "/", "mount": "/"}}
    chosen = Settings.model_validate(
        {"globus": {"globus_endpoints": places}, "compute_sites": {"north": north}, "archives": {"tape": tape}}
    )
    at_once = chosen.compute_sites["north"].model_copy(update={"job_folder_days": 1e-9})
    work.settings = chosen.model_copy(update={"compute_sites": {"north": at_once}})
    owner = Owner.here()
    young = [job(scan, name) for name in ("a", "b", "c")]
    stored = [
        replace(
            each, step=f"store {name}.tar at tape", request=replace(each.request, directory=f"/logs/store-{0:024x}")
        )
        for name in "vwxyz"
        for each in [job(scan, name)]
    ]
    for operation in (*stored, *young):
        leave(ledger, operation, site)
        ledger.operations.claim(operation.key, owner, redo=False)
        ledger.operations.succeeded(operation.key, owner, {})
    assert clear_folders(work) == {"north": 2}
    assert clear_folders(work) == {"north": 1}
    assert clear_folders(work) == {}
    assert site.tokens == [token for each in young for token in ledger.operations.tokens(each.key)]


def test_what_a_site_may_not_know_yet_is_said_by_its_settings() -> None:
    site = NerscSite(name="north", kind="nersc", raw_endpoint="r", scratch_endpoint="s", job_folder="/jobs")
    services = Services(Settings.model_construct(compute_sites={"north": site}))
    assert services.settle_seconds("nersc.jobs@north") == site.settle_seconds == 15.0
    assert services.settle_seconds("nersc.jobs@gone") == services.settle_seconds("globus.transfer") == 0.0
