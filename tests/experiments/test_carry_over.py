"""What an earlier experiment left behind is found, and nothing is found where it left nothing."""

from __future__ import annotations

import datetime as dt

import numpy as np
import polars as pl
import pytest
from scipy import stats

from recsys_cli.errors import DataError
from recsys_cli.experiments import create_experiment, get_experiment_results
from recsys_cli.experiments.analysis import Evidence, analyse
from recsys_cli.experiments.assignment import assign_units
from recsys_cli.experiments.carry_over import carry_over, variants_before
from recsys_cli.experiments.config import ExperimentConfig
from recsys_cli.experiments.outcomes import outcomes_of
from recsys_cli.experiments.registry import ExperimentRegistry
from recsys_cli.experiments.segments import Segment

SALES = {"name": "sales", "numerator": "sold"}
CONFIG = ExperimentConfig(name="now", metrics=(SALES,))


def dealt(seed: int, n: int = 4000) -> tuple[np.random.Generator, np.ndarray, Segment]:
    rng = np.random.default_rng(seed)
    return rng, rng.integers(0, 2, n).astype(np.int8), Segment(("old", "bold"), rng.integers(0, 2, n))


def findings(sold: np.ndarray, arm: np.ndarray, earlier: Segment) -> list[dict]:
    return carry_over(CONFIG.metrics[0], {"sold": sold}, arm, {"before": earlier}, CONFIG)


def test_an_effect_that_hangs_on_the_earlier_variant_is_told_and_voids_nothing():
    rng, arm, earlier = dealt(1)
    found = findings(10 + rng.normal(0, 1, 4000) + arm * (earlier.code == 1), arm, earlier)[0]
    assert not found["passed"] and not found["voids"]
    assert found["told"] == "the effect on sales differs by the variant that users had in before"


def test_an_even_spread_with_one_effect_for_all_passes_also_where_the_earlier_variant_lives_on():
    rng, arm, earlier = dealt(2)
    found = findings(10 + rng.normal(0, 1, 4000) + arm + earlier.code, arm, earlier)
    assert [f["passed"] for f in found] == [True]


def test_variants_that_are_dealt_out_unevenly_void_the_result_by_pearsons_test():
    rng, arm, _ = dealt(3)
    earlier = Segment(("old", "bold"), np.where(rng.random(4000) < 0.15, arm, rng.integers(0, 2, 4000)))
    sold = 10 + rng.normal(0, 1, 4000)
    result = analyse({"sold": sold}, arm, CONFIG, Evidence(earlier={"before": earlier}))
    assert result["decision"]["outcome"] == "invalid" and "different shares" in result["decision"]["because"][0]
    table = np.histogram2d(earlier.code, arm, bins=2)[0]
    p = next(c for c in result["checks"] if c["check"] == "carry-over")["p_value"]
    assert p == pytest.approx(stats.chi2_contingency(table, correction=False).pvalue, rel=1e-9)


def test_false_alarms_are_rare():
    alarms = 0
    for seed in range(300):
        rng, arm, earlier = dealt(seed, 400)
        alarms += not findings(10 + rng.normal(0, 1, 400), arm, earlier)[0]["passed"]
    assert alarms <= 3


def test_a_log_may_name_the_earlier_variant_in_a_column():
    rng, arm, earlier = dealt(4, 400)
    frame = pl.DataFrame({
        "user_id": np.arange(400), "variant": np.array(["control", "treatment"])[arm],
        "sold": rng.normal(10, 1, 400), "was_in": np.array(earlier.names)[earlier.code],
    })
    found = outcomes_of(frame, CONFIG.model_copy(update={"earlier": ("was_in",)}), "here")
    assert np.array_equal(np.array(found.earlier["was_in"].names)[found.earlier["was_in"].code], frame["was_in"])
    with pytest.raises(DataError, match="earlier: no column 'was_on'"):
        outcomes_of(frame, CONFIG.model_copy(update={"earlier": ("was_on",)}), "here")


def test_started_experiments_look_at_those_that_began_before(tmp_path):
    first = create_experiment({"name": "first", "metrics": [SALES], "traffic": 0.5}, tmp_path)
    second = create_experiment({"name": "second", "metrics": [SALES]}, tmp_path)
    ids = [f"u{i}" for i in range(1000)]
    told = variants_before(ExperimentRegistry(tmp_path).before(second), pl.Series(ids))
    assert list(told) == ["first"]
    names = [told["first"].names[code] for code in told["first"].code]
    assert names == [("control", "treatment", "no variant")[a] for a in assign_units(first.config, ids)]
    variants = np.array(["control", "treatment"])[assign_units(second.config, ids)]
    moment = dt.datetime.now(dt.UTC) + dt.timedelta(minutes=1)
    log = tmp_path / "log.parquet"
    sold = np.random.default_rng(0).normal(10, 1, 1000)
    pl.DataFrame({"user_id": ids, "variant": variants, "sold": sold, "timestamp": [moment] * 1000}).write_parquet(log)
    checks = get_experiment_results("second", log=log, artifacts=tmp_path)["checks"]
    assert [c["told"] for c in checks if c["check"] == "carry-over"] == [
        "the variants of first are spread evenly, and the effect does not hang on them"
    ]
