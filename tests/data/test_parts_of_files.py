"""Some rows of a file, fields within fields, another beginning of time, edges that come twice."""

from __future__ import annotations

import datetime as dt
import json

import polars as pl
import pytest
from test_inputs import LOG, bring, rejected, users

from recsys_cli.data.importer.mapping import Mapping
from recsys_cli.errors import DataError


@pytest.mark.parametrize("form", ["csv", "parquet", "jsonl"])
@pytest.mark.parametrize(
    ("column", "values", "taken"), [("kind", "view", [0, 2]), ("n", [1, 3], [1, 3]), ("ok", True, [1])]
)
def test_where_takes_some_rows_of_a_file_and_counts_the_others(tmp_path, form, column, values, taken):
    frame = pl.DataFrame(
        {
            "u": ["a", "b", "c", "d"],
            "i": ["x"] * 4,
            "t": [1_600_000_000] * 4,
            "kind": ["view", "buy", "view", None],
            "n": [0, 1, 2, 3],
            "ok": [False, True, False, None],
        }
    )
    content = {
        "csv": frame.write_csv().encode(),
        "jsonl": frame.write_ndjson().encode(),
        "parquet": frame.to_arrow(),
    }[form]
    log = {**LOG, "files": f"log.{form}", "where": {column: values}}
    summary, data = bring(tmp_path, {"impressions": log}, **{f"log_{form}": content})
    assert users(data) == [frame["u"][n] for n in taken]
    assert summary["tables"]["impressions"]["read"] == len(taken)
    assert f"log.{form}: {4 - len(taken)} rows are none of impressions (`where`)" in summary["notes"]


def test_where_needs_its_column(tmp_path):
    with pytest.raises(DataError, match="no column 'event'"):
        bring(tmp_path, {"impressions": {**LOG, "where": {"event": "x"}}}, log_csv="u,i,t\na,b,1600000000\n")


def test_fields_within_fields_are_named_by_their_path(tmp_path):
    rows = [
        {
            "user": {"id": 7},
            "item": {"id": "x", "tags": ["p", "q"]},
            "meta": [{"name": "age", "value": 30}],
            "t": 1600000000,
        },
        {"user": {"id": 8}, "item": {"id": "y"}, "meta": [], "t": 1600000001},
        {"user": 9, "item": {"id": "z"}, "t": 1600000002},
    ]
    mapping = {
        "max_reject_share": 0.5,
        "impressions": {
            **LOG,
            "files": "log.jsonl",
            "columns": {"user_id": "user.id", "item_id": "item.id", "timestamp": {"column": "t", "unit": "s"}},
            "attributes": {"age": {"column": "meta.age", "type": "int", "optional": True}},
        },
    }
    _, data = bring(tmp_path, mapping, log_jsonl="\n".join(json.dumps(r) for r in rows))
    log = data.table("impressions")
    assert log.select("user_id", "item_id", "age").rows() == [(7, "x", 30), (8, "y", None)]
    assert rejected(tmp_path)[0][:2] == (3, "user_id (user.id) is missing")


@pytest.mark.parametrize("text", [True, False])
def test_numbers_may_count_from_another_moment(tmp_path, text):
    spec = {"column": "t", "unit": "ms", "since": "2017-01-01T06:00:00+01:00"}
    log = {**LOG, "columns": {**LOG["columns"], "timestamp": spec}}
    frame = pl.DataFrame({"u": ["a", "b"], "i": ["x", "y"], "t": [0, 1500]})
    if text:
        _, data = bring(tmp_path, {"impressions": log}, log_csv=frame.write_csv())
    else:
        _, data = bring(tmp_path, {"impressions": {**log, "files": "log.parquet"}}, log_parquet=frame.to_arrow())
    start = dt.datetime(2017, 1, 1, 5, tzinfo=dt.UTC)
    assert data.table("impressions")["timestamp"].to_list() == [start, start + dt.timedelta(milliseconds=1500)]
    with pytest.raises(ValueError, match="needs the `unit`"):
        Mapping.model_validate(
            {
                "name": "x",
                "impressions": {
                    **LOG,
                    "columns": {**LOG["columns"], "timestamp": {"column": "t", "since": "2017-01-01"}},
                },
            }
        )


@pytest.mark.parametrize("kind", [pl.Int64, pl.UInt64, pl.Int32])
def test_whole_moments_outside_the_bounds_are_refused_with_their_reason(tmp_path, kind):
    values = [5, 1_600_000_000, 2_100_000_000] if kind == pl.Int32 else [5, 1_600_000_000, 2**62]
    frame = pl.DataFrame({"u": ["a", "b", "c"], "i": ["x"] * 3, "t": pl.Series(values, dtype=kind)})
    mapping = {"max_reject_share": 1, "impressions": {**LOG, "files": "log.parquet"}}
    _, data = bring(tmp_path, mapping, log_parquet=frame.to_arrow())
    assert users(data) == ["b"]
    reasons = [reason for _, reason, _ in rejected(tmp_path)]
    assert "lies before 1990-01-01" in reasons[0] and "lies in the future" in reasons[1]


def test_edges_that_come_twice_can_stand_for_one(tmp_path):
    follows = {"files": "f.csv", "columns": {"follower_id": "a", "followee_id": "b"}, "duplicates": "first"}
    mapping = {"authors_are_users": True, "impressions": LOG, "follows": follows}
    log = "u,i,t\na,x,1600000000\nb,x,1600000000\n"
    summary, data = bring(tmp_path, mapping, log_csv=log, f_csv="a,b\na,b\na,b\nb,a\n")
    assert data.table("follows").height == 2 and summary["tables"]["follows"]["merged"] == 1


def test_a_joined_column_fills_what_the_row_leaves_open(tmp_path):
    items = {
        "files": "items.csv",
        "columns": {"item_id": "i", "author_id": "a"},
        "join": {"files": "authors.csv", "match": {"i": "i"}},
    }
    _, data = bring(
        tmp_path,
        {"items": items, "unknown_items": "add", "impressions": LOG},
        log_csv="u,i,t\na,x,1600000000\n",
        items_csv="i,a\nx,own\ny,\n",
        authors_csv="i,a\nx,other\ny,filled\n",
    )
    assert data.items["author_id"].to_list() == ["own", "filled"]
