"""Sources are merged: each item once, with every source that proposed it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_cli.errors import ConfigError
from recsys_cli.pipeline.config import SourcingConfig
from recsys_cli.pipeline.sourcing import Fallback, budgets, merge


@settings(deadline=None)
@given(
    st.integers(1, 8).flatmap(
        lambda width: st.lists(
            st.lists(st.tuples(st.integers(-1, 5), st.integers(0, 3)), min_size=width, max_size=width),
            min_size=1,
            max_size=5,
        )
    )
)
def test_merge_is_a_dictionary_of_items_a_row(rows):
    items = np.array([[i for i, _ in row] for row in rows], np.int32)
    bits = np.array([[1 << b for _, b in row] for row in rows], np.uint32)
    out = merge(items, bits, np.ones(items.shape, np.float32))
    for r, row in enumerate(rows):
        expected, count = {}, {}
        for item, bit in row:
            if item >= 0:
                expected[item] = expected.get(item, 0) | 1 << bit
                count[item] = count.get(item, 0) + 1
        filled = out.items[r] >= 0
        assert dict(zip(out.items[r][filled].tolist(), out.sources[r][filled].tolist(), strict=True)) == expected
        assert dict(zip(out.items[r][filled].tolist(), out.scores["rrf"][r][filled].tolist(), strict=True)) == count
        assert not filled[filled.sum() :].any()


def test_sources_that_stepped_aside_leave_their_share_to_the_others():
    config = SourcingConfig(candidates=1000, shares={"a": 0.5, "b": 0.25, "c": 0.25}, fallback=[])
    assert budgets(config, {"a": 1, "b": 1, "c": 1}, ("a", "b", "c")) == {"a": 500, "b": 250, "c": 250}
    assert budgets(config, {"b": 1, "c": 1}, ("a", "b", "c")) == {"b": 500, "c": 500}


def test_where_no_source_has_a_share_all_have_the_same_but_those_that_are_given_none():
    config = SourcingConfig(candidates=100, shares={"a": 1.0, "d": 0.0}, fallback=[])
    known = ("a", "b", "c", "d")
    assert budgets(config, {"b": 1, "c": 1, "d": 1}, known) == {"b": 50, "c": 50}
    assert budgets(config, {"a": 1, "b": 1}, known) == {"a": 100}



def test_a_share_of_an_undefined_source_is_refused_with_the_nearest():
    with pytest.raises(ConfigError, match=r"'trendng'.*\n.*'trending'"):
        budgets(SourcingConfig(shares={"trendng": 1.0}, fallback=[]), {}, ("trending",))


class Fixed:
    """A source that proposes the same items to everybody."""

    def __init__(self, items):
        self._items = np.array(items, np.int32)

    def retrieve(self, state, users, k):
        row = np.full(k, -1, np.int32)
        row[: min(k, len(self._items))] = self._items[:k]
        return np.broadcast_to(row, (len(users), k)), np.zeros((len(users), k), np.float32)


def test_only_users_with_less_than_a_slate_are_topped_up(make):
    state = make.state(make.catalogue([0] * 9))
    query = make.query(state, [0, 1], size=3)
    config = SourcingConfig(candidates=1500, fallback=["trending", "popularity"])
    stage = Fallback(
        config, {"trending": Fixed([5, 6]), "popularity": Fixed([7])}, {"trending": 1, "popularity": 2}, []
    )
    candidates = make.candidates([[0, 1, 2], [5, -1, -1]], rrf=np.ones((2, 3)))
    out = stage(query, candidates)
    assert sorted(out.items[0][out.items[0] >= 0]) == [0, 1, 2]
    assert sorted(out.items[1][out.items[1] >= 0]) == [5, 6, 7]
    assert dict(zip(out.items[1].tolist(), out.sources[1].tolist(), strict=True))[5] == 1 | 2
