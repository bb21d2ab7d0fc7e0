"""What people come back to and what stands in baskets: hand-worked cases, planted repeats and planted baskets."""

import dataclasses

import numpy as np
import pytest
from planted import DAY, NOW, make_catalogue, make_log, make_window

from recsys_cli.data.ragged import Ragged
from recsys_cli.pipeline.guest import with_guest
from recsys_cli.progress import Progress
from recsys_cli.retrieval.reason import Reason
from recsys_cli.retrieval.registry import SOURCES, make
from recsys_cli.retrieval.sequential import next_basket as module
from recsys_cli.retrieval.sequential.next_basket import baskets_of


def fitted(kind, window, **more):
    source = make(SOURCES[kind].config_type(**more))
    source.fit(window, Progress())
    return source


def window_of(people, n_items):
    """People are lists of baskets, a day apart, the last a day before NOW; what is in a basket is of one moment."""
    rows = [
        (u, i, NOW - (len(baskets) - at) * DAY) for u, baskets in enumerate(people) for at, b in enumerate(baskets)
        for i in b
    ]
    return make_window(make_catalogue(len(people), [-1] * n_items), make_log(rows))


def scores_of(source, state, user, n_items):
    return source.score(state, np.array([user]), np.arange(n_items)[None])[0]


def test_own_frequency_and_recency_by_hand():
    window = window_of([[[0, 1], [1], [2, 1], [0]]], 4)
    settings = {"group_size": 2, "within_decay": 0.5, "group_decay": 0.4, "own_share": 1.0}
    source = fitted("repeat_consumption", window, **settings)
    # newest first: 1, 0.5 | 0.4, 0.2
    expected = np.array([1 + 0.2, 0.5 + 0.4 + 0.2, 0.5, 0]) / 2.1
    np.testing.assert_allclose(scores_of(source, window.state, 0, 4), expected, rtol=1e-6)
    alone = source.fold_in([np.array([3, 3, 2])])[0]
    np.testing.assert_allclose(alone, np.array([0, 0, 1, 0.5 + 0.4]) / 1.9, rtol=1e-6)


def test_like_people_add_what_they_have_by_their_likeness():
    window = window_of([[[0], [1]], [[0], [2]], [[1], [3]], [[4]]], 5)
    flat = {"within_decay": 1.0, "group_decay": 1.0}
    source = fitted("repeat_consumption", window, own_share=0.6, **flat)
    # both others share one of two items; nobody is like somebody who shares nothing
    np.testing.assert_allclose(
        scores_of(source, window.state, 0, 5), [0.3 + 0.4 * 0.25, 0.3 + 0.4 * 0.25, 0.1, 0.1, 0], rtol=1e-6
    )
    np.testing.assert_allclose(scores_of(source, window.state, 3, 5), [0, 0, 0, 0, 0.6], rtol=1e-6)
    one = fitted("repeat_consumption", window, own_share=0.6, neighbours=1, **flat)
    np.testing.assert_allclose(scores_of(one, window.state, 0, 5)[3], 0, atol=1e-9)


def test_new_events_count_at_once_and_reasons_say_what_is_old():
    window = window_of([[[0], [1]], [[0], [2]]], 4)
    source = fitted("repeat_consumption", window, exclude_seen=False)
    state = with_guest(window.state, np.array([3, 0]))
    items, _ = source.retrieve(state, np.array([2]), 4)
    assert items[0, :2].tolist() == [0, 3] and set(items[0].tolist()) == {0, 1, 2, 3}
    assert source.explain(state, 2, np.array([3, 2])) == [Reason("again", 3), Reason("taste")]
    assert 3 not in fitted("repeat_consumption", window).retrieve(state, np.array([2]), 4)[0]


def test_vectors_in_blocks_are_those_of_one_block(monkeypatch):
    rng = np.random.default_rng(0)
    window = window_of([[rng.integers(0, 9, 3).tolist() for _ in range(rng.integers(0, 5))] for _ in range(30)], 9)
    whole = fitted("repeat_consumption", window)
    monkeypatch.setattr("recsys_cli.retrieval.sequential.repeat_consumption.AT_ONCE", 7)
    blocks = fitted("repeat_consumption", window)
    for name in whole.parts:
        np.testing.assert_array_equal(whole._arrays[name], blocks._arrays[name])


def test_a_planted_weekly_repeat_is_found_by_the_repeat_source_and_by_no_set():
    """Everybody takes three things of their own every week, and on every day something else that is popular."""
    rng = np.random.default_rng(2)
    people, items, weeks = 80, 300, 8
    popular = 1 / np.arange(1, items + 1)
    weekly = np.array([rng.choice(items, 3, replace=False) for _ in range(people)])
    rows = []
    for user in range(people):
        for day in range(7 * weeks):
            taken = rng.choice(items, 2, p=popular / popular.sum()).tolist()
            taken += weekly[user][[day % 7 == d for d in (1, 3, 5)]].tolist()
            rows += [(user, int(i), NOW - (7 * weeks - day) * DAY) for i in set(taken)]
    window = make_window(make_catalogue(people, [-1] * items), make_log(rows))

    def found(kind, **more):
        lists = fitted(kind, window, exclude_seen=False, **more).retrieve(
            window.state, np.arange(people, dtype=np.int32), 10)[0]
        return np.mean([np.isin(mine, row).mean() for mine, row in zip(weekly, lists, strict=True)])

    repeats = found("repeat_consumption", group_size=7, within_decay=1.0, group_decay=0.9)
    assert repeats > 0.8 and found("repeat_consumption") > 0.5
    assert found("popularity") < 0.2 and found("item_neighbours") < 0.5


