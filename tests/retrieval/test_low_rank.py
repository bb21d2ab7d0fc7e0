"""Maps of large catalogues: the low-rank part in the cells of the sparse one, and lists from the pairs that occur."""

import numpy as np
import pytest
import scipy.sparse as sp
from planted import make_window, planted

from recsys_cli.progress import Progress
from recsys_cli.retrieval.history_weighting import HistoryWeighting, WeightedHistories
from recsys_cli.retrieval.linear import item_filter, low_rank
from recsys_cli.retrieval.linear.ease_slim import Ease, EaseConfig
from recsys_cli.retrieval.linear.graph_filter import GraphFilter, GraphFilterConfig
from recsys_cli.retrieval.vectors.approximate_index import recall_of

ITEMS, USERS, GROUPS, DEPTH = 20_500, 2_000, 100, 50


@pytest.fixture(scope="module")
def world():
    """(train, test) csr users × items: each user has items of three groups and as many that are popular with all."""
    rng = np.random.default_rng(0)
    popularity = 1 / np.arange(1, ITEMS + 1) ** 0.6
    rng.shuffle(popularity)
    members = [np.flatnonzero(part) for part in rng.integers(0, GROUPS, ITEMS) == np.arange(GROUPS)[:, None]]
    rows = []
    for _ in range(USERS):
        pools = [*(members[g] for g in rng.choice(GROUPS, 3, replace=False)), np.arange(ITEMS)]
        mine = [rng.choice(pool, 10, p=popularity[pool] / popularity[pool].sum()) for pool in pools]
        rows.append(np.unique(np.concatenate(mine)))
    users, items = np.repeat(np.arange(USERS), [len(r) for r in rows]), np.concatenate(rows)
    held = rng.random(len(items)) < 0.25

    def matrix(mask):
        ones = np.ones(np.count_nonzero(mask), np.float32)
        return sp.csr_matrix((ones, (users[mask], items[mask])), shape=(USERS, ITEMS))

    return matrix(~held), matrix(held)


def lists_of(mapped, train, users) -> np.ndarray:
    """int32[B, DEPTH] best items that are not in the training rows."""
    weights = HistoryWeighting(kind="uniform")
    scores = mapped.apply(WeightedHistories.of_lists([train[[u]].indices for u in users], weights))
    scores[train[users].nonzero()] = -np.inf
    return item_filter.topk(scores, DEPTH)[0]


@pytest.mark.parametrize(
    ("source", "least"),
    [
        (Ease(EaseConfig(dim=64, exact_up_to=1_000)), 0.75),
        (GraphFilter(GraphFilterConfig(dim=64)), 0.8),
    ],
)
def test_a_large_catalogue_is_served_by_short_rows_without_loss(monkeypatch, world, source, least):
    train, test = world
    users = np.arange(0, USERS, 10)
    short = source.learn(train, Progress(), 0)
    monkeypatch.setattr(low_rank, "LARGE_ITEMS", ITEMS)
    whole = source.learn(train, Progress(), 0)
    assert short.sparse and np.diff(short.offsets).max() <= low_rank.KEPT and whole.query.shape[1] == 64
    found, exact = lists_of(short, train, users), lists_of(whole, train, users)
    held = [test[[u]].indices for u in users]

    def hits(lists):
        return sum(len(np.intersect1d(mine, wanted)) for mine, wanted in zip(lists, held, strict=True))

    assert recall_of(found, exact) >= least
    assert hits(found) >= 0.97 * hits(exact)


@pytest.mark.parametrize("rows", [1_000, 7])
def test_the_sum_is_kept_where_the_sparse_part_has_a_cell(monkeypatch, rows):
    monkeypatch.setattr(low_rank, "ROWS_AT_ONCE", rows)
    rng = np.random.default_rng(1)
    sparse = sp.random_array((30, 30), density=0.4, rng=rng, format="csr")
    query, answer = rng.normal(size=(2, 30, 3)).astype(np.float32)
    found = low_rank.folded(sparse, query, answer, 5).toarray()
    whole = np.where(sparse.toarray() != 0, sparse.toarray() + query @ answer.T, 0)
    for got, row in zip(found, whole, strict=True):
        best = np.argsort(-np.abs(row))[:5]
        best = best[row[best] != 0]
        assert set(np.flatnonzero(got)) == set(best)
        np.testing.assert_allclose(got[best], row[best], rtol=1e-5)


def test_both_parts_stay_in_a_small_catalogue_and_where_all_is_to_be_kept(monkeypatch):
    sparse = sp.eye_array(9, format="csr")
    query, answer, known = np.ones((9, 2), np.float32), np.ones((9, 2), np.float32), np.ones(9, bool)
    assert low_rank.map_of_sum(sparse, query, answer, known, 3).query.shape == (9, 2)
    monkeypatch.setattr(low_rank, "LARGE_ITEMS", 8)
    assert low_rank.map_of_sum(sparse, query, answer, known, None).query.shape == (9, 2)
    mapped = low_rank.map_of_sum(sparse, query, answer, known, 3)
    assert mapped.sparse
    np.testing.assert_array_equal(mapped.weights, np.full(9, 3))


@pytest.mark.parametrize("k", [3, 80])
def test_lists_from_pairs_are_those_of_full_rows_also_where_scores_lie_below_nought(monkeypatch, k):
    catalogue, log, follows = planted(users=80, items=120, each=12)
    window = make_window(catalogue, log, follows=follows)
    monkeypatch.setattr(low_rank, "LARGE_ITEMS", 10)
    source = Ease(EaseConfig(l2=15, neighbours=12, exact_up_to=1, dim=20))
    source.fit(window, Progress())
    assert source.map.sparse and (source.map.weights < 0).any()
    # the last one has no history
    users = np.append(np.arange(window.catalogue.n_users, dtype=np.int32), np.int32(-1))
    by_rows, asked = source.retrieve(window.state, users, k), np.tile(np.arange(-1, 120, dtype=np.int32), (81, 1))
    scores = source.score(window.state, users, asked)
    monkeypatch.setattr(item_filter, "DENSE_ITEMS", 1)
    by_pairs = source.retrieve(window.state, users, k)
    np.testing.assert_array_equal(by_pairs[0][-1], -1)
    # which of equal items at the end of a list is taken differs
    np.testing.assert_allclose(by_pairs[1], by_rows[1], rtol=1e-6)
    at = np.maximum(by_pairs[0], 0)
    mine = np.where(by_pairs[0] >= 0, np.take_along_axis(scores, at + 1, axis=1), -np.inf)
    np.testing.assert_allclose(mine, by_pairs[1], rtol=1e-6)
    np.testing.assert_allclose(source.score(window.state, users, asked), scores, rtol=1e-6)
