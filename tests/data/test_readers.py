"""Readers agree with Python's own csv module, whatever the fields hold and wherever blocks are cut."""

from __future__ import annotations

import csv
import io
import tempfile
from pathlib import Path
from unittest import mock

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys_cli.data.importer import readers
from recsys_cli.data.importer import text as text_blocks
from recsys_cli.data.importer.batches import LINE
from recsys_cli.data.importer.lists import each_element
from recsys_cli.data.importer.mapping import Source
from recsys_cli.errors import ConfigError, DataError

FIELD = st.text(st.sampled_from('ab ,;"\n:é0'), max_size=6)
ROWS = st.lists(st.lists(FIELD, min_size=2, max_size=4), max_size=12)


def read_text(text: str, block: int = 1 << 20, **says) -> tuple[list[tuple], list[tuple]]:
    """(rows with their lines last, bad rows) of a file with this text."""
    with tempfile.TemporaryDirectory() as folder, mock.patch.object(text_blocks, "BLOCK_BYTES", block):
        file = Path(folder) / "log.csv"
        file.write_bytes(text.encode())
        batches = list(readers.read(Source(files="log.csv", **says), file))
    return [r for b in batches for r in b.frame.rows()], [r for b in batches for r in b.bad]


@given(ROWS, st.sampled_from([7, 31, 1 << 20]), st.sampled_from([",", ";"]))
def test_rows_and_lines_are_those_of_the_csv_module(rows, block, separator):
    text = io.StringIO()
    csv.writer(text, delimiter=separator, lineterminator="\n").writerows([["x", "y", "z"], *rows])
    good, bad = read_text(text.getvalue(), block, separator=separator)
    expected_good, expected_bad, line = [], [], 2
    for row in rows:
        if len(row) == 3:
            expected_good.append((*row, line))
        else:
            expected_bad.append((line, f"{len(row)} fields where 3 are due"))
        line += 1 + sum(field.count("\n") for field in row)
    assert good == expected_good
    assert [b[:2] for b in bad] == expected_bad


@given(st.lists(st.tuples(FIELD, FIELD), min_size=1, max_size=9), st.sampled_from([5, 1 << 20]))
def test_a_separator_of_two_characters_splits_lines_where_quotes_mean_nothing(rows, block):
    rows = [tuple(f.replace("\n", "").replace(":", "") for f in row) for row in rows]
    good, bad = read_text(
        "".join(f"{a}::{b}\n" for a, b in rows),
        block,
        separator="::",
        header=False,
        names=["x", "y"],
        quote=None,
    )
    assert good == [(a, b, n) for n, (a, b) in enumerate(rows, 1)] and bad == []


def test_blank_lines_are_no_rows_but_lines_all_the_same():
    assert read_text("x\n\na\r\n\r\n\nb") == ([("a", 3), ("b", 6)], [])


def test_a_quote_left_open_does_not_swallow_the_file(monkeypatch):
    monkeypatch.setattr(text_blocks, "LONGEST_ROW", 64)
    good, bad = read_text('x,y\n"open,1\n' + "a,1\n" * 100, block=16)
    assert len(good) + len(bad) > 80


@given(st.lists(st.lists(st.integers(0, 9), max_size=4), max_size=9))
def test_exploding_numbers_each_element_from_nought(lists):
    frame = pl.DataFrame({"k": range(len(lists)), "v": lists}, schema={"k": pl.Int64, "v": pl.List(pl.Int64)})
    out = each_element(frame, "v").select("k", "v", "rank").rows()
    assert out == [(k, v, rank) for k, values in enumerate(lists) for rank, v in enumerate(values)]


def test_json_rows_of_many_types_and_missing_keys(tmp_path):
    file = tmp_path / "x.jsonl"
    file.write_text(
        '{"a": 1, "l": ["x", 2]}\n\n[1]\n{"a": "z", "b": true}\n{"a": 1.5\n{"b": null, "o": {"k": 1}}\n'
    )
    (batch,) = readers.read(Source(files="x.jsonl"), file)
    assert batch.frame.drop(LINE).to_dicts() == [
        {"a": "1", "l": ["x", "2"], "b": None, "o": None},
        {"a": "z", "l": None, "b": True, "o": None},
        {"a": None, "l": None, "b": None, "o": '{"k":1}'},
    ]
    assert batch.frame[LINE].to_list() == [1, 4, 6]
    assert [b[0] for b in batch.bad] == [3, 5]


def test_rows_of_parquet_are_numbered_from_one(tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "PARQUET_ROWS", 4)
    pl.DataFrame({"a": range(10), "b": range(10)}).write_parquet(tmp_path / "x.parquet")
    batches = list(readers.read(Source(files="x.parquet"), tmp_path / "x.parquet", ["a"]))
    assert len(batches) > 1 and sum(b.bytes_read for b in batches) <= (tmp_path / "x.parquet").stat().st_size
    rows = pl.concat([b.frame for b in batches])
    assert rows.columns == ["a", LINE] and rows[LINE].to_list() == list(range(1, 11))


def test_files_are_found_by_name_list_and_glob_in_order(tmp_path):
    for name in ("b-2.csv", "b-1.csv", "a.csv"):
        (tmp_path / name).write_text("x\n1\n")

    def names(**says):
        return [f.name for f in readers.find_files(Source(**says), tmp_path)]

    assert names(files="b-*.csv") == ["b-1.csv", "b-2.csv"]
    assert names(files=["b-2.csv", "*.csv"]) == ["b-2.csv", "a.csv", "b-1.csv"]
    assert names(files="c.csv", optional=True) == []
    with pytest.raises(DataError, match=r"no file c\.csv"):
        names(files="c.csv")


def test_an_unknown_encoding_is_a_fault_of_the_mapping():
    with pytest.raises(ConfigError, match="unknown encoding 'utf-9'"):
        read_text("x\n1\n", encoding="utf-9")
