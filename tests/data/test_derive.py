"""`data diff`, `data sample` and `data split`."""

from __future__ import annotations

import datetime as dt

import numpy as np
import polars as pl
import pytest

from recsys_cli.cli.common import run
from recsys_cli.data.dataset import Dataset
from recsys_cli.data.derive import sample_dataset, split_dataset
from recsys_cli.data.describe.compare import diff_datasets
from recsys_cli.data.validate import validate_dataset
from recsys_cli.data.windows.config import WindowsConfig
from recsys_cli.data.windows.split import make_split
from recsys_cli.errors import ConfigError, DataError, UsageError

START = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)


def frames(rows: int = 400) -> dict[str, pl.DataFrame]:
    rng = np.random.default_rng(1)
    users, items = [f"u{k}" for k in range(20)], list(range(30))
    return {
        "users": pl.DataFrame({"user_id": users, "age": list(range(20))}),
        "items": pl.DataFrame({"item_id": items, "author_id": [f"u{k % 20}" for k in items], "price": [1.5] * 30}),
        "impressions": pl.DataFrame(
            {
                "user_id": [users[k] for k in rng.integers(0, 20, rows)],
                "item_id": rng.integers(0, 25, rows),
                "timestamp": [START + dt.timedelta(hours=k) for k in range(rows)],
                "click": rng.random(rows) < 0.5,
            }
        ),
        "follows": pl.DataFrame({"follower_id": users[:19], "followee_id": users[1:]}),
    }


@pytest.fixture
def data(tmp_path):
    return Dataset.from_frames(tmp_path / "a", frames(), {"click": "positive"}, authors_are_users=True)


def test_a_dataset_is_the_same_as_itself_and_differs_by_what_was_changed(data, tmp_path):
    assert diff_datasets(data.path, data.path)["same"]
    other = frames()
    log = other["impressions"]
    other["impressions"] = pl.concat([log.slice(3), log.slice(3, 1)])
    other["items"] = other["items"].with_columns(
        price=pl.when(pl.col("item_id") == 7).then(None).otherwise(pl.col("price"))
    )
    other["users"] = pl.concat(
        [
            other["users"],
            pl.DataFrame({"user_id": ["x"], "age": [None]}, schema={"user_id": pl.String, "age": pl.Int64}),
        ]
    )
    Dataset.from_frames(tmp_path / "b", other, {"click": "positive"}, authors_are_users=True)
    found = diff_datasets(data.path, tmp_path / "b")
    tables = {t["table"]: t for t in found["tables"]}
    assert not found["same"]
    assert (tables["impressions"]["only_a"], tables["impressions"]["only_b"]) == (3, 1)
    assert tables["items"]["changed"] == 1 and tables["users"]["examples_b"] == ["x"]
    assert (tables["follows"]["only_a"], tables["follows"]["only_b"]) == (0, 0)


def test_columns_types_and_actions_that_differ_are_told(data, tmp_path):
    other = frames()
    other["impressions"] = other["impressions"].with_columns(like=pl.lit(True))
    other["users"] = other["users"].with_columns(pl.col("age").cast(pl.String))
    Dataset.from_frames(tmp_path / "b", other, {"click": "positive", "like": "positive"}, authors_are_users=True)
    found = diff_datasets(data.path, tmp_path / "b")
    assert "only B has the action like" in found["notes"]
    assert any("age is int64 in A and string in B" in n for n in found["notes"])
    assert {t["table"]: t["changed"] for t in found["tables"]}["users"] == 0


def test_a_sample_holds_all_rows_of_its_users_and_no_others(data, tmp_path):
    sample_dataset(data, tmp_path / "s", 5, seed=3)
    small = Dataset.open(tmp_path / "s")
    log = small.table("impressions")
    chosen = log["user_id"].unique()
    assert len(chosen) == 5
    assert log.equals(data.table("impressions").filter(pl.col("user_id").is_in(chosen.implode())))
    assert set(small.items["item_id"]) == set(log["item_id"]) and "price" in small.items.columns
    assert set(small.table("follows")["follower_id"]) <= set(chosen)
    assert all(c.ok for c in validate_dataset(tmp_path / "s"))
    sample_dataset(data, tmp_path / "again", 5, seed=3)
    assert Dataset.open(tmp_path / "again").manifest.digest == small.manifest.digest
    sample_dataset(data, tmp_path / "other", 5, seed=4)
    assert Dataset.open(tmp_path / "other").manifest.digest != small.manifest.digest
    sample_dataset(data, tmp_path / "wide", 5, seed=3, all_items=True)
    assert Dataset.open(tmp_path / "wide").items.height == 30
    with pytest.raises(DataError, match="20 users"):
        sample_dataset(data, tmp_path / "x", 20)
    with pytest.raises(UsageError, match="itself"):
        sample_dataset(data, data.path, 3)


@pytest.mark.parametrize("kind", ["time", "last", "user_random"])
def test_fixed_parts_are_those_that_training_would_make(data, tmp_path, kind):
    config = WindowsConfig(split=kind)
    counts, _ = split_dataset(data, tmp_path / "s", config, seed=5)
    fixed = Dataset.open(tmp_path / "s")
    assert all(c.ok for c in validate_dataset(tmp_path / "s")) and sum(counts.values()) == 400
    made = make_split(config, data, seed=5)
    order = np.arange(400) if made.order is None else made.order
    test = np.zeros(400, bool)
    test[order] = made.log.time >= made.windows.test_start
    assert np.array_equal(fixed.log.part == 2, test) and counts["test"] == test.sum()
    given = make_split(WindowsConfig(), fixed, seed=5)
    assert given.kind == "given" and (given.log.time >= given.windows.test_start).sum() == counts["test"]


def test_parts_can_be_datasets_of_their_own(data, tmp_path):
    counts, _ = split_dataset(data, tmp_path / "s", WindowsConfig(), apart=True)
    parts = [Dataset.open(tmp_path / "s" / name) for name in ("train", "valid", "test")]
    assert [p.table("impressions").height for p in parts] == list(counts.values())
    assert all(p.users.equals(data.users) for p in parts)
    with pytest.raises(ConfigError, match="held-out people"):
        split_dataset(data, tmp_path / "u", WindowsConfig(split="users"))


def test_the_commands(data, tmp_path, capsys):
    at = ["--data-dir", str(data.path)]
    assert run(["data", "sample", "--users", "4", "--to", str(tmp_path / "s"), *at]) == 0
    assert run(["data", "split", "--to", str(tmp_path / "t"), *at]) == 0
    assert "train 280, valid 40, test 80 rows" in " ".join(capsys.readouterr().out.split())
    assert run(["data", "diff", str(data.path), str(tmp_path / "s")]) == 0
    out = capsys.readouterr().out
    assert "they differ" in out and "only in A" in out
    assert run(["data", "diff", str(data.path), str(tmp_path / "none")]) == 4
