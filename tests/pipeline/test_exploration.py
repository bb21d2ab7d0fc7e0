"""Exploration: what is drawn has the probability that is told, strategies learn, new items get their turn."""

from dataclasses import replace
from itertools import permutations
from typing import Literal

import numpy as np
import pytest
from scipy import stats

from recsys_cli.data.schema import DAY
from recsys_cli.data.state import State
from recsys_cli.engine import RecommendationEngine
from recsys_cli.errors import ConfigError
from recsys_cli.pipeline.config import ExplorationConfig, PipelineConfig
from recsys_cli.pipeline.exploration.explore import Explore
from recsys_cli.pipeline.exploration.feedback import ENOUGH, Learned, learned
from recsys_cli.pipeline.exploration.lift import Lift
from recsys_cli.pipeline.exploration.linear_features import NUMBERS, WIDTH, linear_features
from recsys_cli.pipeline.exploration.linear_model import LinearModel
from recsys_cli.pipeline.exploration.newcomers import BoostNewcomers
from recsys_cli.pipeline.exploration.registry import STRATEGIES
from recsys_cli.pipeline.exploration.rewards import reward_of, with_feedback
from recsys_cli.pipeline.exploration.strategy import normal_draws
from recsys_cli.pipeline.stage import StageConfig
from recsys_cli.testing.planted_bundle import PLANTED_SOURCES, planted_bundle
from recsys_cli.testing.stage import check_stage

RATES = np.array([0.1, 0.2, 0.35, 0.6])
ALL = sorted(set(STRATEGIES) - {"learned_policy"})  # which needs a table; see off_policy


def arms(make, n_users=40, shown=()):
    """A state of four items, each of a media type of its own, by an author of its own."""
    catalogue = make.catalogue([0, 1, 2, 3], users=n_users)
    codes = {"media_type": np.arange(4, dtype=np.int32)}
    return make.state(replace(catalogue, item_codes=codes), shown)


def explorer(strategy, **more):
    return Explore(ExplorationConfig(enabled=True, strategy=strategy, **more))


def asked(make, state, users, size, utility=(0.4, 0.3, 0.2, 0.1), **more):
    candidates = make.candidates([list(range(4))] * len(users), utility=[list(utility)] * len(users))
    return make.query(state, users, size=size, **more), candidates


def taught(state, rounds=60, seed=0):
    """The state after impressions of all four items, taken at their rates."""
    rng = np.random.default_rng(seed)
    users, items = np.arange(rounds), np.tile(np.arange(4, dtype=np.int32), (rounds, 1))
    click = rng.random(items.shape) < RATES
    utility = np.tile(np.float32([0.4, 0.3, 0.2, 0.1]), (rounds, 1))
    users = users % state.catalogue.n_users
    return with_feedback(state, users, items, utility, {"click": click}, None, {"click": 1.0}, ("click",), ())


@pytest.mark.parametrize("strategy", ALL)
@pytest.mark.parametrize("epsilon", [0.3, 1.0])
def test_the_probabilities_of_all_slates_sum_to_one_and_slates_are_drawn_by_them(make, strategy, epsilon):
    state = taught(arms(make, n_users=4000))
    stage, slates = explorer(strategy, epsilon=epsilon), list(permutations(range(4), 3))
    query, candidates = asked(make, state, [0] * len(slates), 3)
    told = stage.propensities(query, candidates, np.array(slates)).prod(axis=1)
    assert told.sum() == pytest.approx(1, abs=1e-9)
    users = list(range(4000))
    query, candidates = asked(make, state, users, 3)
    if strategy in ("lin_ucb", "linear_thompson"):  # they tell users apart: compare each with what it was told itself
        out = stage(query, candidates)
        whole = out.scores["propensity"][:, :3].prod(axis=1)
        assert np.allclose(out.scores["slate_propensity"][:, 0], whole, rtol=1e-5)
        again = stage.propensities(query, candidates, out.items[:, :3].astype(np.int64))
        assert np.allclose(again, out.scores["propensity"][:, :3], rtol=1e-6)
        return
    out = stage(query, candidates)
    drawn = [tuple(row) for row in out.items[:, :3].tolist()]
    counts = np.array([drawn.count(slate) for slate in slates])
    possible = told > 1e-12
    assert counts[~possible].sum() == 0
    expected = told * len(users)
    usual = expected >= 5
    observed, foretold = counts[usual], expected[usual]
    if expected[~usual].sum() > 1:
        observed, foretold = np.append(observed, counts[~usual].sum()), np.append(foretold, expected[~usual].sum())
    if len(observed) > 1:
        assert stats.chisquare(observed, foretold * observed.sum() / foretold.sum()).pvalue > 1e-4
    places = {slate: at for at, slate in enumerate(slates)}
    assert np.allclose(out.scores["slate_propensity"][:, 0], [told[places[slate]] for slate in drawn], rtol=1e-5)


