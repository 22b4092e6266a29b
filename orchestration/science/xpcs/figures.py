"""How pictures look: colours, sizes of letters, axes. Nothing here knows what is drawn.

Colours are those of M. Okabe and K. Ito (2008) and of viridis, which the colour-blind can tell apart.
"""

from __future__ import annotations

import functools

import matplotlib as mpl
import numpy as np
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import Colormap
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator, ScalarFormatter
from numpy.typing import NDArray

from orchestration.science.xpcs.geometry import Float64

DPI = 100
BLUE, ORANGE, GREEN, GREY, BLACK = "#0072B2", "#D55E00", "#009E73", "#999999", "#000000"
SERIES = (BLUE, ORANGE, GREEN, "#CC79A7", "#E69F00", "#56B4E9")
SMALL, NORMAL, LARGE = 8.5, 10.0, 12.0
RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def drawn(values: Float64) -> Float64:
    """On a logarithmic axis there is no place for what is not above 0."""
    return np.where(values > 0, values, np.nan)


def limits(values: NDArray[np.floating], low: float, high: float, *, log: bool) -> tuple[float, float]:
    """Percentiles, so that a few hot pixels do not hide the rest."""
    if not values.size:
        return (0.1, 1.0) if log else (0.0, 1.0)
    least, most = (float(value) for value in np.percentile(values, (low, high)))
    if most > least:
        return least, most
    return (least / 2, least * 2) if log else (least - 0.5, least + 0.5)


def fit_range(axes: Axes, values: Float64) -> None:
    """Long lags with few pairs scatter wildly, and would press everything else flat."""
    finite = values[np.isfinite(values)]
    if finite.size:
        low, high = np.percentile(finite, (1, 99))
        margin = 0.12 * float(high - low) or 0.01
        axes.set_ylim(float(low) - margin, float(high) + margin)


def ramp(count: int) -> list[str]:
    """Colours in the order of time or of q; without the lightest of viridis, which white swallows."""
    colormap = mpl.colormaps["viridis"]
    return [mpl.colors.to_hex(colormap(place)) for place in np.linspace(0.0, 0.85, max(count, 1))][:count]


@functools.cache
def colors() -> Colormap:
    return mpl.colormaps["viridis"].with_extremes(bad="0.88")


@functools.cache
def _drawable() -> frozenset[int]:
    return frozenset(font_manager.get_font(font_manager.findfont("DejaVu Sans")).get_charmap())


def plain(text: str) -> str:
    """Names come from anywhere: what the font does not have would be a warning, and an empty box."""
    return "".join(char if char == "\n" or ord(char) in _drawable() else "?" for char in text)


def fitting(text: str, width: float, size: float) -> tuple[str, float]:
    """What of a text is shown on so many inches, and in which size: smaller if need be, and then without its middle."""
    text = plain(text)
    longest = max(map(len, text.split("\n")))
    # A letter is about 0.62 of its size wide.
    fits = max(7.5, min(size, width * 72.0 / (0.62 * max(longest, 1))))
    room = max(8, int(width * 72.0 / (0.62 * fits)))
    head, tail = room // 2, room - room // 2 - 1
    lines = (line if len(line) <= room else f"{line[:head]}…{line[-tail:]}" for line in text.split("\n"))
    return "\n".join(lines), fits


def heading(figure: Figure, text: str) -> None:
    shown, size = fitting(text, figure.get_figwidth() * 0.95, LARGE)
    figure.text(0.5, 1 - 0.24 / figure.get_figheight(), shown, ha="center", fontsize=size, parse_math=False)


def title(axes: Axes, text: str, *, size: float = LARGE) -> None:
    figure = axes.get_figure(root=True)
    width = axes.get_position().width * (figure.get_figwidth() if figure else 6.0)
    shown, size = fitting(text, width * 1.08, size)
    axes.set_title(shown, y=1.0, fontsize=size, parse_math=False, linespacing=1.35)


def label(axes: Axes, x: str, y: str) -> None:
    if x:
        axes.set_xlabel(plain(x), fontsize=NORMAL, parse_math=False)
    if y:
        axes.set_ylabel(plain(y), fontsize=NORMAL, parse_math=False)


def ticks(axes: Axes, *, grid: bool = True, small: bool = False) -> None:
    """A small panel has few ticks: they take most of the time that it is drawn in. So has an image, without a grid."""
    axes.tick_params(labelsize=SMALL, which="both", direction="in", top=not small, right=not small)
    if grid:
        axes.grid(color="0.9", linewidth=0.6)
        axes.set_axisbelow(True)
    for axis, scale in ((axes.xaxis, axes.get_xscale()), (axes.yaxis, axes.get_yscale())):
        if scale == "log":
            _log_ticks(axis, minor=not small)
        else:
            axis.set_major_locator(MaxNLocator(4 if small or not grid else 6, steps=(1, 2, 2.5, 5, 10)))
            axis.set_major_formatter(ScalarFormatter(useOffset=False, useMathText=False))


def _log_ticks(axis: Axis, *, minor: bool = True) -> None:
    low, high = axis.get_view_interval()
    wide = high > 0 and low > 0 and np.log10(high / low) > 2.2
    axis.set_major_locator(LogLocator(10, subs=(1.0,) if wide else (1.0, 2.0, 5.0), numticks=9))
    axis.set_major_formatter(FuncFormatter(_power))
    axis.set_minor_formatter(NullFormatter())
    if not minor:
        axis.set_minor_locator(NullLocator())


def _power(value: float, _place: int | None) -> str:
    """1, 20 or 0.5 as they are; others such as 2·10⁻⁵."""
    if value <= 0 or 1e-3 <= value < 1e4:
        return f"{value:g}"
    exponent = int(np.floor(np.log10(value) + 1e-9))
    head = f"{value / 10.0**exponent:.3g}"  # an axis of less than a decade has ticks such as 4.12
    raised = f"10{str(exponent).translate(RAISED)}"
    return raised if head == "1" else f"{head}·{raised}"


def bar(figure: Figure, image: AxesImage, axes: Axes, label: str, *, log: bool) -> None:
    bar = figure.colorbar(image, cax=axes)
    bar.set_label(label, fontsize=NORMAL, parse_math=False)
    axes.tick_params(labelsize=SMALL)
    if log:
        _log_ticks(axes.yaxis)
