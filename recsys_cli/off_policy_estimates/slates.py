"""Estimators of the summed reward of a slate, had another policy filled it.

Arrays are [slates, places]; ratios are 1 and rewards 0 in places that a short slate leaves empty. `ratio` is, place by
place, the judged policy's probability of the item over the logging policy's, each given what stands above.
"""

from __future__ import annotations

import numpy as np

from recsys_cli.off_policy_estimates.single import Contributions

EVERY = ("slate_standard_ips", "slate_independent_ips", "slate_reward_interaction_ips", "slate_pseudo_inverse",
         "slate_cascade_doubly_robust")


def standard_ips(ratio: np.ndarray, reward: np.ndarray) -> Contributions:
    """The slate as one action: the product of all ratios. Assumes nothing, and varies most."""
    return _of_slates(ratio.prod(axis=1) * reward.sum(axis=1))


def independent_ips(ratio: np.ndarray, reward: np.ndarray) -> Contributions:
    """A place's reward depends on its own item alone (Li et al., KDD 2018)."""
    return _of_slates((ratio * reward).sum(axis=1))


def reward_interaction_ips(ratio: np.ndarray, reward: np.ndarray) -> Contributions:
    """A place's reward depends on it and what stands above (McInerney et al., KDD 2020)."""
    return _of_slates((np.cumprod(ratio, axis=1) * reward).sum(axis=1))


def pseudo_inverse(ratio: np.ndarray, reward: np.ndarray, weight: np.ndarray | None = None) -> Contributions:
    """The slate's reward is a sum over its places, which need not be seen singly (Swaminathan et al., NeurIPS 2017);
    the weight 1 + Σ (ratio − 1) of policies that draw every place by itself (Vlassis et al., ICML 2021), or that of
    `pseudo_inverse_weights`."""
    weight = 1 + (ratio - 1).sum(axis=1) if weight is None else weight
    return _of_slates(weight * reward.sum(axis=1))


def cascade_doubly_robust(
    ratio: np.ndarray, reward: np.ndarray, foretold: np.ndarray, expected: np.ndarray
) -> Contributions:
    """Reward interaction, with a model of what a place and those below it earn (Kiyohara et al., WSDM 2022).

    foretold: float64[S, L] the model's reward from each place on, given its item; expected: its expectation under the
    judged policy. Empty places hold 0 in both.
    """
    through = np.cumprod(ratio, axis=1)
    before = np.concatenate([np.ones((len(ratio), 1)), through[:, :-1]], axis=1)
    return _of_slates((through * (reward - foretold) + before * expected).sum(axis=1))


def pseudo_inverse_weights(
    gamma: np.ndarray, chance: np.ndarray, position: np.ndarray, cell: np.ndarray, items: np.ndarray
) -> np.ndarray:
    """float64[S] weights of the pseudo-inverse estimator for any logging policy, of whole slates.

    gamma: float64[L·m, L·m] the logging policy's E[1 1ᵀ], 1 marking (place, item) pairs. chance: float64[cells, m] the
    judged policy's chance of each item in a cell, which lies at `position` int[cells]. cell, items: int[S, L].
    """
    m, places = chance.shape[1], items.shape[1]
    inverse = np.linalg.pinv(gamma, hermitian=True).reshape(places, m, places * m)
    solved = np.empty((len(chance), places, m))
    for k in range(places):
        at = position == k
        solved[at] = (chance[at] @ inverse[k]).reshape(-1, places, m)
    weight = np.zeros(len(items))
    for k in range(places):
        for j in range(places):
            weight += solved[cell[:, k], j, items[:, j]]
    return weight


def uniform_without_repeats(places: int, m: int) -> np.ndarray:
    """float64[L·m, L·m] E[1 1ᵀ] of a logging policy that draws evenly and shows no item twice."""
    if places > m:
        raise ValueError(f"{places} places cannot hold {m} items without repeats")
    same = np.eye(m) / m
    other = (1 - np.eye(m)) / (m * max(m - 1, 1))
    blocks = [[same if i == j else other for j in range(places)] for i in range(places)]
    return np.block(blocks)


def _of_slates(value: np.ndarray) -> Contributions:
    return Contributions(value, np.ones(len(value)))
