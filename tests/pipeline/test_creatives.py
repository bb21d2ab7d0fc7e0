"""Several titles of one item: which is shown, how probably, and what is learned from it."""

from dataclasses import replace

import numpy as np
import pytest

from recsys_cli.errors import ConfigError
from recsys_cli.features.context import Context
from recsys_cli.pipeline.candidates import Candidates
from recsys_cli.pipeline.config import PipelineConfig
from recsys_cli.pipeline.exploration.creative_texts import SHOWN, TAKEN, CreativeTexts, fed_back, texts_of
from recsys_cli.pipeline.exploration.creatives import Creatives, CreativesConfig
from recsys_cli.pipeline.query import Query
from recsys_cli.slate_engine import SlateEngine
from recsys_cli.testing import check_stage
from recsys_cli.testing.planted_bundle import planted_bundle

COLUMNS = ("creatives",)


def with_creatives(counts=(3, 0, 1)):
    """The planted world, whose items have so many creatives in turn."""
    bundle = planted_bundle()
    n = bundle.catalogue.n_items
    texts = CreativeTexts.of([[f"{i}.{c + 1}" for c in range(counts[i % len(counts)])] for i in range(n)], COLUMNS)
    return replace(bundle, creatives=texts)


def chosen(bundle, state, items, users=4000, **settings):
    """(numbers, probabilities) of the creatives of one item a user."""
    stage = Creatives(CreativesConfig(**settings))
    assert stage.prepare(bundle) is None
    users = np.arange(users, dtype=np.int32) % bundle.catalogue.n_users
    query = Query(users, 1, bundle, state, None, Context(now=state.now), seed=1)
    query = replace(query, salt=np.arange(len(users)))
    slate = np.broadcast_to(np.asarray(items, np.int32), (len(users), len(items)))
    found = stage.scores(query, Candidates(slate, np.ones(slate.shape, np.uint32)))
    return found["creative"], found["creative_propensity"]


def test_an_item_without_creatives_has_none_and_one_with_a_single_has_it_for_certain():
    bundle = with_creatives()
    number, chance = chosen(bundle, bundle.state, [0, 1, 2], users=50)
    assert set(number[:, 0]) <= {1, 2, 3} and (number[:, 1] == 0).all() and (number[:, 2] == 1).all()
    assert (chance[:, 1] == 0).all() and np.allclose(chance[:, 2], 1)


def test_creatives_that_nobody_saw_are_shown_equally_often():
    bundle = with_creatives()
    number, chance = chosen(bundle, bundle.state, [0])
    assert np.allclose(chance, 1 / 3, atol=1e-6)
    assert np.allclose(np.bincount(number[:, 0].astype(int), minlength=4)[1:] / len(number), 1 / 3, atol=0.03)


def test_the_probability_told_is_that_of_the_best_draw_and_of_what_is_shown():
    bundle = with_creatives()
    feedback = {SHOWN: np.zeros(int(bundle.creatives.numbers[-1])), TAKEN: np.zeros(int(bundle.creatives.numbers[-1]))}
    feedback[SHOWN][:3], feedback[TAKEN][:3] = [60, 60, 60], [6, 12, 9]
    state = replace(bundle.state, feedback=feedback)
    number, chance = chosen(bundle, state, [0], least=0.0)
    told = np.array([chance[number[:, 0] == c][0, 0] for c in (1, 2, 3)])
    shown = np.bincount(number[:, 0].astype(int), minlength=4)[1:] / len(number)
    assert np.allclose(told, shown, atol=0.03) and told.sum() == pytest.approx(1, abs=1e-6)
    overall = state.interactions.sum() / state.impressions.sum()
    rate = np.clip((state.interactions[0] + 20 * overall) / (state.impressions[0] + 20), 1e-3, 0.95)
    taken, seen = feedback[TAKEN][:3], feedback[SHOWN][:3]
    draws = np.random.default_rng(0).beta(20 * rate + taken, 20 * (1 - rate) + seen - taken, (200_000, 3))
    assert np.allclose(told, np.bincount(draws.argmax(axis=1), minlength=3) / len(draws), atol=0.01)


