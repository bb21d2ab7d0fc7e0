"""A dataset folder opened: the log in order, ids as positions, and damage named."""

from __future__ import annotations

import shutil

import numpy as np
import orjson
import polars as pl
import pytest

from recsys_cli.data.dataset import Dataset
from recsys_cli.data.validate import validate_dataset
from recsys_cli.data.writer import conform, write_dataset
from recsys_cli.errors import DataError, UsageError

SECOND = 1_000_000


def moments(*seconds: float) -> pl.Series:
    return pl.Series([int(s * SECOND) for s in seconds]).cast(pl.Datetime("us", "UTC"))


def small(path, context=(), **changes):
    tables = {
        "users": pl.DataFrame({"user_id": ["u2", "u1", "u3"]}),
        "items": pl.DataFrame({"item_id": [30, 10, 20], "author_id": ["ann", None, "bob"]}),
        "impressions": pl.DataFrame(
            {
                "user_id": ["u3", "u1", "u2", "u1"],
                "item_id": [10, 20, 30, 30],
                "timestamp": moments(9e8, 9e8, 8e8, 9.5e8),
                "surface": ["home", None, "search", "home"],
                "session_id": ["b", "a", "b", "a"],
                "dwell_seconds": [1.5, None, 0.0, 3.0],
                "like": [True, False, False, True],
                "hide": [False, True, False, False],
            }
        ),
        "follows": pl.DataFrame({"follower_id": ["u1", "u1", "zz"], "followee_id": ["bob", "eve", "ann"]}),
    } | changes
    write_dataset(path, "small", tables, {"like": "positive", "hide": "negative"}, context=context)
    return Dataset.open(path)


def test_the_log_comes_in_order_of_time_with_positions_for_ids(tmp_path):
    data = small(tmp_path / "d")
    log = data.log
    assert log.time.tolist() == [8e14, 9e14, 9e14, 9.5e14]
    assert data.user_ids.external(log.user) == ["u2", "u1", "u3", "u1"]
    assert data.item_ids.external(log.item) == [30, 20, 10, 30]
    assert log.user.tolist() == [0, 1, 2, 1]  # positions are rows of users.parquet
    assert log.actions["like"].tolist() == [False, False, True, True]
    assert log.positive_actions == ("like",) and log.negative_actions == ("hide",)
    np.testing.assert_array_equal(log.dwell, np.array([0, np.nan, 1.5, 3], np.float32))
    assert [-1 if c < 0 else data.categories["surface"][c] for c in log.surface] == [
        "search",
        -1,
        "home",
        "home",
    ]
    assert (
        log.session.tolist()[1]
        == log.session.tolist()[3]
        != log.session.tolist()[2]
        == log.session.tolist()[0]
    )
    assert log.position is None and log.propensity is None


def test_authors_are_those_of_the_items_and_edges_to_others_are_left_out(tmp_path):
    data = small(tmp_path / "d")
    assert data.author_ids.external(data.item_author) == ["ann", None, "bob"]
    edges = data.edges("follows")
    assert data.user_ids.external(edges["from"]) == ["u1"] and data.author_ids.external(edges["to"]) == [
        "bob"
    ]
    assert edges["time"].tolist() == [0] and edges["weight"].tolist() == [1.0]
    assert data.edges("blocks") is None


def test_a_dataset_without_the_optional_columns_opens(tmp_path):
    bare = pl.DataFrame(
        {"user_id": ["u1"], "item_id": [10], "timestamp": moments(9e8), "like": [True], "hide": [False]}
    )
    data = small(tmp_path / "d", impressions=bare, items=pl.DataFrame({"item_id": [10]}))
    assert len(data.log) == 1 and data.categories == {} and data.item_author.tolist() == [-1]
    assert data.log.surface is None and data.log.session is None
    assert not data.manifest.negatives_observed


