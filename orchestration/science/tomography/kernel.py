"""Filtered backprojection by a non-uniform fast Fourier transform.

The Fourier slice theorem puts the filtered spectrum of each projection on a line through the origin of the slice's
spectrum; one type 1 transform (finufft on processors, cufinufft on a GPU) sums all these points into pixels, in
O(n^2 log n) where backprojection along rays takes O(n^3). Two real slices travel as one complex one.

The ramp filter is exact, not the sampled ``|f|`` whose missing constant darkens slices. A linear convolution with the
ramp would need projections padded to twice their length, and so twice the points in the transform. Instead the
convolution is periodic, over little more than the detector, and what that gets wrong is added back: the difference
between the two is smooth, so a small matrix takes coarsely binned projections to its few Fourier coefficients.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import scipy.fft
from numpy.typing import NDArray

from orchestration.science.arrays import CPU, Array, Device

Complex64 = NDArray[np.complex64]
Float32 = NDArray[np.float32]
Float64 = NDArray[np.floating]
Window = Literal["ramp", "shepp", "cosine", "hann", "hamming", "butterworth"]
Padding = Literal["edge", "zero"]

TOLERANCE = 1e-3
"""Of the non-uniform transform: far below the error of the discretisation, and half the time of 1e-6."""
MARGIN = 1.125
"""Length of the periodic convolution over that of the detector."""
BINS = 64
MODES = 32
RCOND = 1e-3
"""Cut-off of the fit of these modes: without it they would grow large beyond the rays that count, and the tolerance
of the transform, which is relative, with them."""


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """One slice's parallel rays: a ray of column `j` passes ``x cos + y sin = j - center``, y up, x right."""

    angles: Float64
    """In radians."""
    width: int
    center: float
    """Column of the rotation axis; the middle of the first column is 0."""


@dataclass(frozen=True, kw_only=True)
class Filter:
    """The window on the ramp; `cutoff` (in cycles per pixel) and `order` are of the Butterworth window."""

    window: Window = "ramp"
    cutoff: float = 0.25
    order: float = 2.0
    padding: Padding = "edge"

    def response(self, frequency: Float64) -> Float64:
        """The window's gain at frequencies in cycles per pixel, up to 0.5."""
        f = np.abs(frequency)
        match self.window:
            case "ramp":
                return np.ones_like(f)
            case "shepp":
                return np.sinc(f)
            case "cosine":
                return np.cos(np.pi * f)
            case "hann":
                return 0.5 + 0.5 * np.cos(2 * np.pi * f)
            case "hamming":
                return 0.54 + 0.46 * np.cos(2 * np.pi * f)
            case "butterworth":
                return np.asarray(1.0 / (1.0 + (f / self.cutoff) ** (2.0 * self.order)))


def angular_weights(angles: Float64) -> Float64:
    """The share of the half circle, in radians, that each projection stands for.

    Projections half a turn apart see the same rays, so the shares are those of the angles modulo pi: doubled angles
    (of a full turn, or the first and last of a half one) share theirs. A wedge that was not scanned is nobody's.
    """
    folded = np.mod(angles, np.pi)
    folded[np.pi - folded < 1e-9] = 0.0
    order = np.argsort(folded, kind="stable")
    gaps = np.diff(folded[order], append=folded[order[0]] + np.pi)
    distinct = gaps[gaps > 1e-9]
    gaps = np.minimum(gaps, 2.0 * float(np.median(distinct)))
    # What lies between two groups of equal angles belongs to the groups, and in each to all its members alike.
    weights = np.empty_like(folded)
    shares = 0.5 * (gaps + np.roll(gaps, 1))
    edges = np.flatnonzero(np.append(True, gaps[:-1] > 1e-9))
    groups = np.repeat(np.arange(edges.size), np.diff(np.append(edges, gaps.size)))
    wrapped = gaps[-1] <= 1e-9
    if wrapped:
        groups[groups == groups[-1]] = 0
    sums = np.bincount(groups, weights=shares)
    counts = np.bincount(groups)
    weights[order] = sums[groups] / counts[groups]
    return weights


class _Transform(Protocol):
    def setpts(self, x: Array, y: Array) -> None: ...
    def execute(self, data: Array) -> Array: ...


