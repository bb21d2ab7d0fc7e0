"""What is logged can be learned from: estimates by inverse propensity cover the truth as often as they say."""

from itertools import permutations

import numpy as np
import pytest

from recsys_cli.pipeline.config import ExplorationConfig
from recsys_cli.pipeline.exploration.explore import Explore
from recsys_cli.pipeline.exploration.rewards import with_feedback

K, SIZE, LOGS, USERS = 8, 3, 200, 500
RATES = np.linspace(0.5, 0.1, K)[[3, 0, 5, 1, 7, 2, 6, 4]]
DISCOUNT = np.array([1.0, 0.8, 0.6])
"""An item is taken with its rate times that of its place."""


def served(make, salt, users=USERS):
    state = make.state(make.catalogue(list(range(K)), users=users))
    rng = np.random.default_rng(0)
    items = np.tile(np.arange(K, dtype=np.int32), (60, 1))
    utility = np.tile(np.linspace(0.8, 0.1, K).astype(np.float32), (60, 1))
    click = rng.random(items.shape) < RATES
    state = with_feedback(state, np.arange(60), items, utility, {"click": click}, None, {"click": 1}, ("click",), ())
    candidates = make.candidates([list(range(K))] * users, utility=np.tile(utility[:1], (users, 1)))
    return make.query(state, list(range(users)), size=SIZE, salt=salt), candidates


@pytest.mark.slow
@pytest.mark.parametrize("logging", ["epsilon_greedy", "gaussian_thompson"])
def test_self_normalised_estimates_of_whole_slates_cover_the_true_value(make, logging):
    policy = Explore(ExplorationConfig(enabled=True, strategy=logging, epsilon=0.6))
    # half as much of the same: what the target shows, the log has shown often enough
    target = Explore(ExplorationConfig(enabled=True, strategy=logging, epsilon=0.3))
    every = np.array(list(permutations(range(K), SIZE)))
    query, candidates = served(make, 0, len(every))
    chance = target.propensities(query, candidates, every).prod(axis=1)
    truth = float(chance @ (RATES[every] * DISCOUNT).sum(axis=1))
    assert chance.sum() == pytest.approx(1)
    rng, covered, errors = np.random.default_rng(7), 0, []
    for log in range(LOGS):
        query, candidates = served(make, log)
        out = policy(query, candidates)
        slates = out.items[:, :SIZE].astype(np.int64)
        reward = (rng.random(slates.shape) < RATES[slates] * DISCOUNT).sum(axis=1)
        weight = target.propensities(query, candidates, slates).prod(axis=1) / out.scores["slate_propensity"][:, 0]
        value = weight @ reward / weight.sum()
        error = np.sqrt((weight**2) @ (reward - value) ** 2) / weight.sum()
        covered += abs(value - truth) <= 1.96 * error
        errors.append(value - truth)
    assert 0.93 <= covered / LOGS <= 0.97, covered / LOGS
    assert abs(np.mean(errors)) < 3 * np.std(errors) / np.sqrt(LOGS) + 0.002, "no bias that shows"
