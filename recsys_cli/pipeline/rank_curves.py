"""Learned fusion of candidate lists: how much a place in each source's list says about engagement."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

KNOTS = (1, 3, 10, 30, 100, 300, 1000)
"""Ranks at which a curve has its values; straight in log rank between them, level beyond the last."""
MOST_ROWS = 150_000
"""Candidates without an interaction that are learned from, drawn evenly and weighted to stand for all."""
RIDGE = 2.0
LEAST = 0.01
"""Log-odds below which a source's first place is not worth asking for."""
TIE = 0.02
"""By how much the first place is preferred where a curve is level, falling with log rank to 0 at 100,000."""


def weights(values: Sequence[float], depth: int) -> np.ndarray:
    """float32[depth] weight of each rank, from a curve's values at `KNOTS`."""
    rank = np.arange(1, depth + 1)
    level = np.interp(np.log(rank), np.log(KNOTS), np.asarray(values, float))
    return (level + TIE * np.maximum(1 - np.log(rank) / np.log(100_000), 0)).astype(np.float32)


def learn_curves(
    lists: Mapping[str, np.ndarray], wanted: np.ndarray, n_items: int, seed: int
) -> dict[str, list[float]]:
    """A falling curve for each source that helps, such that the sum of a candidate's weights over the sources that
    proposed it is its log-odds of an interaction (logistic regression with non-negative steps between the knots).

    lists: source → int32[B, K] items of B users, best first, -1 filling. wanted: int64[m] keys `row · n_items + item`
    of what the users turned to. Sources whose curve stays below `LEAST` are left out.
    """
    from scipy.optimize import minimize

    keys = np.unique(np.concatenate([_keys(items, n_items)[0] for items in lists.values()]))
    label = np.isin(keys, wanted)
    others = np.flatnonzero(~label)
    drawn = np.random.default_rng(seed).permutation(others)[:MOST_ROWS]
    chosen = np.sort(np.concatenate([np.flatnonzero(label), drawn]))
    label, stands_for = label[chosen], np.where(label[chosen], 1.0, len(others) / max(len(drawn), 1))
    x = np.concatenate([_ramps(items, keys[chosen], n_items) for items in lists.values()], axis=1)

    def loss(theta: np.ndarray) -> tuple[float, np.ndarray]:
        logit = theta[0] + x @ theta[1:].astype(np.float32)
        missed = (stands_for * (1 / (1 + np.exp(-logit)) - label)).astype(np.float32)
        value = stands_for @ (np.logaddexp(0, logit) - label * logit) + RIDGE * theta[1:] @ theta[1:]
        return float(value), np.concatenate([[missed.sum()], x.T @ missed + 2 * RIDGE * theta[1:]]).astype(float)

    start = np.concatenate([[-5.0], np.full(x.shape[1], 0.05)])
    bounds = [(None, None)] + [(0, None)] * x.shape[1]
    steps = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds).x[1:].reshape(len(lists), -1)
    # a value is what all steps at and beyond its knot add up to
    values = np.round(np.cumsum(steps[:, ::-1], axis=1)[:, ::-1], 4)
    return {name: row.tolist() for name, row in zip(lists, values, strict=True) if row[0] >= LEAST}


def _keys(items: np.ndarray, n_items: int) -> tuple[np.ndarray, np.ndarray]:
    """(int64[m] keys of what stands in the lists, int64[m] its rank from 1)."""
    rows, columns = np.nonzero(items >= 0)
    return rows * np.int64(n_items) + items[rows, columns], columns + 1


def _ramps(items: np.ndarray, keys: np.ndarray, n_items: int) -> np.ndarray:
    """float32[m, knots]: 1 where the list has the key no later than the knot, falling to 0 at the next one."""
    held, rank = _keys(items, n_items)
    order = np.argsort(held)
    at = np.minimum(np.searchsorted(held[order], keys), max(len(held) - 1, 0))
    out = np.zeros((len(keys), len(KNOTS)), np.float32)
    if not len(held):
        return out
    there = held[order][at] == keys
    log, knots = np.log(rank[order][at[there]])[:, None], np.log(KNOTS)
    ramps = np.clip((knots[1:] - log) / np.diff(knots), 0, 1)
    out[there] = np.concatenate([ramps, np.ones((len(log), 1))], axis=1)
    return out
