"""Folders of proposals: no flow has a job read or write in one that is not its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import yaml
from trial_room import LOCAL, NEW_FILE, Room

PROPOSAL = "ALS-00001"
"""Of every scan of the world, as its metadata say."""


@pytest.fixture
def owned(room: Room) -> Iterator[Room]:
    """Results on this machine are in folders of proposals."""
    file = room.world.layout.config_file
    before = file.read_text()
    document = yaml.safe_load(before)
    document["globus"]["globus_endpoints"]["local832_scratch"]["owner_folder"] = "{proposal}"
    file.write_text(yaml.safe_dump(document))
    yield room
    file.write_text(before)


def scan_in(room: Room, folder: str) -> str:
    file_path = room.world.scan(f"{folder.lower()}.h5", folder=folder)
    assert room.run(NEW_FILE, file_path=file_path).completed
    return file_path


def test_a_scan_is_reconstructed_into_the_folder_of_its_proposal(owned: Room) -> None:
    file_path = scan_in(owned, PROPOSAL)
    ended = owned.run(LOCAL, file_path=file_path)
    assert ended.completed, ended
    assert [*(owned.world.root("local832_scratch") / PROPOSAL).iterdir()]


def test_no_job_writes_into_the_folder_of_another_proposal(owned: Room) -> None:
    file_path = scan_in(owned, "ALS-00002")
    ended = owned.run(LOCAL, file_path=file_path)
    assert ended.error_type == "NotTheOwner", ended
    assert not (owned.world.root("local832_scratch") / "ALS-00002").exists()
    assert [each.step for each in owned.overview(file_path).operations if "reconstruct" in each.step] == []