def test_epsilon_greedy_tells_what_enumeration_gives(make):
    """Every way of exploring or not, by hand: (1 − ε) for the best left, ε shared by all left."""
    epsilon, stage = 0.3, explorer("epsilon_greedy", epsilon=0.3)
    slates = list(permutations(range(4), 3))
    query, candidates = asked(make, arms(make), [0] * len(slates), 3)
    told = stage.propensities(query, candidates, np.array(slates))
    for slate, row in zip(slates, told, strict=True):
        left = [0, 1, 2, 3]
        for item, chance in zip(slate, row, strict=True):
            assert chance == pytest.approx((1 - epsilon) * (item == left[0]) + epsilon / len(left))
            left.remove(item)


def test_thompson_puts_first_as_often_as_draws_from_the_posterior_do(make):
    state = taught(arms(make), rounds=40)
    stage = explorer("thompson", epsilon=1.0)
    query, candidates = asked(make, state, [0] * 4, 1)
    told = stage.propensities(query, candidates, np.arange(4)[:, None])[:, 0]
    lift, rng = Lift.of(Learned(state)), np.random.default_rng(1)
    m = np.clip(Learned(state).expected("taken", candidates.scores["utility"], candidates.filled)[0], 1e-4, 0.999)
    draws = m * rng.beta(lift.taken, lift.passed, size=(200_000, 4)) / lift.expected
    assert np.abs(np.bincount(draws.argmax(axis=1), minlength=4) / 200_000 - told).max() < 0.01


def test_normal_draws_agree_with_simulation_while_slots_are_filled():
    mean, sd = np.array([[0.0, 0.5, 0.4, -1.0]]), np.array([[1.0, 0.2, 0.5, 2.0]])
    chances, rng = normal_draws(np.arange(4)[None], mean, sd), np.random.default_rng(0)
    draws = rng.normal(mean[0], sd[0], size=(200_000, 4))
    assert np.abs(np.bincount(draws.argmax(axis=1), minlength=4) / 200_000 - chances.next()[0]).max() < 0.01
    chances.place(np.array([3]))
    left = np.bincount(draws[:, :3].argmax(axis=1), minlength=4) / 200_000
    assert chances.next()[0, 3] == 0 and np.abs(left - chances.next()[0]).max() < 0.01


def regret(make, strategy, rounds=160, batch=20, seed=0, **more):
    """Regret of each round, the rate of the best arm less that of the arm shown; nothing is known at first."""
    state, rng = arms(make, n_users=batch), np.random.default_rng(seed)
    stage = explorer(strategy, epsilon=1.0, **more)
    out = np.zeros(rounds)
    for at in range(rounds):
        query, candidates = asked(make, state, list(range(batch)), 1, utility=(0.3,) * 4, salt=at)
        items = stage(query, candidates).items[:, :1]
        out[at] = (RATES.max() - RATES[items]).mean()
        click = rng.random(items.shape) < RATES[items]
        utility = np.full(items.shape, 0.3, np.float32)
        users = np.arange(batch)
        state = with_feedback(state, users, items, utility, {"click": click}, None, {"click": 1.0}, ("click",), ())
    return out