def test_no_creative_falls_below_the_least_probability():
    bundle = with_creatives()
    feedback = {SHOWN: np.zeros(int(bundle.creatives.numbers[-1])), TAKEN: np.zeros(int(bundle.creatives.numbers[-1]))}
    feedback[SHOWN][:3], feedback[TAKEN][:3] = 5000, [10, 4000, 10]
    number, chance = chosen(bundle, replace(bundle.state, feedback=feedback), [0], users=20_000, least=0.05)
    assert chance.min() == pytest.approx(0.05, abs=1e-4) and chance.max() == pytest.approx(0.9, abs=1e-3)
    assert (number == 1).mean() == pytest.approx(0.05, abs=0.01)


def test_the_better_creative_of_planted_rates_is_found():
    rng, truth = np.random.default_rng(3), np.array([0.05, 0.25, 0.1])
    bundle = with_creatives()
    state, taken, share = bundle.state, 0.0, 0.0
    for day in range(40):
        number, _ = chosen(bundle, replace(state, now=state.now + day), [0], users=50)
        number = number[:, 0].astype(int)
        took = rng.random(50) < truth[number - 1]
        taken, share = taken + took.sum(), (number == 2).mean()
        items = np.zeros(50, np.int32)
        state = replace(state, feedback=fed_back(state.feedback, bundle.creatives, items, number, took))
    assert share > 0.85, "the last day shows the best one nearly always"
    assert taken > 0.8 * 40 * 50 * truth[1], "little is lost on the way"


def test_counters_of_a_log_are_those_of_the_creatives_that_it_names():
    bundle = with_creatives()
    log = bundle_log()
    numbers = np.array([1, 2, 2, 9, np.nan, 1], np.float32)
    log = replace(log.take(slice(0, 6)), item=np.array([0, 0, 0, 0, 0, 2], np.int32), context={"creative": numbers})
    log = replace(log, actions={"click": np.array([True, False, True, True, True, True])}, _cache={})
    counted = bundle.creatives.counters(log, "creative")
    assert counted[SHOWN][:4].tolist() == [1, 2, 0, 1] and counted[TAKEN][:4].tolist() == [1, 1, 0, 1]
    assert not bundle.creatives.counters(log, "another")[SHOWN].any()


def bundle_log():
    from recsys_cli.testing.planted_world import planted

    return planted()[1]


def test_the_stage_keeps_its_contract():
    check_stage(Creatives, bundle=with_creatives((2, 3)))


def test_a_run_without_creatives_has_the_stage_step_aside():
    stage = Creatives(CreativesConfig())
    assert "trained with this stage" in stage.prepare(planted_bundle())
    assert "this one knows creatives" in Creatives(CreativesConfig(columns=["title_b"])).prepare(with_creatives())


def test_creatives_come_from_a_list_or_from_columns_of_texts_and_a_wrong_name_is_told():
    table = {"creatives": [["a", "b"], None], "title": ["t", ""], "title_b": [None, "u"]}
    texts = texts_of(["creatives"], table, "here")
    assert texts.count(np.array([0, 1, -1, 7])).tolist() == [2, 0, 0, 0] and texts.text(0, 2) == "b"
    texts = texts_of(["title", "title_b"], table, "here")
    assert texts.count(np.arange(2)).tolist() == [1, 1] and texts.text(1, 1) == "u"
    with pytest.raises(ConfigError, match="no column 'titel'") as error:
        texts_of(["titel"], table, "here")
    assert "title" in str(error.value.hint)


def test_an_engine_serves_a_creative_with_every_item_and_learns_from_it():
    bundle = with_creatives((2,))
    pipeline = PipelineConfig.model_validate({
        "sourcing": {"shares": {"item_neighbours": 0.5, "popularity": 0.5}, "fallback": ["popularity"]},
        "stages": {"titles": {"kind": "creatives"}},
    })
    engine = SlateEngine(bundle, pipeline)
    batch = engine.slates(np.arange(20, dtype=np.int32))
    assert set(np.unique(batch.scores["creative"])) == {1, 2}
    clicked = batch.scores["creative"] == 2
    for _ in range(30):
        engine = engine.learn(batch, {"click": clicked})
    again = engine.slates(np.arange(20, dtype=np.int32))
    assert np.array_equal(again.items, batch.items), "which items are shown, and their order, stay"
    assert (again.scores["creative"] == 2).mean() > 0.95
