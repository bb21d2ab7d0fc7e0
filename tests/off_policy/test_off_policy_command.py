"""`recsys off-policy` from files: what it estimates, and what it refuses."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from recsys_cli.cli import common
from recsys_cli.off_policy_estimates.rows import spread

MU = np.array([[0.5, 0.3, 0.2], [0.2, 0.3, 0.5]])
PI = np.array([[0.1, 0.2, 0.7], [0.1, 0.8, 0.1]])
MEAN = np.array([[0.1, 0.2, 0.4], [0.3, 0.1, 0.2]])


def log_of(n: int, seed: int = 0, policy: np.ndarray = MU) -> pl.DataFrame:
    """n slates of two places; each place's click depends on its own item."""
    rng = np.random.default_rng(seed)
    place = np.tile([0, 1], n)
    item = (rng.random(2 * n)[:, None] > policy.cumsum(1)[place]).sum(1)
    return pl.DataFrame({
        "item_id": [f"i{i}" for i in item], "position": place + 1, "request_id": np.arange(n).repeat(2),
        "user_id": (np.arange(n) // 3).repeat(2), "click": rng.random(2 * n) < MEAN[place, item],
        "propensity": policy[place, item], "other": PI[place, item],
    })


@pytest.fixture
def judge(tmp_path, capsysbinary, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def call(rows: pl.DataFrame | None, policy: dict, *options: str, **rest) -> tuple[int, dict | str]:
        if rows is not None:
            rows.write_parquet("log.parquet")
        Path("policy.yaml").write_text(json.dumps({"policy": policy, **rest}))
        code = common.run(["off-policy", "policy.yaml", "--log", "log.parquet", "--format", "json", *options])
        out, err = capsysbinary.readouterr()
        return code, json.loads(out) if code == 0 else err.decode()

    return call


def table() -> None:
    rows = [{"item_id": f"i{a}", "position": k + 1, "probability": PI[k, a]} for k in range(2) for a in range(3)]
    pl.DataFrame(rows).write_csv("table.csv")


def test_a_table_of_probabilities_is_estimated_as_it_truly_is(judge):
    table()
    code, found = judge(log_of(20_000), {"kind": "file", "path": "table.csv"})
    assert code == 0
    truth = (PI * MEAN).sum(1)
    for row in found["estimates"]:
        if row["estimator"] != "clipped_ips":
            assert row["value"] == pytest.approx(truth.mean(), abs=0.015), row["estimator"]
        assert row["difference"]["value"] == pytest.approx(row["value"] - found["logging"]["value"])
    assert len(found["slate_estimates"]) == 5
    for row in found["slate_estimates"]:
        assert row["value"] == pytest.approx(truth.sum(), abs=0.03), row["estimator"]
    assert not found["warnings"] and found["figures"]["mean_weight"] == pytest.approx(1, abs=0.02)


def test_one_probability_a_row_gives_the_same_weights_and_leaves_models_out(judge):
    table()
    whole = judge(log_of(2000), {"kind": "file", "path": "table.csv"})[1]
    rows = judge(None, {"kind": "column", "column": "other"})[1]
    assert [r["value"] for r in rows["estimates"]] == pytest.approx([r["value"] for r in whole["estimates"][:3]])
    assert set(rows["left_out"]) == {
        "direct_method", "doubly_robust", "switch_doubly_robust", "slate_cascade_doubly_robust"
    }


def test_another_log_is_a_policy(judge):
    log_of(40_000, 7, PI).write_parquet("other.parquet")
    found = judge(log_of(20_000), {"kind": "log", "path": "other.parquet"})[1]
    value = next(r["value"] for r in found["estimates"] if r["estimator"] == "doubly_robust")
    assert value == pytest.approx((PI * MEAN).sum(1).mean(), abs=0.02)


def test_without_propensities_they_are_estimated_and_it_is_said(judge):
    table()
    found = judge(log_of(20_000), {"kind": "file", "path": "table.csv"}, log={"propensity": None})[1]
    assert any("propensities are estimated" in text for text in found["warnings"])
    value = next(r["value"] for r in found["estimates"] if r["estimator"] == "ips")
    assert value == pytest.approx((PI * MEAN).sum(1).mean(), abs=0.02)


def test_a_policy_is_learned_on_one_half_and_written_as_a_table_that_can_be_judged(judge):
    found = judge(log_of(20_000), {"kind": "learned"}, "--save-policy", "learned.parquet")[1]
    best = next(r for r in found["estimates"] if r["estimator"] == "doubly_robust")
    assert best["difference"]["low"] > 0 and best["value"] > 0.9 * MEAN.max(1).mean()
    written = pl.read_parquet("learned.parquet")
    assert set(written.columns) == {"item_id", "position", "probability"}
    again = judge(log_of(20_000, 5), {"kind": "file", "path": "learned.parquet"})
    assert again[0] == 0 and again[1]["estimates"][0]["value"] == pytest.approx(best["value"], abs=0.03)


def test_slates_of_varying_length_are_estimated(judge):
    table()
    log = log_of(20_000).with_row_index().filter((pl.col("index") % 8) != 1).drop("index")
    found = judge(log, {"kind": "file", "path": "table.csv"})[1]
    truth = (PI * MEAN).sum(1)
    value = {r["estimator"]: r["value"] for r in found["slate_estimates"]}
    assert value["slate_independent_ips"] == pytest.approx(truth[0] + 0.75 * truth[1], abs=0.03)


def test_the_same_seed_gives_the_same_document_and_another_other_intervals(judge):
    table()
    policy = {"kind": "file", "path": "table.csv"}
    first, second = judge(log_of(500), policy)[1], judge(None, policy)[1]
    other = judge(None, policy, "--seed", "7")[1]
    assert first == second and other["estimates"][0]["low"] != first["estimates"][0]["low"]
    assert other["estimates"][0]["value"] == first["estimates"][0]["value"]


@pytest.mark.parametrize("column, value, told", [
    ("propensity", 0.0, "log.parquet row 4: propensity is 0 (1 such rows)"),
    ("propensity", 1.5, "log.parquet row 4: propensity is 1.5 (1 such rows)"),
    ("click", float("nan"), "log.parquet row 4: click is nan"),
    ("position", 1, "two rows of one request stand at the same position"),
])
def test_a_log_that_cannot_be_is_refused_by_its_row(judge, column, value, told):
    table()
    log = log_of(50)
    values = log[column].cast(pl.Float64).to_list()
    values[3] = value
    kind = pl.Int64 if column == "position" else pl.Float64
    code, err = judge(log.with_columns(pl.Series(column, values).cast(kind)), {"kind": "file", "path": "table.csv"})
    assert code == 4 and told in err


@pytest.mark.parametrize("change, policy, told", [
    ({"log": {"item": "itm_id"}}, {"kind": "uniform"}, "no column 'itm_id' (log.item)\ndid you mean 'item_id'?"),
    ({"estimators": ["isp"]}, {"kind": "uniform"}, "no estimator 'isp'"),
    ({}, {"kind": "column", "column": "nothing"}, "no column 'nothing'"),
    ({}, {"kind": "greedy"}, "'greedy' is none of"),
    ({}, {"kind": "file", "path": "half.csv"}, "sum to 0.5"),
    ({}, {"kind": "file", "path": "others.csv"}, "shows none of the 3 items"),
])
def test_a_policy_that_cannot_be_is_refused(judge, change, policy, told):
    Path("half.csv").write_text("item_id,probability\ni0,0.5\n")
    Path("others.csv").write_text("item_id,probability\nx,1\n")
    code, err = judge(log_of(50), policy, **change)
    assert code in (3, 4) and told in err


def test_rows_without_a_propensity_are_counted_and_constant_ones_are_doubted(judge):
    log = log_of(500).with_columns(propensity=pl.lit(0.1))
    found = judge(log, {"kind": "uniform"})[1]
    assert any("every propensity is 0.1" in text for text in found["warnings"])
    gaps = log_of(500).with_row_index().with_columns(
        propensity=pl.when(pl.col("index") < 9).then(None).otherwise("propensity")
    )
    found = judge(gaps, {"kind": "uniform"})[1]
    assert found["left_out_rows"] == {"without propensity": 9} and found["rows"] == 991


def test_one_user_with_half_of_the_rows_and_support_that_lacks_are_said(judge):
    log = log_of(500).with_columns(user_id=pl.when(pl.col("request_id") < 250).then(0).otherwise("user_id"))
    table()
    found = judge(log.filter(pl.col("item_id") != "i2"), {"kind": "file", "path": "table.csv"})[1]
    told = " ".join(found["warnings"])
    assert "one unit has 48%" in told and "was never shown in its place" in told


def test_where_nothing_overlaps_weights_tell_nothing_and_it_is_said(judge):
    found = judge(log_of(500).with_columns(other=pl.lit(0.0)), {"kind": "column", "column": "other"})[1]
    assert found["estimates"] == [] and "no row shows" in found["left_out"]["ips"] and not found["slate_estimates"]


def test_the_table_fits_a_hundred_columns(judge, capsysbinary, monkeypatch):
    table()
    judge(log_of(300), {"kind": "file", "path": "table.csv"}, log={"reward": {"click": 0.0123}})
    monkeypatch.setenv("COLUMNS", "100")
    assert common.run(["off-policy", "policy.yaml", "--log", "log.parquet"]) == 0
    out = capsysbinary.readouterr()[0].decode()
    assert "cascade doubly robust" in out and "…" not in out and max(map(len, out.splitlines())) <= 100


def test_buckets_of_units_are_even_and_the_same_for_equal_numbers():
    counts = np.bincount(spread(np.arange(30_000), 3))
    assert counts.min() > 9700 and (spread(np.array([5, 5]), 97)[0] == spread(np.array([5]), 97)[0])
