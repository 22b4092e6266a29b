"""The parts of the pictures of a result, each drawn into axes that it is given."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.image import AxesImage

from orchestration.science.xpcs import captions, figures
from orchestration.science.xpcs.figures import BLACK, BLUE, GREY, NORMAL, ORANGE, SERIES, SMALL
from orchestration.science.xpcs.fit import Fits
from orchestration.science.xpcs.geometry import BinCenters, Float64
from orchestration.science.xpcs.power_law import PowerLaw
from orchestration.science.xpcs.results import Result, Twotime

_ENVELOPE = 1500
"""Points of the longest curve that is drawn as it is."""
_MAP = 1024
"""Pixels of the longer side of a two-time map; larger ones are averaged."""


def scattering(axes: Axes, result: Result, *, log: bool) -> AxesImage:
    """In q where the geometry is known, with q_y upwards as pySimpleMask counts φ; in pixels where it is not."""
    rows, columns = result.scattering_2d.shape
    seen = np.ma.masked_where(~result.mask | ~np.isfinite(result.scattering_2d), result.scattering_2d)
    if log:
        seen = np.ma.masked_less_equal(seen, 0.0)
    low, high = figures.limits(seen.compressed(), 0.5 if log else 0.0, 99.95 if log else 99.5, log=log)
    norm = LogNorm(low, high) if log else Normalize(low, high)
    scale, x, y = result.geometry.q_per_pixel, result.geometry.center_x, result.geometry.center_y
    if scale is None or x is None or y is None:
        scale, extent = 1.0, (-0.5, columns - 0.5, rows - 0.5, -0.5)
        figures.label(axes, "column (pixels)", "row (pixels)")
    else:
        sides = np.array([-0.5 - x, columns - 0.5 - x, y - rows + 0.5, y + 0.5]) * scale
        extent, x, y = (*map(float, sides[:2]), *map(float, sides[2:])), 0.0, 0.0  # type: ignore[assignment]
        figures.label(axes, "q_x (Å⁻¹)", "q_y (Å⁻¹)")
    image = axes.imshow(seen, cmap=figures.colors(), norm=norm, extent=extent, interpolation="nearest")
    if x is not None and y is not None:
        for width, color in ((3.0, "white"), (1.2, BLACK)):
            axes.plot([x], [y], "+", color=color, markersize=14, markeredgewidth=width)
    axes.set(xlim=extent[:2], ylim=extent[2:])
    figures.ticks(axes, grid=False)
    return image


def intensity(axes: Axes, result: Result) -> None:
    values = result.intensity[1]
    seconds = np.arange(len(values)) * result.frame_seconds
    size = -(-len(values) // _ENVELOPE)
    if size > 1:
        blocks = np.arange(0, len(values), size)
        least, most = np.minimum.reduceat(values, blocks), np.maximum.reduceat(values, blocks)
        axes.fill_between(seconds[blocks], least, most, color=BLUE, alpha=0.35, linewidth=0)
    else:
        axes.plot(seconds, values, color=BLUE, alpha=0.5, linewidth=0.7)
    coarse = np.arange(0, len(values), -(-len(values) // 100))
    held = np.diff(np.append(coarse, len(values)))
    axes.plot(
        seconds[coarse] + (held - 1) * result.frame_seconds / 2, np.add.reduceat(values, coarse) / held, color=BLACK
    )
    axes.set_xlim(0.0, max(float(seconds[-1]), result.frame_seconds))
    figures.label(axes, "time (s)", "mean counts per pixel")
    figures.ticks(axes)


def saxs(axes: Axes, result: Result, *, segments: bool) -> None:
    """Averaged over the second axis of the qmap, by pixels."""
    place, curve = _along_first(result.static, result.scattering_1d)
    positive = bool((place > 0).all())
    if segments:
        each = [_along_first(result.static, part)[1] for part in result.scaled_segments]
        for color, part in zip(figures.ramp(len(each)), each, strict=True):
            axes.plot(place, figures.drawn(part), color=color, linewidth=0.8)
    axes.plot(place, figures.drawn(curve), color=BLACK, linewidth=1.6, label="all frames")
    if segments and len(result.segments):
        for color, word in zip(figures.ramp(2), ("first", "last"), strict=True):
            axes.plot([], [], color=color, label=f"{word} of {len(result.segments)} parts")
    axes.set_xscale("log" if positive else "linear")
    axes.set_yscale("log" if np.isfinite(figures.drawn(curve)).any() else "linear")
    figures.label(axes, f"{result.static.names[0]} ({result.static.units[0]})", "mean counts per pixel and frame")
    figures.ticks(axes)
    if segments:
        axes.legend(fontsize=SMALL, frameon=False)


def g2(axes: Axes, result: Result, fits: Fits, index: int) -> None:
    if result.multitau is None:
        raise ValueError("the result has no multi-tau correlation")
    fit, seconds = fits.bins[index], result.multitau.seconds
    g2, error = result.multitau.g2[:, index], result.multitau.best_err[:, index]
    known = np.isfinite(g2) & np.isfinite(error) & (error > 0)
    axes.errorbar(seconds[known], g2[known], error[known], fmt="o", color=BLUE, markersize=3, elinewidth=0.9)
    axes.plot(seconds[~known], g2[~known], "o", color=GREY, markersize=3, fillstyle="none")
    axes.set_xscale("log")
    axes.set_xlim(float(seconds[0]) / 1.5, float(seconds[-1]) * 1.5)
    figures.fit_range(axes, g2[known] if known.any() else g2)
    if fit.fitted:
        lags = np.geomspace(seconds[0], seconds[-1], 200)
        axes.plot(lags, fit.curve(lags), color=ORANGE, linestyle="-" if fit.good else "--", linewidth=1.4, zorder=3)
    figures.title(axes, f"bin {index + 1}:  {result.dynamic.label(index)}\n{captions.words(fit, fits)}", size=SMALL)
    figures.ticks(axes, small=True)


def g2_selection(axes: Axes, result: Result, fits: Fits | None) -> None:
    if fits is None or result.multitau is None:
        axes.set_axis_off()
        return
    seconds = result.multitau.seconds
    lags = np.geomspace(seconds[0], seconds[-1], 200)
    chosen = np.unique(np.linspace(0, len(fits.bins) - 1, 5).astype(int))
    g2 = result.multitau.g2
    for color, index in zip(figures.ramp(len(chosen)), chosen, strict=True):
        axes.plot(
            seconds, g2[:, index], "o", color=color, markersize=2.5, label=figures.plain(result.dynamic.label(index))
        )
        if fits.bins[index].fitted:
            axes.plot(lags, fits.bins[index].curve(lags), color=color, linestyle="-" if fits.bins[index].good else "--")
    axes.set_xscale("log")
    figures.fit_range(axes, g2[:, chosen])
    figures.label(axes, "lag (s)", "g2")
    figures.ticks(axes)
    axes.legend(fontsize=7, frameon=False)


def tau_q(axes: Axes, result: Result, fits: Fits, law: PowerLaw | None, *, words: str) -> None:
    q = result.dynamic.first
    if not any(fit.fitted and at > 0 for fit, at in zip(fits.bins, q, strict=True)):
        axes.text(0.5, 0.5, "no bin could be fitted", ha="center", va="center", fontsize=NORMAL, color="0.4")
        axes.set_axis_off()
        return
    scale, unit = captions.time_unit(float(np.median([fit.tau.value for fit in fits.bins if fit.fitted])))
    second = np.unique(result.dynamic.second)
    colors = SERIES if 1 < len(second) <= len(SERIES) else (BLUE,)
    for color, value in zip(colors, second, strict=False):
        here = fits.good & (q > 0) & ((result.dynamic.second == value) | (len(colors) == 1))
        tau, error = (np.array([getattr(fit.tau, part) for fit in fits.bins])[here] for part in ("value", "error"))
        label = figures.plain(result.dynamic.axis_label(1, value)) if len(colors) > 1 else None
        axes.errorbar(
            q[here], tau / scale, error / scale, fmt="o", color=color, markersize=4, elinewidth=1, label=label
        )
    bad = np.array([fit.fitted and not fit.good for fit in fits.bins], dtype=np.bool_) & (q > 0)
    if bad.any():
        tau = np.array([fit.tau.value for fit in fits.bins])
        axes.plot(q[bad], tau[bad] / scale, "o", color=GREY, markersize=4, fillstyle="none", label="fit not good")
    if law is not None:
        line = np.geomspace(q[q > 0].min(), q.max(), 50)
        axes.plot(line, law.curve(line) / scale, color=BLACK, linewidth=1.2, label=figures.plain(words))
    axes.set(xscale="log", yscale="log")
    figures.label(axes, f"q ({result.dynamic.units[0]})", f"τ ({unit})")
    figures.ticks(axes)
    if axes.get_legend_handles_labels()[1]:
        axes.legend(fontsize=SMALL, frameon=False)


def contrast(axes: Axes, bins: BinCenters, fits: Fits) -> None:
    good = fits.good
    value, error = (np.array([getattr(fit.contrast, part) for fit in fits.bins])[good] for part in ("value", "error"))
    axes.errorbar(bins.first[good], value, error, fmt="o", color=BLUE, markersize=4, elinewidth=1)
    figures.label(axes, f"{bins.names[0]} ({bins.units[0]})", "contrast")
    figures.ticks(axes)


def twotime(axes: Axes, found: Twotime, index: int) -> AxesImage:
    """The diagonal, on which photons correlate with themselves, is shown as its neighbours are."""
    values = found.map(index)
    beside = np.diagonal(values, 1)
    np.fill_diagonal(values, (np.append(beside, beside[-1:]) + np.insert(beside, 0, beside[:1])) / 2)
    size = -(-len(values) // _MAP)
    whole = len(values) // size * size
    seen = values[:whole, :whole].reshape(whole // size, size, whole // size, size).mean(axis=(1, 3))
    low, high = figures.limits(seen[np.isfinite(seen)], 1.0, 99.0, log=False)
    end = whole * found.frame_seconds
    image = axes.imshow(
        seen,
        cmap=figures.colors(),
        norm=Normalize(low, high),
        extent=(0, end, 0, end),
        origin="lower",
        interpolation="nearest",
    )
    figures.label(axes, "t₁ (s)", "t₂ (s)")
    figures.ticks(axes, grid=False)
    return image


def ages(axes: Axes, found: Twotime, index: int) -> None:
    """Lag 0 is left out, as the diagonal is. See M. Sutton et al., Opt. Express 11 (2003) 2268."""
    block = len(found.segments) * found.frame_seconds
    for number, color in enumerate(figures.ramp(found.segments.shape[1])):
        label = f"age {number * block:.3g} to {(number + 1) * block:.3g} s"
        _binned(axes, found.segments[1:, number, index], found.frame_seconds, color, label, 1.2)
    drawn = _binned(axes, found.g2[1:, index], found.frame_seconds, BLACK, "all frames", 1.8)
    axes.set_xscale("log")
    figures.fit_range(axes, drawn)
    figures.label(axes, "lag (s)", "g2")
    figures.ticks(axes)
    axes.legend(fontsize=SMALL, frameon=False)


def _binned(axes: Axes, values: Float64, step: float, color: str, label: str, width: float) -> Float64:
    """Averaged over ranges of lags of even length on a logarithmic axis; the averages."""
    if not len(values):
        return values
    edges = np.unique(np.geomspace(1, len(values) + 1, 60).astype(int)) - 1
    starts, held = edges[:-1], np.diff(edges)
    lags = np.add.reduceat(np.arange(1, len(values) + 1), starts) / held
    means = np.asarray(np.add.reduceat(values, starts) / held, dtype=np.float64)
    axes.plot(lags * step, means, color=color, label=label, linewidth=width)
    return means


def _along_first(bins: BinCenters, values: Float64) -> tuple[Float64, Float64]:
    place, inverse = np.unique(bins.first, return_inverse=True)
    return place, np.bincount(inverse, bins.pixels * values) / np.maximum(1, np.bincount(inverse, bins.pixels))
