"""A digest sees every change of content and nothing else."""

from __future__ import annotations

import datetime as dt

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys_cli.data.digest import TableDigest, dataset_digest, hash_array, table_digest

ROW = st.fixed_dictionaries(
    {
        "a": st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)),
        "b": st.one_of(st.none(), st.text(st.characters(exclude_categories=["Cs"]), max_size=6)),
        "c": st.one_of(st.none(), st.booleans()),
        "d": st.one_of(st.none(), st.floats(allow_nan=False)),
        "e": st.one_of(
            st.none(), st.lists(st.one_of(st.none(), st.sampled_from(["", "x", "yy"])), max_size=3)
        ),
    }
)
SCHEMA = pa.schema(
    [
        ("a", pa.int64()),
        ("b", pa.string()),
        ("c", pa.bool_()),
        ("d", pa.float64()),
        ("e", pa.list_(pa.string())),
    ]
)
ROWS = st.lists(ROW, max_size=12)


def table(rows: list[dict]) -> pa.Table:
    return pa.Table.from_pylist(rows, schema=SCHEMA)


@given(ROWS, st.randoms())
def test_the_order_of_rows_counts_only_in_the_vocabularies(rows, random):
    shuffled = random.sample(rows, len(rows))
    assert (
        table_digest("impressions", [table(rows)]).hexdigest()
        == table_digest("impressions", [table(shuffled)]).hexdigest()
    )
    same = table(rows).equals(table(shuffled))
    ordered = [table_digest("items", [table(r)]).hexdigest() for r in (rows, shuffled)]
    assert (ordered[0] == ordered[1]) == same


@given(ROWS, st.integers(0, 12), st.sampled_from(["items", "follows"]))
def test_batches_and_slices_make_no_difference(rows, cut, name):
    whole = table(rows)
    parts = [whole.slice(0, cut), whole.slice(cut)]
    assert table_digest(name, [whole]).hexdigest() == table_digest(name, parts).hexdigest()
    assert (
        table_digest(name, [whole]).hexdigest()
        == table_digest(name, whole.to_batches(max_chunksize=2)).hexdigest()
    )


@given(ROWS, ROWS)
def test_other_rows_have_another_digest(first, second):
    def multiset(rows):
        # -0.0 equals 0.0, as in the digest
        return sorted(repr([r[k] + 0.0 if isinstance(r[k], float) else r[k] for k in "abcde"]) for r in rows)

    same = (
        table_digest("follows", [table(first)]).hexdigest()
        == table_digest("follows", [table(second)]).hexdigest()
    )
    assert same == (multiset(first) == multiset(second))


def test_shards_digested_apart_make_the_digest_of_the_whole():
    rows = [{"a": n, "b": str(n), "c": n % 2 == 0, "d": n / 3, "e": ["x"] * (n % 3)} for n in range(10)]
    whole = table_digest("impressions", [table(rows)])
    merged = table_digest("impressions", [table(rows[6:])])
    merged.merge(table_digest("impressions", [table(rows[:6])]))
    assert (merged.hexdigest(), merged.rows) == (whole.hexdigest(), 10)
    with pytest.raises(ValueError, match="ordered"):
        TableDigest(ordered=True).merge(whole)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (pa.array([1, None, 3], pa.int8()), pa.array([1, None, 3], pa.int64())),
        (pa.array(["a", None, "bc"], pa.string()), pa.array(["a", None, "bc"], pa.large_string())),
        (pa.array(["a", None, "bc"]), pa.array(["a", None, "bc"]).dictionary_encode()),
        (pa.array([0.5, 0.0], pa.float32()), pa.array([0.5, -0.0], pa.float64())),
        (pa.array([["a"], None]), pa.array([["a"], None], pa.large_list(pa.large_string()))),
        (pa.array([dt.datetime(2020, 1, 1)], pa.timestamp("us")), pa.array([1577836800000000], pa.int64())),
    ],
)
def test_the_same_values_in_another_arrow_type_hash_alike(first, second):
    assert hash_array(first).tolist() == hash_array(second).tolist()


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ([["a", "b"], []], [["a"], ["b"]]),
        ([["a", "b"]], [["b", "a"]]),
        ([["ab"]], [["a", "b"]]),
        ([[]], [None]),
        ([[None]], [[]]),
        ([[""]], [[]]),
        (["ab"], ["ba"]),
        ([""], [None]),
        ([0], [None]),
        ([False], [None]),
    ],
)
def test_values_that_are_easily_confused_hash_apart(first, second):
    assert hash_array(pa.array(first)).tolist() != hash_array(pa.array(second, pa.array(first).type)).tolist()


def test_a_value_in_another_column_is_another_row():
    a = table_digest("follows", [pa.table({"x": [1], "y": [2]})]).hexdigest()
    assert a != table_digest("follows", [pa.table({"x": [2], "y": [1]})]).hexdigest()
    assert a == table_digest("follows", [pa.table({"y": [2], "x": [1]})]).hexdigest()


def test_the_digest_of_a_dataset_does_not_depend_on_the_order_of_its_tables():
    assert dataset_digest({"users": "1", "items": "2"}) == dataset_digest({"items": "2", "users": "1"})
    assert dataset_digest({"users": "1", "items": "2"}) != dataset_digest({"users": "2", "items": "1"})
