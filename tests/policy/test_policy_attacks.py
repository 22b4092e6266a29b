"""Ways by which somebody might try to take data where it must not go, each of them tried."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from policy_ground import HERE, PATH, THERE, operation

from orchestration.config import Endpoint, Settings
from orchestration.errors import ExportControlled, NotTheOwner, Unpermitted
from orchestration.flows.links import controlled
from orchestration.ledger import Ledger
from orchestration.ledger.copy import Role
from orchestration.ledger.manifests import FileEvidence
from orchestration.ledger.service import Failed, Running, Succeeded
from orchestration.local.transfer import LocalTransfer
from orchestration.paths import RelativePath
from orchestration.policy import BeamlineRules, Permitted, Subject, Zone, opened, permit
from orchestration.sandbox.testing import submit
from orchestration.transfers import TransferRequest

OPEN = Subject(scan="1", name="raw/open.h5")
HARMLESS = TransferRequest.of(PATH, source=HERE, destination=HERE)
HARMFUL = TransferRequest.of(PATH, source=HERE, destination=THERE)


# ----- permissions ---------------------------------------------------------------------------------------------------


def test_a_permission_that_says_that_it_is_another_is_not_taken_for_it() -> None:
    true = permit(HARMLESS, subject=OPEN, at=0.0)

    class Twin(Permitted[Any]):
        def __hash__(self) -> int:
            return hash(true)

        def __eq__(self, other: object) -> bool:
            return True

    forged = object.__new__(Twin)
    vars(forged).update(request=HARMFUL, decision=true.decision)
    with pytest.raises(Unpermitted):
        opened(forged, TransferRequest)
    assert opened(true, TransferRequest) is HARMLESS


def test_what_was_put_into_a_permission_afterwards_is_not_what_is_submitted() -> None:
    true = permit(HARMLESS, subject=OPEN, at=0.0)
    object.__setattr__(true, "request", HARMFUL)
    assert opened(true, TransferRequest) is HARMLESS


def test_a_permission_is_good_for_one_submission() -> None:
    true = permit(HARMLESS, subject=OPEN, at=0.0)
    opened(true, TransferRequest)
    with pytest.raises(Unpermitted, match="once more"):
        opened(true, TransferRequest)


def test_a_permission_that_nobody_holds_any_more_is_forgotten() -> None:
    """Another object may get its address."""
    for _ in range(1000):
        held = permit(HARMLESS, subject=OPEN, at=0.0)
        del held
        forged = object.__new__(Permitted)
        vars(forged).update(request=HARMFUL, decision=None)
        with pytest.raises(Unpermitted):
            opened(forged, TransferRequest)


# ----- folders -------------------------------------------------------------------------------------------------------


def test_what_is_in_a_flagged_folder_is_flagged_whenever_it_became_known(ledger: Ledger) -> None:
    def register(path: str, *, flag: bool = False, beamline: str = "bl832") -> str:
        return ledger.scans.register(beamline=beamline, path=RelativePath(path), export_controlled=flag).id

    before = [register("raw/secret/a.h5"), register("raw/secret/deep/er/b.h5")]
    others = [register("raw/secret2/a.h5"), register("raw/secre_/a.h5"), register("raw/secret/a.h5", beamline="bl733")]
    folder = register("raw/secret", flag=True)
    after = [register("raw/secret/c.h5"), register("raw/secret/new/d.h5")]
    others += [register("raw/open/a.h5"), register("raw")]
    flagged = {scan: ledger.scans.get(scan).export_controlled for scan in [*before, folder, *after, *others]}
    assert flagged == dict.fromkeys([*before, folder, *after], True) | dict.fromkeys(others, False)
    assert ledger.scans.register(beamline="bl832", path=RelativePath("raw/secret/a.h5")).export_controlled


# ----- files of other scans ------------------------------------------------------------------------------------------


@pytest.fixture
def guarded(url: str) -> Iterator[Ledger]:
    keeps = frozenset({"here"})
    with Ledger(url, rules={"bl832": BeamlineRules(keeps=keeps), "bl733": BeamlineRules(keeps=keeps)}) as made:
        made.scans.register(beamline="bl832", path=RelativePath("raw/secret/scan.h5"), export_controlled=True)
        yield made


def carry(
    ledger: Ledger, path: str, *, scan: str = "raw/open.h5", beamline: str = "bl832", to: Endpoint = THERE
) -> None:
    about = ledger.scans.register(beamline=beamline, path=RelativePath(scan))
    paths = {RelativePath("raw/open.h5"): RelativePath("a"), RelativePath(path): RelativePath("b")}
    request = TransferRequest.of(paths, source=HERE, destination=to)
    ledger.operations.plan(operation(about, request, to.place), service="test")


@pytest.mark.parametrize("path", ["raw/secret/scan.h5", "raw/secret", "raw", "raw/secret/scan.h5/part"])
@pytest.mark.parametrize("beamline", ["bl832", "bl733"])
def test_the_transfer_of_another_scan_does_not_carry_a_flagged_one(guarded: Ledger, path: str, beamline: str) -> None:
    with pytest.raises(ExportControlled, match=r"scan raw/secret/scan\.h5, of which smuggle would carry something"):
        carry(guarded, path, beamline=beamline)
    assert list(guarded.operations.open()) == []
    (found,) = [scan for scan in guarded.scans.latest() if scan.path.text == "raw/open.h5"]
    assert len(guarded.audit.denials(found.id)) == 1


def test_nor_does_it_as_a_scan_of_another_beamline(guarded: Ledger) -> None:
    with pytest.raises(ExportControlled):
        carry(guarded, "raw/secret/scan.h5", scan="secret/scan", beamline="bl733")


def test_what_only_lies_beside_a_flagged_scan_may_go_and_so_may_all_within_the_beamline(guarded: Ledger) -> None:
    carry(guarded, "raw/secret/qmap.h5")
    carry(guarded, "raw/secret2/scan.h5")
    carry(guarded, "raw/secret/scan.h5", to=HERE)


def test_copies_of_a_flagged_scan_are_known_wherever_they_are(guarded: Ledger) -> None:
    secret = guarded.scans.find("raw/secret/scan.h5")
    guarded.copies.record(
        scan_id=secret.id,
        dataset="rec.tiff",
        endpoint="here",
        path=RelativePath("scratch/rec"),
        role=Role.CACHE,
        manifest=[FileEvidence(path="a.tiff", size=1, checksum="sha256:00")],
        method="test",
        verified_by=None,
        version="1",
    )
    for path in ("scratch/rec", "scratch/rec/a.tiff", "scratch"):
        with pytest.raises(ExportControlled):
            carry(guarded, path)
    carry(guarded, "scratch/rec2")


def test_a_copy_of_a_flagged_scan_is_known_by_whatever_endpoint_of_its_storage_it_is_carried(
    guarded: Ledger, tmp_path: Path
) -> None:
    endpoints = {
        "here": {"root_path": "/data", "uuid": COLLECTION, "zone": "beamline"},
        "top": {"root_path": "/", "uuid": COLLECTION, "zone": "beamline"},
        "raw": {"root_path": "/data/raw", "uuid": COLLECTION, "zone": "beamline"},
        "scratch": {"root_path": "/data/scratch", "uuid": COLLECTION, "zone": "beamline"},
        "part": {"root_path": "/data/scratch/rec", "uuid": COLLECTION, "zone": "beamline"},
        "beside": {"root_path": "/data/scratch2", "uuid": COLLECTION, "zone": "beamline"},
        "disk": {"mount": str(tmp_path / "disk"), "zone": "beamline"},
        "same": {"mount": str(tmp_path / "link"), "zone": "beamline"},
    }
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to("disk")
    chosen = Settings.model_validate({"globus": {"globus_endpoints": endpoints}})
    secret = guarded.scans.find("raw/secret/scan.h5")
    about = guarded.scans.register(beamline="bl832", path=RelativePath("raw/open.h5"))
    for endpoint in ("scratch", "disk"):
        guarded.copies.record(
            scan_id=secret.id,
            dataset="rec.tiff",
            endpoint=endpoint,
            path=RelativePath("rec/secret"),
            role=Role.CACHE,
            manifest=[FileEvidence(path="a.tiff", size=1, checksum="sha256:00")],
            method="test",
            verified_by=None,
            version="1",
        )

    def taken(name: str, path: str) -> None:
        source = chosen.endpoint(name)
        there = THERE if source.uuid else Endpoint(root_path="/away", mount=tmp_path / "away").known_as("away")
        request = TransferRequest.of(RelativePath(path), source=source, destination=there)
        guarded.operations.plan(operation(about, request, there.place), service="test")

    for name, path in (
        ("here", "scratch/rec/secret/a.tiff"),
        ("here", "scratch"),
        ("part", "secret"),
        ("part", "secret/a.tiff"),
        ("scratch", "rec"),
        ("same", "rec/secret"),
        ("same", "rec"),
        ("raw", "secret/scan.h5"),
        ("raw", "secret"),
        ("top", "data"),
    ):
        with pytest.raises(ExportControlled):
            taken(name, path)
    for name, path in (
        ("here", "scratch/rec2"),
        ("part", "open"),
        ("beside", "rec/secret"),
        ("same", "rec/open"),
        ("raw", "open.h5"),
    ):
        taken(name, path)


def test_data_is_not_taken_out_of_the_folder_of_another_proposal() -> None:
    here = HERE.model_copy(update={"owner_folder": "raw/{proposal}"})
    subject = Subject(scan="1", name="raw/ALS-1/a", proposals=("ALS-1",))
    theirs = RelativePath("raw/ALS-2/qmap.h5")
    for there, to in ((THERE, theirs), (here, RelativePath("raw/ALS-1/qmap.h5"))):
        request = TransferRequest.of({theirs: to}, source=here, destination=there)
        with pytest.raises(NotTheOwner, match=r"here:raw/ALS-2/qmap\.h5 is in a folder of proposal ALS-2"):
            permit(request, subject=subject, at=0.0)


# ----- links, and other names of a file ------------------------------------------------------------------------------


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """The disk of acquisition, with a flagged scan and one of another proposal, and links to both."""
    root = tmp_path / "disk"
    for name in ("secret/scan.h5", "ALS-1/scan/own.h5", "ALS-2/scan.h5"):
        file = root / "raw" / name
        file.parent.mkdir(parents=True)
        file.write_text(name)
    (root / "raw" / "ALS-1" / "theirs.h5").symlink_to("../ALS-2/scan.h5")
    (root / "raw" / "ALS-1" / "secret.h5").symlink_to("../secret/scan.h5")
    (root / "raw" / "ALS-1" / "scan" / "linked.h5").symlink_to("../../secret/scan.h5")
    return root


def mounted(disk: Path, **more: Any) -> Endpoint:
    return Endpoint(root_path="/disk", mount=disk, zone=Zone.BEAMLINE, **more).known_as("here")


def test_a_link_to_a_flagged_scan_is_carried_as_little_as_that(guarded: Ledger, disk: Path) -> None:
    about = guarded.scans.register(beamline="bl832", path=RelativePath("raw/ALS-1/secret.h5"))
    request = TransferRequest.of(about.path, source=mounted(disk), destination=THERE)
    with pytest.raises(ExportControlled, match=r"raw/secret/scan\.h5"):
        guarded.operations.plan(operation(about, request, THERE.place), service="test")


def test_a_link_into_the_folder_of_another_proposal_is_not_carried(disk: Path) -> None:
    here = mounted(disk, owner_folder="raw/{proposal}")
    request = TransferRequest.of(RelativePath("raw/ALS-1/theirs.h5"), source=here, destination=THERE)
    subject = Subject(scan="1", name="raw/ALS-1/theirs.h5", proposals=("ALS-1",))
    with pytest.raises(NotTheOwner, match=r"here:raw/ALS-2/scan\.h5 is in a folder of proposal ALS-2"):
        permit(request, subject=subject, at=0.0)


@pytest.mark.parametrize(
    ("zone", "owner_folder", "carried"),
    [(Zone.EXTERNAL, None, False), (Zone.BEAMLINE, "raw/{proposal}", False), (Zone.BEAMLINE, None, True)],
)
def test_a_link_in_a_folder_takes_nothing_of_others_along(
    disk: Path, tmp_path: Path, zone: Zone, owner_folder: str | None, carried: bool
) -> None:
    (tmp_path / "away").mkdir()
    there = Endpoint(root_path="/away", mount=tmp_path / "away", zone=zone).known_as("away")
    folder = RelativePath("raw/ALS-1/scan")
    request = TransferRequest.of(folder, source=mounted(disk, owner_folder=owner_folder), destination=there)
    mover = LocalTransfer(state=tmp_path / "work")
    handle = submit(mover, request, "token")
    until = time.monotonic() + 20.0
    while isinstance(ended := mover.poll(request, handle), Running):
        assert time.monotonic() < until
    assert isinstance(ended, Succeeded if carried else Failed)
    assert (tmp_path / "away" / folder.text / "linked.h5").exists() is carried
    if isinstance(ended, Failed):
        assert "leads outside" in ended.error.what


def test_a_flagged_file_is_flagged_as_a_scan_of_any_beamline_that_sees_it(ledger: Ledger, disk: Path) -> None:
    endpoints = {
        "spot": {"mount": str(disk), "zone": "beamline"},
        "part": {"mount": str(disk / "raw"), "zone": "beamline"},
        "other": {"mount": str(disk.parent / "elsewhere"), "zone": "beamline"},
    }
    beamlines = {
        name: dict.fromkeys(("acquisition", "server", "raw", "scratch"), endpoint)
        for name, endpoint in (("a", "spot"), ("b", "part"), ("c", "other"))
    }
    sites = {"local": {"kind": "local", "raw_endpoint": "spot", "scratch_endpoint": "spot"}}
    chosen = Settings.model_validate(
        {"globus": {"globus_endpoints": endpoints}, "beamlines": beamlines, "compute_sites": sites}
    )

    def flagged(beamline: str, path: str) -> bool:
        return controlled(ledger, chosen, chosen.beamline(beamline), RelativePath(path), told=False)

    ledger.scans.register(beamline="a", path=RelativePath("raw/secret"), export_controlled=True)
    for beamline, path in (
        ("a", "raw/secret/scan.h5"),
        ("b", "secret/scan.h5"),
        ("b", "secret"),
        ("b", "ALS-1/secret.h5"),
    ):
        assert flagged(beamline, path), (beamline, path)
    for beamline, path in (("b", "ALS-2/scan.h5"), ("c", "raw/secret/scan.h5"), ("b", "raw/secret")):
        assert not flagged(beamline, path), (beamline, path)


COLLECTION = "8a1d0f52-6c1e-4d0b-9f36-0d5a8e1d8001"


def test_folders_of_proposals_are_theirs_by_whatever_endpoint_they_are_written(tmp_path: Path) -> None:
    endpoints = {
        "raw": {"root_path": "/data/raw", "uuid": COLLECTION, "owner_folder": "{proposal}"},
        "server": {"root_path": "/data", "uuid": COLLECTION},
        "part": {"root_path": "/data/raw/ALS-2/rec", "uuid": COLLECTION},
        "scratch": {"root_path": "/data/scratch", "uuid": COLLECTION},
        "disk": {"mount": str(tmp_path / "disk"), "owner_folder": "raw/{proposal}"},
        "same": {"mount": str(tmp_path / "link")},
    }
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to("disk")
    chosen = Settings.model_validate({"globus": {"globus_endpoints": endpoints}})
    subject = Subject(scan="1", name="ALS-1/a", proposals=("ALS-1",))

    def carry_to(name: str, path: str) -> None:
        there = chosen.endpoint(name)
        request = TransferRequest.of({PATH: RelativePath(path)}, source=HERE, destination=there)
        permit(request, subject=subject, at=0.0)

    for name, path in (("server", "raw/ALS-1/a"), ("scratch", "ALS-2"), ("raw", "ALS-1/a"), ("same", "raw/ALS-1/a")):
        carry_to(name, path)
    for name, path in (("server", "raw/ALS-2/a"), ("server", "raw"), ("part", "a"), ("same", "raw/ALS-2/a")):
        with pytest.raises(NotTheOwner):
            carry_to(name, path)
