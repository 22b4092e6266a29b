"""Random numbers for kernels, from a state of 64 bits for each pixel: what a pixel draws depends on no other.

SplitMix64 (G. L. Steele, D. Lea, C. H. Flood, OOPSLA 2014), normal numbers by the ziggurat of G. Marsaglia and W. W.
Tsang (J. Stat. Softw. 5 (2000) 8) in doubles, Poisson numbers by inversion.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from orchestration.science.xpcs.compiling import compiled

States = NDArray[np.uint64]

_STEP = np.uint64(0x9E3779B97F4A7C15)
_FACTOR_1 = np.uint64(0xBF58476D1CE4E5B9)
_FACTOR_2 = np.uint64(0x94D049BB133111EB)
_SHIFT_1, _SHIFT_2, _SHIFT_3 = np.uint64(30), np.uint64(27), np.uint64(31)
_LAYERS = 256
_LAYER = np.uint64(_LAYERS - 1)
_MANTISSA = np.uint64(11)
_UNIT = 2.0**-53
_EDGE = 3.6541528853610088
"""Where the lowest of 256 layers of equal area ends and the tail begins."""
_LARGEST = 30.0
"""Poisson numbers of a greater mean are sums, so that exp(-mean) keeps its digits."""


def _layers() -> NDArray[np.float64]:
    """Right ends of the layers, from the widest, which stands for the lowest layer with its tail, up to 0."""
    top = math.exp(-0.5 * _EDGE**2)
    area = _EDGE * top + math.sqrt(math.pi / 2) * math.erfc(_EDGE / math.sqrt(2))
    ends = [area / top, _EDGE]
    for _ in range(_LAYERS - 2):
        ends.append(math.sqrt(-2 * math.log(area / ends[-1] + math.exp(-0.5 * ends[-1] ** 2))))
    return np.array([*ends, 0.0])


_ENDS = _layers()
_INNER = _ENDS[1:].copy()
_HEIGHTS = np.exp(-0.5 * _ENDS**2)


def states(seed: int, streams: States) -> States:
    """A state for each number of a stream."""
    start = np.random.SeedSequence(seed).generate_state(1, np.uint64)[0]
    found = np.empty_like(streams)
    _states(start, streams, found)
    return found


@compiled()
def _states(start, streams, found):  # type: ignore[no-untyped-def]
    for i in range(len(streams)):
        found[i] = _mixed(_mixed(start) ^ _mixed(streams[i] + _STEP))


@compiled()
def normals(random, out):  # type: ignore[no-untyped-def]
    """Fill (n, states) with normal numbers."""
    for row in range(out.shape[0]):
        for i in range(len(random)):
            out[row, i], random[i] = normal(random[i])


@compiled()
def _mixed(state):  # type: ignore[no-untyped-def]
    mixed = (state ^ (state >> _SHIFT_1)) * _FACTOR_1
    mixed = (mixed ^ (mixed >> _SHIFT_2)) * _FACTOR_2
    return mixed ^ (mixed >> _SHIFT_3)


@compiled()
def uniform(state):  # type: ignore[no-untyped-def]
    """From 0 to below 1, and the next state."""
    state += _STEP
    # Processors turn signed integers into doubles in one step, unsigned ones in several.
    return np.float64(np.int64(_mixed(state) >> _MANTISSA)) * _UNIT, state


@compiled()
def normal(state):  # type: ignore[no-untyped-def]
    """Of mean 0 and variance 1, and the next state."""
    state += _STEP
    bits = _mixed(state)
    layer = bits & _LAYER
    value = _centred(bits) * _ENDS[layer]
    if abs(value) < _INNER[layer]:
        return value, state
    return _outer(state, value, layer)


@compiled()
def _centred(bits):  # type: ignore[no-untyped-def]
    """From -1 to below 1, of the upper 53 bits; the layer's 8 are among the others."""
    return np.float64(np.int64(bits) >> 11) * (2.0 * _UNIT)


@compiled()
def _outer(state, value, layer):  # type: ignore[no-untyped-def]
    """In one case of a hundred a value is not in the part of its layer that lies wholly below the curve."""
    while abs(value) >= _INNER[layer]:
        if layer == 0:
            tail, state = _tail(state)
            return (tail if value > 0 else -tail), state
        height, state = uniform(state)
        if _HEIGHTS[layer] + height * (_HEIGHTS[layer + np.uint64(1)] - _HEIGHTS[layer]) < math.exp(
            -0.5 * value * value
        ):
            return value, state
        state += _STEP
        bits = _mixed(state)
        layer = bits & _LAYER
        value = _centred(bits) * _ENDS[layer]
    return value, state


@compiled()
def _tail(state):  # type: ignore[no-untyped-def]
    while True:
        first, state = uniform(state)
        second, state = uniform(state)
        beyond = -math.log(1.0 - first) / _EDGE
        if -2.0 * math.log(1.0 - second) > beyond * beyond:
            return _EDGE + beyond, state


@compiled()
def poisson(state, mean):  # type: ignore[no-untyped-def]
    """A Poisson number, and the next state."""
    if mean <= _LARGEST:
        return _inverted(state, mean)
    total = 0
    while mean > 0:
        part, state = _inverted(state, min(mean, _LARGEST))
        total += part
        mean -= _LARGEST
    return total, state


@compiled()
def _inverted(state, mean):  # type: ignore[no-untyped-def]
    chance, state = uniform(state)
    # Nearly always so where photons are few, and exp(-mean) is then not needed: it is larger than this.
    if chance < 1.0 - mean:
        return 0, state
    return _counted(chance, mean), state


@compiled()
def _counted(chance, mean):  # type: ignore[no-untyped-def]
    share = math.exp(-mean)
    below, number = share, 0
    while chance >= below and share > 0.0:
        number += 1
        share *= mean / number
        below += share
    return number
