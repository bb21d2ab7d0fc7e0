"""Experiment statistics against direct formulas, planted effects and simulated A/A tests."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from recsys_cli.errors import DataError
from recsys_cli.experiments.analysis import analyse
from recsys_cli.experiments.checks import split_check
from recsys_cli.experiments.compare import compare
from recsys_cli.experiments.config import ExperimentConfig
from recsys_cli.experiments.metric_config import METRICS, MetricConfig

MEAN = MetricConfig(name="m", numerator="y")
RATIO = MetricConfig(name="ctr", numerator="click", denominator="impressions")
CUPED = MetricConfig(name="m", numerator="y", covariate="x")


def people(seed: int, n: int = 400, effect: float = 0.0) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Users whose clicks vary more between them than chance, with what they did before as x."""
    rng = np.random.default_rng(seed)
    taste = rng.beta(3, 12, n)
    shown = rng.poisson(30, n) + 1
    arm = rng.integers(0, 2, n)
    return {
        "impressions": shown.astype(float),
        "click": rng.binomial(shown, np.minimum(taste * (1 + effect * arm), 1)).astype(float),
        "x": rng.binomial(40, taste).astype(float),
        "y": rng.normal(10 + 40 * taste + effect * arm, 2),
    }, arm


def test_a_mean_is_welchs_test():
    users, arm = people(1, effect=0.5)
    row = compare(MEAN, users, arm)
    a, b = users["y"][arm == 0], users["y"][arm == 1]
    direct = stats.ttest_ind(b, a, equal_var=False)
    interval = direct.confidence_interval(0.95)
    assert row["p_value"] == pytest.approx(direct.pvalue)
    assert row["control"] == pytest.approx(a.mean()) and row["treatment"] == pytest.approx(b.mean())
    assert row["difference"] == pytest.approx(
        {"value": b.mean() - a.mean(), "low": interval.low, "high": interval.high}
    )
    assert row["lift"]["value"] == pytest.approx(b.mean() / a.mean() - 1)


def test_a_ratio_is_the_delta_method_with_the_user_as_unit():
    users, arm = people(2, effect=0.2)
    row = compare(RATIO, users, arm)
    means, errors = [], []
    for a in (0, 1):
        y, n = users["click"][arm == a], users["impressions"][arm == a]
        ratio = y.sum() / n.sum()
        means.append(ratio)
        errors.append(((y - ratio * n) ** 2).sum() / (len(y) - 1) / len(y) / n.mean() ** 2)
    z = (means[1] - means[0]) / np.sqrt(sum(errors))
    assert row["control"] == pytest.approx(means[0]) and row["treatment"] == pytest.approx(means[1])
    assert row["p_value"] == pytest.approx(2 * stats.t.sf(abs(z), 396), rel=0.05)
    half = 1.96 * np.sqrt(sum(errors))
    assert row["difference"]["high"] - row["difference"]["value"] == pytest.approx(half, rel=0.01)


def test_cuped_is_the_regression_on_the_covariate_and_narrows_the_interval():
    users, arm = people(3, effect=0.5)
    plain, adjusted = compare(MEAN, users, arm), compare(CUPED, users, arm)
    theta = np.cov(users["y"], users["x"])[0, 1] / users["x"].var(ddof=1)
    y = users["y"] - theta * (users["x"] - users["x"].mean())
    direct = stats.ttest_ind(y[arm == 1], y[arm == 0], equal_var=False)
    # the coefficient is pooled over both arms, which differs from the one above by the effect alone
    assert adjusted["p_value"] == pytest.approx(direct.pvalue, rel=0.1)
    width = {k: r["difference"]["high"] - r["difference"]["low"] for k, r in (("plain", plain), ("cuped", adjusted))}
    assert width["cuped"] < 0.75 * width["plain"]
    assert adjusted["variance_reduction"] == pytest.approx(1 - (width["cuped"] / width["plain"]) ** 2, abs=1e-4)
    assert adjusted["covariate"] == "x" and adjusted["control_raw"] == pytest.approx(plain["control"])
    assert adjusted["detectable_lift"] < plain["detectable_lift"]


@pytest.mark.parametrize("metric", [MEAN, RATIO, CUPED], ids=["mean", "ratio", "cuped"])
def test_p_values_of_a_a_tests_are_uniform(metric):
    p = np.array([compare(metric, *people(seed, n=200))["p_value"] for seed in range(1000, 1300)])
    assert stats.kstest(p, "uniform").pvalue > 0.001
    assert stats.binomtest(int((p < 0.05).sum()), 300, 0.05).pvalue > 0.001


def test_intervals_cover_a_planted_effect_as_often_as_they_say():
    covered = 0
    for seed in range(300):
        side = compare(CUPED, *people(seed, n=200, effect=1.0))["difference"]
        covered += side["low"] <= 1.0 <= side["high"]
    assert stats.binomtest(covered, 300, 0.95).pvalue > 0.001


def test_the_detectable_effect_is_found_about_as_often_as_the_power_says():
    seen = compare(MEAN, *people(0, n=400))
    effect = seen["detectable_lift"] * seen["control"]
    found = sum(compare(MEAN, *people(seed, n=400, effect=effect))["p_value"] < 0.05 for seed in range(1, 201))
    assert 0.7 < found / 200 < 0.9


