"""Counters of one key as of a moment, and the formulas, on cases worked by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from feature_worlds import make_world

from recsys_cli.errors import ConfigError
from recsys_cli.features import formulas
from recsys_cli.features.config import FeatureConfig
from recsys_cli.features.define import create_spec
from recsys_cli.features.history import Clock, History

TIME = np.array([10, 20, 20, 30, 30, 50], np.int64)
KEYS = np.array([7, 7, 3, 7, -1, 7], np.int64)
CLICK = np.array([True, True, True, False, True, True])


@pytest.mark.parametrize("scale", [1, 2**58])
def test_counts_are_of_the_rows_strictly_before(scale):
    # keys near the end of int64 leave no room for the moment and are numbered anew
    keys = np.where(KEYS >= 0, KEYS * scale, -1)
    history = History(keys, Clock(TIME))
    asked = np.array([7, 7, 7, 3, 3, -1, 5, 9], np.int64)
    view = history.view(np.where(asked >= 0, asked * scale, -1), np.array([20, 21, 99, 20, 21, 99, 99, 99]))
    assert view.shown().tolist() == [1, 2, 4, 0, 1, 0, 0, 0]
    assert view.sum(CLICK).tolist() == [1, 2, 3, 0, 1, 0, 0, 0]
    assert view.last().tolist() == [10, 20, 50, 0, 20, 0, 0, 0]
    assert view.last(~CLICK).tolist() == [0, 0, 30, 0, 0, 0, 0, 0]
    assert history.distinct().tolist() == [3 * scale, 7 * scale]


def test_a_window_reaches_back_to_its_far_end_and_not_beyond():
    view = History(KEYS, Clock(TIME)).view(np.array([7, 7, 7]), np.array([50, 51, 30]))
    assert view.window(None, 20).tolist() == [1, 1, 2]
    assert view.window(CLICK, 30).tolist() == [1, 1, 2]


def test_the_latest_rows_are_the_last_before_the_moment():
    count, shown = History(KEYS, Clock(TIME)).view(np.array([7, 7, 3]), np.array([50, 20, 50])).latest(CLICK, 2)
    assert count.tolist() == [1, 1, 1] and shown.tolist() == [2, 1, 1]


def test_decay_halves_a_row_after_each_half_life():
    decayed = History(KEYS, Clock(TIME)).view(np.array([7, 7, 3, 4]), np.array([50, 60, 30, 60])).decayed(CLICK, 10)
    np.testing.assert_allclose(decayed, [1 / 16 + 1 / 8, 1 / 32 + 1 / 16 + 1 / 2, 1 / 2, 0])


def test_decay_over_a_thousand_half_lives_neither_overflows_nor_cancels():
    time = np.arange(0, 100_000, 10, dtype=np.int64)
    view = History(np.zeros(len(time), np.int64), Clock(time)).view(np.array([0, 0]), np.array([5, 99_995]))
    expected = [2**-0.5, 2**-0.5 / (1 - 0.5)]
    np.testing.assert_allclose(view.decayed(np.ones(len(time), bool), 10), expected, rtol=1e-9)


def test_rows_with_several_keys_count_for_each_and_questions_add_them_up():
    keys = np.array([[1, 2], [2, -1], [3, 1]], np.int64)
    view = History(keys, Clock(np.array([1, 2, 3], np.int64))).view(np.array([[1, 2], [3, -1]]), np.array([3, 9]))
    assert view.shown().tolist() == [3, 1]
    assert view.last().tolist() == [2, 3]


def test_an_empty_log_counts_nothing():
    view = History(np.zeros(0, np.int64), Clock(np.zeros(0, np.int64))).view(np.array([1, -1]), np.array([5, 5]))
    for values in (view.shown(), view.sum(np.zeros(0, bool)), view.last(), view.decayed(np.zeros(0, bool), 10)):
        assert not values.any()


def test_a_smoothed_rate_is_its_prior_without_impressions_and_forgets_it_with_many():
    prior = np.float32(math.log(0.2 / 0.8))
    assert formulas.log_odds(0, 0, prior, 10) == pytest.approx(prior, abs=1e-5)
    assert formulas.log_odds(3, 10, prior, 10) == pytest.approx(math.log(0.25 / 0.75), abs=1e-5)
    assert formulas.log_odds(50_000, 100_000, prior, 10) == pytest.approx(0, abs=1e-3)
    assert np.isfinite(formulas.log_odds(np.float32(0), np.float32(1e9), prior, 10))


def test_categories_keep_their_codes_or_share_them_by_hashing():
    assert formulas.category(np.array([-1, 0, 4]), 5, 6).tolist() == [0, 1, 5]
    hashed = formulas.category(np.arange(-1, 5000), 5000, 101)
    assert hashed[0] == 0 and hashed[1:].min() >= 1 and hashed.max() <= 100
    assert np.bincount(hashed[1:].astype(int), minlength=101)[1:].min() > 20


def test_missing_numbers_become_zero_with_a_companion():
    _, catalogue, _, _ = make_world(1)
    ages = np.array([np.nan, 20, np.inf, 40, 60, 30], np.float32)
    catalogue = replace(catalogue, user_numbers={"age": ages})
    spec = create_spec(FeatureConfig(), catalogue, positive=("click",), negative=())
    assert {"user_age", "user_age_missing"} <= set(spec.names)
    assert formulas.number(ages, "plain").tolist() == [0, 20, 0, 40, 60, 30]


def test_an_attribute_that_the_dataset_lacks_is_refused_with_the_nearest_one():
    _, catalogue, _, _ = make_world(1)
    for config, hint in (
        (FeatureConfig(attribute_families=("media_typ",)), "media_type"),
        (FeatureConfig(user_attributes=("contry",)), "country"),
    ):
        with pytest.raises(ConfigError) as error:
            create_spec(config, catalogue, positive=("click",), negative=())
        assert hint in error.value.hint


def test_families_that_are_switched_off_leave_no_feature_and_no_prior():
    _, catalogue, log, _ = make_world(1)
    config = FeatureConfig(families=("item", "user_author"), crosses=())
    spec = create_spec(config, catalogue, positive=log.positive_actions, negative=log.negative_actions)
    assert {f.key for f in spec.features if f.measure == "rate"} == {"item", "user_author"}
    from recsys_cli.features.build import build_table

    values = build_table(spec, catalogue, log).values
    assert np.isfinite(values).all() and values[:, spec.column["user_author_click_logodds"]].std() > 0


@pytest.mark.parametrize("parts", [("user", "iten.language"), ("user", "user"), ("user", "position")])
def test_a_cross_that_can_be_none_of_any_dataset_is_refused(parts):
    _, catalogue, log, _ = make_world(1)
    config = FeatureConfig(crosses=(parts,))
    with pytest.raises(ConfigError, match=r"features\.crosses"):
        create_spec(config, catalogue, positive=log.positive_actions, negative=log.negative_actions)


def test_a_cross_of_what_a_dataset_lacks_is_left_out():
    _, catalogue, log, _ = make_world(1)
    config = FeatureConfig(crosses=(("user", "item.colour"), ("item", "user.country"), ("author", "surface")))
    spec = create_spec(config, catalogue, positive=log.positive_actions, negative=log.negative_actions)
    assert spec.crosses == ("item:user.country",)
