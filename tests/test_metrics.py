"""Metrics of predictions agree with scikit-learn and with cases worked by hand."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as reference

from recsys_cli import metrics
from recsys_cli.errors import DataError

few_values = st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.7, 0.9, 1.0])
rows = st.lists(st.tuples(st.booleans(), few_values), min_size=2, max_size=60)


def both_classes(data):
    labels = np.array([y for y, _ in data])
    return labels.any() and not labels.all()


@given(rows.filter(both_classes))
@settings(max_examples=60, deadline=None)
def test_ranking_metrics_agree_with_scikit_learn_also_with_ties(data):
    y, s = (np.array(column) for column in zip(*data, strict=True))
    assert metrics.roc_auc(y, s) == pytest.approx(reference.roc_auc_score(y, s), abs=1e-12)
    assert metrics.average_precision(y, s) == pytest.approx(reference.average_precision_score(y, s), abs=1e-12)
    p, r, _ = reference.precision_recall_curve(y, s)
    for wanted in (0.3, 0.9, 1.0):
        assert metrics.precision_at_recall(y, s, wanted) == pytest.approx(p[r >= wanted - 1e-12].max())


def test_log_loss_agrees_with_scikit_learn():
    rng = np.random.default_rng(0)
    y, p = rng.random(500) < 0.2, rng.uniform(0.01, 0.99, 500)
    assert metrics.log_loss(y, p) == pytest.approx(reference.log_loss(y, p), rel=1e-12)


def test_a_certain_and_wrong_prediction_costs_much_but_not_infinitely():
    assert 10 < metrics.log_loss([1], [0.0]) < 20


def test_relative_cross_entropy_is_0_for_the_base_rate_100_for_the_truth_and_negative_for_worse():
    y = np.array([1, 0, 0, 0])
    assert metrics.relative_cross_entropy(y, np.full(4, 0.25)) == pytest.approx(0)
    assert metrics.relative_cross_entropy(y, y.astype(float)) == pytest.approx(100, abs=1e-3)
    assert metrics.relative_cross_entropy(y, np.full(4, 0.9)) < 0
    half = -(math.log(0.5) + 3 * math.log(0.5)) / 4
    base = -(math.log(0.25) + 3 * math.log(0.75)) / 4
    assert metrics.relative_cross_entropy(y, np.full(4, 0.5)) == pytest.approx(100 * (1 - half / base))


def test_calibration_error_of_two_bins_by_hand():
    y, p = np.array([0, 1, 1, 1]), np.array([0.1, 0.3, 0.6, 0.8])
    # bins {0.1, 0.3}: 0.2 predicted, 0.5 seen; {0.6, 0.8}: 0.7 predicted, 1.0 seen
    assert metrics.expected_calibration_error(y, p, bins=2) == pytest.approx(0.3)
    assert metrics.expected_calibration_error(y, p, bins=2, binning="width") == pytest.approx(0.3)
    skewed = np.array([0.1, 0.2, 0.3, 0.9])
    # equal width: {0.1, 0.2, 0.3} 0.2 against 2/3 and {0.9} against 1
    by_hand = (3 * abs(0.2 - 2 / 3) + 0.1) / 4
    assert metrics.expected_calibration_error(y, skewed, bins=2, binning="width") == pytest.approx(by_hand)
    assert metrics.reliability(y, p, bins=2) == {
        "count": [2, 2], "predicted": pytest.approx([0.2, 0.7]), "observed": [0.5, 1.0],
        "low": pytest.approx([0.0945, 0.3424], abs=1e-4), "high": pytest.approx([0.9055, 1.0], abs=1e-4),
    }


@given(rows.filter(both_classes), st.integers(1, 5))
@settings(max_examples=60, deadline=None)
def test_auc_within_groups_is_the_weighted_mean_of_scikit_learn_s(data, groups):
    y, s = (np.array(column) for column in zip(*data, strict=True))
    group = np.arange(len(y)) * 7 % groups
    each, weight = [], []
    for g in range(groups):
        mine = group == g
        if 0 < y[mine].sum() < mine.sum():
            each.append(reference.roc_auc_score(y[mine], s[mine]))
            weight.append(mine.sum())
    value, n = metrics.grouped_auc(y, s, group)
    assert n == len(each)
    assert value == pytest.approx(np.average(each, weights=weight)) if each else math.isnan(value)
    assert metrics.brier(y, s) == pytest.approx(reference.brier_score_loss(y, s))


def test_calibration_error_does_not_depend_on_the_order_of_rows():
    rng = np.random.default_rng(1)
    p = rng.choice([0.1, 0.2, 0.5, 0.9], 400)
    y = rng.random(400) < p
    order = rng.permutation(400)
    first = metrics.expected_calibration_error(y, p)
    assert metrics.expected_calibration_error(y[order], p[order]) == pytest.approx(first, abs=1e-12)
    assert first < 0.1


def test_a_constant_that_equals_the_base_rate_is_perfectly_calibrated_and_useless():
    y = np.arange(100) % 4 == 0
    summary = metrics.summarise(y, np.full(100, 0.25))
    assert summary["ece"] == pytest.approx(0)
    assert summary["roc_auc"] == 0.5
    assert summary["pr_auc"] == 0.25
    assert (summary["rows"], summary["positives"]) == (100, 25)


def test_metrics_that_need_both_classes_are_nan_where_one_is_missing():
    for labels in ([0, 0], [1, 1]):
        assert math.isnan(metrics.roc_auc(labels, [0.1, 0.2]))
        assert math.isnan(metrics.relative_cross_entropy(labels, [0.1, 0.2]))
    assert math.isnan(metrics.average_precision([0, 0], [0.1, 0.2]))
    assert math.isnan(metrics.log_loss([], []))


@pytest.mark.parametrize(
    ("labels", "scores", "word"),
    [([1, 0], [0.5], "pair"), ([1, 2], [0.5, 0.1], "row 1"), ([1, 0], [float("nan"), 0.1], "finite")],
)
def test_input_without_meaning_is_refused_with_the_reason(labels, scores, word):
    with pytest.raises(DataError, match=word):
        metrics.roc_auc(labels, scores)


def test_rows_of_one_person_widen_the_interval_of_reliability_and_it_covers():
    rng, covered, rows_alone, trials = np.random.default_rng(0), 0, 0, 200
    for _ in range(trials):
        chance = np.repeat(rng.beta(1, 1, 60), 20)  # twenty rows of each of sixty people, who differ
        y, p = rng.random(1200) < chance, np.full(1200, 0.5)
        user = np.repeat(np.arange(60), 20)
        of_users, of_rows = (metrics.reliability(y, p, bins=1, groups=g) for g in (user, None))
        covered += of_users["low"][0] <= 0.5 <= of_users["high"][0]
        rows_alone += of_rows["low"][0] <= 0.5 <= of_rows["high"][0]
    assert 0.91 <= covered / trials <= 0.99 and rows_alone / trials < 0.75


def test_independent_rows_keep_the_interval_of_reliability():
    y, p = np.array([0, 1, 1, 1]), np.array([0.1, 0.3, 0.6, 0.8])
    alone = metrics.reliability(y, p, bins=2)
    assert metrics.reliability(y, p, bins=2, groups=np.arange(4))["low"][0] <= alone["low"][0] + 1e-12
