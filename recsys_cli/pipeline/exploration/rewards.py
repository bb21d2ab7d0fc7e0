"""What impressions were worth, added to the counters of a state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from recsys_cli.data.state import State
from recsys_cli.pipeline.exploration.feedback import Learned, learned
from recsys_cli.pipeline.exploration.linear_features import linear_features


def reward_of(
    actions: Mapping[str, np.ndarray], dwell: np.ndarray | None, weights: Mapping[str, float], negative: tuple[str, ...]
) -> np.ndarray:
    """float64 of the shape of the actions: the sum of the weights of what was done, negative actions subtracted, and of
    the seconds of dwell where they are known."""
    total = 0.0 if dwell is None else weights.get("dwell", 0.0) * np.nan_to_num(dwell)
    for action, done in actions.items():
        weight = weights.get(action, 0.0)
        total = total + (-weight if action in negative else weight) * done
    return np.asarray(total, np.float64)


def with_feedback(
    state: State, users: np.ndarray, items: np.ndarray, utility: np.ndarray, actions: Mapping[str, np.ndarray],
    dwell: np.ndarray | None, weights: Mapping[str, float], positive: tuple[str, ...], negative: tuple[str, ...],
) -> State:
    """The state that knows what came of slates which were served as of it.

    users: int32[B]. items: int32[B, n], -1 empty. utility: float[B, n] as served. actions: name → bool[B, n]. dwell:
    float[B, n] seconds, NaN unknown. weights: of actions and of "dwell" in the utility.
    """
    shown = items >= 0
    reward = np.broadcast_to(reward_of(actions, dwell, weights, negative), items.shape)
    taken = any_of(actions, positive, items.shape)
    known, features = Learned(state), None
    if known.line("taken") is not None:
        expected = known.expected("taken", utility, shown)
        features = linear_features(state, np.asarray(users), items, expected)[shown]
    counters = learned(
        state.feedback, items[shown], utility[shown], taken[shown], reward[shown], features, state.catalogue.n_items
    )
    return replace(state, feedback=counters)


def any_of(actions: Mapping[str, np.ndarray], names: tuple[str, ...], shape: tuple[int, ...]) -> np.ndarray:
    """bool of a shape: whether any of the named actions was done."""
    out = np.zeros(shape, bool)
    for action in names:
        out |= actions.get(action, False)
    return out
