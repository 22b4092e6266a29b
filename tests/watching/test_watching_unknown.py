"""Files that the ledger does not know are listed with their sizes, folder by folder, and never touched."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from watch_room import Clock, Room

from orchestration.config import Settings
from orchestration.errors import ServiceUnavailable
from orchestration.flows.alarms import Alarms
from orchestration.flows.unknown import Strangers, look_for_strangers

OPTED = {"server": {"inventory": True}}


def stranger(room: Room, path: str, *, size: int = 10, days: float = 10.0, endpoint: str = "server") -> Path:
    file = room.file(endpoint, path)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(bytes(size))
    os.utime(file, (time.time() - days * 86400, time.time() - days * 86400))
    return file


def compare(room: Room, *, seconds: float = 60.0) -> Strangers:
    return look_for_strangers(room.work, Alarms(room.work), until=time.monotonic() + seconds)


def found(room: Room) -> dict[str, tuple[int, int]]:
    """Files and bytes by folder."""
    return {each.folder: (each.files, each.size) for each in room.ledger.inventory.unknown() if each.folder}


def test_files_that_no_copy_accounts_for_are_listed_by_folder(make_room: Callable[..., Room]) -> None:
    room = make_room(endpoints=OPTED)
    room.put("server", "raw/p/known.h5")
    room.put("server", "rec/known", {"1.tiff": b"1", "deep/2.tiff": b"22"})
    files = [stranger(room, "raw/p/old.h5", size=7), stranger(room, "raw/p/older.h5", days=20)]
    files += [stranger(room, "rec/known/deep/3.tiff"), stranger(room, "rec/other/1.tiff")]
    stranger(room, "raw/p/fresh.h5", days=1)
    compare(room)
    assert found(room) == {"raw/p": (2, 17), "rec/known/deep": (1, 10), "rec/other": (1, 10)}
    assert all(file.exists() for file in files)


def test_endpoints_that_do_not_want_it_are_left_alone_and_folders_can_be_named(make_room: Callable[..., Room]) -> None:
    room = make_room(endpoints={"server": {"inventory": ["raw"]}})
    stranger(room, "raw/p/a.h5")
    stranger(room, "home/ada/thesis.tex")
    stranger(room, "raw/p/a.h5", endpoint="archive")
    compare(room)
    assert found(room) == {"raw/p": (1, 10)}


def test_what_is_gone_or_known_by_now_is_listed_no_more(make_room: Callable[..., Room], clock: Clock) -> None:
    room = make_room(endpoints=OPTED)
    gone, known = stranger(room, "raw/gone/a.h5"), stranger(room, "raw/known/a.h5")
    compare(room)
    assert set(found(room)) == {"raw/gone", "raw/known"}
    gone.unlink()
    gone.parent.rmdir()
    known.unlink()
    room.put("server", "raw/known/a.h5")
    compare(room)
    assert set(found(room)) == {"raw/gone", "raw/known"}  # this round is over
    clock.days(31)
    compare(room)
    assert found(room) == {}


def test_what_another_endpoint_on_the_same_disk_accounts_for_is_known(
    make_room: Callable[..., Room], tmp_path: Path
) -> None:
    room = make_room(endpoints={"server": {"inventory": True}, "archive": {"mount": str(tmp_path / "server" / "raw")}})
    room.put("archive", "p/a.h5")
    (tmp_path / "server" / "raw" / "p").mkdir(parents=True, exist_ok=True)
    os.rename(tmp_path / "archive" / "p" / "a.h5", tmp_path / "server" / "raw" / "p" / "a.h5")
    os.utime(tmp_path / "server" / "raw" / "p" / "a.h5", (1e9, 1e9))
    stranger(room, "raw/p/b.h5")
    compare(room)
    assert found(room) == {"raw/p": (1, 10)}


def test_passes_go_on_with_the_next_folder(make_room: Callable[..., Room]) -> None:
    room = make_room(endpoints=OPTED)
    for name in ("a", "a/b", "a/b/c", "a.x", "d"):
        stranger(room, f"{name}/file")
    assert compare(room, seconds=-1.0).folders == 0
    walked: list[str] = []
    while (last := room.ledger.inventory.round_of("server")) is None or last.folders_ended_at is None:
        walked += [last.after_folder if last is not None else ""]
        room.work.services.listing = counted(room, 5)  # type: ignore[method-assign, assignment]
        compare(room)
        del room.work.services.listing
        assert len(walked) < 20
    assert set(found(room)) == {"a", "a/b", "a/b/c", "a.x", "d"}
    assert walked == ["", "a.x"]


def counted(room: Room, number: int) -> Callable[..., object]:
    """An endpoint that falls silent after so many answers."""
    listing, left = room.work.services.listing, [number]

    def ask(*arguments: object, **named: object) -> object:
        left[0] -= 1
        if left[0] < 0:
            raise ServiceUnavailable("no answer")
        return listing(*arguments, **named)  # type: ignore[arg-type]

    return ask


def test_the_service_s_own_folders_are_not_unknown(make_room: Callable[..., Room]) -> None:
    room = make_room(endpoints=OPTED)
    stranger(room, ".quarantine/2026-01-01/1-1/a.h5")
    stranger(room, ".checksums/1-1.json")
    compare(room)
    assert found(room) == {}


@pytest.mark.parametrize("folder", ["/raw", "../raw", ""])
def test_a_folder_that_is_not_below_the_endpoint_is_refused(folder: str) -> None:
    endpoint = {"mount": "/data", "inventory": [folder]}
    with pytest.raises(ValueError, match="no folder below the endpoint"):
        Settings.model_validate({"globus": {"globus_endpoints": {"server": endpoint}}})
