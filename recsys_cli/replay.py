"""What people did with the items of a list that the log happens to have shown them: the list's worth without the
log's taste.

Recall and NDCG count what people found by themselves or through the old policy, so that a list gains by proposing
what that policy proposed and loses by proposing what nobody was shown. Here only shown items of a list count, each
by the inverse of the probability with which it was shown: the policy that shows the list and nothing else, judged by
the self-normalised estimate that `recsys off-policy` gives too (`off_policy_estimates.single`). A reward model for the
doubly robust one is not at hand here: it would be one of the rankers that are to be chosen between.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from recsys_cli.data.log import Log
from recsys_cli.off_policy_estimates.single import importance, self_normalised_ips

SMALLEST = 1e-4
"""Propensities below count as this much, which bounds the weight of a row at the price of some bias."""


def replayed(
    items: np.ndarray, users: np.ndarray, log: Log, n_items: int, ks: Sequence[int]
) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """Weighted interactions and impressions of each user among the first k items of a list: k → float64[U] twice.

    The sum of the first over that of the second is the share of interactions had all of the listed items been shown.
    items: int32[U, K], -1 in empty slots. users: int32[U] positions, ascending, whose lists they are. log: impressions
    of the test window with propensities; rows without one are left out.
    """
    row, column = np.nonzero(items >= 0)
    listed = users[row].astype(np.int64) * n_items + items[row, column]
    order = np.argsort(listed)
    listed, column = listed[order], column[order]
    out = {}
    keys = log.user.astype(np.int64) * n_items + log.item
    at = np.minimum(np.searchsorted(listed, keys), max(len(listed) - 1, 0))
    matched = np.isfinite(log.propensity) & (listed[at] == keys if len(listed) else np.zeros(len(log), bool))
    propensity, positive = log.propensity[matched], log.positive[matched]
    place = np.searchsorted(users, log.user[matched])
    rank = column[at[matched]] if len(listed) else at[matched]
    for k in ks:
        parts = self_normalised_ips(importance(rank < k, propensity, SMALLEST), positive)
        out[k] = tuple(np.bincount(place, weights=part, minlength=len(users)) for part in parts)
    return out
