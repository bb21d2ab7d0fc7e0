"""The rate at which an item is taken, against what the ranking expected of it: a Beta posterior by item."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from recsys_cli.pipeline.exploration.feedback import LEAST_RATE, MOST_RATE, Learned, Line


class Lift(NamedTuple):
    """What is known of the rates of items; arrays float64[n_items].

    The ranking's own estimate m of a user and an item is corrected by how much oftener the item is taken than
    expected: the rate of the candidate is m × q / expected, q being the rate of the item. Impressions of before there
    was feedback count as having gone as expected: they make an item well known without changing its place.
    """

    taken: np.ndarray
    """first parameter of the Beta distribution of q"""
    passed: np.ndarray
    """second parameter"""
    expected: np.ndarray
    """mean rate that the ranking expected"""

    @property
    def shown(self) -> np.ndarray:
        """Impressions behind each, those of the prior included."""
        return self.taken + self.passed

    @classmethod
    def of(cls, learned: Learned) -> Lift:
        state, base, prior = learned.state, learned.base_rate, learned.strength
        shown, taken, utility = (learned.counter(name) for name in ("shown", "taken", "utility"))
        # the counts of a state hold what was fed back, once the log has it
        all_shown = np.maximum(state.impressions.astype(np.float64), shown)
        all_taken = np.minimum(np.maximum(state.interactions.astype(np.float64), taken), all_shown)
        line = learned.line("taken") or Line(base, 0.0)
        foretold = line.base * shown + line.slope * utility
        foretold = np.clip(foretold, LEAST_RATE * shown, MOST_RATE * shown)
        a, n = base * prior + all_taken, prior + all_shown
        expected = (base * prior + all_taken - taken + foretold) / n
        return cls(a, np.maximum(n - a, 1e-3), np.maximum(expected, LEAST_RATE))


def candidate_rates(learned: Learned, utility: np.ndarray, filled: np.ndarray) -> np.ndarray:
    """float64[B, K] the rate that the ranking expects of each candidate, in (0, 1)."""
    return np.clip(learned.expected("taken", utility, filled), LEAST_RATE, MOST_RATE)
