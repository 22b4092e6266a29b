"""Finding the rotation axis: two measurements that do not share their weaknesses, and how far they agree."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import numpy as np
import scipy.fft
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter1d

from orchestration.science.errors import CenterNotFound
from orchestration.science.stopping import look

Float32 = NDArray[np.float32]
Float64 = NDArray[np.floating]
Complex128 = NDArray[np.complex128]

STEP = 0.01
"""Pixels between the positions at which a measure is evaluated, before a parabola through the best three."""
ROWS = 12
ROUNDS = 6
ENOUGH = 800
"""Columns: a hundredth of a column is found as well in wider detectors binned to this and its double."""
SLOW = 24
"""What is wider than the detector over this number is taken for background."""


@dataclass(frozen=True, kw_only=True)
class Center:
    """Where the axis is, as a column (the middle of the first column is 0)."""

    column: float
    uncertainty: float
    """In pixels: the standard error over groups of rows, or the methods' disagreement where that is larger."""
    method: Literal["given", "opposite projections", "sinogram"]
    opposite: float | None
    """From projections half a turn apart, registered to each other; None where there are none."""
    sinogram: float | None
    """From the energy outside the double wedge to which the sinogram of a full turn is confined."""

    @property
    def confidence(self) -> float:
        """From 0 to 1; one half at an uncertainty of half a pixel."""
        return float(1.0 / (1.0 + (self.uncertainty / 0.5) ** 2))


def rows_to_use(total: int, *, count: int = ROWS) -> NDArray[np.int64]:
    """Rows spread over the detector, apart from its outermost eighth, where the beam is weak."""
    margin = total // 8
    return np.unique(np.linspace(margin, total - 1 - margin, min(count, total)).astype(np.int64))


def find_center(sinograms: Float32, angles: Float64, *, bins: int = 1) -> Center:
    """The rotation axis from line integrals (rows, angles, columns) and angles in radians.

    `bins` is the number of detector columns in one of these columns; the answer is in those of the detector.

    Raises:
        CenterNotFound: when the scan covers too little, or the data hold nothing to measure.
    """
    span = float(np.ptp(angles)) + float(np.median(np.abs(np.diff(angles))))
    if span < np.deg2rad(170.0):
        what = f"the scan covers {np.rad2deg(span):.0f} degrees, too few to find the centre of rotation"
        raise CenterNotFound(what)
    if not float(np.ptp(sinograms)) > 0:
        raise CenterNotFound("the projections are empty, so the centre of rotation cannot be found")
    details = _detailed(sinograms)
    pairs = opposite_pairs(angles)
    shifts = _measure(details, angles, pairs, near=_overlap_shift(details, pairs) if len(pairs) else None)
    # Seen from the axis the detector ends earlier on one side; what only the other side sees would pull it over.
    for _ in range(ROUNDS):
        look()
        before = shifts.shift
        shifts = _measure(details, angles, pairs, near=before)
        if abs(shifts.shift - before) < 2 * STEP:
            break
    return shifts.center(width=details.shape[2], bins=bins)


@dataclass(frozen=True, kw_only=True)
class _Shifts:
    """By how many pixels mirrored projections are moved: twice the axis' distance from the middle."""

    opposite: float | None
    sinogram: float
    error: float
    full_turn: bool

    @property
    def shift(self) -> float:
        return self.opposite if self.full_turn and self.opposite is not None else self.sinogram

    def center(self, *, width: int, bins: int) -> Center:
        """In columns of the detector, of which `bins` make one of the `width` measured."""

        def column(shift: float) -> float:
            return (width + shift) / 2 * bins - 0.5

        return Center(
            column=column(self.shift),
            uncertainty=self.error / 2 * bins,
            method="opposite projections" if self.full_turn else "sinogram",
            opposite=None if self.opposite is None else column(self.opposite),
            sinogram=column(self.sinogram),
        )


