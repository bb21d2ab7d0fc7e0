"""The graph filter against its formula on dense matrices."""

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import make_window, planted

from recsys_cli.progress import Progress
from recsys_cli.retrieval.history_weighting import HistoryWeighting, WeightedHistories
from recsys_cli.retrieval.linear.graph_filter import GraphFilter, GraphFilterConfig
from recsys_cli.retrieval.linear.item_filter import ItemMap, leading_space, strongest, strongest_cells

ALL = GraphFilterConfig(dim=20, neighbours=None, exclude_seen=False)


@pytest.fixture(scope="module")
def window():
    catalogue, log, follows = planted(users=70, items=90, each=12)
    return make_window(catalogue, log, follows=follows)


def touched_of(window) -> np.ndarray:
    users, items, _ = window.interactions
    touched = np.zeros((window.catalogue.n_users, window.catalogue.n_items))
    touched[users, items] = 1
    return touched


def dense_scores(touched: np.ndarray, c: GraphFilterConfig) -> np.ndarray:
    """The documented formula with full matrices and an exact decomposition."""
    users, items = touched.sum(axis=1), touched.sum(axis=0)
    held = np.maximum(items, 1)
    edges = np.diag(np.maximum(users, 1) ** -c.user_exponent) @ touched
    blurred = np.diag(held**-c.query_exponent) @ edges.T @ edges @ np.diag(held**-c.answer_exponent)
    _, sigma, turned = np.linalg.svd(edges @ np.diag(held**-c.item_exponent), full_matrices=False)
    sigma, v = sigma[: c.dim], turned[: c.dim].T
    passed = v @ np.diag(c.low_pass - c.sharpening * sigma**2) @ v.T
    passed = np.diag(held**-c.low_pass_query_exponent) @ passed @ np.diag(held**c.low_pass_answer_exponent)
    return touched @ (blurred + passed) / np.sqrt(users)[:, None]


def fitted(window, config: GraphFilterConfig) -> GraphFilter:
    source = GraphFilter(config)
    source.fit(window, Progress())
    return source


@pytest.mark.parametrize("changed", [{}, {"user_exponent": 0.5, "sharpening": 0.0}, {"low_pass_query_exponent": 0.5}])
def test_scores_are_those_of_the_formula(window, changed):
    # the subspace iteration settles each direction only where singular values stand apart: take them all
    config = ALL.model_copy(update={"dim": 70, **changed})
    users, items = np.arange(70, dtype=np.int32), np.tile(np.arange(90, dtype=np.int32), (70, 1))
    touched = touched_of(window)
    known = touched.sum(axis=0) > 0
    found = fitted(window, config).score(window.state, users, items)
    np.testing.assert_allclose(found[:, known], dense_scores(touched, config)[:, known], atol=2e-4)


def test_without_factors_the_co_occurrence_alone_decides(window):
    config = ALL.model_copy(update={"dim": 0})
    touched = touched_of(window)
    expected = dense_scores(touched, ALL.model_copy(update={"low_pass": 0.0, "sharpening": 0.0}))
    items = np.tile(np.arange(90, dtype=np.int32), (70, 1))
    found = fitted(window, config).score(window.state, np.arange(70, dtype=np.int32), items)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_fold_in_of_a_known_history_is_the_users_own_row(window):
    source = fitted(window, ALL)
    vectors = source.fold_in([window.state.history[u] for u in range(5)] + [np.array([3, 3, 10**6])])
    items = np.tile(np.arange(90, dtype=np.int32), (5, 1))
    scores = source.score(window.state, np.arange(5, dtype=np.int32), items)
    np.testing.assert_allclose(np.where(source.map.known, vectors[:5], 0), scores, rtol=1e-6)
    np.testing.assert_allclose(vectors[5], source.fold_in([np.array([3])])[0], rtol=1e-6)


def test_the_reason_is_the_history_item_that_adds_most(window):
    source = fitted(window, ALL)
    dense = source.map.entries(np.arange(90), np.arange(90))
    items = source.retrieve(window.state, np.array([4], np.int32), 8)[0][0]
    history = np.unique(window.state.history[4])
    for item, reason in zip(items, source.explain(window.state, 4, items), strict=True):
        shares = np.where(history == item, -np.inf, dense[history, item])
        assert reason.refers_to == history[shares.argmax()]


def test_fewer_neighbours_keep_the_strongest():
    matrix = sp.random_array((30, 40), density=0.5, rng=np.random.default_rng(1), format="csr") - 0.4 * sp.eye_array(
        30, 40
    )
    kept, whole = strongest(matrix.tocsr().copy(), 5).toarray(), matrix.toarray()
    np.testing.assert_array_equal(strongest_cells(whole.astype(np.float32), 5).toarray(), kept.astype(np.float32))
    for got, row in zip(kept, whole, strict=True):
        best = np.sort(np.abs(row))[::-1][:5]
        np.testing.assert_allclose(np.sort(np.abs(got[got != 0]))[::-1], best[best > 0])


def test_leading_space_agrees_with_lapack():
    rng = np.random.default_rng(5)
    matrix = rng.random((60, 45)) @ np.diag(0.8 ** np.arange(45))
    sigma, vectors = leading_space(sp.csr_matrix(matrix.astype(np.float32)), 6, seed=0)
    _, expected, turned = np.linalg.svd(matrix)
    np.testing.assert_allclose(sigma, expected[:6], rtol=1e-3)
    np.testing.assert_allclose(np.abs(np.sum(vectors * turned[:6].T, axis=0)), 1, atol=5e-3)


@given(
    st.lists(st.lists(st.integers(0, 7), max_size=6), min_size=1, max_size=5), st.integers(0, 3),
    st.sampled_from([0.1, 0.6]), st.sampled_from([1.0, 0.7]),
)
@settings(max_examples=60, deadline=None)
def test_the_map_is_applied_as_a_matrix(histories, width, density, decay):
    rng = np.random.default_rng(len(histories) * 10 + width)
    sparse = sp.random_array((8, 8), density=density, rng=rng, format="csr")
    query, answer = rng.random((8, width)), rng.random((8, width))
    mapped = ItemMap.from_parts(sparse, np.ones(8, bool), query, answer)
    assert bool(len(mapped.whole)) == (density == 0.6)
    rows = WeightedHistories.of_lists(histories, HistoryWeighting(kind="place", decay=decay))
    found = mapped.apply(rows)
    dense = sparse.toarray() + query @ answer.T
    np.testing.assert_allclose(mapped.entries(np.arange(8), np.arange(8)), dense, rtol=1e-5, atol=1e-6)
    for row, history in zip(found, histories, strict=True):
        newest_first = list(dict.fromkeys(reversed(history)))
        weights = decay ** np.arange(len(newest_first))
        expected = weights @ dense[newest_first] / np.sqrt(max((weights**2).sum(), 1e-9))
        np.testing.assert_allclose(row, expected, rtol=1e-5, atol=1e-6)
    if not width and len(mapped.columns):
        places, items, scores = mapped.pairs(rows)
        summed = np.zeros(found.shape, np.float32)
        summed[places, items] = scores
        np.testing.assert_allclose(summed, found, rtol=1e-5, atol=1e-6)
