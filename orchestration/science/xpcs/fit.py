"""Fits of g2 over the lag, and of what they find over q.

Speckle of Gaussian fields has g2(t) = baseline + contrast |f(t)|² (the Siegert relation), where f, the normalised
intermediate scattering function, is exp(-t/τ) for Brownian motion, or exp(-(t/τ)^γ): stretched (γ < 1) where there are
many relaxation times, compressed (γ > 1) where stress relaxes. See G. Grübel, A. Madsen, A. Robert in "Soft Matter
Characterization", Springer (2008), 953; L. B. Lumma et al., Rev. Sci. Instrum. 71 (2000) 3274; and for γ
G. Williams, D. C. Watts, Trans. Faraday Soc. 66 (1970) 80.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from orchestration.science.errors import ParametersInvalid
from orchestration.science.stopping import look

Float64 = NDArray[np.float64]
Bool = NDArray[np.bool_]
Model = Literal["single", "stretched"]
MODELS: tuple[Model, ...] = get_args(Model)

GAMMA = (0.2, 3.0)
"""Bounds of the exponent: outside of them a curve is a step, or nothing but a slope."""
BEYOND = 10.0
"""τ may be this much shorter than the first lag or longer than the last; g2 has no sign of what is further off."""
FLOOR = 0.01
"""Errors below this part of the median error of their bin are raised to it: no lag alone may decide a fit."""
SPARE = 2
"""So many more lags than parameters are needed."""
LARGEST_ERROR = 0.5
"""Of τ, relative: what is known less well is not known."""
SIGNIFICANT = 3.0
"""So many standard errors must the contrast be above 0."""
MISFIT = 10.0
"""Reduced χ² above which the model is not that of the data, whatever is thought of the errors."""

_STEPS = 100
_TOLERANCE = 1e-6
"""Of χ²: parameters are then within a thousandth of their standard errors of the best ones."""
_LEAST_DAMPING = 1e-9
_LOG_TAUS = 40
_GAMMAS = (0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0)


class Quality(enum.StrEnum):
    """Why a fit can be relied on, or not; the first that holds, from the top."""

    TOO_FEW_LAGS = "too_few_lags"
    """Too few lags have a g2 and an error: nothing was fitted."""
    NOT_CONVERGED = "not_converged"
    AT_BOUND = "at_bound"
    """A parameter would leave the range in which it makes sense."""
    OUTSIDE_LAGS = "outside_lags"
    """τ is shorter than the first lag used or longer than the last."""
    PLATEAU = "plateau"
    """g2 ends further above 1 than it has fallen: a slower relaxation, or static scattering, is behind what is seen."""
    NO_CONTRAST = "no_contrast"
    """The contrast is not significantly above 0."""
    UNCERTAIN = "uncertain"
    """The standard error of τ is large, or there is none."""
    MISFIT = "misfit"
    """The curve does not go through the points."""
    GOOD = "good"


@dataclass(frozen=True)
class Estimate:
    """A value and its standard error; NaN where there is none. The error of a parameter that is held fixed is 0."""

    value: float
    error: float


NOTHING = Estimate(float("nan"), float("nan"))


@dataclass(frozen=True, kw_only=True)
class Fit:
    """Of one bin. Standard errors come from the covariance and the errors of g2 as they are, without any scaling."""

    quality: Quality
    lags: int
    """How many were used."""
    baseline: Estimate = NOTHING
    contrast: Estimate = NOTHING
    tau: Estimate = NOTHING
    """Seconds."""
    gamma: Estimate = NOTHING
    chi2: float = float("nan")
    """Reduced: over the degrees of freedom."""

    @property
    def good(self) -> bool:
        return self.quality is Quality.GOOD

    @property
    def fitted(self) -> bool:
        """Whether there is a curve at all, good or not."""
        return self.quality is not Quality.TOO_FEW_LAGS

    def curve(self, seconds: Float64) -> Float64:
        """g2 at these lags."""
        decay = np.exp(-2.0 * (seconds / self.tau.value) ** self.gamma.value)
        return np.asarray(self.baseline.value + self.contrast.value * decay, dtype=np.float64)


@dataclass(frozen=True, kw_only=True)
class Fits:
    """Of all bins, in their order."""

    model: Model
    bins: tuple[Fit, ...]

    @property
    def good(self) -> Bool:
        return np.array([fit.good for fit in self.bins], dtype=np.bool_)


def fit_g2(seconds: Float64, g2: Float64, errors: Float64, *, model: Model = "single") -> Fits:
    """Fit each bin: g2 = baseline + contrast exp(-2 (t/τ)^γ), where γ is 1 in the model `single`.

    A lag is left out where g2 or its error is not finite, or the error is not above 0: the last lags of a multi-tau
    correlation, of which only one pair of frames is known, have an error of 0, and bins of one pixel have none at all.
    Starts from the best point of a grid over τ and γ, on which the two other parameters are solved for (G. H. Golub,
    V. Pereyra, SIAM J. Numer. Anal. 10 (1973) 413), and goes on as D. W. Marquardt does (J. SIAM 11 (1963) 431), all
    bins at a time.

    Args:
        seconds: (T,), above 0 and ascending.
        g2, errors: (T, bins).

    Raises:
        ParametersInvalid: if the shapes do not fit each other, or lags are not above 0 and ascending.
    """
    if g2.shape != errors.shape or g2.ndim != 2 or seconds.shape != g2.shape[:1]:
        what = f"lags of shape {seconds.shape} do not fit g2 of {g2.shape} with errors of {errors.shape}"
        raise ParametersInvalid(what, where="fit of g2", next_step="give (T,), (T, bins) and (T, bins)")
    if len(seconds) and not (seconds[0] > 0 and (np.diff(seconds) > 0).all()):
        raise ParametersInvalid("lags are not above 0 and ascending", where="fit of g2")
    points = _Points.of(seconds, g2.T, errors.T)
    count = 4 if model == "stretched" else 3
    enough = points.used.sum(axis=1) >= count + SPARE
    found = iter(_fitted(points.select(enough), model) if enough.any() else ())
    lags = points.used.sum(axis=1).tolist()
    bins = (
        next(found) if able else Fit(quality=Quality.TOO_FEW_LAGS, lags=held)
        for able, held in zip(enough, lags, strict=True)
    )
    return Fits(model=model, bins=tuple(bins))


@dataclass(frozen=True, kw_only=True)
class _Points:
    """What is fitted, (bins, T); the weight 1/error of a lag that is left out is 0."""

    log_time: Float64
    """(T,)."""
    value: Float64
    weight: Float64

    @property
    def used(self) -> Bool:
        return self.weight > 0

    @classmethod
    def of(cls, seconds: Float64, value: Float64, errors: Float64) -> _Points:
        used = np.isfinite(value) & np.isfinite(errors) & (errors > 0)
        usual = np.array([np.median(row[here]) if here.any() else 1.0 for row, here in zip(errors, used, strict=True)])
        safe = np.maximum(np.where(used, errors, 1.0), FLOOR * usual[:, None])
        return cls(log_time=np.log(seconds), value=np.where(used, value, 0.0), weight=np.where(used, 1.0 / safe, 0.0))

    def select(self, bins: Bool) -> _Points:
        return _Points(log_time=self.log_time, value=self.value[bins], weight=self.weight[bins])

    @property
    def range(self) -> tuple[Float64, Float64]:
        """(bins,), the logarithms of the first and of the last lag used."""
        times = np.broadcast_to(self.log_time, self.used.shape)
        return (
            np.where(self.used, times, np.inf).min(axis=1),
            np.where(self.used, times, -np.inf).max(axis=1),
        )

    @property
    def bounds(self) -> Float64:
        """(2, bins, 4): the least and the largest baseline, contrast, log τ and γ."""
        low = np.where(self.used, self.value, np.inf).min(axis=1)
        high = np.where(self.used, self.value, -np.inf).max(axis=1)
        span = np.maximum(high - low, 1e-12)
        first, last = self.range
        # Where τ is shorter than the first lag, the contrast is more than what is seen of it; physics ends at 1.
        contrast = np.maximum(1.0, 3.0 * span)
        margin = np.log(BEYOND)
        least = (low - span, np.zeros_like(span), first - margin, np.full_like(span, GAMMA[0]))
        most = (high + span, contrast, last + margin, np.full_like(span, GAMMA[1]))
        return np.stack([np.stack(least, axis=1), np.stack(most, axis=1)])


def _fitted(points: _Points, model: Model) -> list[Fit]:
    free = 4 if model == "stretched" else 3
    bounds = points.bounds
    start = _start(points, model, bounds)
    values, converged = _descend(points, start, bounds, free)
    return _judged(points, values, converged, bounds, free)


def _start(points: _Points, model: Model, bounds: Float64) -> Float64:
    """(bins, 4): the best of a grid over τ and γ, with baseline and contrast by linear least squares."""
    first, last = points.range
    squares = points.weight**2
    best = np.full(len(first), np.inf)
    found = np.ones((len(first), 4))
    total, mean = squares.sum(axis=1), (squares * points.value).sum(axis=1)
    for gamma in _GAMMAS if model == "stretched" else (1.0,):
        for share in np.linspace(0.0, 1.0, _LOG_TAUS):
            look()
            log_tau = first + share * (last - first)
            decay = np.exp(-2.0 * np.exp(gamma * (points.log_time - log_tau[:, None])))
            sx, sxx = (squares * decay).sum(axis=1), (squares * decay**2).sum(axis=1)
            sxy = (squares * decay * points.value).sum(axis=1)
            determinant = np.maximum(total * sxx - sx**2, 1e-30)
            contrast = np.maximum((total * sxy - sx * mean) / determinant, 0.0)
            baseline = (mean - contrast * sx) / total
            rest = (points.weight * (points.value - baseline[:, None] - contrast[:, None] * decay)) ** 2
            cost = rest.sum(axis=1)
            here = np.stack([baseline, contrast, log_tau, np.full_like(cost, gamma)], axis=1)
            found = np.where((cost < best)[:, None], here, found)
            best = np.minimum(best, cost)
    return np.clip(found, bounds[0], bounds[1])


def _rest(points: _Points, values: Float64) -> tuple[Float64, Float64]:
    """Weighted residuals (bins, T) and their derivatives (bins, T, 4)."""
    baseline, contrast, log_tau, gamma = (column[:, None] for column in values.T)
    distance = points.log_time - log_tau
    power = np.exp(np.minimum(gamma * distance, 50.0))
    decay = np.exp(-2.0 * power)
    slope = 2.0 * contrast * power * decay
    rest = points.weight * (baseline + contrast * decay - points.value)
    parts = (np.ones_like(decay), decay, slope * gamma, -slope * distance)
    return rest, points.weight[:, :, None] * np.stack(parts, axis=2)


def _descend(points: _Points, values: Float64, bounds: Float64, free: int) -> tuple[Float64, Bool]:
    """Steps between Newton's and the gradient's, cut off at the bounds, until no bin would gain by another."""
    values = values.copy()
    damping = np.full(len(values), 1e-3)
    rest, slopes = _rest(points, values)
    for _ in range(_STEPS):
        look()
        local = (rest, slopes[:, :, :free], values[:, :free], bounds[:, :, :free])
        done = _step(*local, np.full_like(damping, _LEAST_DAMPING))[1] <= _TOLERANCE
        if done.all():
            break
        trial = values.copy()
        trial[:, :free] += _step(*local, damping)[0]
        trial = np.clip(trial, bounds[0], bounds[1])
        new_rest, new_slopes = _rest(points, trial)
        better = ((new_rest**2).sum(axis=1) <= (rest**2).sum(axis=1)) & ~done
        values[better], rest[better], slopes[better] = trial[better], new_rest[better], new_slopes[better]
        damping = np.where(better, np.maximum(damping / 5.0, _LEAST_DAMPING), np.minimum(damping * 4.0, 1e12))
    return values, done


def _step(
    rest: Float64, slopes: Float64, values: Float64, bounds: Float64, damping: Float64
) -> tuple[Float64, Float64]:
    """The step (bins, free), and by how much χ² would fall (bins,) if it were as smooth as it looks here.

    A parameter at a bound that the gradient pushes it against is left where it is.
    """
    curvature = np.einsum("bti,btj->bij", slopes, slopes)
    gradient = np.einsum("bti,bt->bi", slopes, rest)
    moving = ~(((values <= bounds[0]) & (gradient > 0)) | ((values >= bounds[1]) & (gradient < 0)))
    downhill = np.where(moving, -gradient, 0.0)
    scale = np.maximum(np.einsum("bii->bi", curvature), 1e-12)
    extra = np.where(moving, damping[:, None] * scale, 1.0)
    both = moving[:, :, None] & moving[:, None, :]
    matrix = np.where(both, curvature, 0.0) + extra[:, :, None] * np.eye(values.shape[1])
    step = np.asarray(np.linalg.solve(matrix, downhill[:, :, None])[:, :, 0], dtype=np.float64)
    return step, (step * downhill).sum(axis=1)


def _judged(points: _Points, values: Float64, converged: Bool, bounds: Float64, free: int) -> list[Fit]:
    rest, slopes = _rest(points, values)
    errors = _errors(slopes[:, :, :free])
    lags = points.used.sum(axis=1)
    chi2 = (rest**2).sum(axis=1) / (lags - free)
    near = 1e-6 * (bounds[1] - bounds[0])
    stuck = ((values <= bounds[0] + near) | (values >= bounds[1] - near))[:, :free].any(axis=1)
    first, last = points.range
    found = []
    for index, (baseline, contrast, log_tau, gamma) in enumerate(values.tolist()):
        error = [*errors[index].tolist(), 0.0][:4]
        conditions = (
            (Quality.NOT_CONVERGED, not converged[index]),
            (Quality.AT_BOUND, stuck[index]),
            (Quality.OUTSIDE_LAGS, not first[index] <= log_tau <= last[index]),
            (Quality.PLATEAU, baseline - 1.0 > contrast),
            (Quality.NO_CONTRAST, contrast < SIGNIFICANT * error[1]),
            # Written so that an error that is not a number is no small one.
            (Quality.UNCERTAIN, not error[2] <= LARGEST_ERROR or not np.isfinite(error).all()),
            (Quality.MISFIT, not chi2[index] <= MISFIT),
        )
        tau = float(np.exp(log_tau))
        fit = Fit(
            quality=next((quality for quality, holds in conditions if holds), Quality.GOOD),
            lags=int(lags[index]),
            baseline=Estimate(baseline, error[0]),
            contrast=Estimate(contrast, error[1]),
            tau=Estimate(tau, tau * error[2]),
            gamma=Estimate(gamma, error[3]),
            chi2=float(chi2[index]),
        )
        found.append(fit)
    return found


def _errors(slopes: Float64) -> Float64:
    """(bins, free): the roots of the diagonal of the covariance; NaN where the data do not determine a parameter."""
    curvature = np.einsum("bti,btj->bij", slopes, slopes)
    scale = np.sqrt(np.einsum("bii->bi", curvature))
    safe = np.where(scale > 0, scale, 1.0)
    even = curvature / (safe[:, :, None] * safe[:, None, :])
    values, vectors = np.linalg.eigh(even)
    known = (scale > 0).all(axis=1) & (values[:, 0] > 1e-12)
    variance = np.einsum("bij,bj->bi", vectors**2, 1.0 / np.where(known[:, None], values, 1.0))
    return np.where(known[:, None], np.sqrt(variance) / safe, np.nan)
