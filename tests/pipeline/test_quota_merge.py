"""Lists merged by tables of items are those merged by sorting."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_cli.pipeline import quota_merge
from recsys_cli.pipeline.quota_merge import Lists, merge_by_place
from recsys_cli.pipeline.sourcing import merge


def lists_of(rng, batch, depths, n_items):
    """int32[B, K]: lists beside each other, each of different items, short ones filled up with -1."""
    out = np.full((batch, sum(depths)), -1, np.int32)
    for row in out:
        start = 0
        for depth in depths:
            length = int(rng.integers(0, min(depth, n_items) + 1))
            row[start : start + length] = rng.permutation(n_items)[:length]
            start += depth
    return out


def both_ways(items, depths, budgets, limit, n_items, weights):
    names = tuple(f"s{i}" for i in range(len(depths)))
    marks = np.array([1 << i for i in range(len(depths))], np.uint32)
    ranks = [np.arange(1, d + 1, dtype=np.float32) for d in depths]
    order = np.concatenate([r / np.float32(k) for r, k in zip(ranks, budgets, strict=True)])
    by_sorting = merge(
        items, np.repeat(marks, depths), weights, order=order, limit=limit, lists=dict(zip(names, depths, strict=True))
    )
    return merge_by_place(Lists(names, depths, budgets), items, marks, weights, limit, n_items), by_sorting


@pytest.mark.parametrize("scanned", [2**16, 0], ids=["table looked through", "proposals sorted"])
@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_candidates_bits_weights_and_ranks_are_the_same(scanned, seed):
    rng = np.random.default_rng(seed)
    batch, n_items, limit = (int(rng.integers(low, high)) for low, high in ((1, 5), (1, 60), (1, 40)))
    depths = tuple(rng.integers(1, 30, int(rng.integers(1, 6))).tolist())
    budgets = tuple(rng.integers(1, 20, len(depths)).tolist())
    items = lists_of(rng, batch, depths, n_items)
    shape = sum(depths) if rng.random() < 0.5 else items.shape
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quota_merge, "SCANNED", scanned)
        quick, plain = both_ways(items, depths, budgets, limit, n_items, rng.random(shape).astype(np.float32))
    np.testing.assert_array_equal(quick.items, plain.items)
    np.testing.assert_array_equal(quick.sources, plain.sources)
    assert quick.scores.keys() == plain.scores.keys()
    for name, values in plain.scores.items():
        np.testing.assert_allclose(quick.scores[name], values, rtol=1e-6, err_msg=name)


def test_of_what_stands_equally_early_the_lower_items_are_taken():
    quick, plain = both_ways(np.array([[9, 4, 7, 2]], np.int32), (2, 2), (2, 2), 3, 10, np.ones(4, np.float32))
    assert quick.items.tolist() == plain.items.tolist() == [[2, 7, 9]]


def test_a_list_that_names_an_item_twice_is_left_to_the_plain_way():
    quick, plain = both_ways(np.array([[3, 3, 1]], np.int32), (2, 1), (2, 1), 5, 10, np.ones(3, np.float32))
    assert quick is None
    assert plain.items.tolist() == [[1, 3]]
    assert plain.scores["rrf"].tolist() == [[1, 2]]


def test_nothing_of_one_request_is_left_in_the_tables_for_the_next():
    rng = np.random.default_rng(5)
    first = both_ways(lists_of(rng, 3, (20, 20), 30), (20, 20), (5, 9), 8, 30, np.ones(40, np.float32))[0]
    none = both_ways(np.full((2, 40), -1, np.int32), (20, 20), (5, 9), 8, 30, np.ones(40, np.float32))[0]
    assert first.items.size
    assert none.items.shape == (2, 0)
