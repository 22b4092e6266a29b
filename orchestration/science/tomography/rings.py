"""Removing the stripes of sinograms that become rings in slices."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from orchestration.science.arrays import Array, Device

Method = Literal["none", "median", "fw", "sorting"]

DB5 = np.array(
    [
        0.160102397974125,
        0.6038292697974729,
        0.7243085284385744,
        0.13842814590110342,
        -0.24229488706619015,
        -0.03224486958502952,
        0.07757149384006515,
        -0.006241490213011705,
        -0.012580751999015526,
        0.0033357252850015492,
    ]
)
"""The scaling filter of Daubechies' wavelet with five vanishing moments."""

_MEDIAN_ANGLES = 1024
_OUTSTANDING = 3.0
"""In median absolute offsets; about two standard deviations."""


@dataclass(frozen=True, kw_only=True)
class RingRemoval:
    """Which method, and how strong.

    `median`: the offset of each column, robustly; what moves with the sample stays. `fw`: Fourier-wavelet (Münch
    2009), strong, but takes slow structure of wide samples with it. `sorting`: median over sorted columns (Vo 2018).
    """

    method: Method = "median"
    level: int = 8
    """Wavelet levels: stripes up to 2**level columns wide are taken out."""
    sigma: float = 3.0
    """Width of the damped band, in periods over the scan: what changes more slowly over the angle is a stripe."""
    size: int = 21
    """Columns of the median filter of `sorting`."""

    def apply(self, sinograms: Array, *, device: Device) -> None:
        """Remove stripes in place from (slices, angles, columns)."""
        if self.method == "median":
            self._median(sinograms, device)
        elif self.method == "fw":
            self._fourier_wavelet(sinograms, device)
        elif self.method == "sorting":
            self._sorting(sinograms, device)

    def _median(self, sinograms: Array, device: Device) -> None:
        """Subtract each column's own offset.

        A stripe is a step between neighbouring columns at every angle, an edge of the sample one at few: the median
        over the angles keeps the first and forgets the second. Summed up, the steps give the stripes on a slow
        background, which a running median takes away. Offsets that stand out no further than most are left alone.
        """
        xp = device.xp
        every = max(1, sinograms.shape[1] // _MEDIAN_ANGLES)
        thinned = sinograms[:, ::every]
        # Sorting contiguous rows is several times faster than a median over a strided axis.
        steps = xp.ascontiguousarray((thinned[:, :, 1:] - thinned[:, :, :-1]).swapaxes(1, 2))
        steps.sort(axis=2)
        count = steps.shape[2]
        steps = 0.5 * (steps[:, :, (count - 1) // 2] + steps[:, :, count // 2])
        profile = xp.pad(xp.cumsum(steps, axis=1), ((0, 0), (1, 0)))
        module = "scipy.ndimage" if device.name == "cpu" else "cupyx.scipy.ndimage"
        median_filter = importlib.import_module(module).median_filter
        offsets = profile - median_filter(profile, size=(1, self.size), mode="nearest")
        usual = xp.median(xp.abs(offsets), axis=1, keepdims=True)
        offsets[xp.abs(offsets) < _OUTSTANDING * usual] = 0
        sinograms -= offsets[:, None, :]

    def _fourier_wavelet(self, sinograms: Array, device: Device) -> None:
        """Damp the lowest angular frequencies of the wavelet details across columns.

        The textbook form transforms the whole sinogram level by level and damps ``1 - exp(-k^2 / 2 sigma^2)`` in each
        detail. Only a dozen angular frequencies are touched, and the wavelet acts across columns alone, so the same
        is done on these few: project on cosines, keep the details, weight, subtract. Cosines are the Fourier waves of
        the mirrored sinogram: a half turn does not close, and periodic waves would smear its seam over all angles.
        """
        xp = device.xp
        cosines, damping = _cosines(sinograms.shape[1], self.sigma)
        basis = device.asarray(cosines)
        modes = xp.matmul(basis.T, sinograms)
        details = modes - smooth(modes, level=self.level, device=device)
        sinograms -= xp.matmul(basis * device.asarray(damping), details)

    def _sorting(self, sinograms: Array, device: Device) -> None:
        module = "scipy.ndimage" if device.name == "cpu" else "cupyx.scipy.ndimage"
        median_filter = importlib.import_module(module).median_filter
        xp = device.xp
        for sinogram in sinograms:
            columns = xp.ascontiguousarray(sinogram.T)
            order = xp.argsort(columns, axis=1)
            ranked = median_filter(xp.take_along_axis(columns, order, axis=1), size=(self.size, 1))
            # The inverse permutation, rather than a scattered write, which cupy lacks.
            sinogram[:] = xp.take_along_axis(ranked, xp.argsort(order, axis=1), axis=1).T


@cache
def _cosines(angles: int, sigma: float) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Orthonormal cosines, (angles, modes), and the share of each that is removed."""
    # Mode m has m/2 periods over the scan.
    count = min(angles, int(np.ceil(7.0 * sigma)) + 1)
    modes = np.arange(count)
    waves = np.cos(np.pi * np.outer(np.arange(angles) + 0.5, modes) / angles) * np.sqrt(2.0 / angles)
    waves[:, 0] = np.sqrt(1.0 / angles)
    damping = np.exp(-((modes / 2.0) ** 2) / (2.0 * sigma**2))
    return waves.astype(np.float32), damping.astype(np.float32)


def smooth(signals: Array, *, level: int, device: Device) -> Array:
    """The approximation of the last axis at a wavelet level: the signals without their details."""
    xp = device.xp
    width = signals.shape[-1]
    level = max(1, min(level, int(np.log2(max(width / (DB5.size - 1), 2.0)))))
    step = 2**level
    margin = min(width, step * 2)
    total = -(-(width + 2 * margin) // step) * step
    padding = [(0, 0)] * (signals.ndim - 1) + [(margin, total - width - margin)]
    coarse = xp.pad(signals, padding, mode="symmetric")
    for _ in range(level):
        coarse = _halve(coarse, xp)
    for _ in range(level):
        coarse = _double(coarse, xp)
    return coarse[..., margin : margin + width]


def _halve(signals: Array, xp: Array) -> Array:
    """Low-pass and keep every second sample, periodically."""
    rolled = (xp.roll(signals, -tap, axis=-1)[..., ::2] * np.float32(gain) for tap, gain in enumerate(DB5))
    return sum(rolled)


def _double(signals: Array, xp: Array) -> Array:
    """The transpose of `_halve`, which for an orthonormal wavelet is its inverse on approximations."""
    full = xp.zeros((*signals.shape[:-1], 2 * signals.shape[-1]), dtype=signals.dtype)
    spread = xp.zeros_like(full)
    spread[..., ::2] = signals
    for tap, gain in enumerate(DB5):
        full += xp.roll(spread, tap, axis=-1) * np.float32(gain)
    return full
