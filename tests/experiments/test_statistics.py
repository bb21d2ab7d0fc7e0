"""Formulas of experiments against scipy, statsmodels, tea-tasting and published tables."""

from __future__ import annotations

import numpy as np
import pytest
import tea_tasting
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.meta_analysis import combine_effects
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.weightstats import CompareMeans, DescrStatsW
from tea_tasting.aggr import Aggregates

from recsys_cli.experiments.checks import split_check
from recsys_cli.experiments.compare import compare
from recsys_cli.experiments.metric_config import MetricConfig
from recsys_cli.experiments.statistics import confidence_sequence
from recsys_cli.experiments.statistics.bayes import posterior
from recsys_cli.experiments.statistics.boundaries import boundaries, spent
from recsys_cli.experiments.statistics.estimates import Adjustment, Moments, estimate
from recsys_cli.experiments.statistics.fisher import few_events, fisher_test
from recsys_cli.experiments.statistics.multiplicity import benjamini_hochberg, holm
from recsys_cli.experiments.statistics.permutation import needs_permutation, permutation_test
from recsys_cli.experiments.statistics.power import detectable_lift, power_of, users_needed
from recsys_cli.experiments.statistics.quantiles import quantile_of, quantile_test
from recsys_cli.experiments.statistics.shrinkage import shrink
from recsys_cli.experiments.statistics.welch import ratio_interval, welch

KINDS = {
    "mean": MetricConfig(name="m", numerator="y"),
    "ratio": MetricConfig(name="m", numerator="y", denominator="x"),
    "mean, cuped": MetricConfig(name="m", numerator="y", covariate="p"),
    "ratio, cuped": MetricConfig(name="m", numerator="y", denominator="x", covariate="p", denominator_covariate="q"),
}


def table(seed: int, n: int = 500) -> tuple[dict[str, np.ndarray], np.ndarray]:
    rng = np.random.default_rng(seed)
    taste, arm = rng.beta(3, 9, n), rng.integers(0, 2, n)
    x, q = rng.poisson(20, n) + 1.0, rng.poisson(20, n) + 1.0
    y, p = rng.binomial(x.astype(int), taste) + 0.2 * arm, rng.binomial(q.astype(int), taste)
    users = {"x": x, "q": q, "p": p, "y": y}
    return {name: values.astype(float) for name, values in users.items()}, arm


def tea(metric: MetricConfig, users: dict, arm: np.ndarray):
    columns = [metric.numerator, metric.denominator, metric.covariate, metric.denominator_covariate]

    def aggregates(mask: np.ndarray) -> Aggregates:
        names = sorted({c for c in columns if c})
        values = np.stack([users[c][mask] for c in names])
        cov = np.atleast_2d(np.cov(values))
        return Aggregates(
            count_=int(mask.sum()),
            mean_={c: float(v.mean()) for c, v in zip(names, values, strict=True)},
            var_={c: float(cov[i, i]) for i, c in enumerate(names)},
            cov_={(a, b): float(cov[i, j]) for i, a in enumerate(names) for j, b in enumerate(names) if a < b},
        )

    return tea_tasting.RatioOfMeans(*columns).analyze_aggregates(aggregates(arm == 0), aggregates(arm == 1))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(5))
