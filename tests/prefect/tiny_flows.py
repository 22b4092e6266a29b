"""Flows for the tests of what starts flows."""

from __future__ import annotations

import time
from pathlib import Path

from prefect import flow

from orchestration.errors import ScanUnreadable


@flow(name="tiny", retries=0)
def tiny(path: str, marker: str = "") -> None:
    """Leave a line for every time that it ran."""
    with Path(path).open("a") as file:
        file.write(f"{marker} {Path.cwd()}\n")


@flow(name="failing")
def failing(path: str) -> None:
    raise ScanUnreadable(f"{path} is empty", next_step="take the scan again")


@flow(name="sleeping")
def sleeping(path: str, seconds: float) -> None:
    Path(path).write_text("began")
    try:
        for _ in range(int(seconds * 10)):
            time.sleep(0.1)
    finally:
        Path(path).write_text("ended")


@flow(name="carrying")
def carrying(file_path: str) -> None:
    """It takes a scan from nowhere to nowhere."""


@flow(name="carrying_many")
def carrying_many(file_paths: list[str], beamline: str) -> None:
    """It takes many scans from nowhere to nowhere."""


@flow(name="correlating")
def correlating(
    raw: str = "",
    folder: str = "",
    datasets: list[str] | None = None,
    batch: str = "",
    subject: str = "",
    suffix: str = "",
) -> None:
    """It correlates nothing, with the parameters of the flows of XPCS."""
