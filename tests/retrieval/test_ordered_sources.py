"""Transitions and linear autoregression against hand-worked cases and direct solutions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import NOW, make_catalogue, make_log, make_window
from sklearn.linear_model import Ridge

from recsys_cli.data.ragged import Ragged
from recsys_cli.progress import Progress
from recsys_cli.retrieval import SOURCES, gaps, make
from recsys_cli.retrieval.autoregression import future_weights, past_weights
from recsys_cli.retrieval.gaps import gap_sums, ordered_histories

SECOND = 1_000_000
ORDERED = ("markov", "sequential_rules", "linear_autoregressive")


class Said(Progress):
    """Keeps what is said."""

    def __init__(self):
        self.lines = []

    def message(self, text):
        self.lines.append(text)


def window_of(sequences, n_items=None, spacing=SECOND):
    """Users do the items of their lists one after the other, up to NOW."""
    rows = [(u, i, NOW - 1 - (len(s) - at) * spacing) for u, s in enumerate(sequences) for at, i in enumerate(s)]
    n = n_items or max(i for s in sequences for i in s) + 1
    return make_window(make_catalogue(len(sequences), [-1] * n), make_log(rows))


def fitted(kind, window, progress=None, **more):
    source = make(SOURCES[kind].config_type(**more))
    source.fit(window, progress or Progress())
    return source


def weights_of(source) -> np.ndarray:
    """The whole map as a matrix."""
    offsets, columns, weights, known = (source._arrays[name] for name in source.parts)
    out = np.zeros((len(known), len(known)))
    out[np.repeat(np.arange(len(known)), np.diff(offsets)), columns] = weights
    return out


def cycles(users=60, items=12, length=6, seed=0):
    """Everybody goes along one circle of items, each from a place of their own."""
    rng = np.random.default_rng(seed)
    return [[int(x) for x in (rng.integers(items) + np.arange(length)) % items] for _ in range(users)]


lists = st.lists(st.lists(st.integers(0, 5), max_size=9), min_size=1, max_size=5)


@given(lists, st.integers(1, 4), st.integers(0, 1), st.integers(1, 3))
@settings(max_examples=60, deadline=None)
def test_gap_sums_are_those_of_a_loop_over_pairs(sequences, n_gaps, first, rests):
    weights = np.random.default_rng(0).random((n_gaps, rests))
    expected = np.zeros((6, 6))
    for s in sequences:
        for a in range(len(s)):
            for g in range(n_gaps):
                if a + first + g < len(s):
                    expected[s[a], s[a + first + g]] += weights[g, min(len(s) - 1 - a, rests - 1)]
    offsets = np.concatenate([[0], np.cumsum([len(s) for s in sequences])]).astype(np.int64)
    histories = Ragged(offsets, np.array([i for s in sequences for i in s], np.int32))
    before, gaps.PAIRS_AT_ONCE = gaps.PAIRS_AT_ONCE, 7
    try:
        found = list(gap_sums(histories, weights, first, 6))
    finally:
        gaps.PAIRS_AT_ONCE = before
    assert [start for start, _ in found] == list(np.cumsum([0] + [m.shape[0] for _, m in found])[:-1])
    np.testing.assert_allclose(np.concatenate([m.toarray() for _, m in found]), expected, atol=1e-12)


def test_transitions_by_hand():
    settings = {"gaps": 2, "gap_decay": 0.5, "smoothing": 1, "popularity_exponent": -1}
    source = fitted("markov", window_of([[0, 1, 2], [0, 2]]), **settings)
    # 0 → 1 once next to it; 0 → 2 once next to it and once over a gap of two; 1 → 2 once
    expected = np.array([[0, 1 / 3.5, 1.5 / 3.5 / 2], [0, 0, 1 / 2 / 2], [0, 0, 0]])
    np.testing.assert_allclose(weights_of(source), expected, rtol=1e-6)
    rules = fitted("sequential_rules", window_of([[0, 1, 2]]), gaps=2)
    np.testing.assert_allclose(weights_of(rules), [[0, 2 / 3, 1 / 3], [0, 0, 1], [0, 0, 0]], rtol=1e-6)


def test_a_query_is_the_decayed_sum_of_the_rows_of_the_latest_events():
    window = window_of([[0, 1, 2, 3, 1], [2, 0, 3, 1, 0], [3, 2]])
    source = fitted("markov", window, query_decay=0.5, history=2)
    weights = weights_of(source)
    np.testing.assert_allclose(source.fold_in([np.array([0, 1, 2])])[0], (weights[2] + weights[1] / 2) / 1.5, rtol=1e-6)
    assert not source.fold_in([np.array([9]), np.array([], int)]).any()


def test_a_decay_of_one_is_uniform_to_the_bit():
    window = window_of(cycles())
    source = fitted("markov", window, gap_decay=1, query_decay=1, smoothing=0, popularity_exponent=0)
    uniform = np.ones(source.config.gaps)
    np.testing.assert_array_equal(source.gap_weights(), uniform)
    places, _, weights = source._query(Ragged(np.array([0, 3, 7]), np.arange(7, dtype=np.int32)))
    np.testing.assert_array_equal(weights, (1 / np.array([3, 4]))[places].astype(np.float32))


@pytest.mark.parametrize("decay", [1.0, 0.8])
@pytest.mark.parametrize("set_weight", [0.0, 0.3])
def test_the_closed_form_is_the_ridge_of_scikit_learn(decay, set_weight):
    rng = np.random.default_rng(3)
    sequences = [rng.integers(0, 7, rng.integers(1, 12)).tolist() for _ in range(30)]
    past, future = 4, 3
    x, y = [], []
    for s in sequences:
        for t in range(len(s) - 1):
            row, target = np.zeros(7), np.zeros(7)
            for back, i in enumerate(s[t::-1][:past]):
                row[i] += decay**back
            for ahead, i in enumerate(s[t + 1 : t + 1 + future]):
                target[i] += 0.9**ahead
            x.append(row)
            y.append((1 - set_weight) * target + set_weight * row)
    ridge = Ridge(alpha=5.0, fit_intercept=False).fit(x, y)
    source = fitted(
        "linear_autoregressive", window_of(sequences, 7), past=past, past_decay=decay, future=future, future_decay=0.9,
        regularisation=5.0, set_weight=set_weight, neighbours=None,
    )  # fmt: skip
    np.testing.assert_allclose(weights_of(source), ridge.coef_.T, atol=2e-5)


def test_weights_of_pairs_by_hand():
    # two events next to each other, two more after them: rows as of the second and the third event, not of the last
    assert past_weights(3, 0.5)[1, 3] == pytest.approx(0.5 * 1 + 0.25 * 0.5)
    assert past_weights(3, 0.5)[0].tolist() == [0, 1, 1.25, 1.3125]
    assert future_weights(2, 0.5, 2, 0.1)[:, 0].tolist() == pytest.approx([1, 0.6, 0.05])


@pytest.mark.parametrize("kind", ORDERED)
def test_threads_and_blocks_change_no_bit(kind, monkeypatch):
    from recsys_cli.retrieval import autoregression

    window = window_of(cycles(seed=2))
    expected = fitted(kind, window)._arrays
    monkeypatch.setattr(autoregression.os, "cpu_count", lambda: 7)
    monkeypatch.setattr(gaps, "PAIRS_AT_ONCE", 50)
    for name, found in fitted(kind, window)._arrays.items():
        np.testing.assert_array_equal(found, expected[name])


def test_a_cycle_is_found_by_those_who_know_order_and_not_by_item_cosine():
    sequences = cycles()
    window = window_of(sequences)
    users, after = np.arange(len(sequences)), np.array([(s[-1] + 1) % 12 for s in sequences])

    def found(kind, **more) -> float:
        source = fitted(kind, window, exclude_seen=False, **more)
        return float((source.retrieve(window.state, users, 1)[0][:, 0] == after).mean())

    assert found("markov", query_decay=0.5) == 1
    assert found("sequential_rules", history=1) == 1
    assert found("linear_autoregressive", query_decay=0.2, past_decay=0.3, future=1, regularisation=1) == 1
    assert found("item_neighbours") < 0.5


def test_a_catalogue_too_large_is_cut_to_the_items_in_use_and_said():
    said = Said()
    sequences = [[0, 1, 2, 0, 1, 2, 3], [1, 0, 2, 1, 0, 4]]
    source = fitted("linear_autoregressive", window_of(sequences), said, exact_up_to=3, exclude_seen=False)
    assert "of 5 items the 3 with most interactions" in " ".join(said.lines)
    items = source.retrieve(window_of(sequences).state, np.array([0, 1]), 5)[0]
    assert set(items[items >= 0].tolist()) == {0, 1, 2}
    small = fitted("linear_autoregressive", window_of([[0, 1, 2, 0, 1, 2], [1, 0, 2, 1, 0]]))
    np.testing.assert_allclose(weights_of(source)[:3, :3], weights_of(small), atol=1e-7)


def test_events_of_one_moment_are_in_the_order_of_their_rows_and_it_is_said_once():
    said = Said()
    window = window_of([[0, 1, 2], [0, 1, 2]], spacing=0)
    rows = window.log.take(np.array([2, 0, 1, 5, 3, 4]))
    window = type(window)(None, window.catalogue, rows, window.end, window.state)
    source = fitted("markov", window, said, gaps=1, smoothing=0, popularity_exponent=0)
    assert weights_of(source).tolist() == [[0, 1, 0], [0, 0, 0], [1, 0, 0]]
    assert len(said.lines) == 1 and "at one moment" in said.lines[0]
    said = Said()
    fitted("markov", window_of([[0, 1], [2, 0]]), said)
    assert not said.lines


def test_times_that_run_backwards_are_put_in_order():
    window = window_of([[0, 1, 2]])
    log = window.log
    backwards = type(window)(None, window.catalogue, log.take(np.array([2, 0, 1])), window.end, window.state)
    assert ordered_histories(backwards, Progress(), "").values.tolist() == [0, 1, 2]


@pytest.mark.parametrize("kind", ORDERED)
def test_people_with_one_event_and_a_catalogue_of_one_item(kind):
    window = window_of([[0], [0]])
    assert make(SOURCES[kind].config_type()).missing(window) == "needs people with more than one interaction"
    items, _ = fitted(kind, window).retrieve(window.state, np.array([0, 1, -1]), 2)
    assert (items == -1).all()
    window = window_of([[0, 0, 0]])
    assert make(SOURCES[kind].config_type()).missing(window) is None
    assert fitted(kind, window, exclude_seen=False).retrieve(window.state, np.array([0]), 2)[0].tolist() == [[0, -1]]


def test_the_reason_is_the_event_that_leads_there():
    window = window_of([[0, 1], [0, 1], [2, 3], [2, 3], [0, 2]])
    source = fitted("markov", window, popularity_exponent=0)
    reasons = source.explain(window.state, 4, np.array([1, 3, 0]))
    assert [(r.kind, r.refers_to) for r in reasons] == [("similar", 0), ("similar", 2), ("taste", -1)]
