"""Transitions and linear autoregression against hand-worked cases and direct solutions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planted import NOW, make_catalogue, make_log, make_window
from sklearn.linear_model import Ridge

from recsys_cli.data.ragged import Ragged
from recsys_cli.errors import RecsysError
from recsys_cli.progress import Progress
from recsys_cli.retrieval.registry import SOURCES, make
from recsys_cli.retrieval.sequential import gaps
from recsys_cli.retrieval.sequential.autoregression import Unknowns, _even, past_weights, ridge
from recsys_cli.retrieval.sequential.gaps import decayed, gap_sums, ordered_histories

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
    """The maps of all memories as one matrix, one below the other."""
    offsets, columns, weights, known = (source._arrays[name] for name in source.parts)
    out = np.zeros((len(offsets) - 1, len(known)))
    out[np.repeat(np.arange(len(out)), np.diff(offsets)), columns] = weights
    return out


def cycles(users=60, items=12, length=6, seed=0):
    """Everybody goes along one circle of items, each from a place of their own."""
    rng = np.random.default_rng(seed)
    return [[int(x) for x in (rng.integers(items) + np.arange(length)) % items] for _ in range(users)]


lists = st.lists(st.lists(st.integers(0, 5), max_size=9), min_size=1, max_size=5)


@given(lists, st.integers(1, 4), st.integers(0, 1), st.integers(1, 3))
@settings(max_examples=60, deadline=None)
def test_gap_sums_are_those_of_a_loop_over_pairs(sequences, n_gaps, first, rests):
    tables, scale = np.random.default_rng(0).random((2, n_gaps, rests)), 1.0 + np.arange(len(sequences))
    expected, timed = np.zeros((2, 6, 6)), np.zeros((2, 6, 6))
    moments = [np.sort(np.random.default_rng(u).integers(0, 50, len(s))) for u, s in enumerate(sequences)]
    for u, s in enumerate(sequences):
        for a in range(len(s)):
            for g in range(n_gaps):
                if a + first + g < len(s):
                    more = scale[u] * tables[:, g, min(len(s) - 1 - a, rests - 1)]
                    expected[:, s[a], s[a + first + g]] += more
                    timed[:, s[a], s[a + first + g]] += more * 0.5 ** ((moments[u][a + first + g] - moments[u][a]) / 9)
    offsets = np.concatenate([[0], np.cumsum([len(s) for s in sequences])]).astype(np.int64)
    histories = Ragged(offsets, np.array([i for s in sequences for i in s], np.int32))
    before, gaps.PAIRS_AT_ONCE = gaps.PAIRS_AT_ONCE, 7
    try:
        found = list(gap_sums(histories, list(tables), first, 6, scale))
        faded = list(gap_sums(histories, list(tables), first, 6, scale, np.concatenate(moments), 9))
    finally:
        gaps.PAIRS_AT_ONCE = before
    assert [start for start, _ in found] == list(np.cumsum([0] + [m[0].shape[0] for _, m in found])[:-1])
    for table in (0, 1):
        rows = np.concatenate([m[table].toarray() for _, m in found])
        np.testing.assert_allclose(rows, expected[table], atol=1e-12)
        rows = np.concatenate([m[table].toarray() for _, m in faded])
        np.testing.assert_allclose(rows, timed[table], atol=1e-12)


def test_transitions_by_hand():
    settings = {"gaps": 2, "gap_decay": 0.5, "smoothing": 1, "popularity_exponent": -1}
    source = fitted("markov", window_of([[0, 1, 2], [0, 2]]), **settings)
    # 0 → 1 once next to it; 0 → 2 once next to it and once over a gap of two; 1 → 2 once
    expected = np.array([[0, 1 / 3.5, 1.5 / 3.5 / 2], [0, 0, 1 / 2 / 2], [0, 0, 0]])
    np.testing.assert_allclose(weights_of(source), expected, rtol=1e-6)
    rules = fitted("sequential_rules", window_of([[0, 1, 2]]), gaps=2)
    np.testing.assert_allclose(weights_of(rules), [[0, 2 / 3, 1 / 3], [0, 0, 1], [0, 0, 0]], rtol=1e-6)


def test_what_follows_days_later_counts_less_where_intervals_are_weighed():
    settings = {"gaps": 2, "gap_decay": 0.5, "smoothing": 1, "popularity_exponent": 0, "interval_half_life_days": 2}
    source = fitted("markov", window_of([[0, 1, 2]], spacing=2 * 86_400 * SECOND), **settings)
    # over two days half, over four a quarter, beside half for the longer gap
    expected = np.array([[0, 0.5 / 1.625, 0.125 / 1.625], [0, 0, 0.5 / 1.5], [0, 0, 0]])
    np.testing.assert_allclose(weights_of(source), expected, rtol=1e-6)


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


def test_time_makes_the_older_events_of_a_query_count_less():
    window = window_of([[0, 1, 2], [2, 1, 0]], spacing=86_400 * SECOND)
    source = fitted("markov", window, query_decay=0.9, half_life_days=2)
    weights = weights_of(source)
    by_time = weights[2] + 0.9 * 2**-0.5 * weights[1] + 0.81 / 2 * weights[0]
    expected = by_time / (1 + 0.9 * 2**-0.5 + 0.81 / 2)
    np.testing.assert_allclose(source.rows(window.state, np.array([0]))[0][0], expected, rtol=1e-6)
    # who is asked for beside changes nothing, and lists of items have no times
    np.testing.assert_array_equal(
        source.rows(window.state, np.array([1, 0]))[0][1], source.rows(window.state, np.array([0]))[0][0]
    )
    untimed = (weights[2] + 0.9 * weights[1] + 0.81 * weights[0]) / 2.71
    np.testing.assert_allclose(source.fold_in([np.array([0, 1, 2])])[0], untimed, rtol=1e-6)


def ridge_rows(sequences, n, past, decays, future, future_decay, exponent):
    """(X, Y, S, weight) of every row of the regression, by loops."""
    x, y, both, weight = [], [], [], []
    for s in sequences:
        for t in range(len(s) - 1):
            row, target = np.zeros((len(decays), n)), np.zeros(n)
            for back, i in enumerate(s[t::-1][:past]):
                row[:, i] += [decay**back for decay in decays]
            for ahead, i in enumerate(s[t + 1 : t + 1 + future]):
                target[i] += future_decay**ahead
            x.append(row.ravel())
            y.append(target)
            both.append(row.mean(axis=0))
            weight.append(len(s) ** (-2.0 * exponent))
    events = np.array([len(s) for s in sequences], float)
    mean = (events ** (1 - 2 * exponent)).sum() / events.sum()
    return np.array(x), np.array(y), np.array(both), np.array(weight) / mean


@pytest.mark.parametrize("decays", [(1.0,), (0.8,), (0.8, 0.3)])
@pytest.mark.parametrize(("set_weight", "exponent", "exclude_seen"), [(0.0, 0.0, False), (0.3, 0.2, True)])
def test_the_closed_form_is_the_ridge_of_scikit_learn(decays, set_weight, exponent, exclude_seen):
    rng = np.random.default_rng(3)
    n, past = 7, 4
    sequences = [rng.integers(0, n, rng.integers(2, 12)).tolist() for _ in range(30)]
    x, y, s, weight = ridge_rows(sequences, n, past, decays, 3, 0.9, exponent)
    # a penalty of λ‖kernel‖ for each memory is one of λ once its columns are divided by the root
    norms = np.repeat([np.sqrt(np.sqrt((decayed(d, past) ** 2).sum())) for d in decays], n)
    source = fitted(
        "linear_autoregressive", window_of(sequences, n), past=past, past_decay=decays[0], future=3, future_decay=0.9,
        recent_decay=decays[1] if len(decays) > 1 else None, l2=5.0, set_weight=set_weight,
        user_exponent=exponent, popularity_exponent=0, exclude_seen=exclude_seen, neighbours=None,
    )  # fmt: skip
    found, target = weights_of(source), (1 - set_weight) * y + set_weight * s
    for item in range(n):
        others = np.tile(np.arange(n) != item, len(decays)) | (not exclude_seen)
        ridge = Ridge(alpha=5.0, fit_intercept=False).fit((x / norms)[:, others], target[:, item], weight)
        np.testing.assert_allclose(found[others, item], ridge.coef_ / norms[others], atol=3e-5)
        np.testing.assert_allclose(found[~others, item], 0, atol=1e-6)


def test_a_regression_without_a_solution_says_what_to_raise():
    with pytest.raises(RecsysError, match="no solution") as refused:
        ridge(np.zeros((3, 3), np.float32), np.ones((3, 3), np.float32), [])
    assert "`l2`" in refused.value.hint


def test_both_memories_are_asked_each_with_its_decay():
    source = fitted("linear_autoregressive", window_of(cycles()), past_decay=0.9, recent_decay=0.5, history=2)
    weights, n = weights_of(source), 12
    far, near = weights[:n], weights[n:]
    expected = (far[2] + 0.9 * far[1] + near[2] + 0.5 * near[1]) / (1.9 + 1.5)
    np.testing.assert_allclose(source.fold_in([np.array([0, 1, 2])])[0], expected, rtol=1e-5, atol=1e-7)


def test_popularity_multiplies_the_scores_and_an_even_weight_of_users_is_one():
    window = window_of([*cycles(), [0, 1, 0, 2]])
    plain, tempered = (
        weights_of(fitted("linear_autoregressive", window, popularity_exponent=p)) for p in (0.0, -0.5)
    )
    count = np.bincount(window.interactions[1], minlength=12)
    np.testing.assert_allclose(tempered, plain * count**-0.5, rtol=1e-5)
    lengths = np.array([3, 0, 12, 1])
    assert _even(lengths, 0.0).tolist() == [1, 1, 1, 1]
    even = _even(lengths, 0.5)
    assert even[0] / even[2] == pytest.approx(4) and (even * lengths).sum() == pytest.approx(lengths.sum())


def test_weights_of_pairs_by_hand():
    # two events next to each other, two more after them: rows as of the second and the third event, not of the last
    half = decayed(0.5, 3)
    assert past_weights(half, half)[1, 3] == pytest.approx(0.5 * 1 + 0.25 * 0.5)
    assert past_weights(half, half)[0].tolist() == [0, 0.5, 0.625, 0.65625]
    assert past_weights(half, decayed(0.1, 3))[1, 3] == pytest.approx(0.5 * 1 + 0.25 * 0.1)


def test_unknowns_beyond_the_most_are_those_of_the_fewest_interactions_and_of_the_recent_memory():
    assert Unknowns.within(12, 5, 1) == Unknowns(5, 0) and Unknowns.within(12, 20, 1) == Unknowns(12, 0)
    assert Unknowns.within(12, 6, 2) == Unknowns(6, 6)
    assert Unknowns.within(12, 8, 2) == Unknowns(8, 4)
    assert Unknowns.within(12, 20, 2) == Unknowns(9, 3)
    for known in (Unknowns(6, 6), Unknowns(8, 4), Unknowns(5, 0)):
        rows = np.concatenate([known.rows(0), known.rows(1)])
        assert sorted(rows.tolist()) == list(range(len(known)))


@pytest.mark.parametrize("kind", ORDERED)
def test_threads_and_blocks_change_no_bit(kind, monkeypatch):
    from recsys_cli.retrieval.sequential import autoregression

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
    assert found("linear_autoregressive", past_decay=0.2, recent_decay=None, future=1, l2=1) == 1
    assert found("item_neighbours") < 0.5


def test_a_catalogue_too_large_is_cut_to_the_items_in_use_and_said():
    said = Said()
    sequences = [[0, 1, 2, 0, 1, 2, 3], [1, 0, 2, 1, 0, 4]]
    more = {"exact_up_to": 4, "exclude_seen": False, "popularity_exponent": 0}
    source = fitted("linear_autoregressive", window_of(sequences), said, **more)
    assert "of 5 items the 3 with most interactions take part, 1 of them in the recent memory" in " ".join(said.lines)
    items = source.retrieve(window_of(sequences).state, np.array([0, 1]), 5)[0]
    assert set(items[items >= 0].tolist()) == {0, 1, 2}
    assert np.flatnonzero(weights_of(source).any(axis=1)).tolist() == [0, 1, 2, 5]
    alone = {**more, "recent_decay": None, "exact_up_to": 3}
    cut = fitted("linear_autoregressive", window_of(sequences), **alone)
    small = fitted("linear_autoregressive", window_of([[0, 1, 2, 0, 1, 2], [1, 0, 2, 1, 0]]), **alone)
    np.testing.assert_allclose(weights_of(cut)[:3, :3], weights_of(small), atol=1e-7)


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
    histories, times = ordered_histories(backwards, Progress(), "")
    assert histories.values.tolist() == [0, 1, 2] and (np.diff(times) > 0).all()


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