@pytest.mark.parametrize("strategy", [s for s in ALL if s != "epsilon_greedy"])
def test_regret_is_sublinear_on_planted_arms(make, strategy):
    by_round = regret(make, strategy, confidence=0.5, l2=1.0)
    even = (RATES.max() - RATES).mean()
    first, last = by_round[:40].mean(), by_round[-40:].mean()
    assert last < 0.25 * even and last < 0.6 * max(first, 0.1 * even) + 0.02, (first, last, even)


def test_epsilon_greedy_does_not_learn(make):
    by_round = regret(make, "epsilon_greedy", rounds=40)
    assert by_round[-20:].mean() > 0.8 * (RATES.max() - RATES).mean()


def test_what_was_fed_back_is_counted_as_by_hand(make):
    state = arms(make)
    items = np.array([[0, 2, -1], [2, 1, 0]], np.int32)
    utility = np.array([[0.5, 0.25, 0], [1.0, 0.5, 0.25]], np.float32)
    actions = {"click": np.array([[1, 0, 0], [1, 0, 0]], bool), "hide": np.array([[0, 1, 0], [0, 0, 0]], bool)}
    dwell = np.array([[10, np.nan, np.nan], [20, 0, 0]])
    weights = {"click": 2.0, "hide": 5.0, "dwell": 0.1}
    new = with_feedback(state, np.array([0, 1]), items, utility, actions, dwell, weights, ("click",), ("hide",))
    known = Learned(new)
    assert known.counter("shown").tolist() == [2, 1, 2, 0] and known.counter("taken").tolist() == [1, 0, 1, 0]
    assert known.counter("reward").tolist() == [3, 0, -5 + 4, 0]
    assert known.counter("utility").tolist() == [0.75, 0.5, 1.25, 0]
    assert known.moments["n"] == 5 and known.moments["taken"] == 2
    assert known.moments["reward2"] == pytest.approx(9 + 25 + 16)
    assert not state.feedback, "the state that was given stays as it was"
    twice = with_feedback(new, np.array([0, 1]), items, utility, actions, dwell, weights, ("click",), ("hide",))
    assert all(np.allclose(twice.feedback[name], 2 * new.feedback[name]) for name in new.feedback)
    kept = State.from_arrays(*twice.to_arrays(), twice.catalogue)
    assert kept.feedback.keys() == twice.feedback.keys()
    assert all(np.array_equal(kept.feedback[name], twice.feedback[name]) for name in twice.feedback)


def test_rewards_subtract_negative_actions_and_count_known_dwell():
    actions = {"like": np.array([True, False]), "hide": np.array([False, True])}
    weights = {"like": 1, "hide": 4, "dwell": 0.5}
    assert reward_of(actions, np.array([3.0, np.nan]), weights, ("hide",)).tolist() == [2.5, -4]
    assert reward_of(actions, None, {"like": 1}, ()).tolist() == [1, 0]


def test_the_ranking_is_calibrated_by_least_squares_once_enough_was_fed_back():
    rng = np.random.default_rng(0)
    u = rng.normal(size=1000)
    y = 0.3 + 0.5 * u + rng.normal(size=1000)
    x = np.zeros((1000, WIDTH))
    counters = learned({}, np.zeros(1000, np.int32), u, y > 0, y, x, 1)
    line = Learned(type("S", (), {"feedback": counters})()).line("reward")
    slope, base = np.polyfit(u, y, 1)
    assert (line.base, line.slope) == pytest.approx((base, slope))
    few = learned({}, np.zeros(ENOUGH - 1, np.int32), u[: ENOUGH - 1], y[: ENOUGH - 1] > 0, y[: ENOUGH - 1],
                  x[: ENOUGH - 1], 1)
    assert Learned(type("S", (), {"feedback": few})()).line("reward") is None