class Backprojector:
    """Reconstructs slices of one geometry. Plans of the transform are kept: use one object per thread."""

    def __init__(self, tables: Tables, *, pairs: int = 1) -> None:
        self._tables = tables
        self._pairs = pairs
        self._plans: dict[int, _Transform] = {}

    def __call__(self, sinograms: Array) -> Array:
        """Slices in 1/pixel, (slices, width, width), row 0 at the largest y, from (slices, angles, width)."""
        tables = self._tables
        xp = tables.device.xp
        count, width = sinograms.shape[0], tables.width
        slices = xp.empty((count, width, width), dtype=xp.float32)
        for first in range(0, count, 2 * self._pairs):
            group = sinograms[first : first + 2 * self._pairs]
            pairs = self._plan((group.shape[0] + 1) // 2).execute(tables.spectra(group))
            pairs = pairs.reshape(-1, width, width)
            slices[first : first + group.shape[0] : 2] = pairs.real
            slices[first + 1 : first + group.shape[0] : 2] = pairs.imag[: group.shape[0] // 2]
        return slices

    def _plan(self, pairs: int) -> _Transform:
        if pairs not in self._plans:
            self._plans[pairs] = self._tables.plan(pairs)
        return self._plans[pairs]


class Tables:
    """What all threads share: the points of the transform, the filter and its correction."""

    def __init__(self, geometry: Geometry, *, filter_: Filter, device: Device = CPU) -> None:
        self.device = device
        self.width = geometry.width
        grid = _Grid.covering(geometry)
        self._padding = filter_.padding
        self._length = grid.length
        frequency = scipy.fft.fftfreq(grid.length)
        gain = filter_.response(frequency) * np.exp(2j * np.pi * frequency * geometry.center) / grid.length
        # Modes of an even width lie half a pixel off the middle of the slice, where the rotation axis belongs.
        half = 0.5 if geometry.width % 2 == 0 else 0.0
        cosine, sine = np.cos(geometry.angles), np.sin(geometry.angles)
        gain = gain * np.exp(2j * np.pi * half * np.outer(cosine - sine, frequency))
        gain *= angular_weights(geometry.angles)[:, None]
        # The highest frequency has no mirror image among the samples: off the samples it is not real, and would carry
        # one slice of a pair into the other.
        gain[:, grid.length // 2] = 0.0
        low = np.arange(-MODES, MODES + 1)
        asarray = device.asarray
        self._low = asarray(low)
        self._low_gain = asarray(gain[:, low].astype(np.complex64))
        self._gain = asarray((gain * np.abs(frequency)).astype(np.complex64))
        self._correction = asarray(grid.correction(edges=filter_.padding == "edge").astype(np.complex64))
        self._blend = asarray(grid.blend().astype(np.float32))
        omega = (2 * np.pi * frequency).astype(np.float32)
        self._rows = asarray(np.outer(-sine, omega).astype(np.float32).ravel())
        self._columns = asarray(np.outer(cosine, omega).astype(np.float32).ravel())

    def plan(self, pairs: int) -> _Transform:
        shape = (self.width, self.width)
        common: dict[str, Any] = {"n_trans": pairs, "eps": TOLERANCE, "isign": 1, "dtype": "complex64"}
        if self.device.name == "gpu":
            plan = importlib.import_module("cufinufft").Plan(1, shape, **common)
        else:
            plan = importlib.import_module("finufft").Plan(1, shape, upsampfac=1.25, nthreads=1, **common)
        plan.setpts(self._rows, self._columns)
        return plan  # type: ignore[no-any-return]

    def spectra(self, sinograms: Array) -> Array:
        """The filtered and weighted spectra of pairs of sinograms, (pairs, points)."""
        xp = self.device.xp
        count, angles, width = sinograms.shape
        pairs = (count + 1) // 2
        signal = xp.zeros((pairs, angles, self._length), dtype=xp.complex64)
        signal.real[:, :, :width] = sinograms[0::2]
        signal.imag[: count // 2, :, :width] = sinograms[1::2]
        summary = self._summary(signal)
        if self._padding == "edge":
            self._fill_margin(signal, first=summary[..., -2], last=summary[..., -1])
        spectra = self.device.fft.fft(signal, axis=2, overwrite_x=True)
        spectra *= self._gain
        spectra[..., self._low] += (summary @ self._correction) * self._low_gain
        return spectra.reshape(pairs, -1)

    def _summary(self, signal: Array) -> Array:
        """Sums over the bins, and with edge padding the mean values at both ends."""
        xp = self.device.xp
        pairs, angles, _ = signal.shape
        size = -(-self.width // BINS)
        whole = self.width // size
        sums = xp.zeros((pairs, angles, self._correction.shape[0]), dtype=xp.complex64)
        inside = signal[:, :, : whole * size].reshape(pairs, angles, whole, size)
        sums[:, :, :whole] = inside.sum(axis=3)
        if whole * size < self.width:
            sums[:, :, whole] = signal[:, :, whole * size : self.width].sum(axis=2)
        if self._padding == "edge":
            edge = max(1, self.width // 128)
            sums[:, :, -2] = signal[:, :, :edge].mean(axis=2)
            sums[:, :, -1] = signal[:, :, self.width - edge : self.width].mean(axis=2)
        return sums

    def _fill_margin(self, signal: Array, *, first: Array, last: Array) -> None:
        margin = signal[:, :, self.width :]
        margin += last[..., None] * self._blend
        margin += first[..., None] * (1 - self._blend)


@dataclass(frozen=True, kw_only=True)
class _Grid:
    """The periodic convolution: `length` samples, of which those from `low` to `high` must be right."""

    width: int
    length: int
    low: int
    high: int

    @classmethod
    def covering(cls, geometry: Geometry) -> _Grid:
        """Long enough for every ray through the circle of the slice, also where it misses the detector."""
        low = min(0, int(np.floor(geometry.center - geometry.width / 2)))
        high = max(geometry.width, int(np.ceil(geometry.center + geometry.width / 2)) + 1)
        length = int(scipy.fft.next_fast_len(max(int(np.ceil(MARGIN * (high - low))), 4 * MODES)))
        while length % 2:
            length = int(scipy.fft.next_fast_len(length + 1))
        return cls(width=geometry.width, length=length, low=low, high=high)

    def blend(self) -> Float64:
        """From the value at the last column (1) to that at the first (0), over the margin."""
        step = (np.arange(self.length - self.width) + 0.5) / (self.length - self.width)
        return np.asarray(1.0 - step * step * (3.0 - 2.0 * step))

    def correction(self, *, edges: bool) -> NDArray[np.complex128]:
        """Fourier coefficients (rows: bins, then both edges) of what the periodic convolution gets wrong."""
        inside = np.arange(self.low, self.high)
        size = -(-self.width // BINS)
        count = -(-self.width // size)
        middles = np.arange(count) * size + (np.minimum(size, self.width - np.arange(count) * size) - 1) / 2
        wanted = self._missing(inside[:, None] - middles[None, :])
        if edges:
            wanted = np.concatenate([wanted, self._edge_responses()[inside]], axis=1)
        modes = np.arange(-MODES, MODES + 1)
        waves = np.exp(2j * np.pi * np.outer(inside, modes) / self.length) / self.length
        coefficients, *_ = np.linalg.lstsq(waves, wanted.astype(np.complex128), rcond=RCOND)
        return np.asarray(coefficients.T)

    def _missing(self, distance: Float64) -> Float64:
        """The linear less the periodic ramp at a distance; of its odd samples, the mean with the even ones."""
        near = np.abs(distance) < 1e-3 * self.length
        safe = np.where(near, 1.0, distance)
        curve = 0.5 / (self.length * np.sin(np.pi * safe / self.length)) ** 2 - 0.5 / (np.pi * safe) ** 2
        return np.where(near, 1.0 / (6.0 * self.length**2), curve)

    def _edge_responses(self) -> Float64:
        """For unit values at the first and the last column: tails that go on and fade, less the margin's blend.

        Indexed by column, negative ones from the end, as `inside` does.
        """
        long = scipy.fft.next_fast_len(8 * self.length)
        tail = self.width // 2
        fade = 0.5 + 0.5 * np.cos(np.pi * (np.arange(tail) + 0.5) / tail)
        responses = np.zeros((long, 2))
        for side in (0, 1):
            linear = np.zeros(long)
            if side == 0:
                linear[-tail:] = fade[::-1]
            else:
                linear[self.width : self.width + tail] = fade
            ramp = np.abs(scipy.fft.fftfreq(long))
            responses[:, side] = scipy.fft.ifft(scipy.fft.fft(linear) * ramp).real
            periodic = np.zeros(self.length)
            periodic[self.width :] = self.blend() if side else 1.0 - self.blend()
            ramp = np.abs(scipy.fft.fftfreq(self.length))
            circular = scipy.fft.ifft(scipy.fft.fft(periodic) * ramp).real
            inside = np.arange(self.low, self.high)
            responses[inside, side] -= circular[inside % self.length]
        return responses
