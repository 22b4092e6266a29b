r"""Speckle movies whose g2 is known exactly, computed a block of frames at a time.

The field of each pixel is a circular complex Gaussian process of exponential correlation, stepped from frame to frame,

    E(t + 1) = rho E(t) + sqrt(1 - rho^2) n(t),    rho = exp(-1 / tau),    <|E|^2> = 1,

(the exact discretisation of the Ornstein-Uhlenbeck process: D. T. Gillespie, Phys. Rev. E 54 (1996) 2084), so that its
g1(k) is rho^k and by the Siegert relation <|E(t)|^2 |E(t + k)|^2> = 1 + rho^(2k) (J. W. Goodman, Speckle Phenomena in
Optics, 2007, ch. 2). With a constant part to lower the contrast beta, the intensity in photons per frame is

    I(t) = photons * (1 - sqrt(beta) + sqrt(beta) |E(t)|^2),

of mean `photons` and covariance photons^2 beta rho^(2k). Counts are Poisson numbers of mean I(t), drawn independently,
which leaves products of different frames as they are on average: for k > 0

    g2(k) = 1 + beta exp(-2 k / tau).

Each pixel has its own random numbers: the movie depends neither on the number of threads nor on the size of blocks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orchestration.science.errors import ParametersInvalid
from orchestration.science.stopping import look
from orchestration.science.xpcs import randoms, rigaku
from orchestration.science.xpcs.compiling import compiled
from orchestration.science.xpcs.threads import in_threads

Float64 = NDArray[np.float64]
Counts16 = NDArray[np.uint16]

HC = 12.398419843320026
"""Planck's constant times the speed of light, in keV Å."""
BRIGHTEST = 2000.0
"""Photons per pixel and frame up to which no count leaves 16 bits."""

_CHUNK = 512
"""Pixels whose state stays in the cache of one processor."""
_BLOCK_BYTES = 1 << 25


@dataclass(frozen=True, kw_only=True)
class MovieDescription:
    """All that determines a movie, to the last photon."""

    rows: int = 128
    columns: int = 128
    frames: int = 1000
    photons: float = 0.05
    """Mean per pixel and frame."""
    contrast: float = 0.3
    """g2 at no delay, less 1; 0 for a constant intensity, 1 at the most."""
    decay: float = 20.0
    """tau in frames where q is `q_reference`; infinite for speckle that stands still."""
    decay_power: float = 0.0
    """tau is ``decay * (q_reference / q)**decay_power``: 0 for one decay everywhere, 2 for diffusion."""
    q_reference: float = 0.01
    """1/Å."""
    noise: bool = True
    """Whether counts are Poisson numbers; if not, each pixel counts `photons`, a whole number, in each frame."""
    seed: int = 0
    beam_x: float | None = None
    """Column of the direct beam; None for the middle."""
    beam_y: float | None = None
    """Row of the direct beam."""
    energy_kev: float = 10.0
    pixel_size_m: float = 76e-6
    distance_m: float = 4.0
    frame_time_s: float = 20e-6
    count_time_s: float = 19e-6
    dtype: str = "uint16"
    """Of the frames in a NeXus file."""

    def __post_init__(self) -> None:
        for name in ("rows", "columns", "frames"):
            if getattr(self, name) < 1:
                _refuse(f"{name} is {getattr(self, name)}, not at least 1")
        for name in ("decay", "q_reference", "energy_kev", "pixel_size_m", "distance_m", "frame_time_s"):
            if not getattr(self, name) > 0:
                _refuse(f"{name} is {getattr(self, name)}, not above 0")
        if not 0 <= self.photons <= BRIGHTEST:
            _refuse(f"photons are {self.photons}, not from 0 to {BRIGHTEST:g}")
        if not 0 <= self.contrast <= 1:
            _refuse(f"contrast is {self.contrast}, not from 0 to 1")
        if not self.noise and (self.contrast > 0 or self.photons != int(self.photons)):
            _refuse("without noise, contrast must be 0 and photons a whole number: rounded counts have no known g2")
        if np.dtype(self.dtype).kind not in "iuf":
            _refuse(f"dtype is {self.dtype}, not of numbers")

    @property
    def beam(self) -> tuple[float, float]:
        """Row and column."""
        row = (self.rows - 1) / 2 if self.beam_y is None else self.beam_y
        column = (self.columns - 1) / 2 if self.beam_x is None else self.beam_x
        return row, column

    @property
    def q(self) -> Float64:
        """(rows, columns), in 1/Å, for a flat detector across the beam."""
        row, column = self.beam
        radius = np.hypot(np.arange(self.rows)[:, None] - row, np.arange(self.columns)[None, :] - column)
        angle = np.arctan(radius * self.pixel_size_m / self.distance_m)
        return np.asarray(4 * np.pi * self.energy_kev / HC * np.sin(angle / 2))

    @property
    def tau(self) -> Float64:
        """Decay times of all pixels, (rows, columns), in frames."""
        if self.decay_power == 0:
            return np.full((self.rows, self.columns), self.decay)
        with np.errstate(divide="ignore"):
            return np.asarray(self.decay * (self.q_reference / self.q) ** self.decay_power)

    @property
    def active(self) -> NDArray[np.bool_]:
        """The pixels that can count, (rows, columns): those of the modules, where the shape is that of a Rigaku 3M."""
        layout = rigaku.LAYOUT_3M
        if (self.rows, self.columns) != (layout.rows, layout.columns):
            return np.ones((self.rows, self.columns), dtype=np.bool_)
        inside = np.zeros((self.rows, self.columns), dtype=np.bool_)
        for row, column in layout.corners:
            inside[row : row + rigaku.MODULE_ROWS, column : column + rigaku.MODULE_COLUMNS] = True
        return inside