def test_the_linear_posterior_is_that_of_ridge_regression(make):
    state = taught(taught(arms(make), rounds=100), rounds=100, seed=1)  # the second time the ranking is calibrated
    model, l2 = LinearModel.of(Learned(state), 3.0), 3.0
    users, items = np.arange(100) % 40, np.tile(np.arange(4, dtype=np.int32), (100, 1))
    first = Learned(taught(arms(make), rounds=100))
    expected = first.expected("taken", np.tile(np.float32([0.4, 0.3, 0.2, 0.1]), (100, 1)), items >= 0)
    x = linear_features(first.state, users, items, expected).reshape(400, WIDTH)
    y = (np.random.default_rng(1).random(items.shape) < RATES).ravel()
    prior = np.zeros(WIDTH)
    prior[NUMBERS.index("expected")] = 1
    inverse = np.linalg.inv(x.T @ x + l2 * np.eye(WIDTH))
    mean = inverse @ (x.T @ y + l2 * prior)
    assert np.allclose(model.mean, mean)
    noise = ((y - x @ mean) ** 2).mean()
    assert np.linalg.norm(x[7] @ model.root) == pytest.approx(np.sqrt(x[7] @ inverse @ x[7] * noise))


def test_features_of_the_linear_models_say_what_they_are_called(make):
    state = make.state(arms(make).catalogue, [(0, 1, True), (0, 1, False), (1, 2, False)])
    x = linear_features(state, np.array([0, -1]), np.array([[1, 3], [1, 3]]), np.array([[0.7, 0.2]] * 2))
    at = {name: x[..., i] for i, name in enumerate(NUMBERS)}
    assert at["expected"].tolist() == [[0.7, 0.2]] * 2 and (at["one"] == 1).all()
    assert at["item_shown"][0] == pytest.approx([np.log1p(2) / 5, 0]) and at["item_rate"][0, 0] > at["item_rate"][0, 1]
    assert at["tie"][0, 0] > 0 and at["tie"][1, 0] == 0 and at["activity"][:, 0].tolist() == [np.log1p(1) / 5, 0]
    assert at["new_author"].tolist() == [[0, 1]] * 2 and at["freshness"][0] == pytest.approx([2**-0.5] * 2)


def newcomers_state(make):
    """Items 0 to 3; 1 and 3 are new, 3 was shown twice; authors 2 and 3 have two followers each."""
    now = 100 * DAY
    catalogue = make.catalogue([0, 1, 2, 3], created=[now - 30 * DAY, now - DAY, 0, now - DAY], users=3000)
    return make.state(catalogue, [(5, 3, False), (6, 3, False)])


def test_a_place_is_kept_for_new_items_by_what_they_lack(make):
    state = newcomers_state(make)
    cold = {"enabled": True, "position": 2, "target": 5, "max_followers": None}
    stage = explorer("epsilon_greedy", epsilon=0.0, cold_start=cold)
    users = list(range(3000))
    query, candidates = asked(make, state, users, 3)
    out = stage(query, candidates)
    assert (out.items[:, 0] == 0).all()
    share = (out.items[:, 1] == 1).mean()  # item 1 lacks 5, item 3 lacks 3
    assert abs(share - 5 / 8) < 4 * np.sqrt(5 / 8 * 3 / 8 / 3000) and set(out.items[:, 1].tolist()) == {1, 3}
    chance = np.where(out.items[:, 1] == 1, 5 / 8, 3 / 8)
    assert np.allclose(out.scores["propensity"][:, 1], chance)
    assert np.allclose(out.scores["slate_propensity"][:, 0], chance)
    assert out.scores["explored"][:, :3].tolist() == [[0, 1, 0]] * 3000


def test_authors_with_many_followers_get_no_such_place_and_without_new_items_the_ranking_stands(make):
    state = newcomers_state(make)
    crowd = replace(state, author_followers=np.array([0, 9, 0, 9], np.int32))
    cold = {"enabled": True, "position": 1, "target": 5, "max_followers": 5}
    stage = explorer("epsilon_greedy", epsilon=0.0, cold_start=cold)
    query, candidates = asked(make, crowd, [0, 1], 3)
    assert stage(query, candidates).items[:, :3].tolist() == [[0, 1, 2]] * 2
    query, candidates = asked(make, state, [0, 1], 3)
    assert set(stage(query, candidates).items[:, 0].tolist()) <= {1, 3}


