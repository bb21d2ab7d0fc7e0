"""What the light cut keeps of the heavy ranker's best, and what a light ranker learns from it."""

import numpy as np
import pytest

from recsys_cli.pipeline.light_cut import TOP, Scored, lesson, survival
from recsys_cli.ranking.light import fit_linear
from recsys_cli.ranking.light_config import LightRankerConfig


def scored(light, filled=None, features=None):
    light = np.asarray(light, np.float32)
    filled = np.ones(light.shape, bool) if filled is None else filled
    utility = -np.tile(np.arange(light.shape[1], dtype=np.float32), (len(light), 1))
    return Scored(filled, light, utility, np.zeros((*light.shape, 1), np.float32) if features is None else features)


def test_survival_by_hand():
    n = TOP + 50
    agrees = -np.arange(n)
    reverse = np.arange(n)
    found = survival(scored([agrees, reverse]), TOP)
    assert found[f"top{TOP}_at_{TOP}"] == pytest.approx((1 + (TOP - 50) / TOP) / 2)
    assert found["users"] == found["users_cut"] == 2 and found["candidates"] == n
    filled = np.zeros((2, n), bool)
    filled[0, :30] = True  # fewer than are kept: nothing is lost, whatever the light ranker thinks
    few = survival(scored([reverse, reverse], filled), 60)
    assert few[f"top{TOP}_at_60"] == 1 and few["users"] == 1 and few["users_cut"] == 0


def test_a_distilled_ranker_orders_within_users_whatever_sets_them_apart():
    rng = np.random.default_rng(0)
    users, n = 30, 300
    taste = np.sort(rng.normal(0, 1, (users, n)), axis=1)[:, ::-1]
    habit = np.tile(rng.normal(0, 30, (users, 1)), (1, n))
    # what is seen of the taste is drowned by the user's habit, unless users are compared with themselves
    features = np.stack([taste + 0.3 * rng.normal(0, 1, (users, n)) + habit, rng.normal(0, 1, (users, n))], axis=2)
    taught = scored(np.zeros((users, n)), features=features.astype(np.float32))
    x, target, user = lesson(taught)
    assert target.sum() == users * TOP and np.bincount(user).tolist() == [n] * users
    config = LightRankerConfig()
    within = fit_linear(config, ("a", "b"), x, target, group=user)
    pooled = fit_linear(config, ("a", "b"), x, target)

    def kept(ranker):
        return survival(scored(ranker.predict(taught.features)), 120)[f"top{TOP}_at_120"]

    assert within.weights[0] > 10 * pooled.weights[0] and abs(within.weights[1]) < 0.2 * within.weights[0]
    assert kept(within) > 0.85 and kept(within) >= kept(pooled)
