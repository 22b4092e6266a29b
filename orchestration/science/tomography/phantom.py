"""A head of ten ellipsoids whose projections and slices are known exactly.

The ellipsoids are those of the three-dimensional Shepp-Logan phantom in its high-contrast form (Toft 1996, extended to
three dimensions by Schabel 2006). Lengths are in units of half the detector's width, so that the phantom fits any size.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
Float64 = NDArray[np.floating]


@dataclass(frozen=True, kw_only=True)
class Ellipsoid:
    """A body of constant density; `turn` is the angle of its first axis to x in degrees, about z."""

    density: float
    axes: tuple[float, float, float]
    centre: tuple[float, float, float]
    turn: float = 0.0


def _body(
    density: float, axes: tuple[float, float, float], centre: tuple[float, float, float], turn: float = 0.0
) -> Ellipsoid:
    return Ellipsoid(density=density, axes=axes, centre=centre, turn=turn)


SHEPP_LOGAN: tuple[Ellipsoid, ...] = (
    _body(1.0, (0.69, 0.92, 0.81), (0.0, 0.0, 0.0)),
    _body(-0.8, (0.6624, 0.874, 0.78), (0.0, -0.0184, 0.0)),
    _body(-0.2, (0.11, 0.31, 0.22), (0.22, 0.0, 0.0), -18.0),
    _body(-0.2, (0.16, 0.41, 0.28), (-0.22, 0.0, 0.0), 18.0),
    _body(0.1, (0.21, 0.25, 0.41), (0.0, 0.35, -0.15)),
    _body(0.1, (0.046, 0.046, 0.05), (0.0, 0.1, 0.25)),
    _body(0.1, (0.046, 0.046, 0.05), (0.0, -0.1, 0.25)),
    _body(0.1, (0.046, 0.023, 0.05), (-0.08, -0.605, 0.0)),
    _body(0.1, (0.023, 0.023, 0.02), (0.0, -0.606, 0.0)),
    _body(0.1, (0.023, 0.046, 0.02), (0.06, -0.605, 0.0)),
)


def line_integrals(bodies: tuple[Ellipsoid, ...], *, angle: float, edges: Float64, heights: Float64) -> Float64:
    """Integrals along parallel rays, each the exact mean over a detector column, (heights, columns).

    In density times half-widths. A column's mean, not its middle, is what a pixel sees; the mean has a closed form.

    Args:
        angle: of the rotation stage, in degrees; a ray at `s` passes the points with ``x cos + y sin = s``.
        edges: distances of the columns' edges from the rotation axis, in half-widths, one more than columns.
        heights: z of each detector row, in half-widths.
    """
    total = np.zeros((heights.size, edges.size - 1))
    widths = np.diff(edges)
    for body in bodies:
        a, b, c = body.axes
        x0, y0, z0 = body.centre
        relative = np.deg2rad(angle - body.turn)
        reach = np.sqrt((a * np.cos(relative)) ** 2 + (b * np.sin(relative)) ** 2)
        offset = edges - x0 * np.cos(np.deg2rad(angle)) - y0 * np.sin(np.deg2rad(angle))
        level = 1.0 - ((heights - z0) / c) ** 2
        cut = level > 0
        area = _circle_area(np.sqrt(level[cut])[:, None], (offset / reach)[None, :])
        total[cut] += (body.density * 2.0 * a * b) * np.diff(area, axis=1) / widths
    return total


def _circle_area(radius: Float64, right: Float64) -> Float64:
    """Half the area of a circle left of a vertical line, but for a constant."""
    ratio = np.clip(right / radius, -1.0, 1.0)
    return np.asarray(0.5 * radius**2 * (ratio * np.sqrt(1.0 - ratio**2) + np.arcsin(ratio)))


def slice_density(
    bodies: tuple[Ellipsoid, ...], *, size: int, height: float, half_width: float, oversampling: int = 8
) -> Float32:
    """One horizontal slice, (size, size), row 0 at the largest y; each pixel is the mean over its area.

    Args:
        height: z of the slice, in half-widths.
        half_width: number of pixels to a half-width.
        oversampling: points in each direction of the pixels that a surface crosses; the others need none.
    """
    middles = (np.arange(size) - (size - 1) / 2.0) / half_width
    x, y = middles[None, :], -middles[:, None]
    parts = ((np.arange(oversampling) + 0.5) / oversampling - 0.5) / half_width
    total = np.zeros((size, size))
    for body in bodies:
        level = 1.0 - ((height - body.centre[2]) / body.axes[2]) ** 2
        if level <= 0:
            continue
        radius = np.sqrt(level)
        distance = _distance(body, x, y)
        total[distance < radius] += body.density
        rows, columns = np.nonzero(np.abs(distance - radius) < 0.75 / (half_width * min(body.axes[:2])))
        fine = _distance(
            body, x[0, columns][:, None, None] + parts[None, None, :], y[rows, 0][:, None, None] + parts[None, :, None]
        )
        share = (fine < radius).mean(axis=(1, 2)) - (distance[rows, columns] < radius)
        total[rows, columns] += body.density * share
    return total.astype(np.float32)


def _distance(body: Ellipsoid, x: Float64, y: Float64) -> Float64:
    """From the body's middle, in its own horizontal axes."""
    turn = np.deg2rad(body.turn)
    east, north = x - body.centre[0], y - body.centre[1]
    along = east * np.cos(turn) + north * np.sin(turn)
    across = north * np.cos(turn) - east * np.sin(turn)
    return np.asarray(np.hypot(along / body.axes[0], across / body.axes[1]))
