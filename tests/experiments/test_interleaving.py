"""Interleaved lists and the test of a preference."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys_cli.experiments.interleaving import preferences, team_draft, users_needed


@given(st.integers(2, 4), st.integers(1, 6), st.integers(0, 10_000))
def test_mixed_lists_never_repeat_an_item_and_keep_each_sides_order(rankings, size, seed):
    rng = np.random.default_rng(seed)
    lists = np.stack([[rng.permutation(8)[:6] for _ in range(5)] for _ in range(rankings)]).astype(np.int32)
    lists[:, 0, rng.integers(0, 6):] = -1
    items, team = team_draft(lists, size, rng.random((5, size, rankings)))
    for row in range(5):
        shown = items[row][items[row] >= 0]
        assert len(set(shown.tolist())) == len(shown)
        assert len(shown) == min(size, len(set(lists[:, row].ravel().tolist()) - {-1}))
        for v in range(rankings):
            ranking = lists[v, row].tolist()
            places = [ranking.index(i) for i in items[row][team[row] == v]]
            assert places == sorted(places)
        # each picks its best that is left: what a ranking contributed comes after nothing better of it
        for slot, item in enumerate(shown):
            own = lists[team[row, slot], row].tolist()
            assert set(own[: own.index(item)]) <= set(items[row, :slot].tolist())


def test_two_equal_rankings_share_the_places_evenly():
    rng = np.random.default_rng(0)
    lists = np.broadcast_to(np.arange(5, dtype=np.int32), (2, 4000, 5)).copy()
    items, team = team_draft(lists, 5, rng.random((4000, 5, 2)))
    assert (items == np.arange(5)).all()
    assert np.abs((team == 0).mean(axis=0) - 0.5).max() < 0.03 and ((team[:, :2] == 0).sum(axis=1) == 1).all()


def test_one_person_by_hand():
    # the second ranking picks first, then each in turn: b, a, then a new round
    lists = np.array([[[1, 2, 3]], [[2, 1, 4]]], np.int32)
    draws = np.array([[[0.9, 0.1], [0, 0], [0.2, 0.8]]])
    items, team = team_draft(lists, 3, draws)
    assert items.tolist() == [[2, 1, 3]] and team.tolist() == [[1, 0, 0]]


def test_a_difference_that_is_none_is_found_as_often_as_alpha_says():
    rng = np.random.default_rng(0)
    found = [preferences(rng.poisson(1.0, (300, 2)).astype(float), ["a", "b"], 0.05)[0].p_value for _ in range(2000)]
    assert np.mean(np.array(found) < 0.05) == pytest.approx(0.05, abs=0.015)


def test_the_better_ranking_is_preferred_and_p_is_adjusted_for_all_pairs():
    rng = np.random.default_rng(0)
    found = preferences(rng.poisson([1.0, 1.0, 1.6], (500, 3)).astype(float), ["a", "b", "c"], 0.05)
    by_pair = {(p.a, p.b): p for p in found}
    assert by_pair["a", "c"].low > 0 and by_pair["b", "c"].p_adjusted < 0.001 < 0.05 < by_pair["a", "b"].p_adjusted
    assert by_pair["a", "c"].share_b == pytest.approx(1.6 / 2.6, abs=0.03)
    assert all(p.p_adjusted >= p.p_value for p in found)


def test_users_needed_are_the_textbooks():
    # two arms, an effect of half a standard deviation, 80 %: 126 (normal approximation)
    assert users_needed(0.5, 0.05, 0.8, arms=2) == 126
    assert users_needed(0.5, 0.05, 0.8) == 32 and users_needed(0, 0.05, 0.8) == np.inf
