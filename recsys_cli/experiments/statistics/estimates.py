"""What an arm shows of a metric: its value and the variance of that value, from the first two moments of its users.

A metric is a ratio of two means, y/x with x = 1 for a mean over users; its variance is that of the delta method with
the user as the unit (Deng, Knoblich and Lu, KDD 2018). With a covariate ratio p/q from before the experiment it is
adjusted by θ times the covariate's difference to the mean of both arms (CUPED: Deng, Xu, Kohavi and Walker, WSDM
2013), where θ is found from both arms together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Moments:
    """First two moments of the columns (y, x, p, q) of some units; leading axes are further samples."""

    count: np.ndarray | float
    """units"""
    mean: np.ndarray
    """float64[..., 4]"""
    cov: np.ndarray
    """float64[..., 4, 4], divided by count − 1"""

    @classmethod
    def of(cls, columns: np.ndarray) -> Moments:
        """columns: float64[4, n] with n ≥ 2."""
        mean = columns.mean(axis=1)
        centred = columns - mean[:, None]
        return cls(columns.shape[1], mean, centred @ centred.T / (columns.shape[1] - 1))

    def __add__(self, other: Moments) -> Moments:
        count = self.count + other.count
        gap = self.mean - other.mean
        within = (self.count - 1) * self.cov + (other.count - 1) * other.cov
        between = self.count * other.count / count * gap[..., :, None] * gap[..., None, :]
        mean = (self.count * self.mean + other.count * other.mean) / count
        return Moments(count, mean, (within + between) / (count - 1))


@dataclass(frozen=True)
class Adjustment:
    """How much of the covariate is taken off: θ and the covariate's value over both arms."""

    theta: float = 0.0
    centre: float = 0.0

    @classmethod
    def of(cls, both: Moments) -> Adjustment:
        """θ by least squares over both arms together."""
        metric, covariate = directions(both.mean)
        spread = _form(covariate, both.cov, covariate)
        centre = float(both.mean[2] / both.mean[3])
        return cls(float(_form(metric, both.cov, covariate) / spread), centre) if spread > 0 else cls(0.0, centre)


@dataclass(frozen=True)
class Estimate:
    """A metric in one arm."""

    value: np.ndarray | float
    variance: np.ndarray | float
    """of the value: its squared standard error"""
    count: np.ndarray | float


def directions(mean: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """float64[..., 4] each: gradients of y/x and of p/q at the means."""
    y, x, p, q = np.moveaxis(mean, -1, 0)
    zero = np.zeros_like(y)
    return np.stack([1 / x, -y / x**2, zero, zero], -1), np.stack([zero, zero, 1 / q, -p / q**2], -1)


def estimate(moments: Moments, adjustment: Adjustment) -> Estimate:
    """Value and variance of the metric, adjusted; NaN where there is nothing to divide by."""
    with np.errstate(divide="ignore", invalid="ignore"):
        metric, covariate = directions(moments.mean)
        slope = metric - adjustment.theta * covariate
        y, x, p, q = np.moveaxis(moments.mean, -1, 0)
        value = y / x - adjustment.theta * (p / q - adjustment.centre)
        return Estimate(value, np.maximum(_form(slope, moments.cov, slope), 0) / moments.count, moments.count)


def spread(moments: Moments) -> tuple[float, float, float]:
    """Variances over units of the metric and of the covariate, and their covariance, by the delta method."""
    metric, covariate = directions(moments.mean)
    return (
        float(_form(metric, moments.cov, metric)),
        float(_form(covariate, moments.cov, covariate)),
        float(_form(metric, moments.cov, covariate)),
    )


def _form(a: np.ndarray, matrix: np.ndarray, b: np.ndarray) -> np.ndarray:
    return np.einsum("...i,...ij,...j->...", a, matrix, b)