def map_of(source):
    """(T, C) of next_basket as matrices."""
    n = len(source)
    out = np.zeros((2 * n, n))
    arrays = source._arrays
    out[np.repeat(np.arange(2 * n), np.diff(arrays["offsets"])), arrays["columns"]] = arrays["weights"]
    return out[:n], out[n:]


def test_transitions_between_baskets_and_complements_by_hand():
    people = [[[0, 1], [2], [0, 3]], [[1], [2, 3]]]
    source = fitted(
        "next_basket", window_of(people, 4), basket="moment", steps=2, step_decay=0.5, smoothing=1,
        popularity_exponent=0,
    )  # fmt: skip
    after, beside = map_of(source)
    # 0: half of {2} next, a quarter of {0, 3} after; 1: the same, and {2, 3}; 2: {0, 3}; 3: nothing follows
    expected = np.array([[0.25, 0, 0.5, 0.25], [0.25, 0, 1.5, 1.25], [1, 0, 0, 1], [0, 0, 0, 0]])
    np.testing.assert_allclose(after, expected / (expected.sum(1, keepdims=True) + 1), rtol=1e-6)
    pairs = np.array([[0, 1, 0, 1], [1, 0, 0, 0], [0, 0, 0, 1], [1, 0, 1, 0]])
    np.testing.assert_allclose(beside, pairs / (pairs.sum(1, keepdims=True) + 1), rtol=1e-6)


def test_a_query_is_the_decayed_mean_over_baskets_with_what_goes_with_the_latest():
    window = window_of([[[0, 1], [2], [0, 3]], [[1], [2, 3]], [[3, 1]]], 4)
    source = fitted("next_basket", window, basket="moment", query_decay=0.5, complement_share=0.2)
    after, beside = map_of(source)
    mine = (after[[0, 3]].mean(0) + 0.5 * after[2] + 0.25 * after[[0, 1]].mean(0)) / 1.75
    expected = 0.8 * mine + 0.2 * beside[[0, 3]].mean(0)
    np.testing.assert_allclose(scores_of(source, window.state, 0, 4), expected, rtol=1e-5)
    given = source.fold_in([np.array([3, 1, 3]), np.array([], int)])
    np.testing.assert_allclose(given[0], 0.2 * after[[1, 3]].mean(0) + 0.8 * beside[[1, 3]].mean(0), rtol=1e-5)
    assert not given[1].any()
    guest = scores_of(source, with_guest(window.state, np.array([3, 1])), 3, 4)
    np.testing.assert_allclose(guest, given[0], rtol=1e-6)  # what is given with a request is one open basket


def test_baskets_are_requests_moments_or_sessions():
    window = window_of([[[0, 1], [2, 3]], [[1, 2], [0, 3]]], 4)
    assert len(baskets_of(window, "auto")) == 4 and baskets_of(window, "auto").gap == 0
    orders = dataclasses.replace(window.log, request=np.array([1, 1, 2, 2, 1, 1, 2, 2]))
    named = dataclasses.replace(window, log=orders)
    found = baskets_of(named, "auto")
    assert [found.items[b].tolist() for b in range(len(found))] == [[0, 1, 2, 3], [1, 2, 0, 3]]
    assert found.gap == pytest.approx(DAY, rel=0.05)  # what is within baskets of the log is one basket when asked
    impressions = dataclasses.replace(window.log, request=np.arange(8))
    assert baskets_of(dataclasses.replace(window, log=impressions), "auto").gap == 0
    assert make(SOURCES["next_basket"].config_type(basket="session")).missing(window) == "needs session_id"


def test_blocks_of_items_change_no_bit(monkeypatch):
    rng = np.random.default_rng(0)
    window = window_of([[rng.integers(0, 9, 3).tolist() for _ in range(4)] for _ in range(30)], 9)
    whole = fitted("next_basket", window)
    monkeypatch.setattr(module, "PAIRS_AT_ONCE", 5)
    blocks = fitted("next_basket", window)
    for name in whole.parts:
        np.testing.assert_array_equal(whole._arrays[name], blocks._arrays[name])


def test_a_planted_chain_of_baskets_is_found():
    """Whoever takes both of a pair takes both of the next pair a day later; 20 pairs in a circle."""
    rng = np.random.default_rng(1)
    people = []
    for _ in range(60):
        start = int(rng.integers(20))
        people.append([[2 * ((start + d) % 20), 2 * ((start + d) % 20) + 1] for d in range(5)])
    window = window_of(people, 40)
    users = np.arange(60, dtype=np.int32)
    wanted = Ragged(np.arange(0, 121, 2), np.array([[b[-1][1] + 1, b[-1][1] + 2] for b in people]).ravel() % 40)
    items = fitted("next_basket", window).retrieve(window.state, users, 2)[0]
    assert np.mean([set(row) == set(wanted[u]) for u, row in enumerate(items.tolist())]) == 1
    cosine = fitted("item_neighbours", window).retrieve(window.state, users, 2)[0]
    assert np.mean([set(row) == set(wanted[u]) for u, row in enumerate(cosine.tolist())]) < 0.7
    reason = fitted("next_basket", window).explain(window.state, 0, items[0])
    assert all(r.kind == "similar" and r.refers_to in people[0][-1] + people[0][-2] for r in reason)
    assert pytest.approx(1) == fitted("next_basket", window)._weighted(
        *fitted("next_basket", window)._baskets(window.state, users[:1]))[2].sum()
