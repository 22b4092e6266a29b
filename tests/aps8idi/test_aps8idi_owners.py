"""Whose a dataset of 8-ID is: learnt from its file, its folder or an operator, and kept to by all that is done."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import pytest
import yaml
from click.testing import CliRunner
from xpcs_room import BEAMLINE, ONLINE, XpcsRoom

from orchestration.commands.owner import owner
from orchestration.flows.addressing import addresses
from orchestration.ledger.scan import Scan
from orchestration.paths import RelativePath

STAFF = "urn:globus:groups:id:00000000-1d4f-11ee-9a77-0f1e2d3c4b5a"
SETTLED = ("local8idi_raw", "local8idi_scratch", "aps8idi_results", "aps8idi_portal")
USER, BLUESKY = "/entry/user", "/entry/instrument/bluesky/metadata"


@contextmanager
def settings(room: XpcsRoom, change: Callable[[dict[str, Any]], None]) -> Iterator[None]:
    file = room.world.layout.config_file
    before = file.read_text()
    document = yaml.safe_load(before)
    change(document)
    file.write_text(yaml.safe_dump(document, sort_keys=False))
    try:
        yield
    finally:
        file.write_text(before)


def told_to_owners(document: dict[str, Any]) -> None:
    """Records are for a proposal and for staff alone."""
    beamline = document["beamlines"][BEAMLINE]
    beamline["catalogue"] = {"owner_group": "staff", "access_groups": []}
    owners = {"groups": ["{proposal}", "staff"], "visible_to": [STAFF]}
    beamline["disclosure"] = {"owners": owners}
    document["search"]["indexes"]["xpcs"]["visible_to"] = [STAFF]


def in_folders(document: dict[str, Any]) -> None:
    """Experiments own their folders, wherever these are."""
    told_to_owners(document)
    document["beamlines"][BEAMLINE]["disclosure"]["proposal_from"] = "folder"
    for name in ("aps8idi", *SETTLED):
        document["globus"]["globus_endpoints"][name]["owner_folder"] = "*/{proposal}"


def says(folder: Path, **facts: Any) -> None:
    """Of its metadata file, by their paths."""
    with h5py.File(next(folder.glob("*_metadata.hdf")), "a") as file:
        for path, value in facts.items():
            file[path] = value


def scan_of(room: XpcsRoom, folder: Path) -> Scan:
    return room.overview(folder).scan


def owner_groups(room: XpcsRoom, folder: Path) -> set[str]:
    ingested = [each for each in room.overview(folder).operations if each.service == "scicat.ingest"]
    return {str(each.request["record"]["ownerGroup"]) for each in ingested}  # type: ignore[index,call-overload]


@pytest.mark.slow
def test_a_dataset_is_told_to_the_proposal_that_its_file_names(room: XpcsRoom) -> None:
    experiment = room.experiment()
    folder, qmap = room.measure(experiment), room.qmap(experiment)
    says(folder, **{f"{USER}/proposal_id": 1010643, f"{USER}/email": "ada@example.org", f"{BLUESKY}/owner": "8ididata"})
    with settings(room, told_to_owners):
        ended = room.run(ONLINE, raw=room.posix(folder), qmap=qmap)
        assert ended.completed, ended
        found = scan_of(room, folder)
        assert addresses(room.world.settings(), found) == ("ada@example.org",)
    facts = {name: found.facts[name] for name in ("proposal", "email", "owner", "experiment")}
    assert facts == {
        "proposal": "1010643",
        "email": "ada@example.org",
        "owner": "8ididata",
        "experiment": experiment.split("/")[1],
    }
    assert owner_groups(room, folder) == {"1010643"}
    assert room.done(folder, "globus.publish")


@pytest.mark.slow
def test_a_dataset_of_which_nothing_is_known_is_shown_to_nobody_until_an_operator_says_whose_it_is(
    room: XpcsRoom, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiment = room.experiment()
    folder, qmap = room.measure(experiment), room.qmap(experiment)
    says(folder, **{f"{USER}/proposal_id": "unknown", f"{USER}/email": "unknown", f"{USER}/name": "John Doe"})
    with settings(room, told_to_owners):
        ended = room.run(ONLINE, raw=room.posix(folder), qmap=qmap)
        assert ended.error_type == "NotTheOwner", ended
        assert not room.done(folder, "globus.publish")
        assert owner_groups(room, folder) == set()
        monkeypatch.setenv("BEAMLINE_CONFIG", str(room.world.layout.config_file))
        words = [str(folder.relative_to(room.source)), "--proposal", "1010643", "--email", "ada@example.org"]
        refused = CliRunner().invoke(owner, words)
        assert "not changed without a reason" in str(refused.exception)
        said = CliRunner().invoke(owner, [*words, "--why", "as the log book says", "--json"])
        assert said.exit_code == 0, said.output
        told = json.loads(said.output)
        assert (told["proposal"], told["written_to"]) == ("1010643", ["ada@example.org"])
        again = room.run(ONLINE, raw=room.posix(folder), qmap=qmap)
        assert again.completed, again
    assert owner_groups(room, folder) == {"1010643"}
    assert len([step for step in room.done(folder, "local.jobs") if "correlate" in step]) == 1


@pytest.mark.slow
def test_where_folders_are_of_experiments_a_dataset_stays_in_that_of_its_own(room: XpcsRoom) -> None:
    experiment = room.experiment()
    name = experiment.split("/")[1]
    folder, qmap = room.measure(experiment), room.qmap(experiment)
    says(folder, **{f"{BLUESKY}/proposal_id": "1010643"})
    with settings(room, in_folders):
        ended = room.run(ONLINE, raw=room.posix(folder), qmap=qmap)
        assert ended.completed, ended
        found = room.overview(folder)
        rules = [str(stage["permitted"]) for stage in found.document()["stages"]]  # type: ignore[union-attr,index,call-overload]
    assert owner_groups(room, folder) == {name}
    assert sum("works in no folder of another proposal" in each for each in rules) >= 2
    assert sum("goes into no folder of another proposal" in each for each in rules) >= 2


def test_nothing_of_it_goes_into_the_folder_of_another_experiment(room: XpcsRoom) -> None:
    experiment = room.experiment()
    folder, qmap = room.measure(experiment), room.qmap(experiment)
    with room.world.ledger() as ledger:
        path = RelativePath(str(folder.relative_to(room.source)))
        scan = ledger.scans.register(beamline=BEAMLINE, path=path)
        ledger.scans.learn(scan.id, {"owned_by": "another"})
    with settings(room, in_folders):
        ended = room.run(ONLINE, raw=room.posix(folder), qmap=qmap)
    assert ended.error_type == "NotTheOwner", ended
    assert not (room.root("local8idi_raw") / experiment).exists()
    assert not room.done(folder, "local.jobs")
