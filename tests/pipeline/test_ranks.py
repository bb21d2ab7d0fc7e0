"""The place that an item has in each source's list travels with it through the merge."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_cli.pipeline.sourcing import merge

lists = st.lists(st.lists(st.integers(0, 6), unique=True, min_size=4, max_size=4), min_size=2, max_size=2)


@settings(deadline=None)
@given(st.lists(lists, min_size=1, max_size=4))
def test_ranks_are_the_places_in_the_lists(rows):
    a, b = (np.array([row[i] for row in rows], np.int32) for i in (0, 1))
    both = np.concatenate([a, b], axis=1)
    ones = np.ones(both.shape[1], np.float32)
    out = merge(both, ones.astype(np.uint32), ones, lists={"a": a.shape[1], "b": b.shape[1]})
    for r in range(len(rows)):
        for column, item in enumerate(out.items[r]):
            for name, given_list in (("a", a[r]), ("b", b[r])):
                place = np.flatnonzero(given_list == item)
                expected = place[0] + 1 if item >= 0 and len(place) else 0
                assert out.scores[f"rank_{name}"][r, column] == expected