def test_a_reference_to_nobody_is_named_with_its_row(tmp_path):
    stranger = pl.DataFrame(
        {
            "user_id": ["u1", "zz"],
            "item_id": [10, 10],
            "timestamp": moments(9e8, 9e8),
            "like": [True] * 2,
            "hide": [False] * 2,
        }
    )
    data = small(tmp_path / "d", impressions=stranger)
    with pytest.raises(DataError, match=r"row 2: user_id 'zz' is not in users.parquet"):
        _ = data.log


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda d: (d / "items.parquet").unlink(), "items.parquet is missing"),
        (
            lambda d: (d / "items.parquet").write_bytes((d / "items.parquet").read_bytes()[:-9]),
            "items.parquet cannot be read as Parquet",
        ),
        (lambda d: shutil.copy(d / "users.parquet", d / "items.parquet"), "items.parquet: "),
        (
            lambda d: pl.DataFrame({"item_id": [1], "author_id": ["x"]}).write_parquet(d / "items.parquet"),
            "1 rows, the manifest says 3",
        ),
    ],
)
def test_a_damaged_table_is_named(tmp_path, damage, says):
    data = small(tmp_path / "d")
    damage(tmp_path / "d")
    with pytest.raises(DataError) as caught:
        _ = data.items["author_id"]
    assert says in caught.value.message and caught.value.hint


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"{", "is not a dataset manifest"),
        (b"[]", "is not a dataset manifest"),
        (b'{"schema_version": 99}', "schema version 99"),
        (b'{"schema_version": 1, "name": "x"}', "is not a dataset manifest"),
    ],
)
def test_a_manifest_that_is_none_is_refused(tmp_path, content, says):
    (tmp_path / "dataset.json").write_bytes(content)
    with pytest.raises(DataError, match=says):
        Dataset.open(tmp_path)


# --- the writer -------------------------------------------------------------------------------------------


def test_the_manifest_counts_what_was_written(tmp_path):
    manifest = small(tmp_path / "d").manifest
    assert {n: i.rows for n, i in manifest.tables.items()} == {
        "users": 3,
        "items": 3,
        "impressions": 4,
        "follows": 3,
    }
    assert {a: i.count for a, i in manifest.actions.items()} == {"like": 2, "hide": 1}
    assert manifest.time_span == (8 * 10**14, int(9.5 * 10**14)) and manifest.negatives_observed
    assert orjson.loads((tmp_path / "d" / "dataset.json").read_bytes())["digest"] == manifest.digest


def test_the_same_rows_in_other_types_are_the_same_dataset(tmp_path):
    one = small(tmp_path / "a").manifest
    frame = pl.read_parquet(tmp_path / "a" / "impressions.parquet")
    other = frame.with_columns(
        pl.col("surface").cast(pl.Categorical),
        pl.col("dwell_seconds").cast(pl.Float64),
        pl.col("timestamp").dt.convert_time_zone("Europe/Paris").dt.cast_time_unit("ns"),
    )
    assert small(tmp_path / "b", impressions=other).manifest.digest == one.digest


@pytest.mark.parametrize(
    ("table", "frame", "says"),
    [
        ("users", {"usr_id": [1]}, "no column 'user_id'"),
        ("follows", {"follower_id": [1], "followee_id": [2], "x": [3]}, "unknown column 'x'"),
        (
            "impressions",
            {"user_id": [1], "item_id": [1], "timestamp": [0], "lik": [True]},
            "'lik' is neither of the schema nor an action",
        ),
        ("impressions", {"user_id": [1], "item_id": [1], "timestamp": ["soon"]}, "table impressions: "),
        ("history", {"user_id": [1], "item_id": [1], "action": [None], "rank": [0]}, "null"),
    ],
)
def test_a_table_of_the_wrong_shape_is_refused(table, frame, says):
    with pytest.raises(DataError, match=says):
        conform(table, pl.DataFrame(frame), {"like": "positive"})


def test_further_columns_of_impressions_are_read_where_they_were_declared(tmp_path):
    log = {
        "user_id": ["u1", "u2"], "item_id": [10, 20], "timestamp": moments(9e8, 8e8), "like": [True, False],
        "hide": [False, False], "network": ["wifi", None], "load": [0.5, None], "charging": [True, False],
    }
    names = ("network", "load", "charging")
    data = small(tmp_path / "a", impressions=pl.DataFrame(log), context=names)
    assert data.categories == {"impression.network": ["wifi"]}
    assert all(c.ok for c in validate_dataset(tmp_path / "a") if c.table == "impressions")
    np.testing.assert_array_equal(data.log.context["network"], [-1, 0])
    np.testing.assert_array_equal(data.log.context["load"], np.float32([np.nan, 0.5]))
    np.testing.assert_array_equal(data.log.context["charging"], [0, 1])
    with pytest.raises(DataError, match="'network' is neither of the schema nor an action"):
        small(tmp_path / "b", impressions=pl.DataFrame(log))
    with pytest.raises(DataError, match="'load' is of type list<item: double>"):
        small(tmp_path / "c", impressions=pl.DataFrame(log | {"load": [[0.5], [0.5]]}), context=names)
    far = small(tmp_path / "d", impressions=pl.DataFrame(log | {"load": [1.0, 1e60]}), context=names)
    with pytest.raises(DataError, match="column 'load' holds 1 numbers that are not finite"):
        far.log  # noqa: B018


def test_writing_never_replaces_a_folder_that_is_no_dataset(tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match=r"holds notes\.txt"):
        small(tmp_path / "d")
    assert (tmp_path / "d" / "notes.txt").read_text() == "mine"
