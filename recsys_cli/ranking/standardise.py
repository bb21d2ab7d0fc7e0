"""Numbers of features on one scale: their moments, standardising by them, and refusing what is not finite."""

from __future__ import annotations

import numpy as np

from recsys_cli.errors import DataError

LOG_ABOVE = 10.0
"""Features whose largest value is more than this many standard deviations off are compressed by a logarithm."""
CLIP = 5.0
"""Standardised numbers are clipped to ± this."""


def standardise(values: np.ndarray, logged: np.ndarray, mean, std) -> np.ndarray:
    """Raw float32[..., C] → compressed where `logged`, standardised and clipped to ±CLIP."""
    z = values.copy()
    long_tails = np.flatnonzero(logged)
    if len(long_tails):
        # logarithms are dear: of these columns only
        raw = values[..., long_tails]
        z[..., long_tails] = np.copysign(np.log1p(np.abs(raw)), raw)
    z -= np.asarray(mean, np.float32)
    z /= np.asarray(std, np.float32)
    return np.clip(z, -CLIP, CLIP, out=z)


def check_finite(values: np.ndarray, names) -> None:
    """Raises DataError naming the first column that holds NaN or infinite numbers, and how many."""
    for j, name in enumerate(names):
        bad = ~np.isfinite(values[:, j])
        if bad.any():
            raise DataError(
                f"feature {name!r} holds {int(bad.sum()):,} values that are NaN or infinite in {len(bad):,} rows, "
                f"the first in row {int(bad.argmax())}",
                "features must be finite: check the dataset's column behind it with `recsys data validate`",
            )


def moments(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Per column: whether its tail calls for a logarithm bool[C], and mean and standard deviation float32[C] after it.

    A constant column gets the standard deviation 1, so that it enters as 0.
    """
    n = values.shape[1]
    logged, mean, std = np.zeros(n, bool), np.zeros(n, np.float32), np.ones(n, np.float32)
    for j in range(n):
        column = values[:, j].astype(np.float64)
        spread = column.std()
        if spread > 0 and np.abs(column - column.mean()).max() > LOG_ABOVE * spread:
            logged[j] = True
            column = np.sign(column) * np.log1p(np.abs(column))
            spread = column.std()
        mean[j] = column.mean()
        if spread > 1e-6 * max(1.0, abs(mean[j])):
            std[j] = spread
    return logged, mean, std
