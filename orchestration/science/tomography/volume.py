"""A volume as OME-Zarr 0.5, written slice by slice, with all its coarser levels.

Zarr 3 with sharding: each level is an array of shards one slab deep, so that every shard is written once, whole.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec

from orchestration.science.stopping import look

Float32 = NDArray[np.float32]

CHUNK = 128
SHARD = 1024
SMALLEST = 128
"""Levels are added until the slices are no wider."""


@dataclass(frozen=True, kw_only=True)
class VolumeShape:
    """Slices, rows and columns, and how large a voxel is if that is known."""

    shape: tuple[int, int, int]
    voxel_um: float | None

    @property
    def levels(self) -> list[tuple[int, int, int]]:
        """The shape of each level; odd ends are halved upwards."""
        shapes = [self.shape]
        while max(shapes[-1][1:]) > SMALLEST:
            depth, height, width = shapes[-1]
            shapes.append((math.ceil(depth / 2), math.ceil(height / 2), math.ceil(width / 2)))
        return shapes

    def attributes(self, name: str) -> dict[str, object]:
        """The `ome` metadata of the group."""
        unit = {} if self.voxel_um is None else {"unit": "micrometer"}
        size = 1.0 if self.voxel_um is None else self.voxel_um
        datasets = [
            {
                "path": str(level),
                "coordinateTransformations": [
                    {"type": "scale", "scale": [size * 2**level] * 3},
                    {"type": "translation", "translation": [size * (2**level - 1) / 2] * 3},
                ],
            }
            for level in range(len(self.levels))
        ]
        multiscale = {
            "name": name,
            "type": "mean",
            "axes": [{"name": axis, "type": "space", **unit} for axis in "zyx"],
            "datasets": datasets,
            "metadata": {"description": "mean of 2 x 2 x 2 voxels", "method": "orchestration.science.tomography"},
        }
        return {"ome": {"version": "0.5", "multiscales": [multiscale]}}


class VolumeWriter:
    """Takes slices in order; memory is that of one slab and a third."""

    def __init__(self, path: Path, volume: VolumeShape, *, name: str, slab: int) -> None:
        group = zarr.create_group(store=path, zarr_format=3, attributes=volume.attributes(name))
        following: _Level | None = None
        for level in reversed(range(len(volume.levels))):
            following = _Level(group, str(level), volume.levels[level], slab=slab, coarser=following)
        if following is None:
            raise ValueError("a volume has at least one level")
        self._finest = following

    def append(self, slices: Float32) -> None:
        """Add slices, (count, height, width)."""
        for image in slices:
            look()
            self._finest.append(image)

    def close(self) -> None:
        """Write what is not a full slab."""
        self._finest.close()


class _Level:
    """One resolution: keeps slices until they fill a slab of shards, and hands halved ones on."""

    def __init__(
        self, group: zarr.Group, name: str, shape: tuple[int, int, int], *, slab: int, coarser: _Level | None
    ) -> None:
        depth = min(slab, _power_of_two(shape[0]))
        chunk = (min(depth, CHUNK), min(CHUNK, shape[1]), min(CHUNK, shape[2]))
        shard = (depth, _shard(shape[1], chunk[1]), _shard(shape[2], chunk[2]))
        self._array = group.create_array(
            name,
            shape=shape,
            dtype="float32",
            chunks=chunk,
            shards=shard,
            compressors=BloscCodec(cname="lz4", clevel=1, shuffle="shuffle"),
            fill_value=0.0,
            dimension_names=("z", "y", "x"),
        )
        self._slab = np.empty((depth, *shape[1:]), dtype=np.float32)
        self._held = 0
        self._written = 0
        self._coarser = coarser
        self._odd: Float32 | None = None

    def append(self, image: Float32) -> None:
        self._slab[self._held] = image
        self._held += 1
        if self._held == len(self._slab):
            self._flush()
        if self._coarser is None:
            return
        halved = _halve(image)
        if self._odd is None:
            self._odd = halved
        else:
            self._coarser.append((self._odd + halved) * np.float32(0.5))
            self._odd = None

    def close(self) -> None:
        self._flush()
        if self._coarser is not None:
            if self._odd is not None:
                self._coarser.append(self._odd)
                self._odd = None
            self._coarser.close()

    def _flush(self) -> None:
        if self._held:
            self._array[self._written : self._written + self._held] = self._slab[: self._held]
            self._written += self._held
            self._held = 0


def _halve(image: Float32) -> Float32:
    """Mean of 2 x 2 pixels; an odd last row or column stands for itself."""
    height, width = image.shape
    if height % 2 or width % 2:
        image = np.pad(image, ((0, height % 2), (0, width % 2)), mode="edge")
    pairs = image[0::2] + image[1::2]
    return (pairs[:, 0::2] + pairs[:, 1::2]) * np.float32(0.25)


def _shard(size: int, chunk: int) -> int:
    return chunk * min(max(1, SHARD // chunk), math.ceil(size / chunk))


def _power_of_two(count: int) -> int:
    return 1 << max(0, math.ceil(math.log2(max(count, 1))))