def test_a_split_that_went_wrong_is_noticed_and_voids_the_verdict():
    assert split_check([5000, 5050], (0.5, 0.5))["passed"]
    assert not split_check([5000, 5500], (0.5, 0.5))["passed"]
    assert split_check([900, 100], (9, 1))["p_value"] == 1.0
    users, arm = people(4, n=2000)
    keep = (arm == 0) | (np.arange(2000) % 3 > 0)
    result = analyse({k: v[keep] for k, v in users.items()}, arm[keep], ExperimentConfig(name="e", metrics=(MEAN,)))
    assert not result["split"]["passed"] and result["decision"]["outcome"] == "invalid"
    assert "users came out as" in result["verdict"]


def test_p_values_are_adjusted_for_the_number_of_metrics():
    users, arm = people(5, effect=0.8)
    metrics = tuple(MetricConfig(name=f"m{i}", numerator=f"y{i}") for i in range(4))
    rng = np.random.default_rng(0)
    users |= {f"y{i}": users["y"] if i == 0 else rng.normal(1, 1, len(arm)) for i in range(4)}
    rows = analyse(users, arm, ExperimentConfig(name="e", metrics=metrics))["metrics"]
    p = np.array([r["p_value"] for r in rows])
    order = np.argsort(p)
    by_hand = np.minimum.accumulate((p[order] * 4 / np.arange(1, 5))[::-1])[::-1]
    assert [rows[i]["p_adjusted"] for i in order] == pytest.approx(np.minimum(by_hand, 1))


def test_the_verdict_speaks_of_the_primary_metric_and_its_goal():
    users, arm = people(6, n=2000, effect=0.5)
    config = ExperimentConfig(name="e", metrics=("negative_rate", RATIO), primary="negative_rate")
    users["negative"] = users["click"]
    assert analyse(users, arm, config)["verdict"].startswith("Treatment is worse: negative_rate +")
    config = ExperimentConfig(name="e", metrics=(RATIO,))
    assert analyse(users, arm, config)["verdict"].startswith("Treatment is better: ctr +")
    nothing = analyse(*people(7, n=300), ExperimentConfig(name="e", metrics=(MEAN,)))["verdict"]
    assert nothing.startswith("No difference in m could be shown") and "would be found 80% of the time" in nothing


def test_metrics_that_do_not_vary_are_said_to_be_so():
    users, arm = people(8)
    users |= {"none": np.zeros(len(arm)), "same": np.full(len(arm), 3.0)}
    zero = compare(MetricConfig(name="z", numerator="none"), users, arm)
    assert zero["control"] == zero["treatment"] == 0 and zero["p_value"] == 1.0
    assert np.isnan(compare(MetricConfig(name="z", numerator="y", denominator="none"), users, arm)["p_value"])
    assert compare(MetricConfig(name="z", numerator="same"), users, arm)["p_value"] == 1.0


def test_bad_input_is_named():
    users, arm = people(9)
    with pytest.raises(DataError, match="treatment arm has 0 users"):
        analyse(users, np.zeros(len(arm), int), ExperimentConfig(name="e", metrics=(MEAN,)))
    with pytest.raises(DataError, match="no column 'clik'") as error:
        compare(MetricConfig(name="c", numerator="clik"), users, arm)
    assert error.value.hint == "did you mean 'click'?"


def test_every_built_in_metric_is_named_after_itself():
    assert all(name == metric.name for name, metric in METRICS.items())


@pytest.mark.parametrize(("control", "treatment", "better"), [(0.0, 2.0, True), (-24.0, -27.0, False)])
def test_over_a_control_of_nothing_or_less_the_difference_is_told(control, treatment, better):
    rng = np.random.default_rng(0)
    arm = np.arange(400) % 2
    spent = np.where(arm == 1, treatment, control) + np.where(arm == 1, rng.normal(0, 1, 400), 0.0)
    config = ExperimentConfig(name="t", metrics=(MetricConfig(name="rev", numerator="spent"),))
    found = analyse({"spent": spent}, arm, config)
    assert ("is better: rev +" if better else "is worse: rev -") in found["verdict"]
    assert "%" not in found["verdict"].partition("(")[0] and "nan" not in found["verdict"]
    row = found["metrics"][0]
    assert np.isnan(row["lift"]["value"]) and np.isnan(row["detectable_lift"])
    assert row["difference"]["low"] < treatment - control < row["difference"]["high"]


def test_a_covariate_that_is_the_outcome_is_left_out_and_told():
    rng = np.random.default_rng(1)
    arm, spent = np.arange(400) % 2, rng.exponential(10, 400)
    metric = MetricConfig(name="rev", numerator="spent", covariate="before")
    row = compare(metric, {"spent": spent, "before": 3 * spent + 1}, arm)
    plain = compare(MetricConfig(name="rev", numerator="spent"), {"spent": spent}, arm)
    assert row["covariate"] is None and "explains spent whole" in row["covariate_left_out"]
    assert row["p_value"] == pytest.approx(plain["p_value"]) and row["difference"] == pytest.approx(plain["difference"])
