"""ALS: the fold-in equation and who is folded in."""

import numpy as np
import pytest
from planted import NOW, make_log, make_window, planted

from recsys_cli.data.log import Log
from recsys_cli.progress import Progress
from recsys_cli.retrieval.als import Als, AlsConfig


@pytest.fixture(scope="module")
def window():
    catalogue, log, follows = planted()
    return make_window(catalogue, log, follows=follows)


@pytest.fixture(scope="module")
def fitted(window):
    source = Als(AlsConfig(factors=8, iterations=5, regularisation=2.0, alpha=7.0))
    source.fit(window, Progress())
    return source


def direct_solution(items: np.ndarray, history: list[int], alpha: float, regularisation: float) -> np.ndarray:
    """Minimise Σ c_i (p_i − x·y_i)² + λ|x|² over all items, written out with the full diagonal of confidences."""
    items = items.astype(np.float64)
    wanted = np.zeros(len(items))
    wanted[history] = 1
    confidence = np.diag(np.where(wanted > 0, alpha, 1.0))
    left = items.T @ confidence @ items + regularisation * np.eye(items.shape[1])
    return np.linalg.solve(left, items.T @ confidence @ wanted)


def test_fold_in_equals_the_direct_solution(fitted):
    histories = [np.array([3, 17, 200]), np.array([], np.int32), np.array([5, 5, 1])]
    vectors = fitted.fold_in(histories)
    for vector, history in zip(vectors, histories, strict=True):
        expected = direct_solution(fitted.index.vectors, history.tolist(), 7.0, 2.0)
        np.testing.assert_allclose(vector, expected, rtol=2e-3, atol=1e-5)


def test_own_history_folds_in_to_the_own_vector(window, fitted):
    users = np.arange(window.catalogue.n_users, dtype=np.int32)
    stored, known = fitted.vectors(window.state, users)
    assert known.all()
    np.testing.assert_allclose(fitted.fold_in([window.state.history[u] for u in users]), stored, atol=1e-5)


def test_vectors_are_close_to_those_of_implicit(window):
    """Our user vectors solve for implicit's final item vectors; its own are half an iteration behind."""
    from implicit.cpu.als import AlternatingLeastSquares
    from scipy.sparse import csr_matrix

    users, items, _ = window.interactions
    touched = csr_matrix((np.ones(len(users), np.float32), (users, items)), shape=(120, 400))
    source = Als(AlsConfig(factors=8, iterations=5, regularisation=2.0, alpha=7.0))
    source.fit(window, Progress())
    model = AlternatingLeastSquares(8, regularization=2.0, alpha=7.0, iterations=5, random_state=window.seed)
    model.fit(touched, show_progress=False)
    np.testing.assert_allclose(
        source.fold_in([touched[u].indices for u in range(120)]),
        model.recalculate_user(np.arange(120), touched), rtol=2e-3, atol=1e-4,
    )


def test_a_history_that_grew_is_folded_in(window, fitted):
    newcomer = 0
    later = make_log([(newcomer, 42, NOW + 5)])
    grown = make_window(window.catalogue, Log.concat(window.log, later), end=NOW + 10)
    history = grown.state.history[newcomer]
    assert history[-1] == 42
    vectors, _ = fitted.vectors(grown.state, np.array([newcomer, 1], np.int32))
    expected = direct_solution(fitted.index.vectors, np.unique(history).tolist(), 7.0, 2.0)
    np.testing.assert_allclose(vectors[0], expected, rtol=2e-3, atol=1e-4)
    np.testing.assert_array_equal(vectors[1], fitted.vectors(window.state, np.array([1]))[0][0])
