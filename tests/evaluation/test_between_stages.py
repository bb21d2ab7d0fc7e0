"""What lists have in common, where relevant items are lost, and what is left when people are forgotten."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_cli.data.log import Log
from recsys_cli.data.ragged import Ragged
from recsys_cli.evaluation.growth import forget
from recsys_cli.evaluation.losses import FATES, fates
from recsys_cli.evaluation.overlap import overlap, rank_biased_overlap
from recsys_cli.pipeline.candidates import Candidates
from recsys_cli.slate_batch import SlateBatch


def plain_rbo(a, b, p=0.9):
    k = min(len(a), len(b))
    agreed = [len(set(a[:d]) & set(b[:d])) / d for d in range(1, k + 1)]
    return (1 - p) * sum(x * p ** (d - 1) for d, x in enumerate(agreed, 1)) + agreed[-1] * p**k


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_rank_biased_overlap_is_that_of_plain_loops(data):
    ids = st.lists(st.integers(0, 12), min_size=1, max_size=8, unique=True)
    a, b = data.draw(ids), data.draw(ids)
    rows = np.full((2, 8), -1, np.int32)
    rows[0, : len(a)], rows[1, : len(b)] = a, b
    assert rank_biased_overlap(rows[:1], rows[1:])[0] == pytest.approx(plain_rbo(a, b))
    k = 3
    common = len(set(a[:k]) & set(b[:k])) / min(len(a[:k]), len(b[:k]))
    assert overlap(rows[:1], rows[1:], k)[0] == pytest.approx(common)


def test_equal_lists_overlap_wholly_and_an_empty_one_has_no_figure():
    lists = np.array([[3, 1, 2], [1, 2, 3], [-1, -1, -1]], np.int32)
    got = rank_biased_overlap(lists, np.array([[3, 1, 2], [4, 5, 6], [1, 2, 3]], np.int32))
    assert got[:2] == pytest.approx([1.0, 0.0]) and np.isnan(got[2])


def test_each_relevant_item_is_lost_where_it_first_is_not_there():
    def candidates(*items):
        return Candidates(np.array([items], np.int32), np.zeros((1, len(items)), np.uint32), {})

    batch = SlateBatch(
        users=np.array([0]), items=np.array([[1, 2]], np.int32), scores={}, sources=np.zeros((1, 2), np.uint32),
        fallback=[None], funnel=[], sourced=candidates(1, 2, 3, 4, 5, 6), hydrated=candidates(1, 2, 3, 4, 5, -1),
        ranked=candidates(3, 1, 2, 4, -1, -1),
    )  # fmt: skip
    relevant = Ragged(np.array([0, 6]), np.array([1, 3, 4, 5, 6, 9], np.int32))
    shares = dict(zip(FATES, fates(relevant, batch)[0], strict=True))
    # 9 nobody proposed, 6 a filter took, 5 the cut, 4 stands behind the slate, 3 led and was taken out, 1 is shown
    assert shares == pytest.approx(dict.fromkeys(FATES, 1 / 6))


def test_only_the_latest_interactions_of_the_chosen_are_left():
    user = np.array([0, 0, 1, 0, 0, 1, 0, 0], np.int32)
    click = np.array([1, 0, 1, 1, 0, 1, 1, 1], bool)
    log = Log(
        user=user, item=np.arange(8, dtype=np.int32), time=np.arange(8, dtype=np.int64) * 10,
        actions={"click": click}, positive_actions=("click",), negative_actions=(),
    )  # fmt: skip
    assert forget(log, 65, np.array([0]), 2).item.tolist() == [2, 3, 4, 5, 6, 7]
    assert forget(log, 65, np.array([0]), 1).item.tolist() == [2, 5, 6, 7]
    assert forget(log, 65, np.array([0]), 0).item.tolist() == [2, 5, 7]
    assert forget(log, 65, np.array([0]), 9).item.tolist() == list(range(8))
