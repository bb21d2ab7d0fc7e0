"""What is learned of how often places are looked at, where better items stand higher."""

import numpy as np

from recsys_cli.pipeline.debiasing.examination import examination, examination_rows

TRUE = np.array([1.0, 0.7, 0.5, 0.35])


def confounded(rng, n=60_000, items=200, people=500):
    """Items of higher rate stand higher more often, but not always."""
    rate = rng.beta(2, 6, items)
    item = rng.integers(0, items, n)
    lean = np.argsort(np.argsort(-rate)) * 4 // items
    position = np.where(rng.random(n) < 0.5, lean[item], rng.integers(0, 4, n))
    taken = rng.random(n) < rate[item] * TRUE[position]
    return rng.integers(0, people, n), item, position, taken


def test_the_planted_examination_is_found_where_rates_by_place_are_wrong():
    found = examination(*confounded(np.random.default_rng(0)))
    assert np.allclose(found.value, TRUE, atol=0.05)
    assert (found.low <= TRUE).all() and (found.high >= TRUE).all()
    assert found.plain[3] < TRUE[3] - 0.1, "the worst items stand there"


def test_intervals_cover_the_truth_about_as_often_as_they_say():
    inside = []
    for seed in range(25):
        found = examination(*confounded(np.random.default_rng(seed), n=8000, people=200), resamples=60)
        inside += ((found.low <= TRUE) & (found.high >= TRUE))[1:].tolist()
    assert np.mean(inside) > 0.88


def test_what_was_expected_takes_out_that_people_are_shown_what_suits_them_first():
    rng = np.random.default_rng(1)
    n, suits = 60_000, rng.random(60_000)
    position = np.minimum(((1 - suits) * 4 + rng.normal(0, 1.5, n)).clip(0, 3.99).astype(int), 3)
    taken = rng.random(n) < 0.8 * suits * TRUE[position]
    user, item = rng.integers(0, 500, n), rng.integers(0, 50, n)
    blind, told = examination(user, item, position, taken), examination(user, item, position, taken, suits)
    assert np.allclose(told.value, TRUE, atol=0.04) and blind.value[3] < TRUE[3] - 0.08


def test_places_that_were_hardly_seen_are_left_out_and_one_place_says_nothing():
    user, item, position, taken = confounded(np.random.default_rng(2), n=5000)
    position[:20] = 7
    found = examination(user, item, position, taken)
    assert found.positions.tolist() == [0, 1, 2, 3] and found.rows.sum() == 4980
    assert [row["position"] for row in examination_rows(found)] == [1, 2, 3, 4]
    assert examination(user, item, np.zeros(5000, int), taken) is None
    assert examination(user, item, np.full(5000, -1), taken) is None
    assert examination(user, item, position, np.zeros(5000, bool)) is None
