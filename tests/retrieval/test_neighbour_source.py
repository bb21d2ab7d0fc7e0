"""Item neighbours and walks between items against dense computations."""

import numpy as np
import pytest
from planted import DAY, NOW, make_catalogue, make_log, make_window, planted

from recsys_cli.progress import Progress
from recsys_cli.retrieval.history_weighting import HistoryWeighting
from recsys_cli.retrieval.linear import item_filter
from recsys_cli.retrieval.neighbours.item_neighbours import ItemNeighbours, ItemNeighboursConfig, Rp3Beta, Rp3BetaConfig
from recsys_cli.retrieval.reason import Reason

EVERY = np.arange(90)
BY_DAYS = HistoryWeighting(kind="time", half_life_days=5)


@pytest.fixture(scope="module")
def window():
    catalogue, log, follows = planted(users=60, items=90, each=12)
    return make_window(catalogue, log, follows=follows)


def fitted(window, cls=ItemNeighbours, **settings):
    source = cls(cls.config_type(**{"neighbours": 90, "exclude_seen": False, **settings}))
    source.fit(window, Progress())
    return source


def touched_of(window) -> np.ndarray:
    users, items, _ = window.interactions
    touched = np.zeros((window.catalogue.n_users, window.catalogue.n_items))
    touched[users, items] = 1
    return touched


def dense_scores(window, half_life_days: float) -> np.ndarray:
    users, items, times = window.interactions
    touched = touched_of(window)
    norm = np.maximum(np.sqrt(touched.sum(axis=0)), 1e-12)
    similarity = touched.T @ touched / np.outer(norm, norm)
    np.fill_diagonal(similarity, 0)
    weight = np.zeros_like(touched)
    weight[users, items] = 0.5 ** ((NOW - times) / (half_life_days * DAY))
    return weight @ similarity / np.linalg.norm(weight, axis=1, keepdims=True)


def test_scores_are_the_decayed_sum_of_cosines_over_the_length_of_the_weights(window):
    users, source = np.arange(60, dtype=np.int32), fitted(window, history_weighting=BY_DAYS)
    expected = dense_scores(window, 5)
    everything = np.tile(EVERY.astype(np.int32), (60, 1))
    np.testing.assert_allclose(source.score(window.state, users, everything), expected, rtol=1e-4, atol=1e-6)
    items, scores = source.retrieve(window.state, users, 10)
    np.testing.assert_allclose(scores, -np.sort(-expected, axis=1)[:, :10], rtol=1e-4)
    np.testing.assert_allclose(np.take_along_axis(expected, items, axis=1), scores, rtol=1e-4)


def test_large_catalogues_are_summed_by_pairs_with_the_same_result(window, monkeypatch):
    users, source = np.array([0, -1, 7], np.int32), fitted(window, neighbours=10)
    asked = np.array([[3, 5, -1, 89], [1, 2, 3, 4], [89, 0, -1, 1000]], np.int32)
    dense, scored = source.retrieve(window.state, users, 20), source.score(window.state, users, asked)
    monkeypatch.setattr(item_filter, "DENSE_ITEMS", 0)
    again = fitted(window, neighbours=10)
    pairs = again.retrieve(window.state, users, 20)
    np.testing.assert_allclose(pairs[1], dense[1], rtol=1e-5)
    np.testing.assert_allclose(again.score(window.state, users, asked), scored, rtol=1e-5)
    assert scored[0].any() and not scored[1].any() and not scored[2, 2:].any()


def test_reason_is_the_item_that_contributes_most():
    catalogue = make_catalogue(6, [-1] * 4)
    # items 0 and 1 go together three times, 0 and 2 once; user 5 clicked 0 and 3
    clicks = [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1), (3, 3), (3, 2), (5, 0), (5, 3)]
    window = make_window(catalogue, make_log([(u, i, NOW - DAY) for u, i in clicks]))
    source = ItemNeighbours(ItemNeighboursConfig())
    source.fit(window, Progress())
    assert source.explain(window.state, 5, np.array([1, 2])) == [Reason("similar", 0), Reason("similar", 3)]
    assert source.retrieve(window.state, np.array([5]), 4)[0].tolist() == [[1, 2, -1, -1]]


def by_formula(touched: np.ndarray, c: ItemNeighboursConfig) -> np.ndarray:
    """The documented likenesses with full matrices."""
    common = touched.T @ touched
    d = touched.sum(axis=0)
    i, j = np.maximum(d[:, None], 1e-12), np.maximum(d[None, :], 1e-12)
    rare = np.maximum(np.log(touched.shape[1] / (1 + touched.sum(axis=1))), 0)
    weighted = touched * rare[:, None]
    products = weighted.T @ weighted
    length = np.maximum(np.sqrt(np.diag(products)), 1e-12)
    saturated = 2.2 / (1.2 * (0.25 + 0.75 * d / d[d > 0].mean()) + 1)
    a, b = c.tversky
    out = {
        "cosine": common / (np.sqrt(i * j) + c.shrink),
        "jaccard": common / (i + j - common + c.shrink),
        "tversky": common / np.maximum(common + a * (i - common) + b * (j - common) + c.shrink, 1e-12),
        "asymmetric": common / (i**c.asymmetry * j ** (1 - c.asymmetry) + c.shrink),
        "tfidf": products / (np.outer(length, length) + c.shrink),
        "bm25": products / (1 / np.outer(saturated, saturated) + c.shrink),
    }[c.similarity]
    np.fill_diagonal(out, 0)
    return out