def _measure(details: Float32, angles: Float64, pairs: NDArray[np.int64], *, near: float | None) -> _Shifts:
    signals = _windowed(details, shift=near or 0.0)
    opposite = _from_pairs(signals, pairs, near=near) if len(pairs) else None
    half_turn = _half_turn(angles)
    groups = _row_groups(signals.shape[0])
    with ThreadPoolExecutor(len(groups)) as pool:
        spectra = list(pool.map(lambda group: _wedge(signals[group][:, half_turn]), groups))
    sinogram = _best_shift(np.sum(spectra, axis=0), near=near)
    spread = [_best_shift(spectrum, near=sinogram) for spectrum in spectra]
    error = float(np.std(spread) / np.sqrt(max(len(spread) - 1, 1))) if len(spread) > 1 else 0.0
    if opposite is not None:
        error = max(error, abs(opposite - sinogram) / 2)
    return _Shifts(opposite=opposite, sinogram=sinogram, error=error, full_turn=len(pairs) > 2)


def opposite_pairs(angles: Float64) -> NDArray[np.int64]:
    """Indices (pairs, 2) of projections half a turn apart, to within one angular step."""
    step = float(np.median(np.abs(np.diff(angles))))
    order = np.argsort(angles)
    wanted = angles + np.pi
    place = np.clip(np.searchsorted(angles[order], wanted), 1, angles.size - 1)
    left, right = order[place - 1], order[place]
    partner = np.where(np.abs(angles[left] - wanted) <= np.abs(angles[right] - wanted), left, right)
    close = np.flatnonzero(np.abs(angles[partner] - wanted) < 1.01 * step)
    if close.size > 1:
        # Where true partners exist, those one step off would only blur them.
        distance = np.abs(angles[partner] - wanted)[close]
        close = close[distance <= distance.min() + 0.26 * step]
    return np.stack([close, partner[close]], axis=1)


def _half_turn(angles: Float64) -> slice:
    """The projections of the first half turn."""
    travelled = np.abs(angles - angles[0])
    return slice(0, int(np.count_nonzero(travelled < np.pi - 1e-6)))


