"""Interleaved lists and the test of a preference."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import linprog

from recsys_cli.experiments.config import ExperimentConfig
from recsys_cli.experiments.interleaving import mix, preferences, team_draft, users_needed
from recsys_cli.experiments.optimised import programme


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


@given(st.integers(1, 6), st.integers(0, 6), st.integers(0, 10_000))
def test_optimised_lists_take_the_best_left_and_credit_clicks_at_random_as_little_as_can_be(n, shared, seed):
    rng = np.random.default_rng(seed)
    first = rng.permutation(50)[:n]
    second = rng.permutation(np.concatenate([first[: min(shared, n)], 50 + np.arange(max(n - shared, 0))]))
    place = {int(item): rank for rank, item in enumerate(first)}
    pattern = tuple(place.get(int(item), n + rank) for rank, item in enumerate(second))
    shown, chances = programme(n, pattern, n)
    assert chances.sum() == pytest.approx(1) and (chances >= 0).all()
    behind = n + 1
    gaps = []
    for row in shown:
        mine, theirs = list(range(n)), list(pattern)
        for item in row:
            assert item in {next(i for i in mine), next(i for i in theirs)}
            mine, theirs = ([i for i in side if i != item] or [item] for side in (mine, theirs))
        rank = [(i + 1 if i < n else behind, pattern.index(i) + 1 if i in pattern else behind) for i in row]
        gaps.append(np.cumsum([1 / b - 1 / a for a, b in rank]))
    # whoever clicks at random down to any place credits neither, or as little as any mix of these lists does
    unfair = np.array(gaps).T
    cost = np.append(np.zeros(len(shown)), np.ones(2 * n))
    chance = np.append(np.ones(len(shown)), np.zeros(2 * n))
    conditions = np.vstack([np.hstack([unfair, np.eye(n), -np.eye(n)]), chance])
    least = linprog(cost, A_eq=conditions, b_eq=np.append(np.zeros(n), 1.0)).fun
    assert np.abs(unfair @ chances).sum() == pytest.approx(least, abs=1e-9)


def test_an_optimised_mix_shows_the_items_of_its_rankings_and_credits_the_inverse_of_their_ranks():
    rng = np.random.default_rng(0)
    lists = np.stack([[rng.permutation(8)[:4] for _ in range(50)] for _ in range(2)]).astype(np.int32)
    lists[1, 0, 1:] = -1
    items, credits = mix("optimised", lists, 4, rng)
    for row in range(50):
        shown = items[row][items[row] >= 0]
        assert len(set(shown.tolist())) == len(shown) == min(4, len(set(lists[:, row].ravel().tolist()) - {-1}))
        for v in range(2):
            ranking = [i for i in lists[v, row].tolist() if i >= 0]
            ranks = [ranking.index(i) + 1 if i in ranking else len(ranking) + 1 for i in shown]
            assert credits[row, : len(shown), v] == pytest.approx([1 / r for r in ranks])


def test_optimised_interleaving_tells_the_better_ranking_and_nothing_where_both_are_alike():
    def people(seed, better):
        rng = np.random.default_rng(seed)
        lists = np.stack([[rng.permutation(6)[:3] for _ in range(60)] for _ in range(2)]).astype(np.int32)
        items, credits = mix("optimised", lists, 3, rng)
        likes = rng.random(items.shape) < 0.2
        if better:  # what the second ranks first is liked more
            likes |= (items == lists[1, :, :1]) & (rng.random(items.shape) < 0.4)
        return (likes[:, :, None] * credits).sum(axis=1)

    assert preferences(people(1, True), ["a", "b"], 0.05)[0].low > 0
    found = [preferences(people(seed, False), ["a", "b"], 0.05)[0].p_value < 0.05 for seed in range(100)]
    assert np.mean(found) < 0.12


def test_optimised_mixes_two_rankings_only():
    with pytest.raises(ValueError, match="mixes two rankings, not 3"):
        mix("optimised", np.zeros((3, 1, 2), np.int32), 2, np.random.default_rng(0))
    three = {"name": "x", "variants": {"a": {}, "b": {}, "c": {}}, "interleave": "optimised"}
    with pytest.raises(ValueError, match="optimised mixes two variants"):
        ExperimentConfig.model_validate(three)


def test_people_who_all_say_the_same_are_counted_by_their_signs():
    found = preferences(np.tile([0.0, 3.0], (12, 1)), ["a", "b"], 0.05)[0]
    assert found.p_value == pytest.approx(2 * 0.5**12) and users_needed(found.effect, 0.05, 0.8) == 2
    assert preferences(np.tile([0.0, 3.0], (4, 1)), ["a", "b"], 0.05)[0].p_value > 0.05
    assert preferences(np.ones((12, 2)), ["a", "b"], 0.05)[0].p_value == 1
