"""ALS: the fold-in equation and who is folded in."""

import numpy as np
import pytest
from planted import NOW, make_log, make_window, planted

from recsys_cli.data.log import Log
from recsys_cli.data.ragged import Ragged
from recsys_cli.progress import Progress
from recsys_cli.retrieval.factors.als import Als, AlsConfig, RidgeSystem


@pytest.fixture(scope="module")
def window():
    catalogue, log, follows = planted()
    return make_window(catalogue, log, follows=follows)


@pytest.fixture(scope="module")
def fitted(window):
    source = Als(AlsConfig(dim=8, epochs=5, l2=2.0, alpha=7.0))
    source.fit(window, Progress())
    return source


def direct_solution(items: np.ndarray, history: list[int], alpha: float, l2: float) -> np.ndarray:
    """Minimise Σ c_i (p_i − x·y_i)² + λ|x|² over all items, written out with the full diagonal of confidences."""
    items = items.astype(np.float64)
    wanted = np.zeros(len(items))
    wanted[history] = 1
    confidence = np.diag(np.where(wanted > 0, alpha, 1.0))
    left = items.T @ confidence @ items + l2 * np.eye(items.shape[1])
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


def lengths_around(width: int) -> list[np.ndarray]:
    """Histories shorter and longer than vectors are wide, and an empty one."""
    rng = np.random.default_rng(3)
    return [rng.choice(400, n, replace=False) for n in (0, 1, 3, width - 1, width, width + 1, 40, 150)]


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0])
def test_regularisation_by_frequency_equals_the_direct_solution(window, exponent):
    """λ_u = λ (α |H| + the other items)^ν, whichever of the two systems is solved."""
    config = AlsConfig(
        dim=8, epochs=2, l2=0.02, alpha=7.0, l2_exponent=exponent
    )
    source = Als(config)
    source.fit(window, Progress())
    known = int(source.index.known.sum())
    for history in lengths_around(8):
        history = history[source.index.known[history]]
        weight = 0.02 * (7.0 * len(history) + known - len(history)) ** exponent
        expected = direct_solution(source.index.vectors, history.tolist(), 7.0, weight)
        np.testing.assert_allclose(source.fold_in([history])[0], expected, rtol=2e-3, atol=2e-5)


def test_a_row_is_solved_for_to_the_same_bits_alone_and_among_others(fitted):
    histories = lengths_around(8)
    together = fitted.fold_in(histories)
    for vector, history in zip(together, histories, strict=True):
        np.testing.assert_array_equal(fitted.fold_in([history])[0], vector)


@pytest.fixture(scope="module")
def implicit_model(window):
    from implicit.cpu.als import AlternatingLeastSquares
    from scipy.sparse import csr_matrix

    users, items, _ = window.interactions
    touched = csr_matrix((np.ones(len(users), np.float32), (users, items)), shape=(120, 400))
    touched.data[:] = 1
    model = AlternatingLeastSquares(8, regularization=2.0, alpha=7.0, iterations=30, random_state=window.seed)
    model.fit(touched, show_progress=False)
    return model, touched


def test_rows_are_solved_for_as_implicit_does(implicit_model):
    model, touched = implicit_model
    rows = Ragged(touched.indptr.astype(np.int64), touched.indices)
    solved = RidgeSystem.of(np.asarray(model.item_factors), 7.0, 2.0, 0.0, 400).solve(rows)
    np.testing.assert_allclose(solved, model.recalculate_user(np.arange(120), touched), rtol=2e-3, atol=1e-4)


def test_the_fit_is_as_good_as_that_of_implicit(window, implicit_model):
    model, touched = implicit_model
    wanted = touched.toarray()

    def loss(people: np.ndarray, items: np.ndarray) -> float:
        errors = np.where(wanted > 0, 7.0, 1.0) * (wanted - people @ items.T) ** 2
        return float(errors.sum() + 2.0 * ((people**2).sum() + (items**2).sum()))

    source = Als(AlsConfig(dim=8, epochs=30, l2=2.0, alpha=7.0))
    source.fit(window, Progress())
    people = source.vectors(window.state, np.arange(120, dtype=np.int32))[0]
    assert loss(people, source.index.vectors) <= 1.02 * loss(model.user_factors, model.item_factors)


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
