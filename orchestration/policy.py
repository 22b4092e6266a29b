"""May this data go to that place? The one question, asked where every operation is performed."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from orchestration.errors import ExportControlled


class Zone(enum.StrEnum):
    """How far from the beamline a place is."""

    BEAMLINE = "beamline"
    """Computers and disks of the beamline itself; data may rest here whatever its classification."""
    EXTERNAL = "external"
    """Everything else: other facilities, catalogues, portals."""


@dataclass(frozen=True)
class Place:
    """Where an operation takes data (or something learnt from it)."""

    name: str
    zone: Zone


def permit(*, scan: str, export_controlled: bool, destination: Place) -> None:
    """Return if the scan's data may go to `destination`.

    Raises:
        ExportControlled: if the data may not leave the beamline and the place is elsewhere.
    """
    if export_controlled and destination.zone is not Zone.BEAMLINE:
        raise ExportControlled(
            f"scan {scan} is export-controlled and {destination.name} is outside the beamline", where="policy"
        )
