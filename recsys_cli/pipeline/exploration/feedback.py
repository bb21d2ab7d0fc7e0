"""What impressions taught of items and of the ranking: the counters from which the posteriors of exploration follow.

The counters are arrays of `State.feedback`, beside the impressions and interactions that every state counts. Whoever
serves adds what came of each impression (`learned`); nothing else changes them, and sums can be added in any order.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from recsys_cli.data.state import State
from recsys_cli.pipeline.exploration.linear_features import WIDTH

ITEM_COUNTERS = ("shown", "taken", "reward", "utility")
"""Of each item: impressions with feedback, those with an interaction, sum of rewards, sum of utilities as served."""
MOMENTS = ("n", "utility", "utility2", "taken", "utility_taken", "reward", "utility_reward", "reward2")
"""Sums over all impressions with feedback, from which the calibration of the utility follows."""
ENOUGH = 200
"""Impressions with feedback from which on the ranking is calibrated by them."""
LEAST_RATE, MOST_RATE = 1e-4, 0.999


def learned(
    feedback: dict[str, np.ndarray], items: np.ndarray, utility: np.ndarray, taken: np.ndarray, reward: np.ndarray,
    features: np.ndarray | None, n_items: int,
) -> dict[str, np.ndarray]:
    """The counters with m further impressions; those given stay as they are.

    items: int32[m]. utility: float[m] by which each was ranked. taken: bool[m] any positive action. reward: float[m]
    what the actions were worth. features: float[m, WIDTH] as `linear_features` gave them when the item was shown; None
    where the ranking was not calibrated yet. n_items: items of the catalogue, which may have grown.
    """
    out = dict(feedback)  # counters of others stay as they are
    values = {"shown": np.ones(len(items)), "taken": taken, "reward": reward, "utility": utility}
    for name in ITEM_COUNTERS:
        held = feedback.get(f"item_{name}", np.zeros(0))
        held = np.concatenate([held, np.zeros(max(n_items - len(held), 0))])
        out[f"item_{name}"] = held + np.bincount(items, weights=values[name], minlength=len(held))
    u, t, r = (np.asarray(v, np.float64) for v in (utility, taken, reward))
    sums = [len(items), u.sum(), u @ u, t.sum(), u @ t, r.sum(), u @ r, r @ r]
    out["moments"] = feedback.get("moments", np.zeros(len(MOMENTS))) + np.array(sums, np.float64)
    gram, moment = feedback.get("gram", np.zeros((WIDTH, WIDTH))), feedback.get("moment", np.zeros(WIDTH))
    if features is not None:
        x = np.asarray(features, np.float64)
        gram, moment = gram + x.T @ x, moment + x.T @ t
    return out | {"gram": gram, "moment": moment}


@dataclass(frozen=True)
class Line:
    """reward ≈ base + slope × utility."""

    base: float
    slope: float

    def __call__(self, utility: np.ndarray) -> np.ndarray:
        return self.base + self.slope * utility


@dataclass(frozen=True)
class Learned:
    """What the counters of a state say."""

    state: State

    @cached_property
    def moments(self) -> dict[str, float]:
        values = self.state.feedback.get("moments", np.zeros(len(MOMENTS)))
        return dict(zip(MOMENTS, values.tolist(), strict=True))

    def counter(self, name: str) -> np.ndarray:
        """float64[n_items] of one of ITEM_COUNTERS."""
        held, n = self.state.feedback.get(f"item_{name}", np.zeros(0)), self.state.catalogue.n_items
        return np.concatenate([held, np.zeros(max(n - len(held), 0))])[:n]

    @cached_property
    def base_rate(self) -> float:
        """Interactions per impression over the whole catalogue; a tenth where nothing was ever shown."""
        shown = float(self.state.impressions.sum()) or float(self.counter("shown").sum())
        taken = float(self.state.interactions.sum()) or float(self.counter("taken").sum())
        return float(np.clip(taken / shown, LEAST_RATE, 0.9)) if shown else 0.1

    @cached_property
    def strength(self) -> float:
        """Impressions that the prior of an item's rate counts for: that of a Beta distribution whose variance is what
        the rates of items differ beyond chance (method of moments), between 2 and 1,000."""
        n = np.maximum(self.state.impressions, self.counter("shown"))
        s = np.maximum(self.state.interactions, self.counter("taken"))
        often = n >= 5
        if often.sum() < 10:
            return 10.0
        p, rate = self.base_rate, s[often] / n[often]
        noise = p * (1 - p) / n[often]
        between = float(np.average((rate - p) ** 2 - noise, weights=n[often]))
        return float(np.clip(p * (1 - p) / max(between, 1e-9) - 1, 2, 1000))

    @property
    def rate_sd(self) -> float:
        """Standard deviation of the rates of items by their prior."""
        return float(np.sqrt(self.base_rate * (1 - self.base_rate) / (self.strength + 1)))

    def line(self, target: str) -> Line | None:
        """`target` ("taken" or "reward") as a linear function of the utility, by least squares over all impressions
        with feedback; None below ENOUGH of them. Where a higher utility brought no more it says nothing."""
        m = self.moments
        n = m["n"]
        if n < ENOUGH:
            return None
        spread = m["utility2"] - m["utility"] ** 2 / n
        slope = 0.0
        if spread > 1e-9 * max(m["utility2"], 1e-12):
            slope = max((m[f"utility_{target}"] - m["utility"] * m[target] / n) / spread, 0.0)
        return Line((m[target] - slope * m["utility"]) / n, slope)

    def expected(self, target: str, utility: np.ndarray, filled: np.ndarray) -> np.ndarray:
        """float64[B, K] what the ranking expects of each candidate, in the unit of `target`: by `line`, and before
        there is one the usual value, spread as far as the items of the catalogue differ. Its order is that of the
        utility."""
        line, utility = self.line(target), utility.astype(np.float64)
        if line is not None:
            return line(utility)
        if target == "reward":  # taken as it stands: the utility is what an impression is expected to be worth
            return utility
        n = np.maximum(filled.sum(axis=1, keepdims=True), 1)
        mean = np.where(filled, utility, 0).sum(axis=1, keepdims=True) / n
        sd = np.sqrt(np.where(filled, (utility - mean) ** 2, 0).sum(axis=1, keepdims=True) / n)
        return self.base_rate + self.rate_sd * (utility - mean) / np.maximum(sd, 1e-9)
