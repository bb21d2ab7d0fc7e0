"""Scenarios: what changes in a world, what is measured, and what is refused."""

import numpy as np
import pytest
from scipy import stats

from recsys_cli.data.schema import DAY
from recsys_cli.errors import ConfigError
from recsys_cli.simulation import changes, measures
from recsys_cli.simulation.config import ScenarioConfig, read_scenario
from recsys_cli.world.config import WorldConfig
from recsys_cli.world.generate import generate
from recsys_cli.world.people import COUNTRIES, HARMS
from recsys_cli.world.simulator import World


@pytest.fixture(scope="module")
def world(tmp_path_factory) -> World:
    path = tmp_path_factory.mktemp("world") / "data"
    generate(WorldConfig(users=120, items=600, days=6, horizon_days=10), 3, path)
    return World.open(path)


def scenario(**more) -> ScenarioConfig:
    return ScenarioConfig.model_validate({"days": 10, "policies": {"a": {}}, **more})


def test_drift_moves_some_interests_to_other_topics_and_is_the_same_for_every_policy(world):
    config = scenario(drift={"interests": 0.25, "taste": 0.1})
    first, again = changes.drifted(world, config, 4), changes.drifted(world, config, 4)
    before, after = world.model.people, first.model.people
    np.testing.assert_array_equal(after.affinity, again.model.people.affinity)
    changed = (before.affinity != after.affinity).any(axis=1).mean()
    assert 0.1 < changed < 0.4
    np.testing.assert_allclose(np.sort(before.affinity, axis=1), np.sort(after.affinity, axis=1))
    assert after.taste.std() == pytest.approx(before.taste.std(), rel=0.1) and (after.taste != before.taste).any()
    assert changes.drifted(world, scenario(drift={"interests": 0, "taste": 0}), 4) is world


def test_a_spam_wave_reaches_the_items_of_its_days_alone(world):
    config = scenario(shocks=[{"kind": "spam_wave", "day": 3, "days": 2, "share": 0.5}])
    future = world.model.future
    got = changes.shocked(world, config).model.future
    spam = np.flatnonzero((got.harms != future.harms).any(axis=1))
    day = (future.created[spam] - world.end) // DAY
    assert len(spam) and set(day.tolist()) <= {2, 3}
    assert (got.harms[spam, HARMS.index("spam")] >= 0.9).all()
    inside = np.isin((future.created - world.end) // DAY, [2, 3]).sum()
    assert 0.3 < len(spam) / inside < 0.7


def test_a_viral_item_is_one_new_item_of_its_day(world):
    got = changes.shocked(world, scenario(shocks=[{"kind": "viral_item", "day": 2}])).model.future
    better = np.flatnonzero(got.quality != world.model.future.quality)
    assert len(better) == 1 and (got.created[better[0]] - world.end) // DAY == 1
    assert got.quality[better[0]] == pytest.approx(world.model.future.quality[better[0]] + 4)


def test_people_of_a_cold_market_stay_away_until_their_day(world):
    country = COUNTRIES[0][0]
    config = scenario(shocks=[{"kind": "cold_market", "day": 3, "country": country, "activity": 5}])
    there = world.model.people.country == 0

    def visitors(now: World, day: int) -> int:
        return int(there[np.unique(now.visits(day).user)].sum())

    cold = changes.shocked(world, config)
    assert visitors(cold, 1) < 0.2 * visitors(world, 1)
    assert changes.arrivals(cold, config, 1) is cold
    warm = changes.arrivals(cold, config, 2)
    assert visitors(warm, 2) > visitors(world, 2)
    np.testing.assert_array_equal(warm.model.people.activity[~there], world.model.people.activity[~there])
    with pytest.raises(ConfigError, match="no country 'XX'"):
        changes.shocked(world, scenario(shocks=[{"kind": "cold_market", "day": 3, "country": "XX"}]))


def test_authors_without_exposure_keep_items_back_and_others_none(world):
    positions = np.array(world.future_positions(2))
    nobody, everybody = np.zeros(world.n_users), np.ones(world.n_users)
    always = scenario(creators={"discouraged": 1.0})
    np.testing.assert_array_equal(changes.kept_back(world, always, 2, nobody), positions)
    assert not len(changes.kept_back(world, always, 2, everybody))
    half = changes.kept_back(world, scenario(), 2, nobody)
    assert 0 < len(half) < len(positions)


def test_gini_by_hand_and_of_many_equal_and_one_rich():
    assert measures.gini([1, 1, 1, 1]) == 0 and measures.gini([0, 0, 0, 8]) == 0.75
    # the mean absolute difference over twice the mean
    x = np.random.default_rng(0).exponential(size=50)
    assert measures.gini(x) == pytest.approx(np.abs(x[:, None] - x).mean() / (2 * x.mean()))
    assert np.isnan(measures.gini([0, 0]))


def test_bubble_depth_is_one_for_one_topic_and_none_for_all_different():
    user = np.array([0] * 4 + [1] * 4 + [2] + [3] * 4)
    topic = np.array([5, 5, 5, 5, 0, 1, 2, 3, 7, 1, 1, 2, 2])
    depth = measures.bubble_depth(user, topic, 5, 10)
    assert depth[:2].tolist() == [1, pytest.approx(0)] and np.isnan(depth[[2, 4]]).all()
    assert depth[3] == pytest.approx(1 - stats.entropy([2, 2]) / np.log(4))


def test_paired_intervals_know_that_people_are_the_same():
    rng = np.random.default_rng(0)
    a = rng.normal(size=400) * 5
    b = a + 0.3 + rng.normal(size=400) * 0.1
    same, other = measures.paired(a, b, 0.05), measures.apart(a, b, 0.05)
    assert same["low"] > 0.25 and other["low"] < 0 and same["value"] == pytest.approx(other["value"])
    t = stats.ttest_rel(b, a).confidence_interval(0.95)
    assert (same["low"], same["high"]) == pytest.approx((t.low, t.high), abs=1e-3)


@pytest.mark.parametrize("text, told", [
    ("policies: {a: {}}\nshocks: [{kind: meteor, day: 1}]\n", "'meteor' is none of"),
    ("policies: {a: {}}\ndays: 3\nshocks: [{kind: spam_wave, day: 4}]\n", "lies behind the 3 days"),
    ("policies: {}\n", "policies"),
    ("policies: {a: {}}\nmarkt: own\n", "did you mean 'market'?"),
])
def test_a_scenario_that_cannot_be_is_refused(tmp_path, text, told):
    (tmp_path / "s.yaml").write_text(text)
    with pytest.raises(ConfigError) as refused:
        read_scenario(tmp_path / "s.yaml")
    assert told in str(refused.value)
