"""What people did with the items of a list that the log happens to have shown them: the list's worth without the
log's taste.

Recall and NDCG count what people found by themselves or through the old policy, so that a list gains by proposing
what that policy proposed and loses by proposing what nobody was shown. Here only shown items of a list count, each
by the inverse of the probability with which it was shown: the self-normalised estimate of inverse propensity
scoring (Swaminathan and Joachims, NeurIPS 2015).
"""

from __future__ import annotations

import numpy as np

from recsys_cli.data.log import Log

SMALLEST = 1e-4
"""Propensities below count as this much, which bounds the weight of a row at the price of some bias."""


def replayed_rate(
    items: np.ndarray, users: np.ndarray, log: Log, n_items: int, k: int, *, resamples: int, seed: int
) -> tuple[float, float, float]:
    """Share of interactions among the first k items of lists, had all of them been shown: value, low, high.

    items: int32[U, K], -1 in empty slots. users: int32[U] positions, ascending, whose lists they are. log:
    impressions of the test window with propensities; rows without one are left out. The interval of 95 % comes from
    resampling users. NaN where the log holds none of the listed items.
    """
    top = items[:, :k]
    row, column = np.nonzero(top >= 0)
    listed = np.sort(users[row].astype(np.int64) * n_items + top[row, column])
    keys = log.user.astype(np.int64) * n_items + log.item
    matched = np.isfinite(log.propensity) & np.isin(keys, listed)
    weight = 1.0 / np.maximum(log.propensity[matched].astype(float), SMALLEST)
    place = np.searchsorted(users, log.user[matched])
    above = np.bincount(place, weights=weight * log.positive[matched], minlength=len(users))
    below = np.bincount(place, weights=weight, minlength=len(users))
    if not below.any():
        return float("nan"), float("nan"), float("nan")
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(len(users), np.full(len(users), 1 / len(users)), size=resamples)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = (drawn @ above) / (drawn @ below)
    low, high = np.nanquantile(ratio, [0.025, 0.975])
    return float(above.sum() / below.sum()), float(low), float(high)
