"""What the pictures of a result say in words."""

from __future__ import annotations

import numpy as np

from orchestration.science.xpcs.figures import RAISED
from orchestration.science.xpcs.fit import Estimate, Fit, Fits
from orchestration.science.xpcs.geometry import BinCenters
from orchestration.science.xpcs.power_law import PowerLaw
from orchestration.science.xpcs.results import Result

_TIMES = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))


def summary(result: Result, fits: Fits | None, law: PowerLaw | None) -> str:
    frames = result.intensity.shape[1]
    parts = [f"{result.analysis_type}, {frames} frames of {_time(result.frame_seconds)}"]
    if result.geometry.energy is not None:
        parts.append(f"{result.geometry.energy:.4g} keV")
    parts.append(f"{len(result.dynamic)} dynamic and {len(result.static)} static bins")
    if fits is not None:
        parts.append(f"{int(fits.good.sum())} of {len(fits.bins)} fits good")
    if law is not None:
        parts.append(law_words(law, result.dynamic))
    return "   ·   ".join(parts)


def words(fit: Fit, fits: Fits) -> str:
    if not fit.fitted:
        return "no fit: too few lags have errors"
    scale, unit = time_unit(fit.tau.value)
    tau = _short(Estimate(fit.tau.value / scale, fit.tau.error / scale))
    text = f"τ = {tau} {unit}, β = {_short(fit.contrast)}"
    if fits.model == "stretched":
        text += f", γ = {_short(fit.gamma)}"
    return text if fit.good else f"{text}  [{fit.quality.replace('_', ' ')}]"


def time_unit(seconds: float) -> tuple[float, str]:
    """Of which so much time is a number that people can read; in seconds, and its name."""
    return next((pair for pair in _TIMES if seconds >= pair[0]), _TIMES[-1])


def law_words(law: PowerLaw, bins: BinCenters) -> str:
    text = f"τ ∝ q⁻ⁿ, n = {_short(law.exponent)}"
    if not law.diffusive or "Å" not in bins.units[0]:
        return text
    power = int(np.floor(np.log10(law.diffusion.value)))
    head = Estimate(law.diffusion.value / 10.0**power, law.diffusion.error / 10.0**power)
    return f"{text}, D = {_short(head)}·10{str(power).translate(RAISED)} Å²/s"


def _short(estimate: Estimate) -> str:
    """Such as 1.234(5): the error is that of the last digit."""
    value, error = estimate.value, estimate.error
    if not (np.isfinite(value) and np.isfinite(error) and 0 < error < 100 * abs(value)):
        return f"{value:.3g}"
    digits = max(0, -int(np.floor(np.log10(error))))
    if digits > 8:
        return f"{value:.4g}"
    return f"{value:.{digits}f}({round(error * 10**digits)})"


def _time(seconds: float) -> str:
    scale, unit = next((pair for pair in _TIMES if seconds >= 0.999 * pair[0]), _TIMES[-1])
    return f"{seconds / scale:.4g} {unit}"
