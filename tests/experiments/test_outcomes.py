"""Logs of experiments run elsewhere: what is read, and what is refused with its place."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from recsys_cli.errors import DataError
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
