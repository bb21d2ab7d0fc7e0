"""User neighbours, and asymmetric item neighbours, against dense computations."""

import numpy as np
import pytest
from planted import make_window, planted

from recsys_cli.progress import Progress
from recsys_cli.retrieval.neighbours.item_neighbours import ItemNeighbours, ItemNeighboursConfig
from recsys_cli.retrieval.neighbours.user_neighbours import UserNeighbours, UserNeighboursConfig


@pytest.fixture(scope="module")
def window():
    catalogue, log, follows = planted(users=60, items=90, each=12)
    log = log.take(np.random.default_rng(0).random(len(log)) < 0.7)  # histories of different lengths
    return make_window(catalogue, log, follows=follows)


@pytest.fixture(scope="module")
def touched(window) -> np.ndarray:
    users, items, _ = window.interactions
    out = np.zeros((window.catalogue.n_users, window.catalogue.n_items))
    out[users, items] = 1
    return out


def similarity(touched: np.ndarray, kind: str) -> np.ndarray:
    """[user, other] by the documented formulae."""
    length, held = touched.sum(axis=1), touched.sum(axis=0)
    shared = touched @ touched.T
    if kind == "cosine":
        return shared / np.sqrt(np.outer(length, length))
    if kind == "asymmetric":
        return shared / length[:, None] ** 0.3 / length[None, :] ** 0.7
    rare = np.log(1 + (len(touched) - held + 0.5) / (held + 0.5))
    weight = 2.2 / (1 + 1.2 * (0.25 + 0.75 * length / length.mean()))
    return (touched * rare) @ touched.T * weight[None, :] / length[:, None]


@pytest.mark.parametrize("kind", ["cosine", "bm25", "asymmetric"])
def test_scores_sum_the_likeness_of_the_neighbours_who_have_the_item(window, touched, kind):
    source = UserNeighbours(UserNeighboursConfig(similarity=kind, neighbours=60, exclude_seen=False))
    source.fit(window, Progress())
    like = similarity(touched, kind)
    np.fill_diagonal(like, 0)
    found = source.score(window.state, np.arange(60, dtype=np.int32), np.tile(np.arange(90, dtype=np.int32), (60, 1)))
    np.testing.assert_allclose(found, like @ touched, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", ["cosine", "bm25", "asymmetric"])
def test_only_the_likest_are_asked(window, touched, kind):
    source = UserNeighbours(UserNeighboursConfig(similarity=kind, neighbours=7))
    source.fit(window, Progress())
    like = similarity(touched, kind)
    for user in range(0, 60, 9):
        people, likeness = source.neighbours(np.flatnonzero(touched[user]), user=user)
        others = np.delete(like[user], user)
        np.testing.assert_allclose(likeness, np.sort(others)[::-1][:7], rtol=1e-5)
        np.testing.assert_allclose(like[user, people], likeness, rtol=1e-5)


def test_somebody_new_with_the_history_of_a_user_has_that_user_as_first_neighbour(window):
    source = UserNeighbours(UserNeighboursConfig(exclude_seen=False))
    source.fit(window, Progress())
    history = np.unique(window.state.history[11])
    assert source.neighbours(history)[0][0] == 11
    assert 11 not in source.neighbours(history, user=11)[0]
    own = source.fold_in([window.state.history[11]])[0]
    assert np.isin(history, np.argsort(-own)[: 2 * len(history)]).mean() > 0.8


def test_unknown_items_of_a_history_are_ignored(window):
    source = UserNeighbours(UserNeighboursConfig())
    source.fit(window, Progress())
    np.testing.assert_array_equal(*source.fold_in([np.array([4, 5]), np.array([4, 4, 5, 10**6])]))
    assert not source.fold_in([np.zeros(0, np.int32)]).any()


@pytest.mark.parametrize("power", [0.0, 0.3, 1.0])
def test_asymmetric_item_neighbours_divide_each_side_by_its_own_power(window, touched, power):
    source = ItemNeighbours(ItemNeighboursConfig(similarity="asymmetric", asymmetry=power, neighbours=90))
    source.fit(window, Progress())
    count = np.maximum(touched.sum(axis=0), 1)
    expected = touched.T @ touched / count[:, None] ** power / count[None, :] ** (1 - power)
    np.fill_diagonal(expected, 0)
    found = source.map.entries(np.arange(90), np.arange(90))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
