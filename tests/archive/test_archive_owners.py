"""Folders of proposals at NERSC: a proposal is archived from its own, and comes back to its own."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest
import yaml
from archive_room import SOURCE, Room

from orchestration.errors import NotTheOwner

FETCH = "orchestration.flows.bl832.retrieve:hpss_to_cfs_flow"


@pytest.fixture
def owned(room: Room) -> Iterator[Room]:
    file = room.world.layout.config_file
    before = file.read_text()
    document = yaml.safe_load(before)
    document["globus"]["globus_endpoints"][SOURCE]["owner_folder"] = "raw/{proposal}"
    document["globus"]["globus_endpoints"]["spot832"]["owner_folder"] = "raw/{proposal}"
    file.write_text(yaml.safe_dump(document))
    yield room
    file.write_text(before)


@pytest.mark.slow
def test_a_proposal_goes_to_tape_and_comes_back(owned: Room) -> None:
    project = owned.project()
    owned.file(project, b"a.h5", b"a" * 100)
    assert owned.store(project).completed
    shutil.rmtree(owned.cfs / "raw" / project)
    ended = owned.run(FETCH, f"/global/raw/{project}/{project}_2026-1.tar")
    assert ended.completed, ended
    assert (owned.cfs / "raw" / project / "a.h5").read_bytes() == b"a" * 100
    rules = [str((event.detail or {})["rules"]) for event in owned.permissions(project)]
    assert sum("works in no folder of another proposal" in each for each in rules) == 2  # the survey and the fetch


@pytest.mark.slow
def test_what_lies_in_the_folder_of_another_proposal_is_not_read_for_the_archive(owned: Room) -> None:
    project = owned.project()
    scan = owned.scan(project, "a.h5", b"a")
    with owned.world.ledger() as ledger:
        ledger.scans.learn(scan.id, {"proposal": "ALS-99999"})
    ended = owned.store(project)
    assert isinstance(ended.error, NotTheOwner), ended
    assert f"raw/{project} is a folder of proposal {project}" in ended.error.what
    assert not owned.stored(project)
    assert owned.operations(project) == []
