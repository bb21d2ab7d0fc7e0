"""EASE^R and SLIM against direct solutions on small matrices."""

import numpy as np
import pytest
from planted import make_window, planted
from scipy.sparse import csr_matrix
from sklearn.linear_model import ElasticNet

from recsys_cli.progress import Progress
from recsys_cli.retrieval.linear import ease_slim
from recsys_cli.retrieval.linear.ease_slim import Ease, EaseConfig, Slim, SlimConfig, elastic_net


@pytest.fixture(scope="module")
def window():
    catalogue, log, follows = planted(users=80, items=60, each=12)
    return make_window(catalogue, log, follows=follows)


def touched_of(window) -> np.ndarray:
    users, items, _ = window.interactions
    touched = np.zeros((window.catalogue.n_users, window.catalogue.n_items))
    touched[users, items] = 1
    return touched


def weights_of(source) -> np.ndarray:
    """The whole map as a matrix."""
    every = np.arange(len(source.map))
    return source.map.entries(every, every).astype(np.float64)


def fitted(source, window):
    source.fit(window, Progress())
    return source


def direct(touched: np.ndarray, strength: float) -> np.ndarray:
    inverse = np.linalg.inv(touched.T @ touched + strength * np.eye(touched.shape[1]))
    out = -inverse / np.diag(inverse)
    np.fill_diagonal(out, 0)
    return out


@pytest.mark.parametrize("exact_up_to", [100, 1])
def test_ease_is_the_direct_solution(window, exact_up_to):
    config = EaseConfig(l2=15, neighbours=None, exact_up_to=exact_up_to, dim=60)
    expected = direct(touched_of(window), 15)
    np.testing.assert_allclose(weights_of(fitted(Ease(config), window)), expected, atol=2e-4)


@pytest.mark.parametrize("precise", [6_000, 0])
def test_the_inverse_is_that_of_numpy_across_blocks_and_in_either_precision(monkeypatch, precise):
    monkeypatch.setattr(ease_slim, "ROWS_AT_ONCE", 17)
    monkeypatch.setattr(ease_slim, "PRECISE_ITEMS", precise)
    touched = (np.random.default_rng(0).random((90, 61)) < 0.2).astype(np.float32)
    found = ease_slim.ridge_inverse(csr_matrix(touched), 5.0)
    assert found.dtype == (np.float64 if precise else np.float32)
    np.testing.assert_allclose(found, np.linalg.inv(touched.T @ touched + 5 * np.eye(61)), atol=1e-6)
    monkeypatch.setattr(ease_slim, "WELL_CONDITIONED", 1.0)
    assert ease_slim.ridge_inverse(csr_matrix(touched), 5.0).dtype == np.float64


def test_in_a_large_catalogue_each_item_keeps_its_strongest_weights(window):
    whole = weights_of(fitted(Ease(EaseConfig(l2=15)), window))
    kept = fitted(Ease(EaseConfig(l2=15, neighbours=9)), window)
    assert not len(kept.map.whole) and (np.diff(kept.map.offsets) <= 9).all()
    strongest = -np.sort(-np.abs(whole), axis=1)[:, :9]
    np.testing.assert_allclose(-np.sort(-np.abs(weights_of(kept)), axis=1)[:, :9], strongest, rtol=1e-5, atol=1e-9)


def test_ease_of_weighted_rows_and_columns_is_that_of_the_weighted_matrix(window):
    touched = touched_of(window)
    users, items = touched.sum(axis=1), np.maximum(touched.sum(axis=0), 1)
    expected = direct(touched / users[:, None] ** 0.5 / items**0.3, 0.7) * items**0.3 / items[:, None] ** 0.3
    known = touched.any(axis=0)
    for exact_up_to in (100, 1):
        config = EaseConfig(
            l2=0.7,
            user_exponent=0.5,
            item_exponent=0.3,
            neighbours=None,
            dim=60,
            exact_up_to=exact_up_to,
        )
        found = weights_of(fitted(Ease(config), window))
        np.testing.assert_allclose(found[np.ix_(known, known)], expected[np.ix_(known, known)], atol=3e-4)


@pytest.mark.parametrize("exact_up_to", [100, 1])
def test_dropout_is_the_regression_on_histories_with_items_left_out(window, exact_up_to):
    touched, share = touched_of(window), 0.3
    gram = touched.T @ touched
    config = EaseConfig(l2=5, dropout=share, neighbours=None, dim=60, exact_up_to=exact_up_to)
    found = weights_of(fitted(Ease(config), window))
    for item in range(0, 60, 7):
        others = np.delete(np.arange(60), item)
        # what is left counts 1 / (1 − share): E[X̃ᵀX̃] has share / (1 − share) of its diagonal more
        noisy = gram[np.ix_(others, others)] + share / (1 - share) * np.diag(np.diag(gram)[others]) + 5 * np.eye(59)
        np.testing.assert_allclose(found[others, item], np.linalg.solve(noisy, gram[others, item]), atol=3e-4)
        assert found[item, item] == pytest.approx(0, abs=1e-5)


def test_popularity_lifts_the_scores_of_popular_items_by_its_power(window):
    plain = weights_of(fitted(Ease(EaseConfig(l2=9, neighbours=None)), window))
    lifted = weights_of(fitted(Ease(EaseConfig(l2=9, neighbours=None, popularity_exponent=0.2)), window))
    count = touched_of(window).sum(axis=0)
    np.testing.assert_allclose(lifted, plain * count**0.2, rtol=1e-5, atol=1e-9)


def test_a_few_directions_come_near_the_whole_solution(window):
    whole = direct(touched_of(window), 40)
    found = weights_of(fitted(Ease(EaseConfig(l2=40, neighbours=None, exact_up_to=1, dim=15)), window))
    assert np.linalg.norm(found - whole) < 0.05 * np.linalg.norm(whole)
    assert np.abs(np.diag(found)).max() < 1e-5


def test_slim_is_the_elastic_net_of_scikit_learn(window):
    touched = touched_of(window)
    l1, l2 = 0.8, 6.0
    found = weights_of(fitted(Slim(SlimConfig(l1=l1, l2=l2, candidates=60, epochs=200)), window))
    n = len(touched)
    model = ElasticNet(
        alpha=(l1 + l2) / n, l1_ratio=l1 / (l1 + l2), positive=True, fit_intercept=False, max_iter=5000, tol=1e-9
    )
    for item in range(0, 60, 7):
        others = np.delete(np.arange(60), item)
        model.fit(touched[:, others], touched[:, item])
        np.testing.assert_allclose(found[others, item], model.coef_, atol=2e-4)
    assert (np.diag(found) == 0).all() and (found >= 0).all()


def test_elastic_net_of_one_variable_by_hand():
    # ½·4w² − 3w + ½·2w² + 1·w has its least at w = (3 − 1) / (4 + 2)
    assert elastic_net(np.array([[[4.0]]]), np.array([[3.0]]), 1.0, 2.0, 3) == pytest.approx(1 / 3)
    assert elastic_net(np.array([[[4.0]]]), np.array([[0.5]]), 1.0, 2.0, 3) == 0