def columns_to_bin(width: int) -> int:
    """How many columns of a wide detector may be one for this purpose."""
    return max(1, width // ENOUGH)


def binned(sinograms: Float32, bins: int) -> Float32:
    """Mean over neighbouring columns; what does not fill a bin at the right is left out."""
    if bins == 1:
        return sinograms
    rows, angles, width = sinograms.shape
    whole = sinograms[:, :, : width // bins * bins].reshape(rows, angles, width // bins, bins)
    return np.asarray(whole.mean(axis=3), dtype=np.float32)


def _detailed(sinograms: Float32) -> Float32:
    """Without what changes slowly over the columns.

    Where the sample reaches beyond the detector, or the beam drifts, the window that ends the projections softly would
    otherwise be the strongest feature of all, and it lies where the axis is only supposed to be.
    """
    # Three running means are close to a Gaussian, at a cost that does not grow with its width.
    size = 2 * max(3, sinograms.shape[2] // SLOW) + 1
    slow = sinograms
    for _ in range(3):
        slow = uniform_filter1d(slow, size, axis=2, mode="nearest")
    return np.asarray(sinograms - slow, dtype=np.float32)


def _windowed(details: Float32, *, shift: float) -> Float32:
    """Ending softly at the same distance from the supposed axis on both sides."""
    width = details.shape[2]
    edge = max(2, width // 16)
    distance = np.abs(np.arange(width) - (width - 1) / 2 - shift / 2)
    reach = (width - abs(shift)) / 2
    taper = np.sin(0.5 * np.pi * np.clip((reach - distance) / edge, 0.0, 1.0)) ** 2
    return np.asarray(details * taper, dtype=np.float32)


def _row_groups(rows: int) -> list[NDArray[np.int64]]:
    return [group for group in np.array_split(np.arange(rows), min(4, rows)) if group.size]


def _from_pairs(signals: Float32, pairs: NDArray[np.int64], *, near: float | None) -> float:
    """Shift that lays the mirrored opposite projection over the first, by least squares over all rows and pairs."""
    chosen = _some(pairs)
    first = scipy.fft.rfft(signals[:, chosen[:, 0]], 2 * signals.shape[2], axis=2)
    second = scipy.fft.rfft(signals[:, chosen[:, 1]][:, :, ::-1], 2 * signals.shape[2], axis=2)
    cross = (np.conj(first) * second).sum(axis=(0, 1)).astype(np.complex128)
    # The mean carries no position and the finest detail little but noise.
    frequency = np.arange(cross.size) / (2 * signals.shape[2])
    return _best_shift(-cross * frequency**2 * np.exp(-((frequency / 0.15) ** 2)), near=near)


def _overlap_shift(details: Float32, pairs: NDArray[np.int64]) -> float:
    """Whole pixels by which mirrored projections are moved: least mean square difference where both are seen.

    Without the mean over the overlap, a sample that leaves the detector on one side would be laid edge on edge.
    """
    width = details.shape[2]
    chosen = _some(pairs)
    first, second = details[:, chosen[:, 0]], details[:, chosen[:, 1]][:, :, ::-1]
    length = 2 * width

    def correlate(left: Float64, right: Float64) -> Float64:
        product = np.conj(scipy.fft.rfft(left, length)) * scipy.fft.rfft(right, length)
        return np.asarray(scipy.fft.irfft(product.reshape(-1, product.shape[-1]).sum(axis=0), length))

    seen = np.ones(width)
    overlap = correlate(seen, seen)
    squares = correlate(np.sum(first**2, axis=(0, 1)), seen) + correlate(seen, np.sum(second**2, axis=(0, 1)))
    mean = (squares - 2 * correlate(first, second)) / np.maximum(overlap, 1.0)
    shifts = scipy.fft.fftfreq(length, 1.0 / length)
    # Nearly all of a narrow overlap may be air, which always fits.
    mean[overlap < 0.4 * width] = np.inf
    return -float(shifts[np.argmin(mean)])


def _some(pairs: NDArray[np.int64], *, most: int = 64) -> NDArray[np.int64]:
    indices = np.linspace(0, len(pairs) - 1, min(len(pairs), most)).astype(np.int64)
    return np.asarray(pairs[indices])


def _wedge(signals: Float32) -> Complex128:
    """Correlation outside the double wedge of the sinogram and its mirror image, summed over rows, per frequency.

    A half turn and its mirror image make a full turn, whose two-dimensional spectrum vanishes where the angular
    frequency exceeds the radius times the radial one (Vo 2014). The energy there, as a function of the mirror's shift,
    is a constant plus this spectrum's inverse transform: all shifts cost one Fourier transform.
    """
    _, angles, width = signals.shape
    length = 2 * width
    # What matters is coarser than four columns; beyond there is mostly noise.
    used = length // 4 + 1
    frequency = np.arange(used) / length
    turns = np.arange(1, angles + 1)
    outside = turns[:, None] > 2 * np.pi * frequency[None, :] * (width / 2) + 2
    # The mirrored half follows the first: a sign in angular frequency. That of frequency -k is that of k.
    weights = (outside * np.where(turns % 2, -2.0, 2.0)[:, None]).astype(np.float32)
    total = np.zeros(length // 2 + 1, dtype=np.complex128)
    for row in signals:
        spectrum = scipy.fft.fft(scipy.fft.rfft(row, length, axis=1)[:, :used], 2 * angles, axis=0)
        # Mirroring columns conjugates, but for a shift: the mirror's spectrum is in that of the half itself.
        product = spectrum[1 : angles + 1] * spectrum[: angles - 1 : -1]
        total[:used] += np.conj(np.einsum("kf,kf->f", product, weights))
    total[:used] *= np.exp(-2j * np.pi * frequency * (width - 1))
    return total


def _best_shift(cross: Complex128, *, near: float | None = None) -> float:
    """The shift in pixels at which ``Re sum cross(f) exp(-2 pi i f shift)`` is least."""
    length = 2 * (cross.size - 1)
    coarse = scipy.fft.irfft(cross, 4 * length)
    shifts = scipy.fft.fftfreq(4 * length, 1.0 / length)
    reach = np.abs(shifts) <= length / 4 if near is None else np.abs(shifts + near) <= max(4.0, length / 32)
    start = -float(shifts[reach][np.argmin(coarse[reach])])
    fine = start + np.arange(-0.5, 0.5 + STEP, STEP)
    waves = np.exp(-2j * np.pi * np.outer(fine, np.arange(cross.size) / length))
    values = (waves @ cross).real
    return float(fine[int(np.argmin(values))])
