"""`recsys data validate` finds whatever is wrong with a dataset folder and says where."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import orjson
import polars as pl
import pyarrow.parquet as pq
import pytest

from recsys_cli.data.schema import DatasetManifest
from recsys_cli.data.validate import validate_dataset
from recsys_cli.data.writer import DatasetWriter


def rewritten(dataset, folder, **changed):
    """The dataset written anew with a manifest that fits, its content being what is wrong."""
    manifest = DatasetManifest.model_validate(orjson.loads((dataset / "dataset.json").read_bytes()))
    folder.mkdir()
    writer = DatasetWriter(folder, "t", {a: i.polarity for a, i in manifest.actions.items()})
    for name in manifest.tables:
        frame = pl.from_arrow(pq.read_table(dataset / f"{name}.parquet"))
        writer.table(name).write(changed[name](frame) if name in changed else frame)
    writer.finish(authors_are_users=True)
    return folder


def failures(folder) -> dict[tuple[str, str], str]:
    return {(c.table, c.check): c.detail for c in validate_dataset(folder) if not c.ok}


def test_a_good_dataset_passes_every_check(tiny_dataset):
    checks = validate_dataset(tiny_dataset)
    assert failures(tiny_dataset) == {}
    assert {c.table for c in checks} == {"dataset", "users", "items", "impressions", "follows", "blocks"}


def _set(column: str, row: int, value):
    return lambda f: f.with_columns(
        pl.when(pl.int_range(pl.len()) == row)
        .then(pl.lit(value, f.schema[column]))
        .otherwise(column)
        .alias(column)
    )


def _time(row: int, microseconds: int):
    return lambda f: f.with_columns(
        pl.when(pl.int_range(pl.len()) == row)
        .then(pl.lit(microseconds).cast(f.schema["timestamp"]))
        .otherwise("timestamp")
        .alias("timestamp")
    )


@pytest.mark.parametrize(
    ("table", "change", "check", "detail"),
    [
        ("items", lambda f: pl.concat([f, f[:1]]), "unique ids", "1 repeated, first in row 121: i0"),
        ("users", lambda f: pl.concat([f, f[1:3]]), "unique ids", "2 repeated, first in row 61: 1001"),
        ("impressions", _set("user_id", 9, 5), "user_id known", "1 not in users, first in row 10: 5"),
        ("impressions", _set("item_id", 0, "nil"), "item_id known", "1 not in items, first in row 1: 'nil'"),
        ("follows", _set("followee_id", 2, 7), "followee_id known", "1 not in users, first in row 3: 7"),
        ("items", _set("author_id", 1, 7), "author_id known", "1 not in users, first in row 2: 7"),
        ("blocks", _set("user_id", 1, 7), "user_id known", "1 not in users, first in row 2: 7"),
        (
            "impressions",
            _set("propensity", 4, 0.0),
            "propensity within bounds",
            "1 outside 0 (excluded) to 1, first in row 5",
        ),
        (
            "impressions",
            _set("propensity", 4, 1.5),
            "propensity within bounds",
            "1 outside 0 (excluded) to 1, first in row 5",
        ),
        (
            "impressions",
            _set("dwell_seconds", 4, -1.0),
            "dwell_seconds within bounds",
            "1 negative, first in row 5",
        ),
        (
            "impressions",
            _set("dwell_seconds", 4, float("nan")),
            "dwell_seconds within bounds",
            "1 negative, first in row 5",
        ),
        ("items", _set("toxicity", 7, 1.2), "toxicity within bounds", "1 outside 0 to 1, first in row 8"),
        (
            "impressions",
            _time(6, 1_709_251_200_000),
            "timestamp within bounds",
            "1 before 1990-01-01 (wrong unit?), first in row 7",
        ),
        (
            "impressions",
            _time(6, 9 * 10**15),
            "timestamp within bounds",
            "1 in the future (wrong unit?), first in row 7",
        ),
        ("follows", lambda f: pl.concat([f, f.head(2)]), "no repeated edges", "2 repeated, first in row "),
    ],
)
def test_wrong_content_is_found_with_its_first_row(tiny_dataset, tmp_path, table, change, check, detail):
    found = failures(rewritten(tiny_dataset, tmp_path / "d", **{table: change}))
    assert list(found) == [(table, check)]
    assert found[table, check].startswith(detail)


def _manifest(**changes):
    def apply(folder):
        content = orjson.loads((folder / "dataset.json").read_bytes())
        for key, value in changes.items():
            *way, last = key.split("__")
            place = content
            for step in way:
                place = place[step]
            place[last] = value
        (folder / "dataset.json").write_bytes(orjson.dumps(content))

    return apply


def _table(name, change):
    def apply(folder):
        frame = pl.from_arrow(pq.read_table(folder / f"{name}.parquet"))
        pq.write_table(change(frame).to_arrow(), folder / f"{name}.parquet")

    return apply


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda d: (d / "follows.parquet").unlink(), {("follows", "file"): "follows.parquet is missing"}),
        (lambda d: (d / "items.parquet").write_bytes(b"PAR1"), {("items", "file"): "cannot be read"}),
        (_table("items", lambda f: f.reverse()), {("items", "digest"): "the rows were altered"}),
        (
            _table("users", lambda f: f.with_columns(age=pl.col("age") + 1)),
            {("users", "digest"): "the rows were altered"},
        ),
        (
            _table("follows", lambda f: f.head(9)),
            {("follows", "rows"): "9 rows, the manifest says", ("follows", "digest"): "altered"},
        ),
        (
            _table("users", lambda f: f.drop("age")),
            {("users", "columns"): "no column 'age'", ("users", "digest"): "altered"},
        ),
        (
            _table("users", lambda f: f.with_columns(pl.col("age").cast(pl.String))),
            {
                ("users", "columns"): "age is large_string, the manifest says int64",
                ("users", "digest"): "altered",
            },
        ),
        (_manifest(actions__click__count=3), {("impressions", "action counts"): "the manifest says 3"}),
        (
            _manifest(negatives_observed=False),
            {("impressions", "action counts"): "negatives_observed is False"},
        ),
        (_manifest(time_span=[1, 2]), {("impressions", "time span"): "the manifest says 1 to 2"}),
        (_manifest(digest="0"), {("dataset", "digest of all tables"): "the manifest says 0"}),
    ],
)
def test_files_that_do_not_fit_the_manifest_are_found(tiny_dataset, tmp_path, damage, expected):
    folder = shutil.copytree(tiny_dataset, tmp_path / "d")
    damage(folder)
    found = failures(folder)
    assert set(found) == set(expected)
    for key, text in expected.items():
        assert text in found[key]


def recsys(*arguments):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("RECSYS_")}
    command = [sys.executable, "-m", "recsys_cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)


def test_the_command_ends_with_4_where_a_check_fails(tiny_dataset, tmp_path):
    done = recsys("data", "validate", "--data-dir", tiny_dataset, "--format", "json")
    assert done.returncode == 0 and json.loads(done.stdout)["ok"] is True
    folder = shutil.copytree(tiny_dataset, tmp_path / "d")
    (folder / "follows.parquet").unlink()
    done = recsys("data", "validate", "--data-dir", folder)
    assert done.returncode == 4
    assert "follows, file:" in done.stderr and "FAILED" in done.stdout and "Traceback" not in done.stderr
