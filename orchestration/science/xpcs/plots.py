"""Pictures of a result, named as the portal of beamline 8-ID knows them.

Drawn through matplotlib's objects only, without pyplot and without changes to its settings, so threads may draw at the
same time; texts never are formulas, which take long to set and whose parser threads would share.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from orchestration.science.errors import PictureFailed, ScienceError
from orchestration.science.stopping import look
from orchestration.science.xpcs import captions, drawing, figures
from orchestration.science.xpcs.figures import DPI, NORMAL, SMALL
from orchestration.science.xpcs.fit import Fits
from orchestration.science.xpcs.power_law import PowerLaw
from orchestration.science.xpcs.results import Result

PAGE = 9
"""Bins on a page of correlation functions."""


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
        image = drawing.scattering(axes, result, log=log)
        figures.title(axes, result.name)
        bar = figure.add_axes(((width + 1.0) / size[0], bottom, 0.18 / size[0], 1 - 1.2 / size[1]))
        figures.bar(figure, image, bar, "mean counts per pixel and frame", log=log)
    return folder / f"scattering_pattern_{'log' if log else 'lin'}.png"


def intensity(result: Result, folder: Path) -> Path:
    """``total_intensity_vs_time.png``."""
    path = folder / "total_intensity_vs_time.png"
    with _picture(result, path, (9.0, 4.5)) as figure:
        axes = figure.add_axes((0.1, 0.14, 0.87, 0.75))
        drawing.intensity(axes, result)
        mean = float(np.mean(result.intensity[1]))
        spread = 100.0 * float(np.std(result.intensity[1])) / mean if mean else 0.0
        figures.title(axes, f"{result.name}\nmean {mean:.4g}, standard deviation {spread:.2g} %", size=NORMAL)
    return path


def saxs(result: Result, folder: Path) -> Path:
    """``<name>_saxs_1d.png``: the scattering over q, of all frames and of parts of them."""
    path = folder / f"{result.name}_saxs_1d.png"
    with _picture(result, path, (8.0, 5.5)) as figure:
        axes = figure.add_axes((0.1, 0.12, 0.87, 0.79))
        drawing.saxs(axes, result, segments=True)
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
            drawing.g2(axes, result, fits, index)
            figures.label(axes, "lag (s)" if place + 3 >= len(indices) else "", "g2" if column == 0 else "")
    return path


def tau_q(result: Result, fits: Fits, law: PowerLaw | None, folder: Path) -> Path:
    """``<name>_tau_q.png``; bins whose fit is not good are shown hollow, and not part of the power law."""
    path = folder / f"{result.name}_tau_q.png"
    with _picture(result, path, (7.0, 5.5)) as figure:
        axes = figure.add_axes((0.12, 0.12, 0.85, 0.79))
        drawing.tau_q(axes, result, fits, law, words=captions.law_words(law, result.dynamic) if law else "")
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
        image = drawing.twotime(axes, found, index)
        figures.bar(figure, image, figure.add_axes((0.435, 0.11, 0.014, 0.8)), "C2", log=False)
        drawing.ages(figure.add_axes((0.56, 0.11, 0.42, 0.8)), found, index)
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
            0.02,
            0.928,
            figures.plain(captions.summary(result, fits, law)),
            fontsize=NORMAL,
            color="0.3",
            parse_math=False,
        )
        boxes = [(0.055 + 0.33 * column, 0.55 - 0.47 * row, 0.27, 0.33) for row in (0, 1) for column in (0, 1, 2)]
        pattern, curve, time, correlation, dispersion, ages = (figure.add_axes(box) for box in boxes)
        drawing.scattering(pattern, result, log=True)
        drawing.saxs(curve, result, segments=False)
        drawing.intensity(time, result)
        drawing.g2_selection(correlation, result, fits)
        if fits is not None and result.dynamic.q is not None:
            drawing.tau_q(dispersion, result, fits, law, words="power law")
        else:
            dispersion.set_axis_off()
        if result.twotime is not None:
            drawing.twotime(ages, result.twotime, len(result.twotime.bins) // 2)
            number = int(result.twotime.bins[len(result.twotime.bins) // 2])
            figures.title(ages, f"C2, {result.dynamic.label(number - 1)}", size=SMALL)
        elif fits is not None:
            drawing.contrast(ages, result.dynamic, fits)
        else:
            ages.set_axis_off()
    return path


@contextmanager
def _picture(result: Result, path: Path, size: tuple[float, float]) -> Iterator[Figure]:
    look()
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
