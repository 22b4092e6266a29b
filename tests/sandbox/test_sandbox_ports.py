"""Ports are chosen so that nobody else gets them before their server listens."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from orchestration.sandbox import ports

HOLDER = "from orchestration.sandbox import ports; print(ports.take(int(input()))); input()"


def test_no_connection_can_have_the_port_of_a_server_that_is_still_to_start() -> None:
    given = Path("/proc/sys/net/ipv4/ip_local_port_range")
    first = int(given.read_text().split()[0]) if given.exists() else 0
    if first < 32_000:
        pytest.skip("this machine gives nearly all ports to connections")
    assert ports.take() < first


def test_a_port_is_taken_by_one_process_until_it_ends() -> None:
    mine = ports.take()
    assert ports.take() != mine
    assert ports.take(mine) == mine
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        other.stdin.write(f"{mine}\n")
        other.stdin.flush()
        theirs = int(other.stdout.readline())
        assert theirs != mine
        assert ports.take(theirs) != theirs
        other.kill()
    assert ports.take(theirs) == theirs


def test_a_port_that_somebody_listens_on_is_passed_over() -> None:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        port = listening.getsockname()[1]
        assert ports.take(port) != port
