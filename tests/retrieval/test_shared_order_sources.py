"""Popularity, trending and the uniform draw."""

import numpy as np
import pytest
from planted import DAY, NOW, make_catalogue, make_log, make_window

from recsys_cli.data.schema import HOUR
from recsys_cli.retrieval import eligibility
from recsys_cli.retrieval.eligibility import usual_age
from recsys_cli.retrieval.exploration.random_items import Random, RandomConfig
from recsys_cli.retrieval.popularity.popularity import Popularity, PopularityConfig, Trending, TrendingConfig
from recsys_cli.retrieval.reason import Reason


@pytest.fixture
def plaza():
    """Item 0 was clicked most, long ago; item 1 lately; item 2 once, lately; item 3 never. User 3 likes topic 1."""
    catalogue = make_catalogue(
        8, [-1] * 4, [NOW - 20 * DAY, NOW - 2 * DAY, NOW - DAY, NOW - DAY], [[0], [0], [1], [1]], topic_names=["a", "b"]
    )
    rows = [(u, 0, NOW - 10 * DAY) for u in range(6)] + [(u, 1, NOW - 6 * HOUR) for u in (4, 5)]
    return make_window(catalogue, make_log([*rows, (6, 2, NOW - 6 * HOUR), (7, 2, NOW - HOUR, False)]))


def test_popularity_counts_interactions_and_leaves_out_what_was_seen(plaza):
    items, scores = Popularity(PopularityConfig()).retrieve(plaza.state, np.array([-1, 4, 7], np.int32), 3)
    assert items.tolist() == [[0, 1, 2], [2, -1, -1], [0, 1, -1]]
    assert scores[0].tolist() == [6, 2, 1]
    everything = Popularity(PopularityConfig(exclude_seen=False)).retrieve(plaza.state, np.array([4]), 3)[0]
    assert everything.tolist() == [[0, 1, 2]]


def test_popularity_can_be_limited_to_new_items(plaza):
    source = Popularity(PopularityConfig(max_age_days=3))
    assert source.retrieve(plaza.state, np.array([-1]), 4)[0].tolist() == [[1, 2, -1, -1]]


def test_trending_ranks_by_decayed_interactions(plaza):
    source = Trending(TrendingConfig(topic_boost=0))
    items, scores = source.retrieve(plaza.state, np.array([-1]), 4)
    assert items[0, :3].tolist() == [1, 2, 0]
    np.testing.assert_allclose(scores[0, :2], [1.0, 0.5], rtol=1e-6)


def test_trending_leans_to_the_topics_of_the_user(plaza):
    source = Trending(TrendingConfig(topic_boost=2.0, exclude_seen=False))
    items, scores = source.retrieve(plaza.state, np.array([-1, 6]), 2)
    assert items.tolist() == [[1, 2], [2, 1]]
    np.testing.assert_allclose(scores[1], [0.5 * 3, 1.0], rtol=1e-6)
    assert source.explain(plaza.state, 6, np.array([2, 1])) == [Reason("trending", 1), Reason("trending", -1)]


def test_trending_against_the_items_own_usual_rate_prefers_the_new_rise(plaza):
    flat = Trending(TrendingConfig(topic_boost=0))._weights(plaza.state)
    lifted = Trending(TrendingConfig(topic_boost=0, baseline_exponent=1))._weights(plaza.state)
    mean_life_days = 0.25 / np.log(2)
    np.testing.assert_allclose(lifted[1] / flat[1], (1 + 1) / (2 * mean_life_days / 2 + 1), rtol=1e-5)
    assert lifted[0] < flat[0]


def test_uniform_draw_is_even_repeatable_and_says_its_propensity():
    catalogue = make_catalogue(4000, [-1] * 20, [NOW - DAY] * 19 + [NOW + DAY])
    window = make_window(catalogue, make_log([(0, 3, NOW - DAY)]))
    users = np.arange(1, 4000, dtype=np.int32)
    items, scores = Random(RandomConfig()).retrieve(window.state, users, 5)
    counts = np.bincount(items.ravel(), minlength=20)
    assert counts[19] == 0
    np.testing.assert_allclose(counts[:19], len(users) * 5 / 19, rtol=0.12)
    np.testing.assert_allclose(scores, 5 / 19)
    assert (np.sort(items, axis=1)[:, 1:] != np.sort(items, axis=1)[:, :-1]).all()
    again = Random(RandomConfig()).retrieve(window.state, users[7:8], 5)[0]
    assert again.tolist() == [items[7].tolist()]
    assert (Random(RandomConfig(seed=1)).retrieve(window.state, users, 5)[0] != items).mean() > 0.8


@pytest.mark.parametrize(("ages", "expected"), [([1, 2, 3, 40, 50, 60, 70, 80], 3), ([50, 60, 70, 80], None)])
def test_usual_age_is_found_where_age_matters(ages, expected, monkeypatch):
    """Items are 1 to 80 days old; people click those of the given ages, 30 minutes ago."""
    monkeypatch.setattr(eligibility, "FEW_ITEMS", 2)
    catalogue = make_catalogue(400, [-1] * 8, [NOW - d * DAY for d in (1, 2, 3, 40, 50, 60, 70, 80)])
    clicked = [[1, 2, 3, 40, 50, 60, 70, 80].index(a) for a in ages[: 3 if expected else 4]]
    rows = [(u, clicked[u % len(clicked)], NOW - HOUR // 2) for u in range(400)]
    limit = usual_age(make_window(catalogue, make_log(rows)).state)
    monkeypatch.setattr(eligibility, "FEW_ITEMS", 3)
    assert usual_age(make_window(catalogue, make_log(rows)).state) is None
    assert limit is None if expected is None else limit == pytest.approx(expected, abs=0.05)
