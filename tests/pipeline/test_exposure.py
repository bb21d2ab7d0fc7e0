"""Fairness and debiasing: shares over many requests, guaranteed slots, the long tail."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planted_states import follows_of

from recsys_cli.pipeline.added import KINDS
from recsys_cli.pipeline.allocation import FIRST, allot, at_least, in_expectation, in_shares
from recsys_cli.pipeline.debiasing.long_tail import tail
from recsys_cli.pipeline.debiasing.popularity_correction import PopularityCorrection, PopularityCorrectionConfig
from recsys_cli.pipeline.fairness.exposure import Exposure, ExposureConfig, merit, repaid
from recsys_cli.pipeline.fairness.minimum_exposure import cold

COUNTRIES = ["at", "be", "ch"]


def world(make, groups, shown=()):
    """(bundle, state): item i is written by author i, who lives in country groups[i]."""
    n = len(groups)
    catalogue = make.catalogue(list(range(n)), users=n)
    names = {**catalogue.names, "user.country": COUNTRIES}
    catalogue = replace(catalogue, user_codes={"country": np.array(groups, np.int32)}, names=names)
    state = make.state(catalogue, shown=shown)
    return SimpleNamespace(catalogue=catalogue, state=state), state


def exposure(make, groups, shares, requests, size=10, weights=None, **settings):
    """Share of the exposure of each country over so many requests for the same person."""
    bundle, state = world(make, groups)
    stage = Exposure(ExposureConfig(by="country", shares=shares, **settings))
    assert stage.prepare(bundle) is None
    weights = np.ones(size) if weights is None else weights
    total, ranking = np.zeros(len(COUNTRIES)), list(range(len(groups)))
    for request in range(requests):
        out = stage(make.query(state, [3], size=size, salt=request), make.candidates([ranking]))
        np.add.at(total, np.array(groups)[out.items[0, :size]], weights)
    return total / total.sum(), stage


@pytest.mark.parametrize("weights", [np.ones(10), 1 / np.log2(np.arange(2, 12))], ids=["alike", "by position"])
def test_shares_of_exposure_are_met_within_a_point_over_a_thousand_requests(make, weights):
    groups = [0] * 60 + [1] * 30 + [2] * 10
    wanted = {"at": 0.25, "be": 0.55, "ch": 0.2}
    found, _ = exposure(make, groups, wanted, 1000, weights=weights)
    assert np.abs(found - [0.25, 0.55, 0.2]).max() < 0.01


def test_a_group_that_is_not_named_has_what_is_left(make):
    found, _ = exposure(make, [0] * 60 + [1] * 30 + [2] * 10, {"ch": 0.3}, 1000)
    assert abs(found[2] - 0.3) < 0.01 and found[1] < 0.01  # the rest comes by the ranking, where all at are above


def test_a_share_that_cannot_be_met_is_met_as_far_as_there_are_candidates(make):
    found, stage = exposure(make, [0] * 30 + [2] * 3, {"ch": 0.9, "be": 0.1}, 200)
    assert found[2] == pytest.approx(0.3) and found[0] == pytest.approx(0.7)
    assert stage.notes == ("stage : nobody here is in be, whose share goes to whatever comes first",)


def test_merit_is_what_is_interacted_with_when_it_is_shown(make):
    shown = [(0, 0, True)] * 60 + [(0, 1, False)] * 60 + [(0, 2, True)] * 15 + [(0, 2, False)] * 15
    bundle, state = world(make, [0, 1, 2], shown)
    overall = 75 / 150
    expected = [(60 + 20 * overall) / 80, 20 * overall / 80, (15 + 20 * overall) / 50]
    assert merit(state) == pytest.approx(expected)
    stage = Exposure(ExposureConfig(by="country", shares="merit"))
    stage.prepare(bundle)
    assert stage._facts(state)[1] == pytest.approx(np.array(expected) / sum(expected))


def test_groups_by_followers_are_called_by_their_lower_bound(make):
    catalogue = make.catalogue([0, 1, 2, -1], users=6)
    follows = follows_of({3: [0, 1], 4: [0], 5: [0]}, 6)
    state = replace(make.state(catalogue), follows=follows, author_followers=np.array([3, 1, 0, 0, 0, 0], np.int32))
    stage = Exposure(ExposureConfig(bounds=[1, 3], shares={"0": 0.5, "3": 0.5}))
    assert stage.prepare(SimpleNamespace(catalogue=catalogue, state=state)) is None
    groups, targets = stage._facts(state)
    assert groups.tolist() == [2, -1, 0, -1] and targets.tolist() == [0.5, 0, 0.5]


def test_what_a_group_had_too_much_of_is_made_good_within_the_horizon():
    wanted, shown = np.array([0.5, 0.5]), np.array([800.0, 200.0])
    ahead = repaid(wanted, shown, 1000, 1000)
    assert shown + 1000 * ahead == pytest.approx([1000, 1000])
    assert repaid(wanted, shown, 1000, 100).tolist() == [0.0, 1.0]  # as far as can be


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(-1, 2), min_size=1, max_size=30), st.integers(0, 5), st.integers(1, 8))
def test_slots_given_out_are_a_permutation_and_keep_the_order_within_a_group(make, groups, seed, length):
    n = len(groups)
    rng = np.random.default_rng(seed)
    candidates = make.candidates([rng.permutation(n).tolist(), [-1] * n])
    marked = np.where(candidates.items >= 0, np.array(groups)[candidates.items], -1)
    targets = rng.dirichlet(np.ones(4), 2)[:, :3]
    for need in (in_shares(targets), at_least(targets[0]), in_expectation(targets, rng.random(2))):
        out = allot(candidates, marked, 3, length, need)
        assert sorted(out.items[0].tolist()) == list(range(n)) and (out.items[1] == -1).all()
        place = {item: at for at, item in enumerate(candidates.items[0].tolist())}
        for group in range(3):
            head = [place[i] for i in out.items[0, :length].tolist() if groups[i] == group]
            assert head == sorted(head)


def test_every_position_is_for_each_group_as_often_as_its_target():
    targets = np.broadcast_to([0.1, 0.6], (20000, 2))
    need = in_expectation(targets, np.random.default_rng(1).random(20000))
    for slot in (0, 1, 7):
        group = need(slot, np.zeros((20000, 2)))
        rates = [np.mean(group == g) for g in (0, 1, -1)]
        assert np.abs(np.array(rates) - [0.1, 0.6, 0.3]).max() < 0.015


def test_a_slate_that_has_its_guaranteed_share_stays_as_it_is():
    need = at_least(np.array([0.2]))
    assert need(3, np.array([[0]])).tolist() == [FIRST] and need(4, np.array([[0], [1]])).tolist() == [0, FIRST]


def test_cold_items_have_their_share_of_the_slate(make):
    catalogue = make.catalogue([0] * 20 + [1] * 20)
    state = make.state(catalogue, shown=[(0, i, False) for i in range(20) for _ in range(60)])
    assert cold(state, "items", 50).tolist() == [False] * 20 + [True] * 20
    assert cold(state, "authors", 1201).tolist() == [True] * 40 and not cold(state, "authors", 1200)[:20].any()
    for kind, share, expected in (("minimum_exposure", 0.3, 3), ("minimum_exposure", 0.05, 0)):
        stage = KINDS[kind](KINDS[kind].config_type(share=share))
        out = stage(make.query(state, [0], size=10), make.candidates([list(range(40))]))
        assert (out.items[0, :10] >= 20).sum() == expected
    full = stage(make.query(state, [0], size=10), make.candidates([list(range(39, -1, -1))]))
    assert full.items[0].tolist() == list(range(39, -1, -1))


def test_the_head_is_the_fewest_items_with_most_of_the_interactions(make):
    counts = [5, 1, 12, 0, 2]  # 12 + 5 of 20 are the first above 80 %
    shown = [(0, i, True) for i, n in enumerate(counts) for _ in range(n)]
    assert tail(make.state(make.catalogue([-1] * 5), shown=shown), 0.8).tolist() == [False, True, False, True, True]
    stage = KINDS["long_tail"](KINDS["long_tail"].config_type(share=0.5))
    state = make.state(make.catalogue([-1] * 5), shown=shown)
    out = stage(make.query(state, [1], size=4), make.candidates([[2, 0, 1, 3, 4]]))
    assert out.items[0].tolist() == [2, 1, 0, 3, 4]


def test_popularity_is_taken_back_by_its_power(make):
    shown = [(0, 0, True)] * 9 + [(0, 1, True)]
    state = make.state(make.catalogue([-1] * 2), shown=shown)
    stage = PopularityCorrection(PopularityCorrectionConfig(popularity_exponent=0.5))
    out = stage(make.query(state, [1]), make.candidates([[0, 1]], utility=[[4.0, -3.0]]))
    assert out.scores["utility"][0] == pytest.approx([4 * (6 / 10) ** 0.5, -3 / (6 / 2) ** 0.5])
