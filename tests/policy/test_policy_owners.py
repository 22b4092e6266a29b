"""Data of a proposal is told to those who may read it, and goes into no folder of another."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from policy_ground import HERE, INDEX, RECORD, Clock, Wire, operation

from orchestration.config import Endpoint
from orchestration.errors import NotTheOwner
from orchestration.globus.search_entries import Entry, PublishRequest
from orchestration.ledger import Ledger
from orchestration.ledger.perform import perform
from orchestration.ledger.scan import Scan
from orchestration.ledger.service import Request, Service
from orchestration.local.transfer import LocalTransfer
from orchestration.paths import RelativePath
from orchestration.policy import (
    SEVERAL,
    BeamlineRules,
    OwnerFolder,
    Owners,
    Readers,
    Rule,
    Subject,
    Zone,
    permit,
)
from orchestration.scicat.records import IngestRequest
from orchestration.transfers import RenameRequest, TransferRequest

GELS = "urn:globus:groups:id:6c2a3b0e-1d4f-11ee-9a77-0f1e2d3c4b5a"
STAFF = "urn:globus:groups:id:00000000-1d4f-11ee-9a77-0f1e2d3c4b5a"
OWNERS = Owners(
    common=Readers(groups=frozenset({"{proposal}", "8.3.2"}), visible_to=frozenset({STAFF})),
    proposals={"ALS-1": Readers(groups=frozenset({"gels"}), visible_to=frozenset({GELS}))},
)


@pytest.fixture
def ledger(url: str) -> Iterator[Ledger]:
    rules = BeamlineRules(owners=OWNERS, folder=OwnerFolder("raw/{proposal}_*"))
    with Ledger(url, clock=Clock(1_800_000_000.0), rules={"bl832": rules}) as made:
        yield made


@pytest.fixture
def scan(ledger: Ledger) -> Scan:
    """Of ALS-1, as its folder says."""
    return ledger.scans.register(beamline="bl832", path=RelativePath("raw/ALS-1_smith/scan.h5"))


def entry(*visible_to: str) -> PublishRequest:
    return PublishRequest(index=INDEX, entry=Entry(subject="globus://s", id="m", visible_to=visible_to, content={}))


def record(owner: str, *readers: str) -> IngestRequest:
    return IngestRequest(identity="s/raw", record=replace(RECORD, owner_group=owner, access_groups=readers))


def plan(ledger: Ledger, scan: Scan, request: Request) -> None:
    ledger.operations.plan(operation(scan, request), service="test")


@pytest.mark.parametrize(
    "request_",
    [entry(GELS), entry(STAFF), entry(GELS, STAFF), record("ALS-1"), record("ALS-1", "8.3.2"), record("gels", "8.3.2")],
)
def test_those_who_may_read_it_are_told(ledger: Ledger, scan: Scan, request_: Request) -> None:
    plan(ledger, scan, request_)


@pytest.mark.parametrize(
    ("request_", "strangers"),
    [
        (entry("public"), "public"),
        (entry(GELS, "all_authenticated_users"), "all_authenticated_users"),
        (record("ALS-2"), "ALS-2"),
        (record("ALS-1", "ALS-2", "everybody"), "ALS-2, everybody"),
        (record("{proposal}"), "{proposal}"),
        (record(GELS), GELS),
    ],
)
def test_nobody_else_is_told(ledger: Ledger, scan: Scan, request_: Request, strangers: str) -> None:
    with pytest.raises(NotTheOwner) as refusal:
        plan(ledger, scan, request_)
    assert refusal.value.what.endswith(f"belongs to proposal ALS-1, of which {strangers} may not be told")
    assert [denial.reason for denial in ledger.audit.denials(scan.id)] == [refusal.value.what]


def test_nothing_reaches_an_index_that_others_read(
    every: dict[str, Service[Any]], outside: Wire, ledger: Ledger, scan: Scan
) -> None:
    for name, request in (("globus_publish", entry("public")), ("catalogue", record("ALS-2"))):
        with pytest.raises(NotTheOwner):
            perform(ledger, operation(scan, request), every[name])
    assert outside.calls == []


def test_the_metadata_of_a_scan_go_before_its_folder(ledger: Ledger, scan: Scan) -> None:
    ledger.scans.learn(scan.id, {"proposal": "ALS-2"})
    plan(ledger, scan, record("ALS-2"))
    with pytest.raises(NotTheOwner, match="proposal ALS-2"):
        plan(ledger, scan, record("ALS-1"))


def test_what_an_operator_says_goes_before_both(ledger: Ledger, scan: Scan) -> None:
    ledger.scans.learn(scan.id, {"owned_by": "ALS-3"})
    ledger.scans.learn(scan.id, {"proposal": "ALS-2"})
    plan(ledger, scan, record("ALS-3"))
    for other in ("ALS-1", "ALS-2"):
        with pytest.raises(NotTheOwner, match="proposal ALS-3"):
            plan(ledger, scan, record(other))


def test_where_proposals_are_known_by_their_folders_no_metadata_tell_it(url: str) -> None:
    rules = BeamlineRules(owners=OWNERS, folder=OwnerFolder("*/{proposal}"), by_folder=True)
    with Ledger(url, rules={"aps8idi": rules}) as ledger:
        scan = ledger.scans.register(beamline="aps8idi", path=RelativePath("2026-1/foster202603/A001"))
        dropped = ledger.scans.register(beamline="aps8idi", path=RelativePath("A001"))
        for each in (scan, dropped):
            ledger.scans.learn(each.id, {"proposal": "1010643"})
        plan(ledger, scan, record("foster202603"))
        with pytest.raises(NotTheOwner, match="proposal foster202603"):
            plan(ledger, scan, record("1010643"))
        with pytest.raises(NotTheOwner, match="no known proposal"):
            plan(ledger, dropped, record("1010643"))


@pytest.mark.parametrize("said", ["", "  ", None, 17])
def test_what_is_no_proposal_is_none(ledger: Ledger, said: Any) -> None:
    nobodys = ledger.scans.register(beamline="bl832", path=RelativePath("dropped/scan.h5"))
    ledger.scans.learn(nobodys.id, {"proposal": said})
    with pytest.raises(NotTheOwner, match="not known to which proposal"):
        plan(ledger, nobodys, entry(STAFF))
    plan(ledger, nobodys, record("8.3.2"))
    for stranger in ("ALS-1", "gels", "{proposal}"):
        with pytest.raises(NotTheOwner, match="no known proposal"):
            plan(ledger, nobodys, record(stranger))


def test_of_a_folder_of_several_only_those_are_told_who_may_read_all_of_it(ledger: Ledger, scan: Scan) -> None:
    ledger.scans.register(beamline="bl832", path=RelativePath("raw/ALS-2_jones/scan.h5"))
    folder = ledger.scans.register(beamline="bl832", path=RelativePath("raw"))
    plan(ledger, folder, record("8.3.2"))
    for one in ("ALS-1", "ALS-2"):
        with pytest.raises(NotTheOwner):
            plan(ledger, folder, record(one))


def test_where_nobody_asks_for_owners_anybody_is_told(ledger: Ledger) -> None:
    elsewhere = ledger.scans.register(beamline="bl733", path=RelativePath("raw/ALS-1_smith/scan.h5"))
    plan(ledger, elsewhere, record("ALS-2"))


# ----- folders -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "path", "owner"),
    [
        ("raw/{proposal}", "raw/ALS-1/scan.h5", "ALS-1"),
        ("raw/{proposal}", "raw/ALS-1", "ALS-1"),
        ("raw/{proposal}", "raw", SEVERAL),
        ("raw/{proposal}", "scratch/ALS-1/scan", None),
        ("raw/{proposal}", "raw2/ALS-1/scan", None),
        ("raw/{proposal}_*", "raw/ALS-1_smith_2/scan.h5", "ALS-1"),
        ("raw/{proposal}_*", "raw/ALS-1/scan.h5", None),
        ("*/{proposal}", "2026-1/foster202603/A001", "foster202603"),
        ("*/{proposal}", "2026-1", SEVERAL),
        ("{proposal}", "ALS-1/x", "ALS-1"),
        ("p.q/{proposal}", "pxq/ALS-1", None),
        ("*/{proposal}", ".quarantine/ALS-1", None),
        ("raw/{proposal}", "raw/.quarantine/x", None),
        ("raw/{proposal}", "raw/\U0001d4ab µ/x", "\U0001d4ab µ"),
    ],
)
def test_whose_a_folder_is(pattern: str, path: str, owner: str | None) -> None:
    assert OwnerFolder(pattern).owner(path) == owner


@pytest.mark.parametrize(
    "pattern", ["", "raw", "{proposal}/raw", "raw/{proposal}/{proposal}", "/{proposal}", "a/../{proposal}"]
)
def test_a_pattern_that_names_no_owner_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="must"):
        OwnerFolder(pattern)


@pytest.fixture
def ground(tmp_path: Path) -> Path:
    for name in ("spot", "server"):
        (tmp_path / name).mkdir()
    file = tmp_path / "spot" / "raw" / "ALS-1_smith" / "scan.h5"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"x")
    return tmp_path


def endpoint(ground: Path, name: str, owner_folder: str | None = "raw/{proposal}_*") -> Endpoint:
    made = Endpoint(root_path=f"/{name}", mount=ground / name, zone=Zone.BEAMLINE, owner_folder=owner_folder)
    return made.known_as(name)


def carry(ledger: Ledger, scan: Scan, ground: Path, to: str, **folders: Any) -> tuple[str, ...]:
    source = endpoint(ground, "spot", **{key: value for key, value in folders.items() if key == "owner_folder"})
    paths = {scan.path: RelativePath(to)}
    request = TransferRequest.of(paths, source=source, destination=endpoint(ground, "server"))
    wanted = operation(scan, request, request.place)
    perform(ledger, wanted, LocalTransfer(state=ground / "work"))
    detail = ledger.operations.permissions(scan.id)[wanted.key].detail or {}
    return tuple(str(each) for each in detail["rules"])  # type: ignore[union-attr]


def test_data_goes_into_the_folder_of_its_proposal(ledger: Ledger, scan: Scan, ground: Path) -> None:
    assert Rule.OWN_FOLDER in carry(ledger, scan, ground, "raw/ALS-1_smith/scan.h5")
    assert Rule.OWN_FOLDER in carry(ledger, scan, ground, "raw/ALS-1_copies/scan.h5")
    assert (ground / "server" / "raw" / "ALS-1_smith" / "scan.h5").exists()


def test_data_goes_into_folders_of_nobody(ledger: Ledger, scan: Scan, ground: Path) -> None:
    assert Rule.OWN_FOLDER not in carry(ledger, scan, ground, "scratch/scan.h5")


@pytest.mark.parametrize("to", ["raw/ALS-2_jones/scan.h5", "raw"])
def test_data_goes_into_no_folder_of_another_proposal(ledger: Ledger, scan: Scan, ground: Path, to: str) -> None:
    with pytest.raises(NotTheOwner, match="folder of"):
        carry(ledger, scan, ground, to)
    assert list((ground / "server").iterdir()) == []


def test_where_the_ledger_does_not_know_whose_it_is_the_folder_that_it_comes_from_tells(
    ledger: Ledger, ground: Path
) -> None:
    unknown = ledger.scans.register(beamline="bl733", path=RelativePath("raw/ALS-1_smith/scan.h5"))
    with pytest.raises(NotTheOwner, match="not known to which proposal"):
        carry(ledger, unknown, ground, "raw/ALS-1_smith/scan.h5", owner_folder=None)
    assert Rule.OWN_FOLDER in carry(ledger, unknown, ground, "raw/ALS-1_smith/scan.h5")
    with pytest.raises(NotTheOwner, match="belongs to proposal ALS-1"):
        carry(ledger, unknown, ground, "raw/ALS-2_jones/scan.h5")


def test_a_copy_gets_no_name_in_a_folder_of_another_proposal() -> None:
    there = HERE.model_copy(update={"owner_folder": "raw/{proposal}"})
    subject, path = Subject(scan="1", name="a", proposals=("ALS-1",)), RelativePath("raw/ALS-1/a")
    with pytest.raises(NotTheOwner, match="here:raw/ALS-2/a is a folder of proposal ALS-2"):
        permit(RenameRequest(endpoint=there, path=path, to=RelativePath("raw/ALS-2/a")), subject=subject, at=0.0)
    aside = RenameRequest(endpoint=there, path=path, to=RelativePath(".quarantine/raw/ALS-1/a"))
    assert permit(aside, subject=subject, at=0.0).decision.rules == (Rule.OPEN,)
    back = RenameRequest(endpoint=there, path=aside.to, to=path)
    assert Rule.OWN_FOLDER in permit(back, subject=subject, at=0.0).decision.rules


def test_each_of_many_paths_is_looked_at() -> None:
    there = HERE.model_copy(update={"owner_folder": "raw/{proposal}"})
    paths = {RelativePath("a"): RelativePath("raw/ALS-1/a"), RelativePath("b"): RelativePath("raw/ALS-2/b")}
    request = TransferRequest.of(paths, source=HERE, destination=there)
    subject = Subject(scan="1", name="a and b", proposals=("ALS-1",))
    with pytest.raises(NotTheOwner, match="here:raw/ALS-2/b is a folder of proposal ALS-2"):
        permit(request, subject=subject, at=0.0)
