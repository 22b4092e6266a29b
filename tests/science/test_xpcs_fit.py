from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import curve_fit
from xpcs_result import FRAME_TIME, Sample, write_result

from orchestration.science import errors
from orchestration.science.xpcs.fit import NOTHING, Estimate, Fit, Fits, Model, Quality, fit_g2
from orchestration.science.xpcs.power_law import fit_power_law
from orchestration.science.xpcs.results import open_result

Float64 = NDArray[np.float64]

SECONDS: Float64 = np.asarray(Sample(frames=20000).delay * FRAME_TIME, dtype=np.float64)
NOISE = 0.002


def curves(tau: Float64, *, contrast: float = 0.2, gamma: float = 1.0, seed: int = 0) -> tuple[Float64, Float64]:
    """g2 and its errors, with noise of just that size."""
    truth = 1.0 + contrast * np.exp(-2.0 * (SECONDS[:, None] / tau) ** gamma)
    error = np.full_like(truth, NOISE)
    return np.asarray(truth + np.random.default_rng(seed).normal(0, NOISE, truth.shape)), error


def pulls(fits: Fits, name: str, truth: Float64 | float) -> Float64:
    """How many standard errors each good fit is off."""
    estimates = [getattr(fit, name) for fit in fits.bins]
    value, error = np.array([[each.value, each.error] for each in estimates]).T
    return np.asarray(((value - truth) / error)[fits.good], dtype=np.float64)


@pytest.mark.parametrize(("model", "gamma"), [("single", 1.0), ("stretched", 0.7), ("stretched", 1.5)])
def test_stated_errors_cover_the_truth_as_often_as_they_should(model: Model, gamma: float) -> None:
    tau = np.full(600, 0.1)
    fits = fit_g2(SECONDS, *curves(tau, gamma=gamma), model=model)
    assert fits.good.mean() > 0.99
    for name, truth in (("tau", 0.1), ("contrast", 0.2), ("baseline", 1.0)):
        found = pulls(fits, name, truth)
        assert abs(found.mean()) < 0.15
        assert found.std() == pytest.approx(1.0, abs=0.1)
        assert (np.abs(found) < 1.0).mean() == pytest.approx(0.683, abs=0.06)
    assert np.mean([fit.chi2 for fit in fits.bins]) == pytest.approx(1.0, abs=0.03)
    if model == "stretched":
        assert pulls(fits, "gamma", gamma).std() == pytest.approx(1.0, abs=0.1)
    else:
        assert fits.bins[0].gamma == Estimate(1.0, 0.0)


@pytest.mark.parametrize("model", ["single", "stretched"])
def test_finds_what_scipy_finds_from_the_truth(model: Model) -> None:
    tau = np.geomspace(5e-3, 1.0, 12)
    g2, error = curves(tau, gamma=1.0)
    for index, fit in enumerate(fit_g2(SECONDS, g2, error, model=model).bins):
        start = [1.0, 0.2, tau[index], 1.0][: 4 if model == "stretched" else 3]
        values, covariance = curve_fit(
            lambda t, b, c, tau, gamma=1.0: b + c * np.exp(-2.0 * (t / tau) ** gamma),
            SECONDS,
            g2[:, index],
            p0=start,
            sigma=error[:, index],
            absolute_sigma=True,
        )
        found = [fit.baseline, fit.contrast, fit.tau, fit.gamma][: len(start)]
        deviations = np.sqrt(np.diag(covariance))
        assert np.abs([each.value for each in found] - values).max() < 0.01 * deviations.max()
        assert [each.error for each in found] == pytest.approx(deviations, rel=0.01)


def test_many_bins_take_no_time() -> None:
    g2, error = curves(np.geomspace(5e-3, 1.0, 300), gamma=0.8)
    began = time.process_time()
    fits = fit_g2(SECONDS, g2, error, model="stretched")
    assert time.process_time() - began < 2.0
    assert fits.good.mean() > 0.98


@pytest.mark.parametrize("model", ["single", "stretched"])
@pytest.mark.parametrize("tau", [1e-5, 1e-4, 300.0])
def test_relaxation_outside_of_the_lags_is_never_good(model: Model, tau: float) -> None:
    fits = fit_g2(SECONDS, *curves(np.full(100, tau)), model=model)
    assert not fits.good.any()
    assert all(fit.fitted for fit in fits.bins)


@pytest.mark.parametrize("model", ["single", "stretched"])
def test_noise_alone_is_seldom_taken_for_a_relaxation(model: Model) -> None:
    fits = fit_g2(SECONDS, *curves(np.full(200, 0.1), contrast=0.0), model=model)
    assert fits.good.mean() < 0.01


def test_what_hits_a_bound_says_so() -> None:
    g2, error = curves(np.full(1, 0.1), contrast=-0.1)
    (fit,) = fit_g2(SECONDS, g2, error).bins
    assert fit.quality is Quality.AT_BOUND