@pytest.mark.parametrize("shrink", [0.0, 3.0])
@pytest.mark.parametrize("similarity", ["cosine", "jaccard", "tversky", "tfidf", "bm25", "asymmetric"])
def test_likenesses_are_those_of_the_formula(window, similarity, shrink):
    config = ItemNeighboursConfig(similarity=similarity, shrink=shrink, asymmetry=0.3)
    found = fitted(window, similarity=similarity, shrink=shrink, asymmetry=0.3).map.entries(EVERY, EVERY)
    np.testing.assert_allclose(found, by_formula(touched_of(window), config), rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("similarity", ["cosine", "tfidf", "bm25"])
def test_likenesses_are_those_of_implicit(window, similarity):
    from implicit.nearest_neighbours import BM25Recommender, CosineRecommender, TFIDFRecommender
    from scipy.sparse import csr_matrix

    touched = touched_of(window)
    touched = touched[:, touched.any(axis=0)]  # its mean length counts what nobody touched too
    model = {"cosine": CosineRecommender, "tfidf": TFIDFRecommender, "bm25": BM25Recommender}[similarity](K=90)
    model.fit(csr_matrix(touched), show_progress=False)
    expected = model.similarity.toarray()
    np.fill_diagonal(expected, 0)
    np.testing.assert_allclose(by_formula(touched, ItemNeighboursConfig(similarity=similarity)), expected, rtol=1e-4)


@pytest.mark.parametrize("similarity", ["cosine", "tfidf", "bm25"])
def test_each_item_keeps_its_nearest_others(window, similarity):
    source = fitted(window, similarity=similarity, neighbours=7)
    kept = source.map.entries(EVERY, EVERY)
    whole = fitted(window, similarity=similarity).map.entries(EVERY, EVERY)
    assert not np.diag(kept).any() and ((kept > 0).sum(axis=1) <= 7).all()
    np.testing.assert_allclose(-np.sort(-kept, axis=1)[:, :7], -np.sort(-whole, axis=1)[:, :7], rtol=1e-6)
    items, scores = source.similar_items(window.state, np.array([4, -1], np.int32), 5)
    np.testing.assert_allclose(scores[0], -np.sort(-whole[4])[:5], rtol=1e-6)
    assert (items[1] == -1).all()


def test_rp3beta_is_the_tempered_walk_over_popularity(window):
    touched = touched_of(window)
    users, items = touched.sum(axis=1, keepdims=True), np.maximum(touched.sum(axis=0), 1)
    to_item, to_user = touched / users, touched.T / items[:, None]
    expected = (to_user**0.7 @ to_item**0.7) / items**0.3
    np.fill_diagonal(expected, 0)
    source = fitted(window, Rp3Beta, alpha=0.7, beta=0.3)
    np.testing.assert_allclose(source.map.entries(EVERY, EVERY), expected, rtol=1e-4, atol=1e-7)
    kinds = Rp3Beta.alternatives(Rp3BetaConfig())
    assert len({(c.alpha, c.beta) for c in kinds}) == len(kinds)


def test_a_large_catalogue_gives_the_same_lists_by_full_rows_and_by_sorted_pairs(monkeypatch):
    catalogue, log, _ = planted()
    window = make_window(catalogue, log)
    source = Rp3Beta(Rp3BetaConfig(neighbours=5))
    source.fit(window, Progress())
    users, found = np.arange(window.catalogue.n_users, dtype=np.int32), []
    assert source.map.sparse
    for items, wide in ((50_000, 10), (1, 10**9), (1, 0)):
        monkeypatch.setattr(item_filter, "DENSE_ITEMS", items)
        monkeypatch.setattr(item_filter, "WIDE", wide)
        found.append(source.retrieve(window.state, users, 20))
        alone = np.concatenate([source.retrieve(window.state, users[u : u + 1], 20)[0] for u in users])
        np.testing.assert_array_equal(alone, found[-1][0])
    (_, by_rows), filled, by_sorting = found
    np.testing.assert_array_equal(filled[0], by_sorting[0])
    np.testing.assert_array_equal(filled[1], by_sorting[1])
    # which of equal items at the end of a list is taken differs
    np.testing.assert_allclose(filled[1], by_rows, rtol=1e-6)
