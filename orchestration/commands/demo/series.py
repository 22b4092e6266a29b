"""A series of speckle movies of which everything is known, taken into the storage of 8-ID as the detector would."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from orchestration.commands.demo.vicinity import run_program
from orchestration.config import Settings
from orchestration.config.xpcs import XpcsDeployment
from orchestration.ledger.service import Document
from orchestration.paths import RelativePath

EXPERIMENT = "demo"
FRAME_TIME_SECONDS = 20e-6


@dataclass(frozen=True, kw_only=True)
class Bins:
    """Of q: rings around the beam by sectors."""

    rings: int
    sectors: int

    def __str__(self) -> str:
        return f"{self.rings} x {self.sectors}"


COARSE = Bins(rings=6, sectors=1)
FINE = Bins(rings=9, sectors=2)


@dataclass(frozen=True, kw_only=True)
class Movie:
    """A square of `size` pixels, `frames` times; what is put in, which the fits have to find."""

    frames: int
    size: int
    photons: float
    """Mean of a pixel in a frame."""
    contrast: float = 0.3
    decay_frames: float = 20.0
    """Of the field, the same at every q."""

    @property
    def decay_seconds(self) -> float:
        return self.decay_frames * FRAME_TIME_SECONDS


class Experiment:
    """A folder of this cycle at the source of the default deployment: its datasets in ``data``, and ``qmaps``."""

    def __init__(self, settings: Settings, today: datetime) -> None:
        self.deployment: XpcsDeployment = settings.xpcs.deployment()
        self._folder = RelativePath(f"{cycle(today)}/{EXPERIMENT}")
        self._source = settings.endpoint(self.deployment.source)
        self._qmaps = settings.endpoint(self.deployment.qmap_endpoint)

    @property
    def data(self) -> str:
        """What users call the folder of the datasets; as all paths that this returns."""
        return self.deployment.to_posix(self._folder / "data")

    def path(self, dataset: str) -> RelativePath:
        return self._folder / f"data/{dataset}"

    def take(self, dataset: str, movie: Movie, bins: Bins, *, seed: int) -> tuple[str, str]:
        """Take a dataset, and see that there is such a qmap for it; the raw file, and the qmap."""
        with self._simulated(dataset, movie, bins, seed=seed) as files:
            qmap = self._put_qmap(files / f"{dataset}_qmap.hdf", movie, bins)
            files.replace(self._source.local_path(self.path(dataset)))
        return self.deployment.to_posix(self.path(dataset) / f"{dataset}.h5"), qmap

    def qmap(self, movie: Movie, bins: Bins) -> str:
        """A qmap alone, for the movies of this size."""
        one = Movie(frames=1, size=movie.size, photons=movie.photons)
        with self._simulated("one_frame", one, bins, seed=0) as files:
            return self._put_qmap(files / "one_frame_qmap.hdf", movie, bins)

    @contextmanager
    def _simulated(self, name: str, movie: Movie, bins: Bins, *, seed: int) -> Iterator[Path]:
        """A folder with the files of a movie, on the disk where they go: renamed, all of it appears at once."""
        data = self._source.local_path(self._folder / "data")
        data.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=".taking-", dir=data.parent))
        try:
            run_program(
                ["orchestration.science", "xpcs", "simulate", str(part / name)],
                name=name,
                rows=movie.size,
                columns=movie.size,
                frames=movie.frames,
                photons=movie.photons,
                contrast=movie.contrast,
                decay=movie.decay_frames,
                frame_time=FRAME_TIME_SECONDS,
                rings=bins.rings,
                sectors=bins.sectors,
                seed=seed,
            )
            yield part / name
        finally:
            shutil.rmtree(part, ignore_errors=True)

    def _put_qmap(self, made: Path, movie: Movie, bins: Bins) -> str:
        """One that is there stays: written anew, it would be another to the ledger."""
        path = self._folder / f"qmaps/{movie.size}px_{bins.rings}x{bins.sectors}_qmap.hdf"
        final = self._qmaps.local_path(path)
        final.parent.mkdir(parents=True, exist_ok=True)
        if final.exists():
            made.unlink()
        else:
            shutil.move(made, final)
        return self.deployment.qmap_to_posix(path)


def cycle(today: datetime) -> str:
    """Of the accelerator, of which there are three in a year: ``2026-1``."""
    return f"{today.year}-{(today.month - 1) // 4 + 1}"


def truth(movie: Movie) -> Document:
    return {"tau_seconds": movie.decay_seconds, "contrast": movie.contrast, "baseline": 1.0}
