"""Curves over ranks: how they are read, learned and merged by."""

import numpy as np
import pytest
from pydantic import ValidationError

from recsys_cli.pipeline.config import SourcingConfig
from recsys_cli.pipeline.rank_curves import KNOTS, learn_curves, weights
from recsys_cli.pipeline.sourcing import budgets

CURVE = [6.0, 5.0, 4.0, 3.0, 2.0, 1.0, 0.5]


def test_a_curve_is_straight_in_log_rank_between_its_knots_and_level_beyond():
    found = weights(CURVE, 2000)
    assert found[[k - 1 for k in KNOTS]] == pytest.approx(CURVE, abs=0.03)
    assert found[16] == pytest.approx(np.interp(np.log(17), np.log([10, 30]), [4, 3]), abs=0.03)
    assert found[1999] == pytest.approx(0.5, abs=0.03)


def test_even_where_a_curve_is_level_the_better_rank_weighs_more():
    assert (np.diff(weights([4.0] * 7, 1500)) < 0).all()


def _lists(rng, users, n_items, k, odds):
    """Lists whose items are wanted with the log-odds of their ranks; what is not listed never is."""
    items = np.argsort(rng.random((users, n_items)), axis=1)[:, :k].astype(np.int32)
    rows, columns = np.nonzero(rng.random(items.shape) < 1 / (1 + np.exp(-odds)))
    return items, rows * np.int64(n_items) + items[rows, columns]


def test_the_log_odds_that_ranks_have_are_found_and_what_tells_nothing_is_left_out():
    rng = np.random.default_rng(3)
    users, n_items, k = 1000, 1000, 300
    planted = weights([4.0, 4.0, 4.0, 3.0, 1.5, 1.0, 1.0], k)
    items, wanted = _lists(rng, users, n_items, k, planted - 6)
    noise = np.argsort(rng.random((users, n_items)), axis=1)[:, :k].astype(np.int32)
    curves = learn_curves({"good": items, "noise": noise}, wanted, n_items, 0)
    found = weights(curves["good"], k)
    # what is never wanted shows only that the level of the whole curve is high
    assert found[4:] - found[4:].mean() == pytest.approx(planted[4:] - planted[4:].mean(), abs=0.3)
    assert (np.diff(curves["good"]) <= 0).all()
    assert "noise" not in curves or curves["noise"][2] < 0.1


def test_learning_repeats_with_the_same_seed():
    rng = np.random.default_rng(1)
    good, wanted = _lists(rng, 100, 500, 50, np.full(50, -2.0))
    assert learn_curves({"a": good}, wanted, 500, 7) == learn_curves({"a": good}, wanted, 500, 7)


def test_curves_alone_say_who_is_asked():
    config = SourcingConfig(
        candidates=40, shares={"a": 1.0}, fallback=[], merge="learned", curves={"b": CURVE, "c": CURVE}
    )
    assert budgets(config, {"a": 1, "b": 1}, ("a", "b", "c")) == {"b": 40}


@pytest.mark.parametrize("curves", [{}, {"a": [1.0, 2.0]}, {"a": [-1.0] * 7}])
def test_learned_without_sound_curves_is_refused(curves):
    with pytest.raises(ValidationError):
        SourcingConfig(merge="learned", curves=curves)
