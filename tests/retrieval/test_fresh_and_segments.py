"""New items get their chance with a known propensity; segments have trends of their own."""

import dataclasses

import numpy as np
import pytest
from planted import DAY, NOW, make_catalogue, make_log, make_window

from recsys_cli.retrieval.exploration.fresh import Fresh, FreshConfig
from recsys_cli.retrieval.popularity.segment_trending import SegmentTrending, SegmentTrendingConfig


@pytest.fixture(scope="module")
def state():
    """Items 0–49 are new, of which 0–9 are shown often; 50–99 are old; 100–109 have no date."""
    created = [NOW - DAY // 2] * 50 + [NOW - 9 * DAY] * 50 + [0] * 10
    catalogue = make_catalogue(300, [-1] * 110, created)
    shown = [(u, i, NOW - 1000 + u, False) for u in range(60) for i in range(10)]
    return make_window(catalogue, make_log([*shown, (0, 20, NOW - 5, False)])).state


def test_only_new_items_with_few_impressions_are_drawn(state):
    source = Fresh(FreshConfig(max_age_days=1, max_impressions=50))
    items, scores = source.retrieve(state, np.arange(-1, 300, dtype=np.int32), 8)
    assert set(np.unique(items)) == set(range(10, 50))
    np.testing.assert_allclose(scores, 8 / 40)
    assert not (items[1] == 20).any()  # user 0 has seen it
    everything, _ = source.retrieve(state, np.array([0], np.int32), 60)
    assert (everything[0] >= 0).sum() == 39


def test_the_propensity_is_how_often_an_item_is_drawn(state):
    items, scores = Fresh(FreshConfig(max_age_days=1)).retrieve(state, np.arange(300, dtype=np.int32), 8)
    often = np.bincount(items.ravel(), minlength=50)[10:50]
    assert np.isclose(often.mean() / 300, scores[0, 0], atol=0.002)
    # 300 draws of a fifth: six standard deviations hold every item
    assert (np.abs(often - 60) < 6 * np.sqrt(300 * 0.2 * 0.8)).all()


def test_a_draw_is_repeatable_and_its_seed_matters(state):
    users = np.arange(50, dtype=np.int32)
    first = Fresh(FreshConfig()).retrieve(state, users, 5)[0]
    np.testing.assert_array_equal(first, Fresh(FreshConfig()).retrieve(state, users, 5)[0])
    assert (first != Fresh(FreshConfig(seed=1)).retrieve(state, users, 5)[0]).any()
    later = dataclasses.replace(state, now=state.now + 1)
    assert (first != Fresh(FreshConfig()).retrieve(later, users, 5)[0]).any()


def test_without_dates_nothing_is_new():
    window = make_window(make_catalogue(2, [-1, -1]), make_log([(0, 0, NOW - 5)]))
    assert Fresh(FreshConfig()).missing(window) == "needs items with created_at"
    assert (Fresh(FreshConfig()).retrieve(window.state, np.array([0]), 2)[0] == -1).all()


@pytest.fixture
def countries():
    """Users 0–3 are of country 0, 4–7 of country 1, 8 of none; item 0 trends in country 0, 1 and 2 in country 1."""
    country = np.array([0] * 4 + [1] * 4 + [-1], np.int32)
    catalogue = make_catalogue(9, [-1] * 4, [NOW - 5 * DAY] * 4, user_codes={"country": country})
    rows = [(u, 0, NOW - 10 - u) for u in range(3)]
    rows += [(u, i, NOW - 10 - u) for u in (4, 5, 6) for i in (1, 2)] + [(7, 2, NOW - 3)]
    return make_window(catalogue, make_log(rows))


def test_a_segment_is_served_its_own_trend(countries):
    source = SegmentTrending(SegmentTrendingConfig(prior=0.5))
    assert source.missing(countries) is None
    items, scores = source.retrieve(countries.state, np.array([3, 7, 8, -1], np.int32), 4)
    assert items[0].tolist() == [0, 2, 1, -1]
    assert items[1].tolist() == [1, 0, -1, -1]  # item 2 was seen
    assert items[2].tolist() == items[3].tolist() == [2, 0, 1, -1]
    np.testing.assert_allclose(scores[0, :2], [3 + 0.5 * 3 / 10, 0.5 * 4 / 10], rtol=1e-3)


def test_what_segments_need_is_said(countries):
    assert SegmentTrending(SegmentTrendingConfig(by="city")).missing(countries) == "needs the attribute 'city' of users"
    plain = make_window(make_catalogue(2, [-1]), make_log([(0, 0, NOW - 5)]))
    assert SegmentTrending(SegmentTrendingConfig()).missing(plain) == "needs a category of users"
