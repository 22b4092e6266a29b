"""A head of ten ellipsoids whose projections and slices are known exactly.

The ellipsoids are those of the three-dimensional Shepp-Logan phantom in its high-contrast form (Toft 1996, extended to
three dimensions by Schabel 2006). Lengths are in units of half the detector's width, so that the phantom fits any size.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]
Float64 = NDArray[np.float64]


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
    bodies: tuple[Ellipsoid, ...], *, size: int, height: float, half_width: float, oversampling: int = 4
) -> Float32:
    """One horizontal slice, (size, size), row 0 at the largest y; each pixel is the mean over its area.

    Args:
        height: z of the slice, in half-widths.
        half_width: number of pixels to a half-width.
        oversampling: points per pixel in each direction.
    """
    fine = (np.arange(size * oversampling) + 0.5) / oversampling - size / 2.0
    x = (fine / half_width)[None, :]
    y = -(fine / half_width)[:, None]
    total = np.zeros((fine.size, fine.size), dtype=np.float32)
    for body in bodies:
        a, b, c = body.axes
        x0, y0, z0 = body.centre
        turn = np.deg2rad(body.turn)
        along = (x - x0) * np.cos(turn) + (y - y0) * np.sin(turn)
        across = (y - y0) * np.cos(turn) - (x - x0) * np.sin(turn)
        level = 1.0 - ((height - z0) / c) ** 2
        total[(along / a) ** 2 + (across / b) ** 2 <= level] += body.density
    pixels = total.reshape(size, oversampling, size, oversampling).mean(axis=(1, 3))
    return np.asarray(pixels, dtype=np.float32)
