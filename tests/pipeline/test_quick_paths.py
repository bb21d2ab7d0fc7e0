"""What answers quickly answers as the plain way does."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_cli.data.ragged import Ragged
from recsys_cli.pipeline import sourcing
from recsys_cli.pipeline.candidates import Candidates, significant
from recsys_cli.pipeline.request_features import RANK, STANDARD, standardised
from recsys_cli.pipeline.runner import Runner
from recsys_cli.pipeline.sourcing import merge
from recsys_cli.pipeline.stage import Filter, passing
from recsys_cli.retrieval.pairs import best_pairs, pair_values, sum_pairs
from recsys_cli.retrieval.topk import topk


def candidates_of(items, **scores):
    items = np.array(items, np.int32)
    return Candidates(items, np.zeros(items.shape, np.uint32), scores)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(-6, 6))
def test_order_is_that_of_rounded_scores_and_items(seed, power):
    rng = np.random.default_rng(seed)
    scores = (rng.standard_normal((3, 40)) * 10.0**power).astype(np.float32)
    near = rng.random(scores.shape) < 0.4
    scores[near] = scores[0, 0] * (1 + rng.integers(-40, 40, near.sum()) * 2.0**-23)
    scores[rng.random(scores.shape) < 0.1] = 0
    items = np.array([rng.permutation(500)[:40] for _ in range(3)], np.int32)
    items[rng.random(items.shape) < 0.2] = -1
    plain = np.lexsort((items, -np.where(items >= 0, significant(scores), -np.inf)), axis=1)[:, :15]
    expected = np.take_along_axis(items, plain, axis=1)
    out = candidates_of(items, score=scores).best("score", 15)
    np.testing.assert_array_equal(out.items, np.where(expected >= 0, expected, -1))


def test_scores_that_are_no_numbers_come_last_and_infinite_ones_first():
    scores = np.array([[1.0, np.nan, np.inf, -np.inf, 2.0]], np.float32)
    assert candidates_of([[0, 1, 2, 3, 4]], score=scores).best("score", 5).items.tolist() == [[2, 4, 0, 3, 1]]


@given(st.lists(st.booleans(), min_size=6, max_size=6))
def test_one_users_filter_leaves_what_it_leaves_in_a_batch(mask):
    items, mask = np.array([[3, 1, 4, 5, 9, 2]], np.int32), np.array([mask])
    alone = candidates_of(items, score=items.astype(np.float32)).keep(mask)
    both = candidates_of(np.repeat(items, 2, axis=0), score=np.repeat(items, 2, axis=0).astype(np.float32))
    both = both.keep(np.concatenate([mask, np.ones_like(mask)]))
    np.testing.assert_array_equal(alone.items[0], both.items[0][: mask.sum()])
    np.testing.assert_array_equal(alone.scores["score"][0], both.scores["score"][0][: mask.sum()])


@pytest.mark.parametrize("columns", [5, 300, 20_000])
@pytest.mark.parametrize("k", [1, 40, 900])
@pytest.mark.parametrize("shape", ["different", "many equal", "few allowed", "rising"])
def test_the_best_of_a_row_are_those_of_a_sort(columns, k, shape):
    rng = np.random.default_rng(columns + k)
    scores = rng.standard_normal((3, columns)).astype(np.float32)
    if shape == "many equal":
        scores = np.round(scores, 1)
    elif shape == "few allowed":
        scores[rng.random(scores.shape) < 0.97] = -np.inf
    elif shape == "rising":
        scores.sort(axis=1)
    items, values = topk(scores, k)
    for row, found, best in zip(scores, items, values, strict=True):
        expected = np.argsort(-row, kind="stable")[:k]
        expected = expected[np.isfinite(row[expected])]
        np.testing.assert_array_equal(found[: len(expected)], expected)
        np.testing.assert_array_equal(best[: len(expected)], row[expected])
        assert (found[len(expected) :] == -1).all() and (best[len(expected) :] == -np.inf).all()


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_without_places_the_heaviest_are_kept_and_know_their_ranks(seed):
    rng = np.random.default_rng(seed)
    lists = [np.array([rng.permutation(12)[:6] for _ in range(2)], np.int32) for _ in range(3)]
    for items in lists:
        items[rng.random(items.shape) < 0.2] = -1
    weights = rng.random(18).astype(np.float32)
    ones = np.ones(18, np.uint32)
    out = merge(np.concatenate(lists, axis=1), ones, weights, limit=5, lists={"a": 6, "b": 6, "c": 6})
    for row in range(2):
        total: dict[int, float] = {}
        for item, weight in zip(np.concatenate([part[row] for part in lists]).tolist(), weights.tolist(), strict=True):
            if item >= 0:
                total[item] = total.get(item, 0) + weight
        expected = sorted(sorted(total, key=lambda i: (-total[i], i))[:5])
        kept = out.items[row][out.items[row] >= 0].tolist()
        assert kept == expected
        for name, part in zip("abc", lists, strict=True):
            places = [1 + part[row].tolist().index(i) if i in part[row] else 0 for i in kept]
            assert out.scores[RANK + name][row][: len(kept)].tolist() == places


def test_scores_are_standardised_as_one_source_after_the_other(make):
    rng = np.random.default_rng(0)
    state = make.state(make.catalogue([0] * 9), shown=[(0, 1, True)])
    query = make.query(state, [0, 1], size=3)
    query.bundle.retrievers = {"a": SimpleNamespace(learns=True), "b": SimpleNamespace(learns=False)}
    items = np.array([[0, 1, 2, 3, 4], [5, 6, 7, -1, -1]], np.int32)
    scores = {f"sim_{name}": rng.standard_normal(items.shape).astype(np.float32) for name in "ab"}
    scores["sim_b"][0] = 7.0  # says the same of all
    scores["rank_c"] = np.array([[1, 0, 2, 0, 3], [0, 0, 0, 0, 0]], np.float32)
    out = standardised(query, candidates_of(items, **scores), ("a", "b", "c"))
    assert not out[STANDARD + "a"][1].any(), "what learned from histories says nothing of somebody without one"
    for row, name in ((0, "a"), (0, "b"), (1, "b")):
        filled = items[row] >= 0
        mine = scores[f"sim_{name}"][row][filled].astype(float)
        expected = (mine - mine.mean()) / mine.std() if mine.std() > 1e-6 else mine * 0
        np.testing.assert_allclose(out[STANDARD + name][row][filled], expected, atol=1e-5)
        assert not out[STANDARD + name][row][~filled].any()
    assert np.argsort(-out[STANDARD + "c"][0], kind="stable").tolist() == [0, 2, 4, 1, 3]


class Four(SimpleNamespace):
    """As much of a query of four users as a runner looks at."""

    def __len__(self):
        return 4


class Odd(Filter):
    """Leaves out one in five items."""

    def __init__(self, name: str, least: int):
        self.name, self._least = name, least

    def keep(self, query, candidates):
        return candidates.items % 5 != self._least


class Moving(Odd):
    """The same by a call of its own, which cannot be taken together with others."""

    def __call__(self, query, candidates):
        return candidates.keep(candidates.filled & self.keep(query, candidates))


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_filters_taken_together_leave_what_each_alone_leaves_and_are_counted_alike(seed):
    rng = np.random.default_rng(seed)
    items = np.array([rng.permutation(40)[:12] for _ in range(4)], np.int32)
    items[:, 12 - int(rng.integers(0, 4)) :] = -1
    query = Four(users=np.arange(4), without=frozenset(), failures=None)
    kinds = [(f"f{i}", int(least)) for i, least in enumerate(rng.integers(0, 7, 4))]
    runs = [Runner(query, candidates_of(items, score=items.astype(np.float32)), keep=keep) for keep in (False, True)]
    one_by_one = Runner(query, runs[0].candidates)
    together, kept = (run.run([Odd(*kind) for kind in kinds]) for run in runs)
    alone = one_by_one.run([Moving(*kind) for kind in kinds])
    for out in (kept, alone, passing([Odd(*kind) for kind in kinds], query, runs[0].candidates)):
        np.testing.assert_array_equal(together.items, out.items)
        np.testing.assert_array_equal(together.scores["score"], out.scores["score"])
    for records in (runs[1].records, one_by_one.records):
        assert [(r.name, r.before, r.after) for r in runs[0].records] == [(r.name, r.before, r.after) for r in records]


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_the_best_pairs_of_each_place_are_those_of_a_sort(seed):
    rng = np.random.default_rng(seed)
    places = rng.integers(0, 4, 60)
    if rng.random() < 0.5:
        places.sort()
    items, scores = rng.integers(0, 99, 60).astype(np.int32), rng.integers(-3, 3, 60).astype(np.float32) / 4
    found, values = best_pairs(places, items, scores, 5, 7)
    for place in range(5):
        mine = np.flatnonzero(places == place)
        best = mine[np.argsort(-scores[mine], kind="stable")][:7]
        assert found[place].tolist() == items[best].tolist() + [-1] * (7 - len(best))
        np.testing.assert_array_equal(values[place, : len(best)], scores[best])


def test_a_batch_of_many_proposals_is_merged_as_each_user_alone(monkeypatch):
    rng = np.random.default_rng(3)
    items = np.array([rng.permutation(60)[:30] for _ in range(9)], np.int32)
    items[rng.random(items.shape) < 0.3] = -1
    items[4] = -1
    bits, weights = rng.integers(1, 8, 30).astype(np.uint32), rng.random((9, 30)).astype(np.float32)
    given = {"order": rng.random(30).astype(np.float32), "limit": 11, "lists": {"a": 10, "b": 20}}
    whole = merge(items, bits, weights, **given)
    monkeypatch.setattr(sourcing, "CELLS_AT_ONCE", 64)
    parts = merge(items, bits, weights, **given)
    np.testing.assert_array_equal(parts.items, whole.items)
    np.testing.assert_array_equal(parts.sources, whole.sources)
    assert parts.scores.keys() == whole.scores.keys()
    for name, expected in whole.scores.items():
        np.testing.assert_array_equal(parts.scores[name], expected)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_the_pairs_of_one_user_are_those_of_the_user_in_a_batch(seed):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, 8, 4)
    index = Ragged.group(np.repeat(np.arange(4), lengths), rng.integers(0, 20, lengths.sum()), 4).sorted_rows()
    strength = Ragged(index.offsets, rng.random(len(index.values)).astype(np.float32))
    user, items = rng.integers(-1, 4, 1), rng.integers(0, 25, 6)
    both = np.concatenate([user, user])
    twice, places = np.concatenate([items, items]), np.repeat([0, 1], 6)
    alone = pair_values(index, strength, user, np.zeros(6, np.int64), items)
    np.testing.assert_array_equal(np.tile(alone, 2), pair_values(index, strength, both, places, twice))
    for one, among in zip(index.take(user), index.take(both), strict=True):
        np.testing.assert_array_equal(one, among[: len(one)])
        assert one.dtype == among.dtype
    weights = rng.random(6)
    one = sum_pairs(places[:6], items, weights, 25)
    among = sum_pairs(places, twice, np.tile(weights, 2), 25)
    for mine, theirs in zip(one, among, strict=True):
        np.testing.assert_array_equal(mine, theirs[: len(mine)])


def test_rows_taken_of_one_user_can_be_written_to_without_a_trace():
    rows = Ragged(np.array([0, 3]), np.array([1, 2, 3]))
    rows.take(np.array([0]))[1][:] = 9
    assert rows.values.tolist() == [1, 2, 3]
