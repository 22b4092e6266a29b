from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from orchestration.science.arrays import CPU
from orchestration.science.errors import CenterNotFound
from orchestration.science.tomography.center import find_center, opposite_pairs, rows_to_use
from orchestration.science.tomography.correct import Normaliser
from orchestration.science.tomography.simulate import ScanDescription, frames


def sinograms(description: ScanDescription) -> NDArray[np.float32]:
    counts: dict[str, list[NDArray[np.uint16]]] = {"projection": [], "flat": [], "dark": []}
    for frame in frames(description):
        counts[frame.kind].append(frame.counts)
    flat, dark = (np.mean(counts[kind], axis=0).astype(np.float32) for kind in ("flat", "dark"))
    fields = Normaliser.of(flat=flat, dark=dark)
    return np.asarray(fields.line_integrals(np.array(counts["projection"]), first_row=0, device=CPU))


@pytest.mark.parametrize("angle_range", [180.0, 360.0])
@pytest.mark.parametrize("offset", [0.0, -7.3, 12.6, 24.4])
@pytest.mark.parametrize("spoilt", [False, True])
def test_center_is_within_a_quarter_pixel(angle_range: float, offset: float, *, spoilt: bool) -> None:
    description = ScanDescription(
        width=192,
        height=6,
        angles=int(angle_range * 1.5),
        angle_range=angle_range,
        center_offset=offset,
        photons=2000 if spoilt else 0,
        rings=spoilt,
        zingers=spoilt,
        seed=3,
    )
    found = find_center(sinograms(description), np.deg2rad(description.theta))
    assert found.column == pytest.approx(description.center, abs=0.25)
    assert found.uncertainty < 0.25
    assert found.confidence > 0.8


def test_last_projection_at_the_full_half_turn_is_used() -> None:
    description = ScanDescription(width=128, height=4, angles=181, angle_range=181.0, center_offset=5.5)
    assert description.theta[-1] == pytest.approx(180.0)
    found = find_center(sinograms(description), np.deg2rad(description.theta))
    assert found.opposite == pytest.approx(description.center, abs=0.05)
    assert found.column == pytest.approx(description.center, abs=0.1)


def test_angles_that_run_backwards_are_found_too() -> None:
    description = ScanDescription(width=128, height=4, angles=200, center_offset=-4.4)
    found = find_center(sinograms(description)[:, ::-1], np.deg2rad(description.theta)[::-1])
    assert found.column == pytest.approx(description.center, abs=0.25)


def test_noise_alone_has_no_confidence() -> None:
    noise = np.random.default_rng(0).normal(0, 0.01, (8, 180, 128)).astype(np.float32)
    assert find_center(noise, np.deg2rad(np.arange(180.0))).confidence < 0.2


@pytest.mark.parametrize(("span", "value"), [(90.0, 1.0), (180.0, 0.0)])
def test_what_cannot_be_found_is_refused(span: float, value: float) -> None:
    values = np.random.default_rng(0).normal(0, 1, (2, 60, 64)).astype(np.float32) * value
    with pytest.raises(CenterNotFound):
        find_center(values, np.deg2rad(np.arange(60) * span / 60))


def test_pairs_are_half_a_turn_apart() -> None:
    angles = np.deg2rad(np.arange(0, 360, 1.5))
    pairs = opposite_pairs(angles)
    assert len(pairs) == 120
    assert np.allclose(angles[pairs[:, 1]] - angles[pairs[:, 0]], np.pi)


def test_rows_of_a_single_row_detector() -> None:
    assert rows_to_use(1).tolist() == [0]
