"""What an action is expected to earn: means of the log, shrunk towards coarser means where rows are few.

The mean of an action is shrunk to that of all rows, its mean at a position to that of the action, and its mean in a
cell to that at the position (an empirical Bayes hierarchy with a fixed prior strength).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recsys_cli.off_policy_estimates.rows import LoggedRows, PolicyTable, spread

STRENGTH = 20.0
"""Rows that a coarser mean counts for."""


@dataclass(frozen=True)
class RewardModel:
    """Expected reward of an action by position, and by cell where a cell is more than a position."""

    by_position: np.ndarray
    """float64[n_actions, positions]"""
    keys: np.ndarray
    """int64[c] cell × n_actions + action, ascending, of pairs that were seen"""
    deviation: np.ndarray
    """float64[c] what the cell adds"""

    def predict(self, action: np.ndarray, position: np.ndarray, cell: np.ndarray) -> np.ndarray:
        """float64[n] expected reward."""
        out = self.by_position[action, position]
        if not len(self.keys):
            return out
        keys = cell.astype(np.int64) * len(self.by_position) + action
        at = np.minimum(np.searchsorted(self.keys, keys), len(self.keys) - 1)
        return out + np.where(self.keys[at] == keys, self.deviation[at], 0.0)


def fit_rewards(
    rows: LoggedRows, n_actions: int, positions: int, by_cell: bool, reward: np.ndarray | None = None
) -> RewardModel:
    """Fit to the rows' rewards, or to `reward` float64[n] in their place. by_cell: whether cells tell more than the
    position."""
    y = rows.reward if reward is None else reward
    base = y.mean() if len(y) else 0.0
    key = rows.action.astype(np.int64) * positions + rows.position
    n = np.bincount(key, minlength=n_actions * positions).reshape(n_actions, positions)
    s = np.bincount(key, y, minlength=n_actions * positions).reshape(n_actions, positions)
    # a position has its own level, which all actions at it share
    level = (s.sum(0) + STRENGTH * base) / (n.sum(0) + STRENGTH) - base
    own = (s - n * level).sum(1)
    action = (own + STRENGTH * base) / (n.sum(1) + STRENGTH)
    table = (s + STRENGTH * (action[:, None] + level)) / (n + STRENGTH)
    if not by_cell:
        return RewardModel(table, np.zeros(0, np.int64), np.zeros(0))
    keys, place, count = np.unique(
        rows.cell.astype(np.int64) * n_actions + rows.action, return_inverse=True, return_counts=True
    )
    residual = np.bincount(place, y - table[rows.action, rows.position])
    return RewardModel(table, keys, residual / (count + STRENGTH))


@dataclass(frozen=True)
class Foretold:
    """What a reward model that has not seen a row's unit says of the row."""

    logged: np.ndarray
    """float64[n] of the action that was shown"""
    of_policy: np.ndarray
    """float64[n] expectation under the judged policy"""


def cross_fitted(
    rows: LoggedRows, policy: PolicyTable, folds: int, reward: np.ndarray | None = None
) -> Foretold:
    """Expected rewards by models fitted on the other folds of units (Chernozhukov et al., 2018)."""
    positions = int(policy.position.max(initial=0)) + 1
    by_cell = policy.n_cells > positions
    fold = spread(rows.unit, folds)
    logged, expected = np.zeros(len(rows)), np.zeros(len(rows))
    at_pair = policy.position[policy.cell]
    for k in range(folds):
        inside = np.flatnonzero(fold == k)
        outside = np.flatnonzero(fold != k)
        model = fit_rewards(
            rows.take(outside), policy.n_actions, positions, by_cell, None if reward is None else reward[outside]
        )
        logged[inside] = model.predict(rows.action[inside], rows.position[inside], rows.cell[inside])
        of_cell = policy.expected(model.predict(policy.action, at_pair, policy.cell))
        expected[inside] = of_cell[rows.cell[inside]]
    return Foretold(logged, expected)
