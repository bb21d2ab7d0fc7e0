"""The best items of rows of scores, against sorting."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_cli.data.ragged import Ragged
from recsys_cli.retrieval.topk import shown_columns, topk


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0, 1), st.integers(1, 40), st.integers(1, 30))
def test_the_best_of_rows_however_many_places_are_closed(seed, closed, width, k):
    rng = np.random.default_rng(seed)
    scores = rng.permutation(4 * width).reshape(4, width).astype(np.float32) - 2 * width
    scores[rng.random(scores.shape) < closed] = -np.inf
    before = scores.copy()
    items, values = topk(scores, k)
    np.testing.assert_array_equal(scores, before)
    for row, mine, value in zip(before, items, values, strict=True):
        order = np.argsort(-row, kind="stable")[:k]
        expected = [i for i in order if np.isfinite(row[i])]
        assert mine[: len(expected)].tolist() == expected and (mine[len(expected) :] == -1).all()
        np.testing.assert_array_equal(value[: len(expected)], row[expected])
        assert np.isneginf(value[len(expected) :]).all()


def test_what_users_were_shown_has_its_columns():
    seen = Ragged(np.array([0, 2, 2, 5]), np.array([3, 1, 0, 4, 2], np.int32))
    users = np.array([2, 1, 0])
    rows, columns = shown_columns(seen, users, 3)  # items 3 and 4 came later, and are no columns
    assert sorted(zip(rows.tolist(), columns.tolist(), strict=True)) == [(0, 0), (0, 2), (2, 1)]
    rows, columns = shown_columns(seen, users, np.array([-1, 0, -1, 2, 1]))
    assert sorted(zip(rows.tolist(), columns.tolist(), strict=True)) == [(0, 1), (2, 0), (2, 2)]
