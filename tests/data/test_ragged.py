"""Ragged rows agree with plain lists of lists."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_cli.data.ragged import Ragged

LISTS = st.lists(st.lists(st.integers(0, 20), max_size=6), min_size=1, max_size=8)


def ragged(lists):
    rows = np.array([i for i, row in enumerate(lists) for _ in row], np.int32)
    values = np.array([v for row in lists for v in row], np.int32)
    return Ragged.group(rows, values, len(lists))


@settings(deadline=None)
@given(LISTS)
def test_rows_keep_their_order(lists):
    r = ragged(lists)
    assert [r[i].tolist() for i in range(len(r))] == lists


@settings(deadline=None)
@given(LISTS, st.randoms())
def test_group_gathers_shuffled_rows_and_leaves_out_minus_one(lists, random):
    pairs = [(i, v) for i, row in enumerate(lists) for v in row] + [(-1, 99)]
    random.shuffle(pairs)
    r = Ragged.group(np.array([p[0] for p in pairs]), np.array([p[1] for p in pairs]), len(lists))
    assert [sorted(r[i].tolist()) for i in range(len(r))] == [sorted(row) for row in lists]


@settings(deadline=None)
@given(
    LISTS, st.lists(st.integers(-1, 7), min_size=1, max_size=5), st.lists(st.integers(-1, 25), min_size=1, max_size=5)
)
def test_contains_is_membership(lists, wanted, values):
    rows = np.array([w if w < len(lists) else -1 for w in wanted], np.int32)
    grid = np.broadcast_to(np.array(values, np.int32), (len(rows), len(values)))
    found = ragged(lists).sorted_rows().contains(rows, grid)
    expected = [[row >= 0 and value >= 0 and value in lists[row] for value in values] for row in rows.tolist()]
    assert found.tolist() == expected


@settings(deadline=None)
@given(LISTS, st.integers(1, 4))
def test_last_gives_the_latest_first(lists, k):
    rows = np.arange(-1, len(lists))
    expected = [[-1] * k] + [(row[::-1] + [-1] * k)[:k] for row in lists]
    assert ragged(lists).last(rows, k).tolist() == expected


@settings(deadline=None)
@given(LISTS)
def test_take_concatenates_rows_with_their_place(lists):
    rows = np.array([len(lists) - 1, -1, 0])
    places, values = ragged(lists).take(rows)
    assert values.tolist() == lists[-1] + lists[0]
    assert places.tolist() == [0] * len(lists[-1]) + [2] * len(lists[0])


@settings(deadline=None)
@given(LISTS)
def test_sorted_rows_are_sorted_and_unique(lists):
    r = ragged(lists).sorted_rows()
    assert [r[i].tolist() for i in range(len(r))] == [sorted(set(row)) for row in lists]


@given(pairs=st.lists(st.tuples(st.integers(-1, 5), st.integers(0, 9)), max_size=40), wide=st.booleans())
def test_sets_are_groups_with_each_value_once(pairs, wide):
    rows = np.array([row for row, _ in pairs], np.int32)
    values = np.array([value + (2**31 - 10 if wide else 0) for _, value in pairs], np.int32)
    one, other = Ragged.sets(rows, values, 6), Ragged.group(rows, values, 6).sorted_rows()
    assert np.array_equal(one.offsets, other.offsets) and one.offsets.dtype == other.offsets.dtype
    assert np.array_equal(one.values, other.values) and one.values.dtype == other.values.dtype