def test_new_items_and_new_authors_are_boosted_until_they_had_their_impressions(make):
    state = newcomers_state(make)
    config = ExplorationConfig(boost={"items": 2.0, "authors": 3.0, "target": 2, "target_of_author": 1}).boost
    query, candidates = asked(make, state, [0], 3, utility=(0.4, 0.3, -0.2, 0.1))
    out = BoostNewcomers(config)(query, candidates)
    got = dict(zip(out.items[0].tolist(), out.scores["utility"][0].tolist(), strict=True))
    # 1 is new and so is its author; authors of 0 and 2 were never shown; 3 and its author had their turn
    assert got == pytest.approx({0: 0.4 * 3, 1: 0.3 * 6, 2: -0.2 / 3, 3: 0.1})
    assert out.items[0].tolist() == [1, 0, 3, 2]


def test_some_users_explore_more_than_others(make):
    catalogue = replace(
        make.catalogue([0, 1, 2, 3], users=4), user_codes={"plan": np.array([0, 1, 0, 1], np.int32)},
        names={"user.plan": ["free", "paid"], "topics": []},
    )
    config = ExplorationConfig(epsilon=0.5, users={"attribute": "plan", "epsilon": {"paid": 0.0}})
    stage = Explore(config, catalogue)
    query, candidates = asked(make, make.state(catalogue), [0, 1, -1, 4], 1)
    told = stage.propensities(query, candidates, np.zeros((4, 1), np.int64))[:, 0]
    assert told.tolist() == pytest.approx([0.5 + 0.125, 1.0, 0.625, 0.625])
    with pytest.raises(ConfigError, match="users: plan never is 'payed'"):
        Explore(ExplorationConfig(users={"attribute": "plan", "epsilon": {"payed": 0.0}}), catalogue)


def test_an_unknown_strategy_is_refused_with_the_nearest():
    with pytest.raises(ConfigError, match="no strategy 'tompson'") as error:
        explorer("tompson")
    assert "thompson" in error.value.hint


class CheckedConfig(StageConfig):
    kind: Literal["checked"] = "checked"
    strategy: str = "thompson"


class Checked(Explore):
    config_type = CheckedConfig

    def __init__(self, config):
        cold = {"enabled": True, "target": 1000, "max_age_days": 60}
        super().__init__(ExplorationConfig(enabled=True, strategy=config.strategy, epsilon=0.5, cold_start=cold))


@pytest.mark.parametrize("strategy", ALL)
def test_every_strategy_keeps_what_a_selector_promises(strategy):
    check_stage(Checked, CheckedConfig(strategy=strategy))


class BoostChecked(BoostNewcomers):
    config_type = CheckedConfig

    def __init__(self, config):
        super().__init__(ExplorationConfig(boost={"items": 2.0, "authors": 1.5, "max_age_days": 60}).boost)


def test_the_boost_keeps_what_a_scorer_promises():
    check_stage(BoostChecked)


def test_an_engine_learns_from_what_it_served_and_keeps_it():
    bundle = planted_bundle()
    sourcing = {"shares": dict.fromkeys(PLANTED_SOURCES, 0.5), "fallback": ["popularity"]}
    exploration = {"enabled": True, "strategy": "gaussian_thompson", "epsilon": 1.0}
    config = PipelineConfig.model_validate({"sourcing": sourcing, "exploration": exploration})
    engine = RecommendationEngine(bundle, config)
    users = np.arange(30, dtype=np.int32)
    first = engine.slates(users, request=1)
    assert (first.scores["propensity"] > 0).all() and (first.scores["propensity"] <= 1).all()
    loved = int(np.bincount(first.items.ravel()).argmax())
    for turn in range(12):
        batch = engine.slates(users, request=turn)
        engine = engine.learn(batch, {"click": batch.items != loved})
    before = (first.items == loved).sum()
    assert Learned(engine.state).counter("shown").sum() > 0
    assert (engine.slates(users, request=1).items == loved).sum() < before, "what nobody takes is shown less"
