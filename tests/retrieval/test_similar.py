"""What is like an item or a user, by vectors and by neighbours."""

import numpy as np
import pytest
from planted import NOW, make_window, planted

from recsys_cli.progress import Progress
from recsys_cli.retrieval.factors.als import AlsConfig
from recsys_cli.retrieval.neighbours.item_neighbours import ItemNeighboursConfig
from recsys_cli.retrieval.popularity.popularity import PopularityConfig
from recsys_cli.retrieval.registry import make
from recsys_cli.retrieval.vectors.nearest import nearest_rows

CONFIGS = {"als": AlsConfig(dim=16, epochs=5), "item_neighbours": ItemNeighboursConfig()}


@pytest.fixture(scope="module")
def window():
    catalogue, log, follows = planted()
    return make_window(catalogue, log, NOW, follows)


@pytest.fixture(scope="module")
def fitted(window):
    out = {}
    for name, config in CONFIGS.items():
        out[name] = make(config)
        out[name].fit(window, Progress())
    return out


def test_nearest_rows_are_those_of_the_smallest_angle():
    table = np.array([[2, 0], [1, 1], [0, 3], [-1, 0], [0, 0]], np.float32)
    ids, scores = nearest_rows(table[:2], np.ones(2, bool), np.array([0, 1]), table, np.ones(5, bool), 4)
    assert ids[0].tolist() == [1, 2, 3, -1]
    np.testing.assert_allclose(scores[0, :3], [np.sqrt(0.5), 0, -1], atol=1e-6)
    assert ids[1].tolist() == [0, 2, 3, -1]
    unknown = nearest_rows(table[:1], np.zeros(1, bool), np.array([0]), table, np.ones(5, bool), 2)
    assert (unknown[0] == -1).all() and np.isneginf(unknown[1]).all()


@pytest.mark.parametrize("name", CONFIGS)
def test_similar_items_share_the_community(window, fitted, name):
    popular = np.argsort(-window.state.interactions)[:60].astype(np.int32)
    topic = window.catalogue.item_topics.values
    found, scores = fitted[name].similar_items(window.state, popular, 5)
    assert (found != popular[:, None]).all()
    assert (np.diff(scores, axis=1)[np.isfinite(scores[:, 1:])] <= 0).all()
    held = found >= 0
    assert (topic[found] == topic[popular][:, None])[held].mean() > 0.6  # one in five by chance


def test_similar_users_share_the_community(window, fitted):
    users = np.arange(40, dtype=np.int32)
    found, _ = fitted["als"].similar_users(window.state, users, 5)
    assert (found != users[:, None]).all()
    assert (found % 5 == users[:, None] % 5).mean() > 0.6


@pytest.mark.parametrize("name", CONFIGS)
def test_more_than_there_is_leaves_rows_short(window, fitted, name):
    n = window.catalogue.n_items
    found, scores = fitted[name].similar_items(window.state, np.array([3, -1, n + 5], np.int32), n + 10)
    assert found.shape == (3, n + 10) and (found[0, n - 1 :] == -1).all()
    assert (found[1:] == -1).all() and np.isneginf(scores[1:]).all()


def test_a_source_without_a_measure_says_so(window):
    source = make(PopularityConfig())
    assert source.similar_items(window.state, np.array([1]), 3) is None
    assert source.similar_users(window.state, np.array([1]), 3) is None
    assert make(ItemNeighboursConfig()).similar_users(window.state, np.array([1]), 3) is None
