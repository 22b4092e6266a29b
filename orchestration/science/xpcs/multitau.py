"""g2 of each dynamic bin from what its pixels sum up to, as boost_corr defines it, and what it leaves out.

``normalized_g2``: of each static bin ``<G2> / (<IP> <IF>)`` over its pixels (symmetric normalisation, the mean over
pixels before the division); of a dynamic bin the plain mean of that over its static bins.

``normalized_g2_err``: the standard deviation of ``G2 / (IP IF)`` of single pixels over the square root of their number.
That is the spread of another quantity than the one that is plotted; what it is here for is that others expect it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orchestration.science.xpcs.bins import Bins

Float = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Correlation:
    """Everything is (lags, dynamic bins)."""

    g2: Float
    err: Float
    """NaN for a bin of one pixel."""
    weighted: Float
    """The mean over static bins with the number of their pixels as weight."""
    jackknife: Float
    """The standard error of `g2` itself, from leaving out one group of pixels after the other (B. Efron, Ann. Statist.
    7 (1979) 1). It holds where pixels are independent beyond a group; NaN where a static bin has one pixel, or too few
    of them saw anything.
    """


def correlation(sums: Float, bins: Bins) -> Correlation:
    """From sums over units, (units, lags, 5): of G2, IP, IF, and of g2 - 1 and (g2 - 1)^2 of single pixels."""
    size: Float = np.bincount(bins.unit_static, weights=bins.unit_size).astype(np.float64)
    whole = _over(bins.unit_static, sums, len(size))
    each = _quotient(whole, size[:, None])
    variance = _jackknife(sums, whole, size, bins)
    parent = bins.parent - 1
    count = np.bincount(parent).astype(np.float64)
    pixels: Float = np.bincount(parent, weights=size).astype(np.float64)
    spread = _over(parent, whole[..., 3:], len(count))
    return Correlation(
        g2=_over(parent, each, len(count)).T / count,
        err=_spread(spread, pixels),
        weighted=_over(parent, each * size[:, None], len(count)).T / pixels,
        jackknife=np.sqrt(_over(parent, variance, len(count)).T) / count,
    )


def _over(place: NDArray[np.int64], values: Float, length: int) -> Float:
    """Sums of all values of one place."""
    out = np.zeros((length, *values.shape[1:]))
    np.add.at(out, place, values)
    return out


def _quotient(sums: Float, size: Float) -> Float:
    """<G2> / (<IP> <IF>); 0 where no pair was seen."""
    product = sums[..., 1] * sums[..., 2]
    out = np.zeros_like(product)
    np.divide(sums[..., 0] * size, product, out=out, where=(product > 0) & (sums[..., 0] != 0))
    return out


def _spread(sums: Float, pixels: Float) -> Float:
    """The standard deviation over pixels, over the square root of their number, (lags, bins)."""
    first, second = sums[..., 0].T, sums[..., 1].T
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = (second - first**2 / pixels) / (pixels - 1)
    return np.where(pixels > 1, np.sqrt(np.maximum(variance, 0.0) / pixels), np.nan)


def _jackknife(sums: Float, whole: Float, size: Float, bins: Bins) -> Float:
    """The variance of g2 of each static bin, (static bins, lags)."""
    static = bins.unit_static
    groups = np.bincount(static).astype(np.float64)
    rest = whole[static, :, :3] - sums[..., :3]
    left = _quotient(rest, (size[static] - bins.unit_size)[:, None])
    seen = (rest[..., 1] > 0) & (rest[..., 2] > 0)
    left[~seen] = np.nan
    mean = _over(static, left, len(groups)) / groups[:, None]
    squares = _over(static, (left - mean[static]) ** 2, len(groups))
    variance = squares * ((groups - 1) / groups)[:, None]
    variance[groups < 2] = np.nan
    return variance
