"""Logged rows and the distribution of a policy over actions, as arrays."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace

import numpy as np


@dataclass(frozen=True)
class LoggedRows:
    """n impressions that another policy showed.

    A *cell* is what the judged policy looks at: rows of one cell are drawn for by one distribution, and have one
    position.
    """

    action: np.ndarray
    """int32[n] in [0, n_actions)"""
    reward: np.ndarray
    """float64[n]"""
    propensity: np.ndarray
    """float64[n] in (0, 1], chance that the logging policy showed this action there"""
    cell: np.ndarray
    """int32[n]"""
    position: np.ndarray
    """int16[n] from 0"""
    unit: np.ndarray
    """int64[n] what is independent of one another (users, else requests, else rows), from 0"""
    slate: np.ndarray | None = None
    """int64[n] rows that were shown together, from 0; None where unknown"""

    def __len__(self) -> int:
        return len(self.action)

    def take(self, rows: np.ndarray) -> LoggedRows:
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(self, **{name: v[rows] for name, v in values.items() if v is not None})


@dataclass(frozen=True)
class PolicyTable:
    """The distribution of a policy over actions in every cell; what is not listed has probability 0."""

    cell: np.ndarray
    """int32[m] ascending"""
    action: np.ndarray
    """int32[m] ascending within a cell"""
    probability: np.ndarray
    """float64[m]"""
    position: np.ndarray
    """int16[cells] position of each cell"""
    n_actions: int
    _keys: np.ndarray = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_keys", self.cell.astype(np.int64) * self.n_actions + self.action)

    @classmethod
    def dense(cls, probability: np.ndarray, position: np.ndarray) -> PolicyTable:
        """probability: float64[cells, n_actions]. position: int16[cells]."""
        cell, action = np.nonzero(probability)
        return cls(
            cell.astype(np.int32), action.astype(np.int32), probability[cell, action], position, probability.shape[1]
        )

    @property
    def n_cells(self) -> int:
        return len(self.position)

    def of(self, cell: np.ndarray, action: np.ndarray) -> np.ndarray:
        """float64[n] the probability of each action in its cell."""
        if self.n_cells * self.n_actions <= 50_000_000:
            table = np.zeros(self.n_cells * self.n_actions)
            table[self._keys] = self.probability
            return table[cell.astype(np.int64) * self.n_actions + action]
        keys = cell.astype(np.int64) * self.n_actions + action
        if not len(self._keys):
            return np.zeros(len(keys))
        at = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        return np.where(self._keys[at] == keys, self.probability[at], 0.0)

    def expected(self, values: np.ndarray) -> np.ndarray:
        """float64[cells] expectation under the policy of values float64[m], one for each listed pair."""
        return np.bincount(self.cell, self.probability * values, minlength=self.n_cells)

    def total(self) -> np.ndarray:
        """float64[cells] what the probabilities of each cell sum to."""
        return np.bincount(self.cell, self.probability, minlength=self.n_cells)


def spread(values: np.ndarray, buckets: int) -> np.ndarray:
    """int64[n] a bucket for each whole number, the same for equal ones and even over all (SplitMix64)."""
    with np.errstate(over="ignore"):
        x = values.astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x ^= x >> np.uint64(31)
    return (x % np.uint64(buckets)).astype(np.int64)
