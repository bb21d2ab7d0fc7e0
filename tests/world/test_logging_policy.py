from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from recsys_cli.data.schema import DAY, HOUR
from recsys_cli.world.config import SOURCES, WorldConfig
from recsys_cli.world.logging_policy import DayIndex, Policy, Pool, Shelves, close_up, draw_rank, rank_chance, repeats
from recsys_cli.world.model import Model
from recsys_cli.world.people import log_start
from recsys_cli.world.simulate import Block


@given(st.integers(1, 500))
def test_rank_chances_sum_to_one_and_fall(n):
    chance = rank_chance(np.arange(n), np.full(n, n))
    assert chance.sum() == pytest.approx(1)
    assert (np.diff(chance) < 0).all()


def test_drawn_ranks_follow_their_chances():
    ranks = draw_rank(np.random.default_rng(0).random(50_000), np.full(50_000, 12))
    observed = np.bincount(ranks, minlength=12)
    assert stats.chisquare(observed, 50_000 * rank_chance(np.arange(12), np.full(12, 12))).pvalue > 1e-4


@given(st.lists(st.integers(0, 5), max_size=30))
def test_repeats_marks_all_but_the_first(keys):
    expected = [k in keys[:i] for i, k in enumerate(keys)]
    assert repeats(np.array(keys, np.int64)).tolist() == expected


def test_close_up_keeps_order():
    items, columns = close_up(np.array([[-1, 4, -1, 2], [1, -1, 3, 5]], np.int32))
    assert items.tolist() == [[4, 2, -1, -1], [1, 3, 5, -1]]
    assert columns[:, :2].tolist() == [[1, 3], [0, 2]]


class _Setting:
    """A small world on its third day, as the policy sees it."""

    def __init__(self, **logging):
        self.config = WorldConfig(users=60, items=400, days=5, logging={"slots": 5, **logging})
        self.model = Model.create(self.config, 5)
        self.shelves = Shelves(self.config, self.model.content, 60)
        self.policy = Policy(self.config, self.shelves, self.model.content)
        trend = np.random.default_rng(1).poisson(0.7, 400).astype(np.float64)
        self.day = 2
        self.index = DayIndex(self.config, self.shelves, self.day, trend)
        self.block = Block(self.model, self.shelves, 1)
        keys = self.block.follows.keys
        self.pool = Pool.build(self.index, self.shelves, keys // 60, keys % 60, self.block.size, self.block.kind)
        self.time = log_start(self.config) + self.day * DAY + 13 * HOUR

    def chances(self, user: int) -> np.ndarray:
        """float64[items] propensity of every item for one user."""
        items = np.arange(400, dtype=np.int32)[None, :]
        return self.policy.propensity(
            self.index, self.pool, self.block.profile, np.array([user]), np.array([self.time]), items
        )[0].astype(np.float64)


@pytest.fixture(scope="module")
def setting():
    return _Setting()


def test_propensities_of_all_items_sum_to_one(setting):
    for user in range(setting.block.size):
        assert setting.chances(user).sum() == pytest.approx(1, abs=1e-5)


def test_nothing_unpublished_has_a_propensity(setting):
    unpublished = setting.model.content.created >= setting.time
    assert unpublished.any()
    assert (setting.chances(0)[unpublished] == 0).all()


def test_items_are_drawn_as_often_as_their_propensity_says(setting):
    user = 3
    chance = setting.chances(user)
    rounds = 20_000
    draws = setting.policy.draw(
        np.random.default_rng(2), setting.index, setting.pool, setting.block.profile,
        np.full(rounds, user), np.full(rounds, setting.time),
    )
    observed = np.bincount(draws.items.ravel(), minlength=400)
    assert observed[chance == 0].sum() == 0
    often = chance * draws.items.size >= 5
    expected = chance[often] * observed[often].sum() / chance[often].sum()
    assert stats.chisquare(observed[often], expected).pvalue > 1e-4
    assert np.allclose(draws.propensity, chance[draws.items], rtol=1e-5)
    shares = np.bincount(draws.source.ravel(), minlength=4) / draws.source.size
    assert shares == pytest.approx([0.35, 0.2, 0.3, 0.15], abs=0.01)


def test_each_component_alone_matches_a_plain_count():
    """The closed forms against counting over a loop, one component at a time."""
    for only in SOURCES:
        setting = _Setting(**{s: float(s == only) for s in SOURCES})
        content, now = setting.model.content, setting.time
        start = log_start(setting.config) + setting.day * DAY
        user = 2
        person = setting.block.users.start + user
        expected = np.zeros(400)
        if only == "uniform":
            expected[(content.created < now) & (content.created >= now - 14 * DAY)] = 1
            expected /= expected.sum()
        elif only == "follows":
            follows = setting.model.graph.follows
            friends = follows.target[follows.source == person]
            recent = np.isin(content.author, friends) & (content.created < now) & (content.created >= start - 4 * DAY)
            items = np.flatnonzero(recent)[::-1]
            expected[items] = np.diff(np.sqrt(np.arange(len(items) + 1) / len(items)))
        elif only == "similar":
            chosen = setting.model.signup_topics[person]
            for topic in chosen[chosen >= 0]:
                eligible = (content.created < start) & (content.created >= start + DAY - 14 * DAY)
                items = np.flatnonzero((content.topics == topic).any(axis=1) & eligible)[::-1]
                expected[items] += np.diff(np.sqrt(np.arange(len(items) + 1) / len(items)))
            expected /= expected.sum()
        else:
            continue
        assert expected.sum() == pytest.approx(1)
        assert np.allclose(setting.chances(user), expected, atol=1e-6), only


def test_weighting_by_propensity_recovers_the_mean_over_all_items(setting):
    """Inverse propensity scores estimate what uniform exposure would have given, from the mixed log."""
    user, rounds = 1, 30_000
    chance = setting.chances(user)
    value = np.random.default_rng(3).random(400)
    eligible = chance > 0
    draws = setting.policy.draw(
        np.random.default_rng(4), setting.index, setting.pool, setting.block.profile,
        np.full(rounds, user), np.full(rounds, setting.time),
    )
    weighted = value[draws.items] / draws.propensity
    estimate, error = weighted.mean(), weighted.std() / np.sqrt(weighted.size)
    assert estimate == pytest.approx(value[eligible].sum(), abs=5 * error)
    naive = value[draws.items].mean() * eligible.sum()
    assert abs(naive - value[eligible].sum()) > 0 and error < 0.02 * estimate