def test_another_model_is_a_misfit() -> None:
    g2, error = curves(np.full(1, 0.1), gamma=0.5)
    assert fit_g2(SECONDS, g2, error / 5).bins[0].quality is Quality.MISFIT
    assert fit_g2(SECONDS, g2, error, model="stretched").bins[0].good


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan, np.inf])
def test_lags_without_an_error_are_left_out(bad: float) -> None:
    g2, error = curves(np.full(1, 0.1))
    whole = fit_g2(SECONDS[:-3], g2[:-3], error[:-3]).bins[0]
    g2[-3:], error[-3:] = 5.0, bad
    (fit,) = fit_g2(SECONDS, g2, error).bins
    assert fit == whole
    assert fit.lags == len(SECONDS) - 3
    g2[-3:], error[-3:] = np.nan, NOISE
    assert fit_g2(SECONDS, g2, error).bins[0] == whole


def test_one_tiny_error_does_not_decide() -> None:
    g2, error = curves(np.full(1, 0.1))
    error[-1], g2[-1] = 1e-12, 1.0 + NOISE
    (fit,) = fit_g2(SECONDS, g2, error).bins
    assert fit.tau.value == pytest.approx(0.1, rel=0.1)
    assert fit.chi2 == pytest.approx(1.0, abs=0.5)


def test_bins_without_errors_are_not_fitted_and_others_are() -> None:
    g2, error = curves(np.full(3, 0.1))
    error[:, 1] = np.nan
    one, two, three = fit_g2(SECONDS, g2, error).bins
    assert two == Fit(quality=Quality.TOO_FEW_LAGS, lags=0)
    assert two.tau is NOTHING
    assert one.good
    assert three.good


def test_no_bins_and_few_lags() -> None:
    assert fit_g2(SECONDS, np.ones((len(SECONDS), 0)), np.ones((len(SECONDS), 0))).bins == ()
    (fit,) = fit_g2(SECONDS[:4], np.ones((4, 1)), np.ones((4, 1))).bins
    assert fit.quality is Quality.TOO_FEW_LAGS


def test_shapes_and_lags_are_checked() -> None:
    with pytest.raises(errors.ParametersInvalid, match="do not fit"):
        fit_g2(SECONDS[1:], *curves(np.full(1, 0.1)))
    with pytest.raises(errors.ParametersInvalid, match="ascending"):
        fit_g2(SECONDS[::-1], *curves(np.full(1, 0.1)))


def test_diffusion_is_found_over_q(tmp_path: Path) -> None:
    sample = Sample(frames=20000)
    result = open_result(write_result(tmp_path / "s_results.hdf", sample))
    multitau, q = result.multitau, result.dynamic.q
    assert multitau is not None
    assert q is not None
    assert q == pytest.approx(np.repeat(sample.q, 3))
    fits = fit_g2(multitau.seconds, multitau.g2, multitau.best_err)
    law = fit_power_law(q, fits)
    assert law is not None
    assert law.bins == 27
    assert law.diffusive
    assert law.exponent.value == pytest.approx(2.0, abs=3 * law.exponent.error)
    assert law.diffusion.value == pytest.approx(6e4, abs=3 * law.diffusion.error)
    assert law.diffusion.error / law.diffusion.value < 0.01
    assert law.curve(q) == pytest.approx(sample.tau, rel=0.03)


def test_errors_of_the_power_law_cover_it() -> None:
    q = np.linspace(0.004, 0.03, 12)
    found = []
    for seed in range(150):
        fits = fit_g2(SECONDS, *curves(1e-5 * q**-2.0, seed=seed))
        law = fit_power_law(q, fits)
        assert law is not None
        found.append(
            [
                (law.exponent.value - 2.0) / law.exponent.error,
                (law.diffusion.value - 1e5) / law.diffusion.error,
                (law.amplitude.value - 1e-5) / law.amplitude.error,
            ]
        )
    # Errors are never scaled down, so they cover a little more than they should.
    assert np.std(found, axis=0) == pytest.approx([0.95] * 3, abs=0.15)


def test_power_law_takes_good_fits_only() -> None:
    q = np.linspace(0.004, 0.03, 12)
    g2, error = curves(1e-5 * q**-2.0)
    fits = fit_g2(SECONDS, g2, error)
    wrong = replace(fits.bins[5], quality=Quality.AT_BOUND, tau=Estimate(1e6, 1e-6))
    spoilt = Fits(model="single", bins=(*fits.bins[:5], wrong, *fits.bins[6:]))
    law = fit_power_law(q, spoilt)
    assert law is not None
    assert law.bins == 11
    assert law.diffusive
    assert fit_power_law(q[:2], Fits(model="single", bins=fits.bins[:2])) is None
    assert fit_power_law(np.full(12, 0.01), fits) is None
    ballistic = fit_power_law(q, fit_g2(SECONDS, *curves(1e-3 / q)))
    assert ballistic is not None
    assert not ballistic.diffusive


