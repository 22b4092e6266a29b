"""A job reads and writes in folders of its own proposal, wherever it runs and in whatever words it is asked for."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from policy_ground import Clock, operation

from orchestration.config import Settings
from orchestration.errors import NotTheOwner, Unpermitted
from orchestration.flows.jobs import operation_at
from orchestration.flows.services import Services
from orchestration.jobs import JobSpec, Mount, Output
from orchestration.ledger import Ledger
from orchestration.ledger.perform import perform
from orchestration.ledger.scan import Scan
from orchestration.ledger.service import site_of
from orchestration.paths import RelativePath
from orchestration.policy import SEVERAL, OwnedTree, OwnerFolder, Place, Rule, Subject, Zone, permit

OURS = Subject(scan="1", name="raw/ALS-1/scan.h5", proposals=("ALS-1",))
NOBODYS = Subject(scan="1", name="dropped/scan.h5")
TREE = OwnedTree(endpoint="eagle", root="/eagle/als", folder=OwnerFolder("raw/{proposal}"))
SITE = Place("polaris", Zone.EXTERNAL, owned=(TREE,))
COLLECTION = "8a1d0f52-6c1e-4d0b-9f36-0d5a8e1d8001"
ELSEWHERE = "9a1d0f52-6c1e-4d0b-9f36-0d5a8e1d8002"


def job(*arguments: str, directory: str = "/eagle/als/raw/ALS-1/out", **more: Any) -> JobSpec:
    return JobSpec(executable="/bin/python", arguments=arguments, directory=directory, duration=10.0, **more)


def rules(spec: JobSpec, subject: Subject = OURS) -> tuple[Rule, ...]:
    return permit(spec, subject=subject, at=0.0, site=SITE).decision.rules


@pytest.mark.parametrize(
    "spec",
    [
        job("--raw=/eagle/als/raw/ALS-1/scan.h5", "--out", "/eagle/als/raw/ALS-1/out"),
        job("scan.h5", "../scan.h5", outputs=(Output(path="report.json"),)),
        job("--out=/eagle/als/scratch/ALS-2", directory="/eagle/als/raw/ALS-1"),
        job("--note=raw/ALS-2 is not meant", "--of", "/eagle/other/raw/ALS-2"),
        job("-m", "orchestration.science", "--sigma=3", "--extra={}", "--url=https://example.org/raw/ALS-2"),
    ],
)
def test_a_job_works_in_the_folder_of_its_proposal(spec: JobSpec) -> None:
    assert Rule.OWN_FILES in rules(spec)


@pytest.mark.parametrize(
    "argument",
    [
        "/eagle/als/raw/ALS 1/a",
        "--raw=/eagle/als/raw/ALS 1/a",
        "file:///eagle/als/raw/ALS 1/a",
        f"--tasks={json.dumps([{'qmap': '/opt/q', 'raw': '/eagle/als/raw/ALS 1'}])}",
    ],
)
def test_the_name_of_a_proposal_may_have_a_space_in_it(argument: str) -> None:
    subject = replace(OURS, proposals=("ALS 1",))
    assert Rule.OWN_FILES in rules(job(argument, directory="/tmp", outputs=()), subject)


def test_in_folders_of_nobody_any_job_works() -> None:
    spec = job("/eagle/als/scratch/ALS-2/x", directory="/tmp/work", outputs=(Output(path="/tmp/work/y"),))
    assert Rule.OWN_FILES not in rules(spec)
    assert rules(spec, NOBODYS) == rules(spec)


TASKS = json.dumps([{"raw": "/eagle/als/raw/ALS-1/a", "options": {"also": ["/eagle/als/raw/ALS-2/b"]}}])


@pytest.mark.parametrize(
    "spec",
    [
        job("/eagle/als/raw/ALS-2/scan.h5"),
        job("--raw=/eagle/als/raw/ALS-2/scan.h5"),
        job("--raw=/eagle/als/raw/ALS-1/../ALS-2/scan.h5"),
        job("--raw=../../ALS-2/scan.h5"),
        job("../../ALS-2"),
        job("--raw=//eagle//als/./raw/ALS-2/scan.h5"),
        job("--raw=file:///eagle/als/raw/ALS-2/scan.h5"),
        job("-o/eagle/als/raw/ALS-2/out"),
        job("@/eagle/als/raw/ALS-2/words"),
        job("--raw=/eagle/als/raw/ALS-1/a,/eagle/als/raw/ALS-2/b"),
        job("-c", "cat /eagle/als/raw/ALS-1/a >/tmp/a; cat '/eagle/als/raw/ALS-2/b'"),
        job(f"--tasks={TASKS}"),
        job(f"--tasks={json.dumps([TASKS])}"),
        job("--volume=/eagle/als/raw/ALS-2:/data"),
        job("/eagle/als/raw/ALS-2\n/x"),
        job("/eagle/als/raw/ALS-1 /scan.h5"),
        job("/eagle/als/raw/als-1/scan.h5"),
        job(environment={"INPUT": "/eagle/als/raw/ALS-2/scan.h5"}),
        job(environment={"PYTHONPATH": "/opt:/eagle/als/raw/ALS-2/code"}),
        job(mounts=(Mount(source="/eagle/als/raw/ALS-2", target="/data"),)),
        job(outputs=(Output(path="/eagle/als/raw/ALS-2/report.json"),)),
        job(outputs=(Output(path="../../ALS-2/report.json"),)),
        job(directory="/eagle/als/raw/ALS-2"),
        replace(job(), executable="/eagle/als/raw/ALS-2/program"),
    ],
)
def test_a_job_that_names_a_folder_of_another_proposal_is_not_permitted(spec: JobSpec) -> None:
    with pytest.raises(NotTheOwner, match="belongs to proposal ALS-1, and eagle:/eagle/als/raw/") as refusal:
        rules(spec)
    assert (refusal.value.where, bool(refusal.value.next_step)) == ("policy", True)


@pytest.mark.parametrize("path", ["/eagle/als/raw", "/eagle/als", "/eagle", "/", "/eagle/als/raw/.", "../.."])
def test_a_job_is_not_given_the_folders_of_all_proposals(path: str) -> None:
    for spec in (job(f"--source={path}"), job(outputs=(Output(path=path),))):
        with pytest.raises(NotTheOwner, match="is a folder of several proposals"):
            rules(spec)


def test_what_is_known_of_no_proposal_works_where_its_data_is_and_nowhere_else() -> None:
    raw = "/eagle/als/raw/ALS-1/scan.h5"
    out = "/eagle/als/raw/ALS-1/out"
    assert Rule.OWN_FILES in rules(job(raw, directory="/tmp/w", outputs=(Output(path=out),)), NOBODYS)
    for spec in (
        job("/eagle/als/scan.h5", directory="/tmp/w", outputs=(Output(path=out),)),
        job("/eagle/als/scan.h5", f"--out={out}", directory=out),
    ):
        with pytest.raises(NotTheOwner, match="not known to which proposal"):
            rules(spec, NOBODYS)
    with pytest.raises(NotTheOwner, match="belongs to proposal ALS-1, ALS-2"):
        rules(job(raw, "/eagle/als/raw/ALS-2/scan.h5", directory="/tmp/w"), NOBODYS)


def test_what_does_not_say_what_it_reads_and_writes_does_nothing() -> None:
    class Odd(JobSpec):
        reads: Any = None

    with pytest.raises(Unpermitted, match="which files"):
        permit(Odd(executable="/bin/true", directory="/tmp", duration=1.0), subject=OURS, at=0.0, site=SITE)


@pytest.mark.parametrize(
    ("path", "owner"),
    [
        ("/eagle/als/raw/ALS-1/x", "ALS-1"),
        ("/eagle/als/raw", SEVERAL),
        ("/eagle/als", SEVERAL),
        ("/", SEVERAL),
        ("/eagle/als2/raw/ALS-1", None),
        ("/eagle/als/scratch", None),
    ],
)
def test_whose_a_path_is_as_jobs_see_it(path: str, owner: str | None) -> None:
    assert TREE.owner(path) == owner


# ----- by the settings, and the adapter of this machine -------------------------------------------------------------


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    store, link = tmp_path / "store", tmp_path / "link"
    for name in ("ALS-1", "ALS-2"):
        (store / "raw" / name).mkdir(parents=True)
        (store / "raw" / name / "scan.h5").write_text(f"of {name}")
    link.symlink_to(store)
    return Settings.model_validate(
        {
            "globus": {
                "globus_endpoints": {
                    "here": {"mount": str(link), "owner_folder": "raw/{proposal}", "zone": "beamline"},
                    "eagle": {"root_path": "/als", "uuid": COLLECTION, "owner_folder": "raw/{proposal}"},
                    "part": {"root_path": "/als/scratch", "uuid": COLLECTION},
                    "far": {"root_path": "/far", "uuid": ELSEWHERE, "owner_folder": "{proposal}"},
                }
            },
            "compute_sites": {
                "local": {"kind": "local", "raw_endpoint": "here", "scratch_endpoint": "here", "zone": "beamline"},
                "polaris": {
                    "kind": "globus_compute",
                    "raw_endpoint": "part",
                    "scratch_endpoint": "part",
                    "root": "/eagle",
                    "job_folder": "/eagle/jobs",
                },
                "reads": {
                    "kind": "nersc",
                    "raw_endpoint": "part",
                    "scratch_endpoint": "part",
                    "reads": ["far"],
                    "job_folder": "/jobs",
                },
            },
        }
    )


def test_a_site_has_the_folders_of_all_endpoints_that_its_jobs_see(settings: Settings, tmp_path: Path) -> None:
    seen = {name: [(tree.endpoint, tree.root) for tree in site.owned] for name, site in settings.compute_sites.items()}
    assert seen == {
        "local": [("here", str(tmp_path / "store"))],
        "polaris": [("eagle", "/eagle/als")],
        "reads": [("eagle", "/als"), ("far", "/far")],
    }
    assert [tree.endpoint for tree in settings.here.owned] == ["here"]


@pytest.fixture
def services(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Services]:
    monkeypatch.setenv("BEAMLINE_STATE", str(tmp_path / "state"))
    with closing(Services(settings)) as made:
        yield made


@pytest.fixture
def scan(ledger: Ledger) -> Scan:
    found = ledger.scans.register(beamline="bl832", path=RelativePath("raw/ALS-1/scan.h5"))
    ledger.scans.learn(found.id, {"proposal": "ALS-1"})
    return found


@pytest.fixture
def ledger(url: str) -> Iterator[Ledger]:
    with Ledger(url, clock=Clock(1_800_000_000.0)) as made:
        yield made


def copying(settings: Settings, source: str, to: str) -> JobSpec:
    here = settings.endpoint("here")
    read, written = here.local_path(RelativePath(source)), here.local_path(RelativePath(to))
    program = "import shutil, sys; shutil.copyfile(*sys.argv[1:])"
    return JobSpec(
        executable=sys.executable,
        arguments=("-c", program, str(read), str(written)),
        directory=str(written.parent),
        duration=20.0,
        outputs=(Output(path=str(written)),),
    )


def test_a_job_of_this_machine_works_on_its_own_files(
    settings: Settings, services: Services, ledger: Ledger, scan: Scan, tmp_path: Path
) -> None:
    site = settings.site("local")
    wanted = operation_at(settings, scan, site, copying(settings, "raw/ALS-1/scan.h5", "raw/ALS-1/copy"), step="copy")
    perform(ledger, wanted, services.jobs(site))
    assert (tmp_path / "store" / "raw" / "ALS-1" / "copy").read_text() == "of ALS-1"
    detail: Any = ledger.operations.permissions(scan.id)[wanted.key].detail
    assert Rule.OWN_FILES in detail["rules"]


@pytest.mark.parametrize(
    ("source", "to"), [("raw/ALS-2/scan.h5", "raw/ALS-1/copy"), ("raw/ALS-1/scan.h5", "raw/ALS-2/copy")]
)
@pytest.mark.parametrize("of_a_site", [True, False])
def test_it_neither_reads_nor_writes_files_of_another(
    settings: Settings,
    services: Services,
    ledger: Ledger,
    scan: Scan,
    tmp_path: Path,
    source: str,
    to: str,
    of_a_site: bool,
) -> None:
    site, spec = settings.site("local"), copying(settings, source, to)
    wanted = operation_at(settings, scan, site, spec, step="copy") if of_a_site else operation(scan, spec)
    with pytest.raises(NotTheOwner, match="a folder of proposal ALS-2") as refusal:
        perform(ledger, wanted, services.jobs(site) if of_a_site else services.local_jobs)
    assert not (tmp_path / "store" / to).exists()
    assert not (tmp_path / "state" / "jobs").exists()
    (denial,) = ledger.audit.denials(scan.id)
    assert denial.reason == refusal.value.what


def test_what_is_asked_without_the_folders_of_the_site_is_not_submitted(settings: Settings, services: Services) -> None:
    site = settings.site("local")
    service = services.jobs(site)
    spec = copying(settings, "raw/ALS-2/scan.h5", "raw/ALS-1/copy")
    around = permit(spec, subject=OURS, at=0.0, site=Place(site.place.name, site.place.zone))
    with pytest.raises(Unpermitted, match="with the zone and the folders"):
        service.submit(around, "token")
    with pytest.raises(NotTheOwner):
        permit(spec, subject=OURS, at=0.0, site=site_of(service))


def test_a_job_that_was_planned_before_the_scan_changed_hands_is_not_submitted(
    settings: Settings, services: Services, ledger: Ledger, scan: Scan
) -> None:
    from orchestration.ledger.owner import Owner

    site, owner = settings.site("local"), Owner.here()
    service = services.jobs(site)
    spec = copying(settings, "raw/ALS-1/scan.h5", "raw/ALS-1/copy")
    wanted = operation_at(settings, scan, site, spec, step="copy")
    assert ledger.operations.take(wanted, owner, service=service.name, redo=True, site=site_of(service))
    ledger.scans.learn(scan.id, {"proposal": "ALS-2"})
    with pytest.raises(NotTheOwner, match="belongs to proposal ALS-2"):
        ledger.operations.permitted(wanted, owner, token="token", site=site_of(service))
