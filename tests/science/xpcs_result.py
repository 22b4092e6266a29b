"""Result files in the layout of boost_corr, of a sample whose relaxation is known exactly."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]

FRAME_TIME = 1e-3
START = "2024-07-17 16:01:36"


@dataclass(frozen=True, kw_only=True)
class Sample:
    """A dilute suspension: 1/τ = D q², contrast falling with q; gamma is that of the stretched exponential."""

    rows: int = 64
    columns: int = 80
    q_bins: int = 9
    phi_bins: int = 3
    static_per_dynamic: int = 4
    frames: int = 2000
    diffusion: float = 6e4
    """Å²/s."""
    gamma: float = 1.0
    noise: float = 0.002
    """Of g2, at the first lag."""
    seed: int = 0
    multitau: bool = True
    twotime: int = 0
    """So many bins have two-time functions."""
    twotime_frames: int = 100
    ours: bool = False
    """With the datasets that only our own correlator writes; the first bin is one whose jackknife fails."""

    @property
    def q(self) -> Float64:
        return np.linspace(0.004, 0.028, self.q_bins)

    @property
    def phi(self) -> Float64:
        return (np.arange(self.phi_bins) + 0.5) * 360.0 / self.phi_bins - 180.0

    @property
    def tau(self) -> Float64:
        """(dynamic bins,)."""
        return np.repeat(1.0 / (self.diffusion * self.q**2), self.phi_bins)

    @property
    def contrast(self) -> Float64:
        """(dynamic bins,)."""
        return np.repeat(np.linspace(0.25, 0.12, self.q_bins), self.phi_bins)

    @property
    def delay(self) -> NDArray[np.int64]:
        lags = [1, 2, 3, 4] + [x << level for level in range(40) for x in (5, 6, 7, 8)]
        return np.array([lag for lag in lags if lag < self.frames // 2], dtype=np.int64)


def write_result(path: Path, sample: Sample) -> Path:
    with h5py.File(path, "w") as file:
        _entry(file, sample)
        maps = _qmap(file, sample)
        _scattering(file, sample, *maps)
        if sample.multitau:
            _multitau(file, sample)
        if sample.twotime:
            _twotime(file, sample)
    return path


def _entry(file: h5py.File, sample: Sample) -> None:
    detector = "/entry/instrument/detector_1"
    values: dict[str, object] = {
        f"{detector}/frame_time": np.array([FRAME_TIME]),
        f"{detector}/count_time": 0.9 * FRAME_TIME,
        f"{detector}/x_pixel_size": 7.5e-5,
        f"{detector}/y_pixel_size": 7.5e-5,
        f"{detector}/description": "Eiger4M",
        "/entry/instrument/incident_beam/incident_energy": 10.0,
        "/entry/instrument/bluesky/metadata/proposal_id": "12345",
        "/entry/instrument/bluesky/metadata/I0": float("nan"),
        "/entry/start_time": START,
        "/entry/schema_version": "1.0",
        "/entry/sample/name": "silica in water",
        "/xpcs/rawdata_path": "/data/raw.h5",
    }
    for where, value in values.items():
        file[where] = value


def _qmap(file: h5py.File, sample: Sample) -> tuple[NDArray[np.int64], NDArray[np.int64], Float64]:
    """Rings in sectors; the lowest ring lies about the centre, which is masked as behind a beam stop."""
    y, x = np.mgrid[: sample.rows, : sample.columns]
    center = (0.45 * sample.columns, 0.55 * sample.rows)
    v, h = y - center[1], x - center[0]
    edge = min(sample.columns - center[0], sample.rows - center[1])
    # The middle of the last ring lies where the detector ends.
    scale = sample.q[-1] / edge
    q, phi = np.hypot(v, h) * scale, np.rad2deg(-np.arctan2(v, h))
    step = (sample.q[1] - sample.q[0]) if sample.q_bins > 1 else sample.q[0]
    low = sample.q[0] - step / 2
    fine = np.floor((q - low) / step * sample.static_per_dynamic).astype(int)
    sector = np.clip(((phi + 180.0) * sample.phi_bins / 360.0).astype(int), 0, sample.phi_bins - 1)
    mask = (fine >= 0) & (fine < sample.q_bins * sample.static_per_dynamic)
    group = file.create_group("/xpcs/qmap")
    group.attrs["hash"] = "0" * 64
    found = []
    for kind, ring, count in (
        ("dynamic", fine // sample.static_per_dynamic, sample.q_bins),
        ("static", fine, sample.q_bins * sample.static_per_dynamic),
    ):
        natural = np.where(mask, ring * sample.phi_bins + sector + 1, 0)
        unique, inverse = np.unique(natural, return_inverse=True)
        bins = inverse.reshape(natural.shape).astype(np.int64)
        group[f"{kind}_roi_map"] = bins.astype(np.uint16)
        group[f"{kind}_num_pts"] = np.array([count, sample.phi_bins])
        group[f"{kind}_v_list_dim0"] = low + (np.arange(count) + 0.5) * step * sample.q_bins / count
        group[f"{kind}_v_list_dim1"] = sample.phi
        group[f"{kind}_index_mapping"] = unique[unique >= 1] - 1
        found.append(bins)
    group["mask"] = mask.astype(np.uint8)
    group["map_names"] = ["q", "phi"]
    group["map_units"] = ["Å⁻¹", "°"]
    group["beam_center_x"], group["beam_center_y"] = center
    group["pixel_size"] = 7.5e-5
    group["energy"] = 10.0
    group["detector_distance"] = 7.5e-5 * 2 * np.pi * 10.0 / 12.398419843 / scale
    return found[0], found[1], q


def _scattering(
    file: h5py.File, sample: Sample, dynamic: NDArray[np.int64], static: NDArray[np.int64], q: Float64
) -> None:
    rng = np.random.default_rng(sample.seed)
    mean = 0.5 / (1.0 + (q / 0.008) ** 4) + 0.002
    pattern = rng.poisson(mean * sample.frames) / sample.frames * (dynamic > 0)
    pixels = np.bincount(static.ravel())[1:]
    curve = np.bincount(static.ravel(), pattern.ravel())[1:] / pixels
    file["/xpcs/temporal_mean/scattering_2d"] = pattern[None].astype(np.float32)
    file["/xpcs/temporal_mean/scattering_1d"] = curve[None].astype(np.float32)
    # Shares of the mean, as boost_corr stores them for multi-tau.
    parts = curve * (1.0 + 0.02 * np.arange(10)[:, None]) / 10
    file["/xpcs/temporal_mean/scattering_1d_segments"] = parts.astype(np.float32)
    time = np.arange(sample.frames)
    level = pattern[dynamic > 0].mean() * (1.0 + 0.01 * np.sin(time / 300.0) + rng.normal(0, 0.02, sample.frames))
    file["/xpcs/spatial_mean/intensity_vs_time"] = np.stack([time, level]).astype(np.float32)


def _multitau(file: h5py.File, sample: Sample) -> None:
    rng = np.random.default_rng(sample.seed + 1)
    delay = sample.delay
    seconds = delay[:, None] * FRAME_TIME
    truth = 1.0 + sample.contrast * np.exp(-2.0 * (seconds / sample.tau) ** sample.gamma)
    error = np.broadcast_to(sample.noise * (1.0 + 0.03 * np.sqrt(delay[:, None])), truth.shape).copy()
    g2 = truth + rng.normal(size=truth.shape) * error
    # boost_corr gives an error of exactly 0 to a lag of which there is one pair.
    error[-1] = 0.0
    group = file.create_group("/xpcs/multitau")
    group["delay_list"] = delay
    group["normalized_g2"] = g2.astype(np.float32)
    group["normalized_g2_err"] = error.astype(np.float32)
    group["config/stride_frame"] = 1
    group["config/avg_frame"] = 1
    group["config/analysis_type"] = "multitau"
    if sample.ours:
        group["normalized_g2_weighted"] = g2.astype(np.float32)
        works = (error > 0) & (np.arange(len(sample.tau)) > 0)
        group["normalized_g2_jackknife_err"] = np.where(works, error * 2.0, np.nan).astype(np.float32)


def _twotime(file: h5py.File, sample: Sample) -> None:
    """A sample that ages: its relaxation time grows with the age (t1 + t2) / 2."""
    rng = np.random.default_rng(sample.seed + 2)
    frames, bins = sample.twotime_frames, np.linspace(1, len(sample.tau), sample.twotime).astype(np.int32)
    group = file.create_group("/xpcs/twotime")
    time = np.arange(frames) * FRAME_TIME
    lag, age = np.abs(time[:, None] - time), (time[:, None] + time) / 2
    g2, segments = [], []
    block = frames // 5
    for order in range(1, sample.twotime + 1):
        tau = 0.1 * time[-1] * (1.0 + 4.0 * age / time[-1])
        whole = 1.0 + 0.2 * np.exp(-2.0 * lag / tau) + rng.normal(0, 0.02, lag.shape)
        np.fill_diagonal(whole, 3.0)
        half = np.triu(whole).astype(np.float32)
        group.create_dataset(f"correlation_map/c2_{order:05d}", data=half, compression="lzf", chunks=half.shape)
        g2.append(_diagonals(half))
        segments.append([_diagonals(half[k : k + block, k : k + block]) for k in range(0, 5 * block, block)])
    group["processed_bins"] = bins
    group["normalized_g2"] = np.array(g2, dtype=np.float32).T
    group["normalized_g2_segments"] = np.array(segments, dtype=np.float32).transpose(2, 1, 0)
    group["config/stride_frame"] = 1
    group["config/avg_frame"] = 1


def _diagonals(half: NDArray[np.float32]) -> list[float]:
    return [float(np.diagonal(half, lag).mean()) for lag in range(len(half))]
