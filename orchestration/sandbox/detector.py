"""A simulated detector: writes a scan frame by frame at its rate, as an acquisition host does.

``python -m orchestration.sandbox.detector --out /data/raw/scan.h5 --size 512 --angles 360 --rate 50``
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from pathlib import Path

import click

from orchestration.errors import InvalidInput
from orchestration.science.errors import ParametersInvalid
from orchestration.science.tomography import simulate
from orchestration.science.tomography.simulate import ScanDescription
from orchestration.signals import on_stop


@dataclass(frozen=True, kw_only=True)
class Exposure:
    """What came of one run of the detector; `complete` is False if it was stopped before its last frame."""

    path: Path
    frames: int
    size: int
    seconds: float
    complete: bool


class Detector:
    """Writes scans; frames become readable (SWMR) as they are taken.

    `rate` is in frames per second; 0 is as fast as the disk.
    """

    def __init__(self, *, rate: float = 0.0) -> None:
        self._rate = rate
        self._stop = threading.Event()

    def stop(self) -> None:
        """End the run after the frame being written; its file is closed, with the frames that it has."""
        self._stop.set()

    def record(self, path: Path, description: ScanDescription, *, stop_after: int = 0) -> Exposure:
        """Take a whole scan, or its first `stop_after` frames.

        Raises:
            InvalidInput: if there is a file at the path already. No detector writes over a scan.
        """
        if path.exists():
            raise InvalidInput("there is a file already, and a detector never writes over a scan", where=str(path))
        path.parent.mkdir(parents=True, exist_ok=True)
        begin = time.monotonic()
        taken, complete = 0, True
        with simulate.create_file(path, description, swmr=True) as writer:
            for frame in simulate.frames(description):
                if self._waits(begin, taken) or (stop_after and taken == stop_after):
                    complete = False
                    break
                writer.append(frame)
                taken += 1
        seconds = time.monotonic() - begin
        return Exposure(path=path, frames=taken, size=path.stat().st_size, seconds=seconds, complete=complete)

    def _waits(self, begin: float, taken: int) -> bool:
        """Until the next frame is due; True if the run was stopped."""
        due = begin + taken / self._rate if self._rate > 0 else begin
        return self._stop.wait(max(0.0, due - time.monotonic()))


@click.command()
@click.option("--out", type=click.Path(path_type=Path), required=True, help="The file that it writes.")
@click.option("--size", default=512, show_default=True, help="Width of a frame in pixels.")
@click.option("--height", default=32, show_default=True, help="Rows of a frame.")
@click.option("--angles", default=360, show_default=True, help="Number of projections.")
@click.option("--flats", default=20, show_default=True)
@click.option("--darks", default=10, show_default=True)
@click.option("--rate", default=0.0, show_default=True, help="Frames per second; 0 is as fast as possible.")
@click.option(
    "--center-offset", default=0.0, show_default=True, help="Of the rotation axis from the middle, in pixels."
)
@click.option("--photons", default=10_000.0, show_default=True, help="Per pixel in the open beam; 0 leaves out noise.")
@click.option("--rings/--no-rings", default=False)
@click.option("--zingers/--no-zingers", default=False)
@click.option("--seed", default=0, show_default=True)
@click.option("--sample", default="shepp logan", show_default=True)
@click.option("--proposal", default="ALS-00000", show_default=True)
@click.option("--stop-after", default=0, help="Abort the scan after so many frames.")
def main(out: Path, rate: float, stop_after: int, size: int, **given: object) -> None:
    """Take one scan of the phantom."""
    detector = Detector(rate=rate)
    on_stop(detector.stop)
    try:
        description = ScanDescription(width=size, **given)  # type: ignore[arg-type]
        exposure = detector.record(out, description, stop_after=stop_after)
    except (ParametersInvalid, InvalidInput) as error:
        raise click.ClickException(str(error)) from error
    state = "complete" if exposure.complete else "stopped early"
    click.echo(f"{exposure.path}: {exposure.frames} frames, {exposure.size} bytes, {exposure.seconds:.1f} s, {state}")


if __name__ == "__main__":
    main()
