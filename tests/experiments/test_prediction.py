"""CUPAC: what a model foretells from before takes variance off, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError
from sklearn.linear_model import Ridge

from recsys_cli.experiments.analysis import Evidence, analyse
from recsys_cli.experiments.compare import compare
from recsys_cli.experiments.config import ExperimentConfig
from recsys_cli.experiments.daily import DailyOutcomes
from recsys_cli.experiments.metric_config import MetricConfig
from recsys_cli.experiments.plan import Baseline
from recsys_cli.experiments.prediction import foretold, out_of_fold

MODEL = MetricConfig(name="sales", numerator="sold", predictors=("visits", "age", "sold_before"))


def people(seed: int, n: int = 1000) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """What was sold hangs on three figures from before, of which none says much alone."""
    rng = np.random.default_rng(seed)
    visits, age, before = rng.poisson(8, n), rng.normal(0, 1, n), rng.poisson(2, n)
    sold = 3 * np.log1p(visits) + 1.5 * age + 0.8 * before + rng.normal(0, 1, n) + 10
    columns = {"sold": sold, "visits": visits, "age": age, "sold_before": before, "seen": rng.poisson(20, n) + 1}
    return {c: v.astype(float) for c, v in columns.items()}, rng.integers(0, 2, n).astype(np.int8)


def experiment(*metrics: MetricConfig) -> ExperimentConfig:
    return ExperimentConfig(name="e", metrics=metrics)


def test_predictions_of_a_user_do_not_know_what_that_user_did():
    users, _ = people(1, 200)
    changed = dict(users, sold=users["sold"] + np.where(np.arange(200) == 17, 1e6, 0))
    (_, one), (_, two) = foretold(MODEL, users), foretold(MODEL, changed)
    differs = one["sales foretold"] != two["sales foretold"]
    assert not differs[17] and differs.sum() == 160


def test_predictions_are_those_of_ridge_regressions_on_the_other_folds():
    rng = np.random.default_rng(0)
    table, y, folds = rng.normal(size=(90, 3)), rng.normal(size=90), np.arange(90) % 3
    found = out_of_fold(np.column_stack([np.ones(90), table]), y, folds)
    for fold in range(3):
        model = Ridge(alpha=1e-3 * 60).fit(table[folds != fold], y[folds != fold])
        assert found[folds == fold] == pytest.approx(model.predict(table[folds == fold]), rel=1e-9)


def test_a_model_takes_more_variance_off_than_the_best_single_covariate():
    users, arm = people(2)
    model, columns = foretold(MODEL, users)
    by_model = compare(model, users | columns, arm)["variance_reduction"]
    singles = [
        compare(MetricConfig(name="sales", numerator="sold", covariate=c), users, arm)["variance_reduction"]
        for c in MODEL.predictors
    ]
    assert by_model > 0.7 > max(singles) + 0.1


def test_the_effect_stays_unbiased_and_nothing_is_found_where_there_is_nothing():
    effects, found = [], 0
    for seed in range(300):
        users, arm = people(seed, 400)
        model, columns = foretold(MODEL, users)
        found += compare(model, users | columns, arm)["p_value"] < 0.05
        lifted = users | {"sold": users["sold"] + 1.0 * arm}
        model, columns = foretold(MODEL, lifted)
        effects.append(compare(model, lifted | columns, arm)["difference"]["value"])
    assert np.mean(effects) == pytest.approx(1.0, abs=4 * np.std(effects) / np.sqrt(300))
    assert 0.02 < found / 300 < 0.09


def test_ratios_are_foretold_in_both_parts_and_predictors_that_are_not_there_are_done_without():
    users, arm = people(3)
    ratio = MetricConfig(name="rate", numerator="sold", denominator="seen", predictors=("visits", "no_such_column"))
    row = analyse(users, arm, experiment(ratio))["metrics"][0]
    assert row["covariate"] == "rate foretold" and row["variance_reduction"] is not None
    lacking = MetricConfig(name="rate", numerator="sold", predictors=("no_such_column",))
    assert analyse(users, arm, experiment(lacking))["metrics"][0]["covariate"] is None


def test_two_metrics_of_one_column_have_each_its_own_prediction():
    users, arm = people(4)
    other = MetricConfig(name="by age", numerator="sold", predictors=("age",))
    rows = analyse(users, arm, experiment(MODEL, other))["metrics"]
    assert rows[0]["variance_reduction"] > rows[1]["variance_reduction"] + 0.1 > 0.1


def test_a_model_that_differed_between_the_arms_before_voids_the_result():
    users, arm = people(5)
    users["age"] += 0.5 * arm
    found = analyse(users, arm, experiment(MODEL), Evidence())["decision"]
    assert found["outcome"] == "invalid" and "age differed" in found["because"][0]


def test_a_plan_counts_with_what_the_model_takes_off():
    users, _ = people(6)
    n = len(users["sold"])
    daily = DailyOutcomes.of(np.arange(n), np.ones(n, int), {"sold": users["sold"]}, n)
    fixed = {c: users[c] for c in MODEL.predictors}
    with_model = Baseline.of_daily(MODEL, daily, fixed, "here")
    without = Baseline.of_daily(MetricConfig(name="sales", numerator="sold"), daily, {}, "here")
    assert with_model.variance_reduction > 0.7 and with_model.cv[-1] < 0.6 * without.cv[-1]


def test_predictors_stand_instead_of_a_covariate():
    with pytest.raises(ValidationError, match="give either"):
        MetricConfig(name="m", numerator="y", covariate="x", predictors=("z",))
    with pytest.raises(ValidationError, match="an outcome is none"):
        MetricConfig(name="m", numerator="y", predictors=("y",))
