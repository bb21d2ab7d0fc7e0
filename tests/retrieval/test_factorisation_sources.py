"""Factorisations agree with direct solutions where those are small, and fold anybody in."""

import numpy as np
import pytest
from planted import NOW, make_catalogue, make_log, make_window, planted
from scipy.optimize import nnls

from recsys_cli.progress import Progress
from recsys_cli.retrieval.factors.factorisation import Bpr, BprConfig, Nmf, NmfConfig, Svd, SvdConfig

SOURCES = {
    "svd": Svd(SvdConfig(dim=8)),
    "nmf": Nmf(NmfConfig(dim=8)),
    "bpr": Bpr(BprConfig(dim=16)),
}


@pytest.fixture(scope="module")
def window():
    catalogue, log, follows = planted()
    return make_window(catalogue, log, NOW, follows)


@pytest.fixture(scope="module")
def fitted(window):
    for source in SOURCES.values():
        source.fit(window, Progress())
    return SOURCES


@pytest.fixture(scope="module")
def matrix(window):
    users, items, _ = window.interactions
    out = np.zeros((window.catalogue.n_users, window.catalogue.n_items))
    out[users, items] = 1
    return out


def everything(source, state):
    users = np.arange(state.catalogue.n_users, dtype=np.int32)
    items = np.broadcast_to(np.arange(state.catalogue.n_items, dtype=np.int32), (len(users), state.catalogue.n_items))
    return source.score(state, users, items)


@pytest.mark.parametrize("power", [0.0, 0.5])
def test_singular_vectors_are_those_of_the_whole_decomposition(window, matrix, power):
    source = Svd(SvdConfig(dim=5, popularity_exponent=power))
    source.fit(window, Progress())
    popularity = np.maximum(matrix.sum(axis=0), 1) ** power
    normal = matrix / popularity
    right = np.linalg.svd(normal, full_matrices=False)[2][:5]
    expected = (normal @ right.T @ right) * popularity / np.sqrt(matrix.sum(axis=1, keepdims=True))
    np.testing.assert_allclose(everything(source, window.state), expected * (matrix.sum(axis=0) > 0), atol=0.005)


def test_the_parts_of_a_history_are_the_nearest_that_are_not_negative(window, fitted, matrix):
    source = fitted["nmf"]
    popularity = np.maximum(matrix.sum(axis=0), 1) ** 0.5
    parts = source._arrays["answer"] / popularity[:, None]
    found, known = source.vectors(window.state, np.arange(10, dtype=np.int32))
    assert known.all() and (found >= 0).all()
    for user in range(10):
        expected, distance = nnls(parts.astype(float), matrix[user] / popularity)
        mine = np.linalg.norm(parts @ found[user] - matrix[user] / popularity)
        assert mine <= 1.02 * distance
        assert np.corrcoef(expected, found[user])[0, 1] > 0.95


def test_a_folded_in_user_ranks_as_the_vector_of_the_fit_does(window, fitted, matrix):
    from implicit.cpu.bpr import BayesianPersonalizedRanking
    from scipy.sparse import csr_matrix

    config = fitted["bpr"].config
    model = BayesianPersonalizedRanking(
        factors=config.dim, learning_rate=config.learning_rate, regularization=config.l2,
        iterations=config.epochs, num_threads=1, random_state=window.seed,
    )  # fmt: skip
    model.fit(csr_matrix(matrix.astype(np.float32)), show_progress=False)
    np.testing.assert_array_equal(model.item_factors, fitted["bpr"]._arrays["query"])
    theirs = model.user_factors @ model.item_factors.T
    ours = everything(fitted["bpr"], window.state)
    likeness = [np.corrcoef(a, b)[0, 1] for a, b in zip(ours, theirs, strict=True)]
    strangers = [np.corrcoef(a, b)[0, 1] for a, b in zip(ours, np.roll(theirs, 1, axis=0), strict=True)]
    assert np.median(likeness) > 0.85 and np.median(likeness) > np.median(strangers) + 0.3


@pytest.mark.parametrize("name", SOURCES)
def test_the_order_and_repetition_of_a_history_do_not_matter(window, fitted, name):
    history = window.state.history[5]
    given = fitted[name].fold_in([history, history[::-1], np.repeat(history, 2), [], [10_000_000, *history]])
    for row in (1, 2, 4):
        np.testing.assert_array_equal(given[row], given[0])
    assert not given[3].any()
    np.testing.assert_array_equal(fitted[name].vectors(window.state, np.array([5]))[0][0], given[0])


@pytest.mark.parametrize("name", SOURCES)
def test_fitting_again_gives_the_same(window, fitted, name):
    again = type(fitted[name])(fitted[name].config)
    again.fit(window, Progress())
    np.testing.assert_array_equal(again._arrays["answer"], fitted[name]._arrays["answer"])


@pytest.mark.parametrize("name", SOURCES)
def test_more_vectors_than_the_data_has_room_for(name):
    window = make_window(
        make_catalogue(3, [-1] * 4, [NOW - 9] * 4), make_log([(0, 0, NOW - 3), (0, 1, NOW - 2), (1, 1, NOW - 2)])
    )
    source = type(SOURCES[name])(SOURCES[name].config)
    source.fit(window, Progress())
    items, scores = source.retrieve(window.state, np.array([1, 2], np.int32), 4)
    assert set(items[0].tolist()) <= {0, -1} and (items[1] == -1).all() and np.isfinite(scores[items >= 0]).all()


@pytest.mark.parametrize("name", SOURCES)
def test_similar_items_and_users_share_the_community(window, fitted, name):
    topic = window.catalogue.item_topics.values
    popular = np.argsort(-window.state.interactions)[:40].astype(np.int32)
    found, _ = fitted[name].similar_items(window.state, popular, 5)
    assert (topic[found] == topic[popular][:, None])[found >= 0].mean() > 0.6
    users = np.arange(40, dtype=np.int32)
    found, _ = fitted[name].similar_users(window.state, users, 5)
    assert (found % 5 == users[:, None] % 5).mean() > 0.6
