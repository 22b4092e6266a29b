"""The commands of photon correlation."""

from __future__ import annotations

import click

from orchestration.science.commands import Deferred

_HERE = "orchestration.science.xpcs"


@click.group(
    cls=Deferred,
    modules={
        "correlate": f"{_HERE}.correlate_cli",
        "check": f"{_HERE}.correlate_cli",
        "validate": f"{_HERE}.correlate_cli",
        "batch": f"{_HERE}.batch_cli",
        "plot": f"{_HERE}.show_cli",
        "simulate": f"{_HERE}.simulate_cli",
    },
)
def xpcs() -> None:
    """Photon correlation: raw frames or events, and a qmap, to g2 and two-time functions."""
