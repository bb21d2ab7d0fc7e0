"""Intervals cover where users are few and most have no hit, or are refused."""

import numpy as np
import pytest
from scipy.stats import binom, binomtest
from scipy.stats import bootstrap as scipy_bootstrap

from recsys_cli.data.log import Log
from recsys_cli.data.ragged import Ragged
from recsys_cli.evaluation import intervals
from recsys_cli.evaluation.figures import others_of
from recsys_cli.evaluation.intervals import FEWEST, bootstrap_means, bootstrap_ratios, differing, mid_p, rare_means
from recsys_cli.evaluation.truth import Truth


def test_users_who_differ_from_the_commonest_figure_are_counted():
    values = np.array([[0, 1, np.nan], [0, 1, 2], [3, 1, 2], [4, 1, np.nan]], float)
    assert differing(values).tolist() == [2, 0, 0]


def test_too_few_who_differ_have_no_interval_but_figures_within_0_and_1_have_theirs():
    values = np.zeros((30, 4))
    values[: FEWEST - 1] = 1
    values[: FEWEST - 1, 2:] = 0.5
    values[FEWEST - 1, 3] = 0.5
    mean, low, high = bootstrap_means(values, unit=np.array([False, True, True, True]))
    assert np.isnan([low[0], high[0]]).all() and mean[0] == pytest.approx(0.3)
    exact = binomtest(9, 30).proportion_ci(method="exact")
    assert exact.low < low[1] < 0.3 < high[1] < exact.high
    assert low[2] < 4.5 / 30 < high[2] < high[1] and low[3] < 5 / 30 < high[3]


def test_the_mid_p_interval_by_its_definition():
    for hits, n in ((1, 30), (4, 30), (9, 400)):
        low, high = mid_p(np.array([hits]), np.array([n]))
        half = binom.pmf(hits, n, [low[0], high[0]]) / 2
        assert binom.sf(hits, n, low[0]) + half[0] == pytest.approx(0.025, abs=1e-6)
        assert binom.cdf(hits - 1, n, high[0]) + half[1] == pytest.approx(0.025, abs=1e-6)
    assert [side[0] for side in mid_p(np.array([0]), np.array([30]))] == pytest.approx([0, 1 - 0.05 ** (1 / 30)])
    assert [side[0] for side in mid_p(np.array([30]), np.array([30]))] == pytest.approx([0.05 ** (1 / 30), 1])


@pytest.mark.parametrize("share", [0.02, 0.05, 0.1, 0.3])
def test_rare_hits_are_covered_on_the_average_of_rates_as_often_as_is_said(share):
    # the number of hits is whole, so that the coverage of one rate swings around what is said
    rates = np.linspace(0.5 * share, 1.5 * share, 41)
    hits = np.arange(101)
    low, high = mid_p(hits, np.full(101, 100))
    inside = [binom.pmf(hits, 100, rate)[(low <= rate) & (rate <= high)].sum() for rate in rates]
    assert 0.94 < np.mean(inside) < 0.98


def test_five_people_get_a_wide_interval():
    _, low, high = bootstrap_means(np.array([[0.0], [1.0], [0.5], [0.0], [0.2]]), unit=True)
    assert low[0] < 0.1 and high[0] > 0.7


@pytest.mark.parametrize(("users", "chance"), [(30, 0.1), (100, 0.05)])
@pytest.mark.parametrize("kind", ["NDCG", "recall"])
def test_rare_figures_of_any_worth_are_covered_and_not_bounded_as_if_they_were_whole_hits(users, chance, kind):
    rng, trials = np.random.default_rng(4), 1000
    shape = (users, trials)
    worth = 1 / np.log2(1 + rng.integers(1, 11, shape)) if kind == "NDCG" else rng.beta(0.5, 3, shape)
    mean = (1 / np.log2(1 + np.arange(1, 11))).mean() if kind == "NDCG" else 0.5 / 3.5
    values = (rng.random((users, trials)) < chance) * worth
    low, high = rare_means(values, np.full(trials, users))
    assert 0.94 < ((low <= chance * mean) & (chance * mean <= high)).mean() < 0.997
    exact = [binomtest(round(t), users).proportion_ci() for t in values.sum(axis=0)[:100]]
    assert (high - low)[:100].mean() < 0.85 * np.mean([ci.high - ci.low for ci in exact])