def _refuse(what: str) -> None:
    raise ParametersInvalid(what, where="simulated movie")


def blocks(description: MovieDescription, *, pixels: NDArray[np.int64]) -> Iterator[Counts16]:
    """Counts of some pixels in the next few frames, (frames, pixels); the array is overwritten by the next one.

    Args:
        pixels: (A,): row * columns + column of each.
    """
    state = _State.of(description, pixels)
    size = max(1, min(description.frames, _BLOCK_BYTES // (2 * len(pixels))))
    buffer = np.empty((size, len(pixels)), dtype=np.uint16)
    if not description.noise:
        buffer[:] = int(description.photons)
    for first in range(0, description.frames, size):
        look()
        counts = buffer[: min(size, description.frames - first)]
        if description.noise:
            state.advance(counts)
        yield counts


@dataclass(frozen=True)
class _State:
    """Of A pixels."""

    photons: float
    share: float
    """Of the mean intensity that fluctuates: the square root of the contrast."""
    memory: Float64
    """(A,): rho of each."""
    innovation: Float64
    """(A,): the share of what is new in the field of the next frame."""
    random: NDArray[np.uint64]
    """(A,)."""
    field: Float64
    """(2, A): real and imaginary part, each of variance 1."""

    @classmethod
    def of(cls, description: MovieDescription, pixels: NDArray[np.int64]) -> _State:
        random = randoms.states(description.seed, pixels.astype(np.uint64))
        field = np.empty((2, len(pixels)))
        randoms.normals(random, field)
        memory = np.exp(-1 / description.tau.ravel()[pixels])
        innovation = np.sqrt(1 - memory**2)
        return cls(description.photons, float(np.sqrt(description.contrast)), memory, innovation, random, field)

    def advance(self, counts: Counts16) -> None:
        """Fill the counts of the next frames, (frames, A)."""
        chunks = -(-len(self.random) // _CHUNK)

        def work(low: int, high: int) -> None:
            some = slice(low * _CHUNK, high * _CHUNK)
            own = (self.random[some], self.field[:, some], self.memory[some], self.innovation[some])
            _advance(own, self.photons, self.share, counts[:, some])

        in_threads(chunks, work)


@compiled()
def _advance(state, photons, share, counts):  # type: ignore[no-untyped-def]
    random, field, memory, innovation = state
    for low in range(0, len(random), _CHUNK):
        high = min(len(random), low + _CHUNK)
        own, real, imaginary = random[low:high], field[0, low:high], field[1, low:high]
        for frame in range(len(counts)):
            _count(own, real, imaginary, photons, share, counts[frame, low:high])
            if share > 0:
                _step(own, real, imaginary, memory[low:high], innovation[low:high])


@compiled()
def _count(random, real, imaginary, photons, share, counts):  # type: ignore[no-untyped-def]
    for i in range(len(random)):
        intensity = photons * (1 - share + share * 0.5 * (real[i] * real[i] + imaginary[i] * imaginary[i]))
        counts[i], random[i] = randoms.poisson(random[i], intensity)


@compiled()
def _step(random, real, imaginary, memory, innovation):  # type: ignore[no-untyped-def]
    for i in range(len(random)):
        if innovation[i] > 0:
            first, state = randoms.normal(random[i])
            second, random[i] = randoms.normal(state)
            real[i] = memory[i] * real[i] + innovation[i] * first
            imaginary[i] = memory[i] * imaginary[i] + innovation[i] * second
