"""Logs of experiments run elsewhere: what is read, and what is refused with its place."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import polars as pl
import pytest

from recsys_cli.errors import DataError
from recsys_cli.experiments.assignment import assign
from recsys_cli.experiments.config import ExperimentConfig
from recsys_cli.experiments.metric_config import MetricConfig
from recsys_cli.experiments.outcomes import read_outcomes

CTR = MetricConfig(name="ctr", numerator="click", denominator="exposures", covariate="earlier")
CONFIG = ExperimentConfig(name="e", metrics=(CTR,), min_users=2, max_crossovers=0.3)


def frame(**columns) -> pl.DataFrame:
    base = {
        "user_id": ["a", "a", "b", "c", "c", "d"],
        "variant": ["control", "control", "treatment", "control", "treatment", "treatment"],
        "day": [1, 2, 1, 1, 1, 2],
        "click": [1, 1, 0, 5, 5, 1],
        "earlier": [4.0, 4.0, 2.0, 9.0, 9.0, 0.0],
    }
    return pl.DataFrame(base | columns)


def write(tmp_path, table: pl.DataFrame, kind: str = "csv"):
    path = tmp_path / f"log.{kind}"
    {
        "csv": table.write_csv,
        "tsv": lambda p: table.write_csv(p, separator="\t"),
        "parquet": table.write_parquet,
        "jsonl": table.write_ndjson,
    }[kind](path)
    return path


@pytest.mark.parametrize("kind", ["csv", "tsv", "parquet", "jsonl"])
def test_rows_become_users_and_crossovers_are_left_out_and_counted(tmp_path, kind):
    got = read_outcomes(write(tmp_path, frame(), kind), CONFIG)
    assert got.arm.tolist() == [0, 1, 1] and got.rows == 6 and got.crossovers == 1
    assert {k: v.tolist() for k, v in got.columns.items()} == {
        "exposures": [2, 1, 1],
        "click": [2, 0, 1],
        "earlier": [4, 2, 0],
    }


def test_arms_may_have_other_names(tmp_path):
    config = ExperimentConfig.model_validate(CONFIG.model_dump() | {"variants": {"control": "A", "treatment": "B"}})
    table = frame(variant=["A", "A", "B", "A", "A", "B"])
    assert read_outcomes(write(tmp_path, table), config).arm.tolist() == [0, 1, 0, 1]


def test_a_covariate_that_the_log_lacks_is_done_without(tmp_path):
    assert "earlier" not in read_outcomes(write(tmp_path, frame().drop("earlier")), CONFIG).columns


@pytest.mark.parametrize(
    ("table", "words"),
    [
        (frame().rename({"variant": "varient"}), ("no column 'variant'", "did you mean 'varient'?")),
        (frame().rename({"click": "clicks"}), ("metric ctr: no column 'click'", "did you mean 'clicks'?")),
        (
            frame(variant=["control"] * 3 + ["contrl"] * 3),
            ("row 4: unknown variant 'contrl' (3 such rows)", "'control'?"),
        ),
        (frame(click=[1, 1, None, 5, 5, 1]), ("row 3: click is empty",)),
        (frame(click=["x"] * 6), ("row 1: click is 'x', not a number (6 such rows)",)),
        (frame(click=[1.0, np.nan, 0, 5, 5, 1]), ("row 2: click is",)),
        (frame(click=[1.0, np.inf, 0, 5, 5, 1]), ("row 2: click is inf",)),
        (frame(user_id=["a", None, "b", "c", "c", "d"]), ("row 2: user_id is empty",)),
        (frame(variant=["control"] * 6), ("nobody is in the treatment arm",)),
        (frame(user_id=["a", "a", "c", "c", "d", "d"]), ("1 of 3 users (33.3%) are in both arms", "max_crossovers")),
        (frame().clear(), ("holds no rows",)),
    ],
)
def test_bad_logs_are_refused_with_place_and_advice(tmp_path, table, words):
    with pytest.raises(DataError) as error:
        read_outcomes(write(tmp_path, table, "parquet"), CONFIG)
    assert all(word in str(error.value) for word in words), str(error.value)


def test_unreadable_files_are_named(tmp_path):
    whole = write(tmp_path, frame(), "parquet")
    (tmp_path / "half.parquet").write_bytes(whole.read_bytes()[:200])
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "ragged.csv").write_text("user_id,variant,click\n1,control,1,2,3\n")
    for name, words in (
        ("half.parquet", "cannot be read"),
        ("empty.csv", "is empty"),
        ("ragged.csv", "cannot be read"),
        ("log.xlsx", "ends in one of"),
        ("missing.csv", "no file"),
    ):
        with pytest.raises(DataError, match=words):
            read_outcomes(tmp_path / name, CONFIG)


def test_users_are_the_texts_that_a_log_holds(tmp_path):
    (tmp_path / "log.csv").write_text(
        "user_id,variant,click\n001,control,1\n1,treatment,2\n01,control,3\n1.0,treatment,4\n"
    )
    found = read_outcomes(tmp_path / "log.csv", CONFIG)
    assert sorted(zip(found.arm.tolist(), found.columns["click"].tolist(), strict=True)) == [
        (0, 1.0), (0, 3.0), (1, 2.0), (1, 4.0)
    ]


@pytest.mark.parametrize("names", [{"control": "False", "treatment": "True"}, {"control": False, "treatment": True}])
@pytest.mark.parametrize("words", [("False", "True"), ("false", "TRUE")])
def test_truth_values_may_name_the_arms(tmp_path, names, words):
    config = ExperimentConfig.model_validate(CONFIG.model_dump() | {"variants": names})
    rows = "".join(f"{n},{words[n % 2]},1\n" for n in range(4))
    (tmp_path / "log.csv").write_text("user_id,variant,click\n" + rows)
    assert read_outcomes(tmp_path / "log.csv", config).arm.tolist() == [0, 1, 0, 1]


def days(**columns) -> pl.DataFrame:
    base = {
        "user_id": ["a", "a", "a", "b", "b", "c"],
        "variant": ["control"] * 3 + ["treatment"] * 2 + ["control"],
        "timestamp": [f"2024-03-0{d}T12:00:00" for d in (1, 2, 4, 1, 4, 2)],
        "click": [1, 2, 4, 8, 16, 32],
    }
    return pl.DataFrame(base | columns)


CLICKS = ExperimentConfig(name="e", metrics=(MetricConfig(name="clicks", numerator="click"),), min_users=2)


@pytest.mark.parametrize("kind", ["csv", "parquet", "jsonl"])
def test_moments_give_what_each_user_did_on_each_day(tmp_path, kind):
    got = read_outcomes(write(tmp_path, days(), kind), CLICKS)
    assert got.first_weekday == 4 and got.daily.entered.tolist() == [1, 1, 2]  # 2024-03-01 was a Friday
    assert [(d, s["click"].tolist()) for d, s in got.daily.sums(True)] == [
        (1, [1, 8, 0]), (2, [3, 8, 32]), (4, [7, 24, 32]),
    ]
    assert [s["click"].tolist() for _, s in got.daily.sums(False)] == [[1, 8, 0], [2, 0, 32], [4, 16, 0]]


def test_what_users_did_before_they_were_exposed_is_left_out_and_counted(tmp_path):
    table = days(exposed=[False, True, False, True, False, False])
    got = read_outcomes(write(tmp_path, table), CLICKS)
    assert got.columns["click"].tolist() == [6, 24] and got.columns["exposures"].tolist() == [1, 1]
    assert got.left_out == {"of users who were never exposed": 1, "before the user's first exposure": 1}


def test_clocks_that_are_wrong_are_left_out_and_counted(tmp_path):
    table = days(timestamp=[f"{y}-03-01T12:00:00" for y in (2024, 2024, 2190, 2024, 2023, 2024)])
    got = read_outcomes(write(tmp_path, table), CLICKS, start=datetime(2024, 1, 1, tzinfo=UTC))
    assert got.left_out == {"before the experiment started": 1, "from the future": 1}
    assert got.columns["click"].tolist() == [3, 8, 32]
    with pytest.raises(DataError, match="row 2: timestamp is 'noon', not a moment"):
        read_outcomes(write(tmp_path, days(timestamp=["2024-03-01T12:00:00", "noon"] * 3)), CLICKS)


def test_rows_of_other_experiments_are_left_out_and_a_log_of_another_is_refused(tmp_path):
    table = days(experiment=["e", "e", "f", "e", "e", "e"])
    got = read_outcomes(write(tmp_path, table), CLICKS)
    assert got.left_out == {"of other experiments": 1} and got.columns["click"].tolist() == [3, 24, 32]
    with pytest.raises(DataError, match="no rows of experiment e, but of f"):
        read_outcomes(write(tmp_path, days(experiment=["f"] * 6)), CLICKS)


def test_a_column_may_be_the_outcome_of_one_metric_and_the_covariate_of_another(tmp_path):
    """Sums of the outcome once were overwritten by the means of the covariate."""
    variants = ["control", "control", "treatment", "treatment", "control", "treatment"]
    table = frame(user_id=list("aabbcd"), variant=variants)
    metrics = (
        MetricConfig(name="clicks", numerator="click"),
        MetricConfig(name="earlier", numerator="earlier", covariate="click"),
    )
    config = CONFIG.model_copy(update={"metrics": metrics})
    got = read_outcomes(write(tmp_path, table), config)
    assert got.columns["click"].tolist() == [2, 5, 5, 1]
    assert got.columns["click (averaged)"].tolist() == [1, 2.5, 5, 1]


def test_covariates_that_are_unknown_are_counted_by_variant(tmp_path):
    variants = ["control", "control", "treatment"] * 2
    table = frame(user_id=list("aabcde"), variant=variants, earlier=[4, 4, None, 9, None, 1])
    got = read_outcomes(write(tmp_path, table, "parquet"), CONFIG)
    assert got.unknown["earlier"].tolist() == [False, True, False, True, False]
    assert got.columns["earlier"].tolist() == pytest.approx([4, 14 / 3, 9, 14 / 3, 1])


def test_segments_are_what_a_user_is_first(tmp_path):
    config = CLICKS.model_copy(update={"segments": ("country",)})
    table = days(country=["de", "fr", "fr", "it", "it", "de"])
    found = read_outcomes(write(tmp_path, table), config).segments["country"]
    assert [found.names[c] for c in found.code] == ["de", "it", "de"]
    with pytest.raises(DataError, match="segments: no column 'country'"):
        read_outcomes(write(tmp_path, days()), config)


def test_clusters_are_summed_and_may_not_be_split(tmp_path):
    config = CLICKS.model_copy(update={"unit": "cluster"})
    table = days(cluster_id=["x", "x", "x", "y", "y", "x"])
    got = read_outcomes(write(tmp_path, table), config)
    assert got.columns["click"].tolist() == [39, 24] and got.columns["units"].tolist() == [2, 1]
    with pytest.raises(DataError, match="1 of 1 clusters are in several variants"):
        read_outcomes(write(tmp_path, days(cluster_id=["x"] * 6)), config)


def test_a_log_without_variants_takes_those_of_the_assignment(tmp_path):
    table = pl.DataFrame({"user_id": list(range(200)), "click": [1.0] * 200})
    got = read_outcomes(write(tmp_path, table, "parquet"), CLICKS, assigned=True)
    assert np.array_equal(got.arm, assign(list(range(200)), "e", (1, 1)))


def test_users_in_two_variants_are_named(tmp_path):
    with pytest.raises(DataError, match="in both arms") as error:
        read_outcomes(write(tmp_path, frame(user_id=["a", "a", "c", "c", "d", "d"])), CONFIG)
    assert error.value.hint.startswith("c; at most")
