"""How the relaxation time depends on q: a power law through the fits of single bins."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from orchestration.science.xpcs.fit import SIGNIFICANT, Estimate, Fits, Float64


@dataclass(frozen=True, kw_only=True)
class PowerLaw:
    """τ = amplitude q^-exponent. Where bins scatter more than their errors allow, these are scaled up by √χ²."""

    amplitude: Estimate
    """Seconds times a power of the unit of q."""
    exponent: Estimate
    diffusion: Estimate
    """D = 1/(τ q²), with the exponent held at 2: the square of the unit of 1/q in a second."""
    chi2: float
    """Reduced, of the power law."""
    bins: int
    """How many were used."""

    @property
    def diffusive(self) -> bool:
        """Whether the exponent is known, and is 2: only then is `diffusion` a property of the sample."""
        error = self.exponent.error
        return error <= 0.25 and abs(self.exponent.value - 2.0) <= max(SIGNIFICANT * error, 0.05)

    def curve(self, q: Float64) -> Float64:
        """τ in seconds."""
        return np.asarray(self.amplitude.value * q**-self.exponent.value, dtype=np.float64)


def fit_power_law(q: Float64, fits: Fits) -> PowerLaw | None:
    """Fit log τ over log q, of the good fits with q above 0; None if there are not three, or all have the same q.

    With τ as above, that of g2 and not of its square, D = 1/(τ q²): B. J. Berne, R. Pecora, "Dynamic Light Scattering"
    (1976), ch. 5. The scaling of errors is that of the Particle Data Group, Phys. Rev. D 110 (2024) 030001, 5.2.2.

    Args:
        q: (bins,).
    """
    use = fits.good & (q > 0)
    if use.sum() < 3 or np.ptp(q[use]) <= 1e-6 * q[use].max():
        return None
    chosen = [fit.tau for fit, used in zip(fits.bins, use, strict=True) if used]
    log_q = np.log(q[use])
    log_tau = np.log([tau.value for tau in chosen])
    weight = np.array([tau.value / tau.error for tau in chosen]) ** 2
    # About their centre, the mean and the slope do not depend on each other.
    center, mean = np.average(log_q, weights=weight), np.average(log_tau, weights=weight)
    moment = float((weight * (log_q - center) ** 2).sum())
    slope = float((weight * (log_q - center) * log_tau).sum()) / moment
    chi2 = float((weight * (log_tau - mean - slope * (log_q - center)) ** 2).sum()) / (len(log_q) - 2)
    scale = np.sqrt(max(1.0, chi2))
    amplitude = float(np.exp(mean - slope * center))
    error = amplitude * float(scale * np.sqrt(1.0 / weight.sum() + center**2 / moment))
    return PowerLaw(
        amplitude=Estimate(amplitude, error),
        exponent=Estimate(-slope, float(scale / np.sqrt(moment))),
        diffusion=_diffusion(log_q, log_tau, weight),
        chi2=chi2,
        bins=len(log_q),
    )


def _diffusion(log_q: Float64, log_tau: Float64, weight: Float64) -> Estimate:
    each = -(log_tau + 2.0 * log_q)
    mean = float(np.average(each, weights=weight))
    chi2 = float((weight * (each - mean) ** 2).sum()) / (len(each) - 1)
    value = float(np.exp(mean))
    return Estimate(value, value * float(np.sqrt(max(1.0, chi2) / weight.sum())))
