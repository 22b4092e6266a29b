"""Qmaps of simulated measurements, with all that pySimpleMask writes into one."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from orchestration.science.errors import ParametersInvalid
from orchestration.science.xpcs.movie import Float64, MovieDescription
from orchestration.science.xpcs.qmap import GROUP

VERSION = "0.4.0"
"""Of pySimpleMask, whose layout this is."""

Value = NDArray[np.generic] | list[str] | str | float


@dataclass(frozen=True)
class _Partition:
    """Rings times sectors over the good pixels."""

    map: NDArray[np.int64]
    """(rows, columns): occupied bins, numbered from 1; 0 is in none."""
    mapping: NDArray[np.int64]
    """Of each bin, its number among all, from 0."""
    sizes: tuple[int, int]
    centers: tuple[Float64, Float64]

    @classmethod
    def of(
        cls, place: tuple[NDArray[np.int64], NDArray[np.int64]], mask: NDArray[np.bool_], edges: Edges
    ) -> _Partition:
        natural = place[0] * (len(edges[1]) - 1) + place[1]
        mapping, number = np.unique(natural[mask], return_inverse=True)
        bins = np.zeros(mask.shape, dtype=np.int64)
        bins[mask] = number + 1
        centers = tuple((edge[:-1] + edge[1:]) / 2 for edge in edges)
        return cls(bins, mapping, (len(edges[0]) - 1, len(edges[1]) - 1), (centers[0], centers[1]))

    def entries(self, prefix: str) -> dict[str, Value]:
        return {
            f"{prefix}_roi_map": self.map,
            f"{prefix}_index_mapping": self.mapping,
            f"{prefix}_num_pts": np.array(self.sizes),
            f"{prefix}_v_list_dim0": self.centers[0],
            f"{prefix}_v_list_dim1": self.centers[1],
        }


Edges = tuple[Float64, Float64]


def write_qmap(
    path: Path,
    description: MovieDescription,
    *,
    rings: int = 4,
    sectors: int = 1,
    static_per_ring: int = 4,
    static_per_sector: int = 1,
    beamstop: float = 4.0,
    blemishes: float = 0.001,
) -> None:
    """Write the qmap of a movie: rings of equal steps of q by equal sectors, each dynamic bin divided into static ones.

    Args:
        beamstop: radius in pixels.
        blemishes: the share of pixels that are bad; which, the seed of the movie determines.

    Raises:
        ParametersInvalid: if no bin or no good pixel is left.
    """
    if min(rings, sectors, static_per_ring, static_per_sector) < 1:
        raise ParametersInvalid("rings and sectors must be 1 at least", where="simulated qmap")
    mask, blemish, angle = _masks(description, beamstop=beamstop, blemishes=blemishes)
    q = description.q
    if not mask.any():
        raise ParametersInvalid("the beamstop hides all pixels", where="simulated qmap")
    fine = rings * static_per_ring, sectors * static_per_sector
    edges = np.linspace(q[mask].min(), q[mask].max(), fine[0] + 1), np.linspace(0.0, 360.0, fine[1] + 1)
    place = _place(q, edges[0]), _place(angle, edges[1])
    coarse = place[0] // static_per_ring, place[1] // static_per_sector
    row, column = description.beam
    entries: dict[str, Value] = {
        "mask": mask.astype(np.int64),
        "blemish": blemish.astype(np.int64),
        "beam_center_x": column,
        "beam_center_y": row,
        "pixel_size": description.pixel_size_m,
        "energy": description.energy_kev,
        "detector_distance": description.distance_m,
        "map_names": ["q", "phi"],
        "map_units": ["Å⁻¹", "deg"],
        "source_file": "simulated",
        **_Partition.of(place, mask, edges).entries("static"),
        **_Partition.of(coarse, mask, (edges[0][::static_per_ring], edges[1][::static_per_sector])).entries("dynamic"),
    }
    _write(path, {name: _smallest(value) for name, value in entries.items()})


def _masks(
    description: MovieDescription, *, beamstop: float, blemishes: float
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], Float64]:
    """Good pixels, good pixels but for the beamstop, and the angles of all in degrees from 0 to below 360."""
    row, column = description.beam
    down, right = np.arange(description.rows)[:, None] - row, np.arange(description.columns)[None, :] - column
    bad = np.random.default_rng([description.seed, 1]).random((description.rows, description.columns)) < blemishes
    blemish = description.active & ~bad
    return blemish & (np.hypot(down, right) > beamstop), blemish, np.rad2deg(np.arctan2(down, right)) % 360.0


def _place(values: Float64, edges: Float64) -> NDArray[np.int64]:
    """In which interval each value is; the last one has both its ends."""
    found = np.searchsorted(edges, values, side="right") - 1
    return np.clip(found, 0, len(edges) - 2).astype(np.int64)


def _smallest(value: Value) -> Value:
    """Integers in the fewest bytes that hold them."""
    if isinstance(value, np.ndarray) and value.dtype.kind in "iu":
        return value.astype(np.min_scalar_type(int(value.max())))
    return value


def _write(path: Path, entries: dict[str, Value]) -> None:
    digest = hashlib.sha256()
    with h5py.File(path, "w") as file:
        group = file.create_group(GROUP)
        for name, value in sorted(entries.items()):
            large = isinstance(value, np.ndarray) and value.size > 1024
            dataset = group.create_dataset(name, data=value, compression="lzf" if large else None)
            digest.update(name.encode() + (value.tobytes() if isinstance(value, np.ndarray) else repr(value).encode()))
            if "_v_list_dim" in name:
                dimension = int(name[-1])
                dataset.attrs["unit"] = ("Å⁻¹", "deg")[dimension]
                dataset.attrs["name"] = ("q", "phi")[dimension]
                dataset.attrs["size"] = dataset.size
        group.attrs["hash"] = digest.hexdigest()
        group.attrs["version"] = VERSION