@pytest.mark.parametrize("moved", [False, True])
def test_jackknife_errors_are_preferred_where_there_are_any(tmp_path: Path, *, moved: bool) -> None:
    path = write_result(tmp_path / "s_results.hdf", Sample(ours=True, frames=20000))
    if moved:
        with h5py.File(path, "a") as file:
            group = file["/xpcs/multitau"]
            group.create_group("ours")
            for name in ("g2_weighted", "g2_jackknife_err"):
                group.move(f"normalized_{name}", f"ours/{name}")
    multitau = open_result(path).multitau
    assert multitau is not None
    assert multitau.weighted == pytest.approx(multitau.g2)
    assert multitau.jackknifed.tolist() == [False] + [True] * 26
    assert multitau.best_err[:-1, 1:] == pytest.approx(2.0 * multitau.g2_err[:-1, 1:])
    assert np.array_equal(multitau.best_err[:, 0], multitau.g2_err[:, 0])
    assert fit_g2(multitau.seconds, multitau.g2, multitau.best_err).good.all()


def test_result_is_read_as_it_was_written(tmp_path: Path) -> None:
    sample = Sample(twotime=2)
    result = open_result(write_result(tmp_path / "A001_results.hdf", sample))
    assert (result.name, result.analysis_type, result.frame_seconds) == ("A001", "Both", FRAME_TIME)
    assert result.dynamic.label(1) == "q = 0.00400 Å⁻¹, φ = 0°"
    assert result.dynamic.phi == pytest.approx(np.tile(sample.phi, 9))
    assert len(result.static) == len(result.scattering_1d)
    assert result.scaled_segments.mean(axis=0) == pytest.approx(result.scattering_1d, rel=1e-5)
    assert result.geometry.q_per_pixel is not None
    row, column = np.argwhere(result.mask)[0]
    assert result.geometry.center_x is not None
    assert result.geometry.center_y is not None
    q = np.hypot(row - result.geometry.center_y, column - result.geometry.center_x) * result.geometry.q_per_pixel
    with h5py.File(result.path) as file:
        index = int(file["/xpcs/qmap/dynamic_roi_map"][row, column]) - 1
    assert q == pytest.approx(result.dynamic.first[index], abs=0.0016)
    assert result.twotime is not None
    whole = result.twotime.map(1)
    assert np.array_equal(whole, whole.T)
    assert np.diagonal(whole) == pytest.approx(3.0)
    assert np.diagonal(whole, 7).mean() == pytest.approx(result.twotime.g2[7, 1], rel=1e-5)
    assert result.twotime.bins.tolist() == [1, 27]


@pytest.mark.parametrize(
    ("where", "replacement", "words"),
    [
        ("/xpcs/multitau/normalized_g2", None, "there is no /xpcs/multitau/normalized_g2"),
        ("/xpcs/multitau/normalized_g2", np.ones((3, 4)), "has shape"),
        ("/xpcs/multitau/delay_list", np.zeros(4, dtype=int), "does not ascend"),
        ("/xpcs/temporal_mean/scattering_1d", np.ones((1, 5)), "scattering_1d has shape"),
        ("/xpcs/qmap/dynamic_index_mapping", np.arange(3), "places on a grid"),
        ("/xpcs/qmap/dynamic_index_mapping", np.arange(27) + 5, "outside their grid"),
        ("/xpcs/qmap/map_names", None, "names"),
        ("/xpcs/qmap/mask", np.ones((3, 3)), "the mask is for"),
        ("/xpcs/twotime/processed_bins", np.array([1, 99]), "two-time maps"),
        ("/xpcs/twotime/correlation_map/c2_00002", None, "1 two-time maps"),
        ("/entry/instrument/detector_1/frame_time", None, "lags have no times"),
        ("/entry/instrument/detector_1/frame_time", -1.0, "lags have no times"),
    ],
)
def test_what_is_missing_or_wrong_is_named(tmp_path: Path, where: str, replacement: object, words: str) -> None:
    path = write_result(tmp_path / "s_results.hdf", Sample(twotime=2, twotime_frames=20))
    with h5py.File(path, "a") as file:
        del file[where]
        if replacement is not None:
            file[where] = replacement
    with pytest.raises(errors.ResultInvalid, match=words):
        open_result(path)


def test_files_that_are_no_results(tmp_path: Path) -> None:
    with pytest.raises(errors.ScanMissing):
        open_result(tmp_path / "absent.hdf")
    path = tmp_path / "s_results.hdf"
    path.write_text("not a result")
    with pytest.raises(errors.NotHdf5, match=r"results\.hdf"):
        open_result(path)
    with h5py.File(path, "w") as file:
        file["something"] = 1
    with pytest.raises(errors.ResultInvalid, match="neither"):
        open_result(path)
    whole = write_result(path, Sample()).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(errors.ScanTruncated):
        open_result(path)
