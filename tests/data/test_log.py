"""The log in memory: windows, joins and what counts as an interaction."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from recsys_cli.data.log import Log

TIMES = st.lists(st.integers(0, 20), max_size=25).map(sorted)


def log(times: list[int], **more) -> Log:
    n = np.arange(len(times))
    return Log(
        user=(n % 3).astype(np.int32),
        item=n.astype(np.int32),
        time=np.array(times, np.int64),
        actions={"like": n % 2 == 0, "click": n % 3 == 0, "hide": n % 5 == 0},
        positive_actions=("like", "click"),
        negative_actions=("hide",),
        **more,
    )


@given(TIMES, st.none() | st.integers(-1, 21), st.none() | st.integers(-1, 21))
def test_a_window_holds_exactly_the_rows_from_start_up_to_its_end(times, start, end):
    window = log(times).window(start, end)
    low, high = (-1 if start is None else start), (99 if end is None else end)
    assert window.time.tolist() == [t for t in times if low <= t < high]
    assert all(len(v) == len(window) for v in window.actions.values())


@given(TIMES, TIMES)
def test_two_logs_joined_are_all_their_rows_in_order_of_time(first, second):
    a, b = log(first, dwell=np.ones(len(first), np.float32)), log(second)
    joined = Log.concat(a, b)
    assert joined.time.tolist() == sorted(first + second)
    rows = sorted(zip(a.time, a.user, a.item, a.actions["like"], strict=True))
    rows += sorted(zip(b.time, b.user, b.item, b.actions["like"], strict=True))
    assert sorted(zip(joined.time, joined.user, joined.item, joined.actions["like"], strict=True)) == sorted(
        rows
    )
    assert joined.dwell is None  # only one of them knows it


def test_an_interaction_is_an_impression_with_any_positive_action():
    rows = log([0] * 12)
    assert rows.positive.tolist() == [n % 2 == 0 or n % 3 == 0 for n in range(12)]
    assert rows.negative.tolist() == [n % 5 == 0 for n in range(12)]
    # what was worked out for the whole does not leak into a part of it
    assert rows.take([1, 2, 5]).positive.tolist() == [False, True, False]


def test_taking_rows_takes_every_column():
    rows = log([1, 2, 3], dwell=np.array([5, 6, 7], np.float32), surface=np.array([0, 1, 0], np.int16)).take(
        [2, 0]
    )
    assert rows.time.tolist() == [3, 1] and rows.dwell.tolist() == [7, 5] and rows.surface.tolist() == [0, 0]
    assert rows.position is None and rows.actions["like"].tolist() == [True, True]
