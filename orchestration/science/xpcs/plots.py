"""Pictures of a result, named as the portal of beamline 8-ID knows them.

Drawn through matplotlib's objects only, without pyplot and without changes to its settings, so threads may draw at the
same time; texts never are formulas, which take long to set and whose parser threads would share.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from orchestration.science.errors import PictureFailed, ScienceError
from orchestration.science.xpcs import figures
from orchestration.science.xpcs.figures import (
    BLACK,
    BLUE,
    DPI,
    GREY,
    NORMAL,
    ORANGE,
    RAISED,
    SERIES,
    SMALL,
)
from orchestration.science.xpcs.fit import Estimate, Fit, Fits, PowerLaw
from orchestration.science.xpcs.results import BinCenters, Float64, Result, Twotime

PAGE = 9
"""Bins on a page of correlation functions."""
_ENVELOPE = 1500
"""Points of the longest curve that is drawn as it is."""
_MAP = 1024
"""Pixels of the longer side of a two-time map; larger ones are averaged."""
_TIMES = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))


def draw_all(result: Result, fits: Fits | None, law: PowerLaw | None, folder: Path) -> tuple[Path, ...]:
    """Draw every picture that this result has the data for, the overview last.

    Raises:
        PictureFailed: at the first that cannot be drawn; it names it.
    """
    paths = [scattering(result, folder, log=False), scattering(result, folder, log=True)]
    paths += [intensity(result, folder), saxs(result, folder)]
    if fits is not None:
        paths += [g2_page(result, fits, folder, first) for first in range(0, len(fits.bins), PAGE)]
        if result.dynamic.q is not None:
            paths.append(tau_q(result, fits, law, folder))
    if result.twotime is not None:
        paths += [twotime(result, folder, index) for index in range(len(result.twotime.bins))]
    return (*paths, overview(result, fits, law, folder))


def scattering(result: Result, folder: Path, *, log: bool) -> Path:
    """``scattering_pattern_lin.png`` or ``scattering_pattern_log.png``."""
    rows, columns = result.scattering_2d.shape
    width = float(np.clip(6.0 * columns / rows, 4.0, 11.0))
    size = (width + 2.1, width * rows / columns + 1.2)
    with _picture(result, folder / f"scattering_pattern_{'log' if log else 'lin'}.png", size) as figure:
        left, bottom = 0.85 / size[0], 0.65 / size[1]
        axes = figure.add_axes((left, bottom, width / size[0], 1 - 1.2 / size[1]))
        image = _draw_scattering(axes, result, log=log)
        figures.title(axes, result.name)
        bar = figure.add_axes(((width + 1.0) / size[0], bottom, 0.18 / size[0], 1 - 1.2 / size[1]))
        figures.bar(figure, image, bar, "mean counts per pixel and frame", log=log)
    return folder / f"scattering_pattern_{'log' if log else 'lin'}.png"


def intensity(result: Result, folder: Path) -> Path:
    """``total_intensity_vs_time.png``."""
    path = folder / "total_intensity_vs_time.png"
    with _picture(result, path, (9.0, 4.5)) as figure:
        axes = figure.add_axes((0.1, 0.14, 0.87, 0.75))
        _draw_intensity(axes, result)
        mean = float(np.mean(result.intensity[1]))
        spread = 100.0 * float(np.std(result.intensity[1])) / mean if mean else 0.0
        figures.title(axes, f"{result.name}\nmean {mean:.4g}, standard deviation {spread:.2g} %", size=NORMAL)
    return path


def saxs(result: Result, folder: Path) -> Path:
    """``<name>_saxs_1d.png``: the scattering over q, of all frames and of parts of them."""
    path = folder / f"{result.name}_saxs_1d.png"
    with _picture(result, path, (8.0, 5.5)) as figure:
        axes = figure.add_axes((0.1, 0.12, 0.87, 0.79))
        _draw_saxs(axes, result, segments=True)
        figures.title(axes, result.name)
    return path


def g2_page(result: Result, fits: Fits, folder: Path, first: int) -> Path:
    """``<name>_g2_corr_%03d_%03d.png``: up to 9 bins from `first`, counted from 0 as the portal does."""
    path = folder / f"{result.name}_g2_corr_{first:03d}_{first + PAGE - 1:03d}.png"
    indices = range(first, min(first + PAGE, len(fits.bins)))
    height = 0.5 + 3.2 * -(-len(indices) // 3)
    with _picture(result, path, (13.0, height)) as figure:
        figures.heading(figure, result.name)
        for place, index in enumerate(indices):
            row, column = divmod(place, 3)
            axes = figure.add_axes((0.05 + 0.32 * column, 1 - (3.08 + 3.2 * row) / height, 0.285, 2.25 / height))
            _draw_g2(axes, result, fits, index)
            figures.label(axes, "lag (s)" if place + 3 >= len(indices) else "", "g2" if column == 0 else "")
    return path


def tau_q(result: Result, fits: Fits, law: PowerLaw | None, folder: Path) -> Path:
    """``<name>_tau_q.png``; bins whose fit is not good are shown hollow, and not part of the power law."""
    path = folder / f"{result.name}_tau_q.png"
    with _picture(result, path, (7.0, 5.5)) as figure:
        axes = figure.add_axes((0.12, 0.12, 0.85, 0.79))
        _draw_tau_q(axes, result, fits, law, words=_law_words(law, result.dynamic) if law else "")
        figures.title(axes, result.name)
    return path


def twotime(result: Result, folder: Path, index: int) -> Path:
    """``<name>_twotime_%03d.png``, by the number of the dynamic bin: the map, and g2 by age."""
    found = result.twotime
    number = 0 if found is None else int(found.bins[index])
    path = folder / f"{result.name}_twotime_{number:03d}.png"
    with _picture(result, path, (13.0, 6.0)) as figure:
        if found is None:
            raise ValueError("the result has no two-time correlation")
        axes = figure.add_axes((0.055, 0.11, 0.37, 0.8))
        image = _draw_map(axes, found, index)
        figures.bar(figure, image, figure.add_axes((0.435, 0.11, 0.014, 0.8)), "C2", log=False)
        _draw_ages(figure.add_axes((0.56, 0.11, 0.42, 0.8)), found, index)
        label = f"{result.name}   bin {number}: {result.dynamic.label(number - 1)}"
        figures.heading(figure, label)
    return path


def overview(result: Result, fits: Fits | None, law: PowerLaw | None, folder: Path) -> Path:
    """``<name>_overview.png``: the whole result at a glance."""
    path = folder / f"{result.name}_overview.png"
    with _picture(result, path, (14.0, 8.4)) as figure:
        name, size = figures.fitting(result.name, 13.0, 15.0)
        figure.text(0.02, 0.96, name, fontsize=size, fontweight="bold", parse_math=False)
        figure.text(
            0.02, 0.928, figures.plain(_summary(result, fits, law)), fontsize=NORMAL, color="0.3", parse_math=False
        )
        boxes = [(0.055 + 0.33 * column, 0.55 - 0.47 * row, 0.27, 0.33) for row in (0, 1) for column in (0, 1, 2)]
        pattern, curve, time, correlation, dispersion, ages = (figure.add_axes(box) for box in boxes)
        _draw_scattering(pattern, result, log=True)
        _draw_saxs(curve, result, segments=False)
        _draw_intensity(time, result)
        _draw_g2_selection(correlation, result, fits)
        if fits is not None and result.dynamic.q is not None:
            _draw_tau_q(dispersion, result, fits, law, words="power law")
        else:
            dispersion.set_axis_off()
        if result.twotime is not None:
            _draw_map(ages, result.twotime, len(result.twotime.bins) // 2)
            number = int(result.twotime.bins[len(result.twotime.bins) // 2])
            figures.title(ages, f"C2, {result.dynamic.label(number - 1)}", size=SMALL)
        elif fits is not None:
            _draw_contrast(ages, result.dynamic, fits)
        else:
            ages.set_axis_off()
    return path


@contextmanager
def _picture(result: Result, path: Path, size: tuple[float, float]) -> Iterator[Figure]:
    figure = Figure(figsize=size, dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    try:
        yield figure
        figure.savefig(path, format="png", pil_kwargs={"compress_level": 3})
    except (ScienceError, MemoryError):
        raise
    except Exception as error:  # whatever goes wrong inside the library: the picture is named, and the caller decides
        what = f"the picture {path.name} cannot be drawn: {type(error).__name__}: {error}"
        raise PictureFailed(what, where=str(result.path)) from error


def _draw_scattering(axes: Axes, result: Result, *, log: bool) -> AxesImage:
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


def _draw_intensity(axes: Axes, result: Result) -> None:
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


def _draw_saxs(axes: Axes, result: Result, *, segments: bool) -> None:
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


def _draw_g2(axes: Axes, result: Result, fits: Fits, index: int) -> None:
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
    figures.title(axes, f"bin {index + 1}:  {result.dynamic.label(index)}\n{_words(fit, fits)}", size=SMALL)
    figures.ticks(axes, small=True)


def _draw_g2_selection(axes: Axes, result: Result, fits: Fits | None) -> None:
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


def _draw_tau_q(axes: Axes, result: Result, fits: Fits, law: PowerLaw | None, *, words: str) -> None:
    q = result.dynamic.first
    if not any(fit.fitted and at > 0 for fit, at in zip(fits.bins, q, strict=True)):
        axes.text(0.5, 0.5, "no bin could be fitted", ha="center", va="center", fontsize=NORMAL, color="0.4")
        axes.set_axis_off()
        return
    second = np.unique(result.dynamic.second)
    colors = SERIES if 1 < len(second) <= len(SERIES) else (BLUE,)
    for color, value in zip(colors, second, strict=False):
        here = fits.good & (q > 0) & ((result.dynamic.second == value) | (len(colors) == 1))
        tau, error = (np.array([getattr(fit.tau, part) for fit in fits.bins])[here] for part in ("value", "error"))
        label = figures.plain(result.dynamic.axis_label(1, value)) if len(colors) > 1 else None
        axes.errorbar(q[here], tau, error, fmt="o", color=color, markersize=4, elinewidth=1, label=label)
    bad = np.array([fit.fitted and not fit.good for fit in fits.bins], dtype=np.bool_) & (q > 0)
    if bad.any():
        tau = np.array([fit.tau.value for fit in fits.bins])
        axes.plot(q[bad], tau[bad], "o", color=GREY, markersize=4, fillstyle="none", label="fit not good")
    if law is not None:
        line = np.geomspace(q[q > 0].min(), q.max(), 50)
        axes.plot(line, law.curve(line), color=BLACK, linewidth=1.2, label=figures.plain(words))
    axes.set(xscale="log", yscale="log")
    figures.label(axes, f"q ({result.dynamic.units[0]})", "τ (s)")
    figures.ticks(axes)
    if axes.get_legend_handles_labels()[1]:
        axes.legend(fontsize=SMALL, frameon=False)


def _draw_contrast(axes: Axes, bins: BinCenters, fits: Fits) -> None:
    good = fits.good
    value, error = (np.array([getattr(fit.contrast, part) for fit in fits.bins])[good] for part in ("value", "error"))
    axes.errorbar(bins.first[good], value, error, fmt="o", color=BLUE, markersize=4, elinewidth=1)
    figures.label(axes, f"{bins.names[0]} ({bins.units[0]})", "contrast")
    figures.ticks(axes)


def _draw_map(axes: Axes, found: Twotime, index: int) -> AxesImage:
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


def _draw_ages(axes: Axes, found: Twotime, index: int) -> None:
    """Lag 0 is left out, as the diagonal is. See M. Sutton et al., Opt. Express 11 (2003) 2268."""
    block = len(found.segments) * found.frame_seconds
    for number, color in enumerate(figures.ramp(found.segments.shape[1])):
        label = f"age {number * block:.3g} to {(number + 1) * block:.3g} s"
        _draw_binned(axes, found.segments[1:, number, index], found.frame_seconds, color, label, 1.2)
    drawn = _draw_binned(axes, found.g2[1:, index], found.frame_seconds, BLACK, "all frames", 1.8)
    axes.set_xscale("log")
    figures.fit_range(axes, drawn)
    figures.label(axes, "lag (s)", "g2")
    figures.ticks(axes)
    axes.legend(fontsize=SMALL, frameon=False)


def _draw_binned(axes: Axes, values: Float64, step: float, color: str, label: str, width: float) -> Float64:
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


def _summary(result: Result, fits: Fits | None, law: PowerLaw | None) -> str:
    frames = result.intensity.shape[1]
    parts = [f"{result.analysis_type}, {frames} frames of {_time(result.frame_seconds)}"]
    if result.geometry.energy is not None:
        parts.append(f"{result.geometry.energy:.4g} keV")
    parts.append(f"{len(result.dynamic)} dynamic and {len(result.static)} static bins")
    if fits is not None:
        parts.append(f"{int(fits.good.sum())} of {len(fits.bins)} fits good")
    if law is not None:
        parts.append(_law_words(law, result.dynamic))
    return "   ·   ".join(parts)


def _words(fit: Fit, fits: Fits) -> str:
    if not fit.fitted:
        return "no fit: too few lags have errors"
    scale, unit = next((pair for pair in _TIMES if fit.tau.value >= pair[0]), _TIMES[-1])
    tau = _short(Estimate(fit.tau.value / scale, fit.tau.error / scale))
    text = f"τ = {tau} {unit}, β = {_short(fit.contrast)}"
    if fits.model == "stretched":
        text += f", γ = {_short(fit.gamma)}"
    return text if fit.good else f"{text}  [{fit.quality.replace('_', ' ')}]"


def _law_words(law: PowerLaw, bins: BinCenters) -> str:
    text = f"τ ∝ q⁻ⁿ, n = {_short(law.exponent)}"
    if not law.diffusive or "Å" not in bins.units[0]:
        return text
    power = int(np.floor(np.log10(law.diffusion.value)))
    head = Estimate(law.diffusion.value / 10.0**power, law.diffusion.error / 10.0**power)
    return f"{text}, D = {_short(head)}·10{str(power).translate(RAISED)} Å²/s"


def _short(estimate: Estimate) -> str:
    """Such as 1.234(5): the error is that of the last digit."""
    value, error = estimate.value, estimate.error
    if not (np.isfinite(value) and np.isfinite(error) and 0 < error < 100 * abs(value)):
        return f"{value:.3g}"
    digits = max(0, -int(np.floor(np.log10(error))))
    if digits > 8:
        return f"{value:.4g}"
    return f"{value:.{digits}f}({round(error * 10**digits)})"


def _time(seconds: float) -> str:
    scale, unit = next((pair for pair in _TIMES if seconds >= 0.999 * pair[0]), _TIMES[-1])
    return f"{seconds / scale:.4g} {unit}"