def test_effects_are_those_of_tea_tasting(kind, seed):
    users, arm = table(seed)
    row, other = compare(KINDS[kind], users, arm), tea(KINDS[kind], users, arm)
    assert row["method"] == "welch"
    ours = [row["control"], row["treatment"], row["p_value"], *row["difference"].values(), row["lift"]["value"]]
    theirs = [
        other.control, other.treatment, other.pvalue, other.effect_size, other.effect_size_ci_lower,
        other.effect_size_ci_upper, other.rel_effect_size,
    ]
    assert ours == pytest.approx(theirs, rel=1e-8, abs=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_a_mean_is_the_test_of_scipy_and_of_statsmodels(seed):
    users, arm = table(seed)
    a, b = users["y"][arm == 0], users["y"][arm == 1]
    row = compare(KINDS["mean"], users, arm)
    direct = stats.ttest_ind(b, a, equal_var=False)
    assert row["p_value"] == pytest.approx(direct.pvalue, rel=1e-8)
    means = CompareMeans(DescrStatsW(b), DescrStatsW(a))
    assert (row["difference"]["low"], row["difference"]["high"]) == pytest.approx(
        means.tconfint_diff(usevar="unequal"), rel=1e-8
    )


def test_cuped_is_least_squares_on_the_covariate():
    users, arm = table(11)
    y, p = users["y"], users["p"]
    theta = np.cov(y, p)[0, 1] / p.var(ddof=1)
    residual = y - theta * (p - p.mean())
    direct = stats.ttest_ind(residual[arm == 1], residual[arm == 0], equal_var=False)
    row = compare(KINDS["mean, cuped"], users, arm)
    assert row["p_value"] == pytest.approx(direct.pvalue, rel=1e-8)
    assert row["treatment"] - row["control"] == pytest.approx(
        residual[arm == 1].mean() - residual[arm == 0].mean(), rel=1e-8
    )


@given(st.integers(2, 40), st.integers(2, 40), st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_moments_of_two_groups_add_up_to_those_of_both(a, b, seed):
    values = np.random.default_rng(seed).lognormal(0, 1, (4, a + b))
    both, whole = Moments.of(values[:, :a]) + Moments.of(values[:, a:]), Moments.of(values)
    assert both.count == whole.count
    assert both.mean == pytest.approx(whole.mean) and both.cov == pytest.approx(whole.cov)


@given(st.floats(0.5, 5), st.floats(-2, 5), st.floats(0.001, 0.5), st.floats(0.001, 0.5))
@settings(max_examples=60, deadline=None)
def test_the_interval_of_a_lift_leaves_out_zero_where_that_of_the_difference_does(c, t, first, second):
    control, treatment = (estimate(Moments(50, np.array([m, 1, 0, 1.0]), np.diag([50 * s**2, 0, 0, 0])), Adjustment())
                          for m, s in ((c, first), (t, second)))
    found = welch(control, treatment, 0.05)
    if np.isfinite(found.lift.low):
        assert found.lift.low <= found.lift.value <= found.lift.high
        assert (found.lift.low > 0) == (found.difference.low > 0)
        assert (found.lift.high < 0) == (found.difference.high < 0)
        assert (found.p_value < 0.05) == (found.difference.low > 0 or found.difference.high < 0)


def test_a_lift_over_what_may_be_zero_has_no_interval():
    control, treatment = (estimate(Moments(50, np.array([m, 1, 0, 1.0]), np.diag([50.0, 0, 0, 0])), Adjustment())
                          for m in (1.5, 4.0))
    assert np.isnan(ratio_interval(control, treatment, -2, 2).value)
    assert ratio_interval(control, treatment, -1, 1).value == pytest.approx(4 / 1.5 - 1)


@pytest.mark.parametrize(
    ("events", "counts"), [((9, 0), (450, 50)), ((0, 6), (50, 50)), ((3, 9), (80, 60)), ((1, 1), (9, 9))]
)
def test_fisher_is_twice_the_smaller_tail_of_scipy_and_its_interval_inverts_it(events, counts):
    found = fisher_test(events, counts, 0.05)
    cells = [[events[1], counts[1] - events[1]], [events[0], counts[0] - events[0]]]
    tails = [stats.fisher_exact(cells, alternative=side).pvalue for side in ("less", "greater")]
    assert found.p_value == pytest.approx(min(1, 2 * min(tails)), rel=1e-8)
    assert (found.p_value < 0.05) == (found.difference.low > 0 or found.difference.high < 0)
    odds = stats.contingency.odds_ratio(np.array(cells)).confidence_interval(0.95)
    total = sum(events)

    def difference(ratio: float) -> float:
        shares = np.linspace(0, min(1, total / counts[0]), 200_001)
        other = (total - shares * counts[0]) / counts[1]
        inside = (other >= 0) & (other < 1) & (shares < 1) & (shares > 0)
        seen = other[inside] / (1 - other[inside]) / (shares[inside] / (1 - shares[inside]))
        return float((other - shares)[inside][np.argmin(np.abs(np.log(seen + 1e-300) - np.log(ratio)))])

    if odds.low > 0:
        assert found.difference.low == pytest.approx(difference(odds.low), abs=1e-4)
    if np.isfinite(odds.high):
        assert found.difference.high == pytest.approx(difference(odds.high), abs=1e-4)


def test_no_event_in_a_small_arm_decides_nothing():
    """The case of 9 of 450 against 0 of 50, which the normal approximation called p = .003."""
    users = {"y": np.r_[np.ones(9), np.zeros(491)]}
    arm = np.r_[np.zeros(450, int), np.ones(50, int)]
    row = compare(KINDS["mean"], users, arm)
    assert row["method"] == "fisher" and row["p_value"] > 0.5
    assert row["lift"]["value"] == -1 and row["lift"]["high"] > 0 and all(map(np.isfinite, row["difference"].values()))
    users, arm = {"y": np.r_[np.zeros(94), np.ones(6)]}, np.r_[np.zeros(50, int), np.ones(50, int)]
    row = compare(KINDS["mean"], users, arm)
    assert np.isnan(row["lift"]["value"]) and row["difference"]["value"] == pytest.approx(0.12)


def test_exact_tests_are_taken_where_events_are_few_alone():
    assert few_events((9, 0), (450, 50)) and few_events((441, 50), (450, 50)) and not few_events((90, 10), (450, 50))
    rng = np.random.default_rng(0)
    assert needs_permutation(rng.lognormal(0, 1, 500), (450, 50)) and needs_permutation(rng.normal(size=40), (20, 20))
    assert not needs_permutation(rng.lognormal(0, 1, 500), (250, 250))
    assert not needs_permutation(rng.normal(size=500), (450, 50))
    assert needs_permutation((rng.random(1000) < 0.005) * rng.random(1000), (500, 500))


@pytest.mark.parametrize("counts", [(12, 5), (5, 12)])
def test_permutations_are_those_of_scipy(counts):
    rng = np.random.default_rng(4)
    y, mask = rng.lognormal(0, 1, sum(counts)), np.repeat([False, True], counts)
    y[mask] *= 2

    def statistic(b, a, axis):
        error = np.sqrt(a.var(ddof=1, axis=axis) / a.shape[axis] + b.var(ddof=1, axis=axis) / b.shape[axis])
        return (b.mean(axis=axis) - a.mean(axis=axis)) / error

    exact = stats.permutation_test((y[mask], y[~mask]), statistic, vectorized=True, n_resamples=np.inf, axis=0)
    columns = np.stack([y, np.ones(len(y)), np.zeros(len(y)), np.ones(len(y))])
    found = permutation_test(columns, mask, Adjustment(), 0.05, permutations=19_999)
    assert found.p_value == pytest.approx(exact.pvalue, abs=0.012)
    assert found.p_value == permutation_test(columns, mask, Adjustment(), 0.05, permutations=19_999).p_value


@pytest.mark.parametrize("seed", range(6))
def test_the_interval_of_permutations_says_what_their_p_value_says(seed):
    rng = np.random.default_rng(seed)
    y, mask = rng.lognormal(0, 1, 300) * (rng.random(300) < 0.3), np.arange(300) < 30
    y[mask] *= 1 + seed / 3
    found = permutation_test(np.stack([y, np.ones(300), np.zeros(300), np.ones(300)]), mask, Adjustment(), 0.05, 999)
    assert (found.p_value < 0.05) == (found.difference.low > 0 or found.difference.high < 0)
    assert np.isnan(found.lift.low) or (found.lift.low > 0) == (found.difference.low > 0)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_quantiles_are_those_of_scipy_and_their_errors_those_of_the_jackknife(share):
    values = np.random.default_rng(2).lognormal(0, 1, 400)
    found = quantile_of(values, share)
    assert found.estimate.value == pytest.approx(stats.mstats.hdquantiles(values, [share])[0], rel=1e-9)
    jackknife = stats.mstats.hdquantiles_sd(values, [share])[0]
    assert np.sqrt(found.estimate.variance) == pytest.approx(jackknife, rel=0.03)


def test_the_test_of_quantiles_and_its_intervals_say_the_same():
    rng = np.random.default_rng(4)
    for _ in range(40):
        sides = [quantile_of(rng.lognormal(shift, 1, 300), 0.5) for shift in (0, 0.15)]
        found = quantile_test(*sides, 0.05)
        assert (found.p_value < 0.05) == (found.difference.low > 0 or found.difference.high < 0)
        assert (found.p_value < 0.05) == (found.lift.low > 0 or found.lift.high < 0)


def test_medians_of_equal_people_differ_as_often_as_promised():
    rng, found = np.random.default_rng(1), 0
    median = MetricConfig(name="m", numerator="y", quantile=0.5)
    for _ in range(1500):
        found += compare(median, {"y": rng.lognormal(0, 1, 1000)}, np.arange(1000) % 2)["p_value"] < 0.05
    assert 0.04 < found / 1500 < 0.06


def test_a_quantile_beside_a_crowd_of_equal_values_is_refused_in_a_small_arm_only():
    rng = np.random.default_rng(3)
    median = MetricConfig(name="m", numerator="y", quantile=0.5)
    def few(n):
        return rng.lognormal(0, 1, n) * (rng.random(n) < 0.55)
    arm = np.arange(500) < 50
    assert "beside a value that many users share" in compare(median, {"y": few(500)}, arm)["refused"]
    assert compare(median, {"y": few(500)}, np.arange(500) % 2)["refused"] is None
    assert compare(median, {"y": np.zeros(500)}, arm)["p_value"] == 1


def test_corrections_are_those_of_statsmodels():
    p = np.random.default_rng(1).beta(0.5, 3, 25)
    assert holm(p) == pytest.approx(multipletests(p, method="holm")[1], rel=1e-12)
    assert benjamini_hochberg(p) == pytest.approx(multipletests(p, method="fdr_bh")[1], rel=1e-12)
    assert holm(np.array([0.04, np.nan, 0.03])).tolist()[::2] == pytest.approx([0.06, 0.06])
    assert np.isnan(benjamini_hochberg(np.array([0.04, np.nan]))[1])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
@settings(max_examples=50, deadline=None)
def test_corrected_p_values_are_never_smaller_and_keep_their_order(values):
    p = np.array(values)
    for correct in (holm, benjamini_hochberg):
        q = correct(p)
        assert (q >= p - 1e-15).all() and (q <= 1).all() and (np.diff(q[np.argsort(p, kind="stable")]) >= -1e-15).all()


def test_the_split_check_is_scipys():
    for counts, shares in (((5000, 5500), (1, 1)), ((900, 130, 80), (0.8, 0.1, 0.1))):
        names = [str(i) for i in range(len(counts))]
        expected = np.sum(counts) * np.array(shares) / np.sum(shares)
        found = split_check(counts, shares, names)
        assert found["p_value"] == pytest.approx(stats.chisquare(counts, expected).pvalue, rel=1e-8)


@pytest.mark.parametrize(
    ("shape", "published"),
    [
        ("obrien_fleming", [4.8769, 3.3569, 2.6803, 2.2898, 2.0310]),
        ("pocock", [2.4380, 2.4268, 2.4101, 2.3966, 2.3859]),
    ],
)
def test_boundaries_are_those_that_are_published_for_five_looks(shape, published):
    """Reboussin, DeMets, Kim and Lan, Controlled Clinical Trials 2000."""
    assert boundaries([0.2, 0.4, 0.6, 0.8, 1.0], 0.05, shape) == pytest.approx(published, abs=2e-3)


def test_boundaries_spend_alpha_and_no_more():
    assert spent(np.array([1.0]), 0.05)[0] == pytest.approx(0.05)
    assert boundaries([1.0], 0.05) == pytest.approx([stats.norm.isf(0.025)], abs=1e-6)
    looks = np.arange(1, 13) / 12
    steps = np.random.default_rng(0).normal(size=(200_000, 12)) * np.sqrt(1 / 12)
    z = steps.cumsum(axis=1) / np.sqrt(looks)
    assert (np.abs(z) > boundaries(looks, 0.05)).any(axis=1).mean() == pytest.approx(0.05, abs=0.002)
    with pytest.raises(ValueError, match="must rise"):
        boundaries([0.5, 0.5], 0.05)


def test_confidence_sequences_hold_on_all_days_and_agree_with_their_p_value():
    rng = np.random.default_rng(3)
    error = 1 / np.sqrt(np.arange(1, 201.0))
    paths = rng.normal(size=(5000, 200)).cumsum(axis=1) * error**2
    band = confidence_sequence.reach(error, error[-1], 0.05)
    left = (np.abs(paths) > band).any(axis=1)
    assert left.mean() < 0.05
    for path, out in zip(paths[:300], left[:300], strict=True):
        assert (confidence_sequence.p_value(path, error, error[-1])[-1] < 0.05) == out


def test_beliefs_are_those_of_the_normal_and_of_the_beta():
    found = posterior([0.0, 1.0], [0.0, 1.0], "up")
    assert found[1]["probability_best"] == pytest.approx(stats.norm.cdf(1), abs=0.003)
    # E max(−d, 0) of d ~ N(1, 1)
    assert found[1]["expected_loss"] == pytest.approx(stats.norm.pdf(1) - stats.norm.sf(1), abs=0.003)
    rng = np.random.default_rng(0)
    direct = (rng.beta(4, 18, 10**6) > rng.beta(2, 30, 10**6)).mean()
    events = posterior([0, 0], [1, 1], "up", [(1, 30), (3, 20)])
    assert events[1]["probability_best"] == pytest.approx(direct, abs=0.005)
    assert posterior([0.0, 1.0], [0.5, 1.0], "down")[0]["probability_best"] > 0.5
    assert sum(b["probability_best"] for b in posterior([0, 0.1, 0.2], [0, 1, 1], "up")) == pytest.approx(1)


def test_segments_are_drawn_together_as_in_a_meta_analysis():
    effects, errors = np.array([0.1, 0.3, -0.05, 0.2]), np.array([0.05, 0.1, 0.04, 0.08])
    found = shrink(effects, errors)
    other = combine_effects(effects, errors**2, method_re="dl")
    assert found.q == pytest.approx(other.q) and found.between == pytest.approx(other.tau2)
    assert found.mean == pytest.approx(other.mean_effect_re)
    weight = found.between / (found.between + errors**2)
    assert found.effects == pytest.approx(weight * effects + (1 - weight) * found.mean)
    assert found.p_value == pytest.approx(stats.chi2.sf(found.q, 3))
    alike = shrink(np.full(3, 0.2), np.full(3, 0.1))
    assert alike.between == 0 and alike.effects == pytest.approx([0.2] * 3)


@given(st.floats(1, 5), st.floats(0.01, 0.3), st.floats(0.2, 0.8))
@settings(max_examples=30, deadline=None)
def test_what_is_detectable_with_the_users_that_an_effect_needs_is_that_effect(cv, lift, share):
    users = users_needed(cv, lift, share, 0.05, 0.8)
    control, treatment = users * (1 - share), users * share
    assert detectable_lift(cv, control, treatment, 0.05, 0.8) == pytest.approx(lift, rel=0.05)
    assert power_of(cv, control, treatment, lift, stats.norm.isf(0.025)) == pytest.approx(0.8, abs=0.02)


def test_the_detectable_lift_solves_its_equation():
    lift = detectable_lift(1.5, 1000, 250, 0.05, 0.8)
    z = stats.norm.isf(0.025) + stats.norm.ppf(0.8)
    assert lift == pytest.approx(z * 1.5 * np.sqrt(1 / 1000 + (1 + lift) ** 2 / 250), rel=1e-9)
    assert detectable_lift(3.0, 1000, 10, 0.05, 0.8) == np.inf
