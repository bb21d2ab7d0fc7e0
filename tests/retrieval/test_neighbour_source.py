"""Item neighbours against a dense computation."""

import numpy as np
import pytest
from planted import DAY, NOW, make_catalogue, make_log, make_window, planted

from recsys_cli.progress import Progress
from recsys_cli.retrieval import Reason, neighbours
from recsys_cli.retrieval.neighbours import ItemNeighbours, ItemNeighboursConfig


@pytest.fixture(scope="module")
def window():
    catalogue, log, follows = planted(users=60, items=90, each=12)
    return make_window(catalogue, log, follows=follows)


@pytest.fixture(scope="module")
def fitted(window):
    source = ItemNeighbours(ItemNeighboursConfig(neighbours=90, half_life_days=5, exclude_seen=False))
    source.fit(window, Progress())
    return source


def dense_scores(window, half_life_days: float) -> np.ndarray:
    users, items, times = window.interactions
    touched = np.zeros((window.catalogue.n_users, window.catalogue.n_items))
    touched[users, items] = 1
    norm = np.maximum(np.sqrt(touched.sum(axis=0)), 1e-12)
    similarity = touched.T @ touched / np.outer(norm, norm)
    np.fill_diagonal(similarity, 0)
    weight = np.zeros_like(touched)
    weight[users, items] = 0.5 ** ((NOW - times) / (half_life_days * DAY))
    return weight @ similarity


def test_scores_are_the_decayed_sum_of_cosines(window, fitted):
    users = np.arange(60, dtype=np.int32)
    expected = dense_scores(window, 5)
    everything = np.tile(np.arange(90, dtype=np.int32), (60, 1))
    np.testing.assert_allclose(fitted.score(window.state, users, everything), expected, rtol=1e-4, atol=1e-6)
    items, scores = fitted.retrieve(window.state, users, 10)
    np.testing.assert_allclose(scores, -np.sort(-expected, axis=1)[:, :10], rtol=1e-4)
    np.testing.assert_allclose(np.take_along_axis(expected, items, axis=1), scores, rtol=1e-4)


def test_large_catalogues_are_summed_sparsely_with_the_same_result(window, fitted, monkeypatch):
    users = np.array([0, -1, 7], np.int32)
    dense = fitted.retrieve(window.state, users, 20)
    monkeypatch.setattr(neighbours, "DENSE_ITEMS", 0)
    sparse = fitted.retrieve(window.state, users, 20)
    np.testing.assert_array_equal(sparse[1], dense[1])


def test_reason_is_the_item_that_contributes_most():
    catalogue = make_catalogue(6, [-1] * 4)
    # items 0 and 1 go together three times, 0 and 2 once; user 5 clicked 0 and 3
    clicks = [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1), (3, 3), (3, 2), (5, 0), (5, 3)]
    window = make_window(catalogue, make_log([(u, i, NOW - DAY) for u, i in clicks]))
    source = ItemNeighbours(ItemNeighboursConfig())
    source.fit(window, Progress())
    assert source.explain(window.state, 5, np.array([1, 2])) == [Reason("similar", 0), Reason("similar", 3)]
    assert source.retrieve(window.state, np.array([5]), 4)[0].tolist() == [[1, 2, -1, -1]]


@pytest.mark.parametrize("similarity", ["cosine", "tfidf", "bm25"])
def test_an_item_is_never_its_own_neighbour(window, similarity):
    source = ItemNeighbours(ItemNeighboursConfig(similarity=similarity, neighbours=7))
    source.fit(window, Progress())
    assert source.ids.shape == (90, 7)
    assert not (source.ids == np.arange(90)[:, None]).any()
    assert (np.diff(source.weights, axis=1) <= 0).all()
