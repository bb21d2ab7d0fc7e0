"""Plans against simulation and by hand."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from recsys_cli.data.dataset import Dataset
from recsys_cli.errors import ConfigError, DataError
from recsys_cli.experiments.compare import compare
from recsys_cli.experiments.config import ExperimentConfig
from recsys_cli.experiments.history import baseline_of_dataset, baseline_of_log
from recsys_cli.experiments.metric_config import MetricConfig
from recsys_cli.experiments.plan import Baseline, critical_value, plan

SOLD = MetricConfig(name="sold", numerator="sold", covariate="before")


def config(**more) -> ExperimentConfig:
    return ExperimentConfig.model_validate({"name": "e", "metrics": (SOLD,)} | more)


def test_an_effect_is_found_as_often_as_planned():
    setting = config(planned_effect=0.2)
    row = plan(setting, Baseline.of_numbers(10.0, 8.0, None))["effects"][0]
    arm = np.repeat([0, 1], [row["control_users"], row["treatment_users"]])
    rng, found = np.random.default_rng(1), 0
    for _ in range(500):
        y = rng.gamma(1.5625, 6.4, len(arm)) * np.where(arm == 1, 1.2, 1.0)
        found += compare(MetricConfig(name="m", numerator="y"), {"y": y}, arm)["p_value"] < 0.05
    assert found / 500 == pytest.approx(0.8, abs=0.06)


def test_more_users_are_needed_to_look_every_day_and_for_more_variants():
    base = Baseline.of_numbers(1.0, 1.0, 500)
    stops = ("fixed", "group_sequential", "always_valid")
    users = {stop: plan(config(stop=stop), base)["effects"][1]["users"] for stop in stops}
    assert users["fixed"] < users["group_sequential"] < 1.2 * users["fixed"] < users["always_valid"]
    three = config(variants={"a": {}, "b": {}, "c": {}})
    assert critical_value(three) > critical_value(config())
    narrow = plan(config(traffic=0.5), base)
    assert narrow["users_of_planned_days"] == plan(config(), base)["users_of_planned_days"] / 2


def test_days_are_those_until_the_users_have_come():
    document = plan(config(planned_effect=0.1), Baseline.of_numbers(1.0, 1.0, 500))
    (row,) = document["effects"]
    assert row["days"] == int(np.ceil(row["users"] / 500))
    assert plan(config(planned_effect=0.1), Baseline.of_numbers(1.0, 1.0, None))["effects"][0]["days"] is None


def test_the_baseline_of_a_log_is_that_of_its_users_after_the_covariate(tmp_path):
    rng = np.random.default_rng(0)
    taste, user, n = rng.gamma(2, 1, 400), rng.integers(0, 400, 6000), 6000
    frame = pl.DataFrame(
        {"user_id": user, "day": rng.integers(1, 8, n), "sold": rng.poisson(taste[user]), "before": (10 * taste)[user]}
    )
    frame.write_parquet(tmp_path / "log.parquet")
    found = baseline_of_log(tmp_path / "log.parquet", config())
    sums = frame.group_by("user_id").agg(pl.col("sold").sum(), pl.col("before").mean())
    y, x = sums["sold"].to_numpy(), sums["before"].to_numpy()
    residual = y - np.cov(y, x)[0, 1] / x.var(ddof=1) * (x - x.mean())
    assert found.mean[-1] == pytest.approx(y.mean()) and found.users[-1] == len(y)
    assert found.cv[-1] == pytest.approx(residual.std(ddof=1) / y.mean())
    assert found.variance_reduction == pytest.approx(1 - residual.var() / y.var())
    frame.drop("day").write_parquet(tmp_path / "flat.parquet")
    with pytest.raises(DataError, match="no days to plan with"):
        baseline_of_log(tmp_path / "flat.parquet", config())


def test_the_baseline_of_a_dataset_is_that_of_its_last_days(tiny_dataset):
    dataset = Dataset.open(tiny_dataset)
    setting = ExperimentConfig(name="e", metrics=("ctr", "sessions_per_user"), days=3)
    found = baseline_of_dataset(dataset, setting)
    log = dataset.log.window(int(dataset.log.time[-1]) + 1 - 3 * 86_400_000_000)
    assert found.mean[-1] == pytest.approx(log.actions["click"].mean()) and len(found.mean) == 3
    with pytest.raises(DataError, match="fewer than 30 days"):
        baseline_of_dataset(dataset, setting.model_copy(update={"days": 30}))
    with pytest.raises(DataError, match="no column 'topics'"):
        baseline_of_dataset(dataset, ExperimentConfig(name="e", metrics=("topics_per_slate",), days=3))


def test_what_cannot_be_planned_is_refused():
    with pytest.raises(ConfigError, match="a mean of 0"):
        Baseline.of_numbers(0.0, 1.0, None)
    quantile = MetricConfig(name="q", numerator="y", quantile=0.5)
    with pytest.raises(ConfigError, match="no plan for a quantile"):
        plan(config(metrics=(quantile,)), Baseline.of_numbers(1.0, 1.0, None))
