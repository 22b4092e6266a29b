"""hsi as commands of the facility meet it, and what its control does to the tape archive."""

from __future__ import annotations

import shlex

import pytest
from superfacility_lab import Lab, sign_in

OBJECT = "/home/a/alsdev/folder/object.bin"


def hsi(lab: Lab, command: str) -> str:
    """What it says, mostly on standard error, and how it ends."""
    return str(lab.machine.run(shlex.join(["sh", "-c", 'hsi -q "$1" 2>&1; echo "exit $?"', "sh", command])))


@pytest.fixture
def stored(lab: Lab) -> Lab:
    local = lab.folder / "local.bin"
    local.write_bytes(b"bytes" * 300)
    assert hsi(lab, f"mkdir -p /home/a/alsdev/folder ; put -c on {local} : {OBJECT}").endswith("exit 0\n")
    return lab


def test_what_is_put_is_listed_and_has_its_checksum(stored: Lab) -> None:
    assert f"FILE\t{OBJECT}\t1500\t" in hsi(stored, f"ls -P {OBJECT}")
    assert hsi(stored, f"hashverify {OBJECT}") == f"{OBJECT}: (md5) OK\nexit 0\n"


def test_a_flipped_bit_changes_neither_size_nor_time_and_hashverify_finds_it(stored: Lab) -> None:
    before = hsi(stored, f"ls -P {OBJECT}")
    stored.control.flip(OBJECT, byte=700)
    assert hsi(stored, f"ls -P {OBJECT}") == before
    assert "checksum mismatch" in hsi(stored, f"hashverify {OBJECT}")


@pytest.mark.slow
def test_an_archive_that_is_down_says_so_and_one_that_lies_ends_well(stored: Lab) -> None:
    ends = {}
    for name, faults in {"down": {"down": True}, "both": {"down": True, "lies": True}, "mended": {}}.items():
        stored.control.archive_fails(**faults)
        ends[name] = hsi(stored, f"ls -P {OBJECT}").splitlines()[-1]
    assert ends == {"down": "exit 69", "both": "exit 0", "mended": "exit 0"}
    assert hsi(stored, f"ls -P {OBJECT}.none").endswith("exit 64\n")
    stored.control.archive_fails(lies=True)
    assert hsi(stored, f"ls -P {OBJECT}.none").endswith("exit 0\n")


def test_a_reset_forgets_what_was_stored(stored: Lab) -> None:
    stored.control.archive_fails(down=True)
    stored.facility.client.reset()
    sign_in(stored)
    assert "HPSS_ENOENT" in hsi(stored, f"ls -P {OBJECT}")