def test_the_interval_agrees_with_a_studentised_one_from_plain_loops():
    rng = np.random.default_rng(3)
    values = rng.exponential(1, 60)
    drawn = rng.integers(0, 60, (4000, 60))
    t = np.array([(s.mean() - values.mean()) / (s.std(ddof=1) / np.sqrt(60)) for s in values[drawn]])
    error = values.std(ddof=1) / np.sqrt(60)
    expected = values.mean() - np.quantile(t, [0.975, 0.025]) * error
    _, low, high = bootstrap_means(values[:, None], resamples=4000)
    assert (low[0], high[0]) == pytest.approx(tuple(expected), abs=0.02)
    plain = scipy_bootstrap((values,), np.mean, method="percentile", random_state=0).confidence_interval
    assert high[0] > plain.high  # the tail to the right is longer than the percentile interval says


def test_users_without_a_figure_are_left_out_of_that_column_alone():
    rng = np.random.default_rng(1)
    values = rng.random((200, 1))
    with_gaps = np.concatenate([values, np.full((50, 1), np.nan)])
    both = bootstrap_means(np.concatenate([with_gaps, rng.random((250, 1))], axis=1), resamples=3000)
    alone = bootstrap_means(values, resamples=3000)
    assert [side[0] for side in both] == pytest.approx([side[0] for side in alone], abs=0.006)


@pytest.mark.parametrize("share", [0.2, 0.5])
def test_thirty_users_with_many_zeros_are_covered_as_often_as_is_said(share):
    rng, trials = np.random.default_rng(7), 600
    values = (rng.random((30, trials)) < share) * rng.beta(0.5, 3, (30, trials))
    _, low, high = bootstrap_means(values, resamples=400, unit=True)
    truth = share * 0.5 / 3.5
    assert ((low <= truth) & (truth <= high)).mean() > 0.925  # the percentile interval: .84 and .90


def test_a_ratio_of_few_is_covered_too():
    rng, inside = np.random.default_rng(5), 0
    for trial in range(150):
        below = rng.pareto(3, (60, 1)) + 0.1
        above = below * (rng.random((60, 1)) < 0.2)
        _, low, high = bootstrap_ratios(above, below, resamples=300, seed=trial)
        inside += bool(low[0] <= 0.2 <= high[0])
    assert inside / 150 > 0.88


def test_a_ratio_that_one_user_decides_has_no_interval():
    above, below = np.zeros((40, 1)), np.zeros((40, 1))
    above[3], below[3] = 1, 2
    value, low, high = bootstrap_ratios(above, below)
    assert value[0] == 0.5 and np.isnan(low[0]) and np.isnan(high[0])


def test_those_who_turned_to_nothing_are_among_everybody_who_was_there():
    n = 6
    log = Log(
        user=np.array([0, 1, 2, 3, 4, 5], np.int32), item=np.zeros(n, np.int32), time=np.arange(n, dtype=np.int64),
        actions={"click": np.array([1, 0, 0, 1, 0, 0], bool)}, positive_actions=("click",), negative_actions=(),
        propensity=np.array([0.5, 0.5, 0.5, 0.5, 0.5, np.nan], np.float32),
    )  # fmt: skip
    truth = Truth(np.array([0, 3], np.int32), Ragged(np.array([0, 1, 2]), np.zeros(2, np.int32)), {})
    assert others_of(log, truth, np.inf, 0).tolist() == [1, 2, 4]
    assert len(others_of(log, truth, 2 / 3, 0)) == 2


def test_resamples_are_the_same_whether_they_are_kept_or_drawn_again(monkeypatch):
    kept = np.concatenate(list(intervals.resample_counts(50, 30, 7, 3)))
    monkeypatch.setattr(intervals, "KEPT", 0)
    drawn = np.concatenate(list(intervals.resample_counts(50, 30, 7, 3)))
    assert (kept == drawn).all() and (kept.sum(axis=1) == 50).all()
