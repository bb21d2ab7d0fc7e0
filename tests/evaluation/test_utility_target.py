"""Weights by regression of what comes later: outcomes counted by hand, planted weights found again."""

import numpy as np
import pytest
from scipy.optimize import nnls

from recsys_cli.data.log import Log
from recsys_cli.data.schema import DAY
from recsys_cli.errors import DataError, UsageError
from recsys_cli.evaluation.utility import fit_weights, outcome


def make_log(rows, session=True) -> Log:
    """rows: (user, moment in days, session, click, dwell), in the order of time."""
    user, time, held, click, dwell = (np.array(c) for c in zip(*rows, strict=True))
    return Log(
        user=user.astype(np.int32), item=np.zeros(len(user), np.int32), time=(time * DAY).astype(np.int64),
        actions={"click": click.astype(bool), "hide": np.zeros(len(user), bool)}, positive_actions=("click",),
        negative_actions=("hide",), dwell=dwell.astype(np.float32), session=held if session else None,
    )


ROWS = [
    (0, 0.1, 1, 1, 2.0), (0, 0.1, 1, 0, 1.0), (0, 0.2, 1, 0, 3.0), (1, 0.3, 2, 1, np.nan),
    (0, 1.1, 3, 0, 5.0), (2, 1.2, 4, 0, 1.0), (0, 1.9, 5, 1, 7.0),
    (2, 2.5, 6, 1, 4.0), (0, 2.6, 7, 0, 1.0),
]


def test_outcomes_by_hand():
    log = make_log(ROWS)
    back = outcome(log, "next_day_return", 0, 3 * DAY)
    # the last day has no next one; of the others user 0 came back twice, user 1 never, user 2 once
    assert back.rows.tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert back.values.tolist() == [1, 1, 1, 0, 1, 1, 1]
    assert back.weight == pytest.approx([1 / 3, 1 / 3, 1 / 3, 1, 1 / 2, 1, 1 / 2])
    assert outcome(log, "next_day_dwell", 0, 3 * DAY).values.tolist() == [12, 12, 12, 0, 1, 4, 1]
    # a day that is not over tells of nobody's absence
    assert outcome(log, "next_day_return", 0, int(2.9 * DAY)).rows.tolist() == [0, 1, 2, 3]
    left = outcome(log, "session_length", 0, 3 * DAY)
    assert left.values.tolist() == [1, 1, 0, 0, 0, 0, 0, 0, 0]
    dwell = outcome(log, "dwell", 0, 3 * DAY)
    assert dwell.rows.tolist() == [0, 1, 2, 4, 5, 6, 7, 8] and dwell.values[1] == 1
    assert outcome(log, "click", 0, 3 * DAY).values.sum() == 4


def test_what_cannot_be_a_target_is_refused():
    log = make_log(ROWS, session=False)
    with pytest.raises(UsageError, match="no target 'clik'\ndid you mean 'click'"):
        outcome(log, "clik", 0, 3 * DAY)
    with pytest.raises(DataError, match="no session_id"):
        outcome(log, "session_length", 0, 3 * DAY)


def planted(n=6000, seed=0):
    """A target that clicks and replies raise and hides lower, and a habit that drives clicks and the target alike."""
    rng = np.random.default_rng(seed)
    user = rng.integers(0, n // 20, n)
    habit = rng.normal(0, 1, n // 20)[user]
    columns = {
        "click": (rng.random(n) < 1 / (1 + np.exp(1 - habit))).astype(float),
        "reply": (rng.random(n) < 0.05).astype(float), "noise": (rng.random(n) < 0.2).astype(float),
        "hide": (rng.random(n) < 0.03).astype(float),
    }
    target = 0.5 * columns["click"] + 3 * columns["reply"] - 4 * columns["hide"] + 2 * habit + rng.normal(0, 1, n)
    return columns, habit[:, None], target, user


def test_planted_weights_are_found_within_their_intervals():
    columns, habit, target, user = planted()
    fit = fit_weights(columns, ("hide",), habit, target, np.ones(len(target)), user, resamples=60)
    for truth, low, high in zip((0.5, 3, 0, -4), fit.low, fit.high, strict=True):
        assert low - 0.05 <= truth <= high + 0.05
    assert fit.weights[:2] == pytest.approx([0.5, 3], abs=0.25) and fit.weights[3] == pytest.approx(-4, abs=0.35)
    # without the habit beside it a click takes the credit for it
    alone = fit_weights(columns, ("hide",), np.zeros((len(user), 0)), target, np.ones(len(target)), user, resamples=20)
    assert alone.weights[0] > 1


def test_signs_are_kept_where_the_data_say_otherwise_and_agree_with_nnls():
    columns, habit, target, user = planted()
    fit = fit_weights(columns, ("click",), habit, target, np.ones(len(target)), user, resamples=20)
    assert fit.weights[0] == 0  # clicks raise it, and as a negative action they may not
    assert fit.weights[3] == 0  # hides lower it, and as a positive action they may not
    x = np.column_stack([*columns.values()])
    free = np.column_stack([np.ones(len(target)), habit])
    signed = np.column_stack([-x[:, 0], x[:, 1:], free, -free])  # free columns in both directions
    found, _ = nnls(signed, target)
    assert fit.weights == pytest.approx([-found[0], *found[1:4]], abs=1e-4)


def test_a_weight_of_2_is_a_row_that_stands_twice():
    columns, habit, target, user = planted(800)
    weight = np.where(np.arange(800) < 200, 2.0, 1.0)
    once = fit_weights(columns, ("hide",), habit, target, weight, user, resamples=20)
    twice = fit_weights(
        {a: np.append(c, c[:200]) for a, c in columns.items()}, ("hide",), np.append(habit, habit[:200], axis=0),
        np.append(target, target[:200]), np.ones(1000), np.append(user, user[:200]), resamples=20,
    )
    assert once.weights == pytest.approx(twice.weights, abs=1e-5)
