"""Somebody new: topics bring candidates that the same pipeline ranks, attributes are known, and the answer says so."""

import numpy as np
import pytest

from recsys_cli.engine import RecommendationEngine
from recsys_cli.errors import UsageError
from recsys_cli.pipeline.config import PipelineConfig
from recsys_cli.pipeline.onboarding import topic_candidates
from recsys_cli.testing.planted_bundle import PLANTED_SOURCES, planted_bundle


@pytest.fixture(scope="module")
def engine():
    sourcing = {"shares": dict.fromkeys(PLANTED_SOURCES, 0.5), "fallback": ["popularity"]}
    filters = {"max_age_days": None}
    config = PipelineConfig.model_validate({"sourcing": sourcing, "filters": filters, "diversity": {"enabled": False}})
    return RecommendationEngine(planted_bundle(), config)


def topics_of(engine, answer):
    items = engine.bundle.item_ids.positions([i.item_id for i in answer.items])
    return {int(t) for item in items for t in engine.state.catalogue.item_topics[item]}


def test_topics_that_were_chosen_are_what_is_shown_and_the_path_says_so(engine):
    answer = engine.recommend_from([], topics=["t1", "t3"])
    assert topics_of(engine, answer) == {1, 3} and answer.path == "topics" and len(answer.items) == 10
    assert answer.items[0].reason == "on a topic that you chose"
    assert topics_of(engine, engine.recommend_from([])) > {1, 3}


def test_a_history_says_more_than_topics(engine):
    liked = np.flatnonzero([4 in engine.state.catalogue.item_topics[i] for i in range(400)])[:3].tolist()
    answer = engine.recommend_from(liked, topics=["t1"])
    assert answer.path == "fold-in of 3 items" and 4 in topics_of(engine, answer)


def test_the_path_of_each_user_is_told(engine):
    assert engine.recommend(3).path == "history"
    assert engine.recommend("nobody").path == "popularity"
    assert engine.recommend_from([]).path == "popularity"


def test_candidates_of_topics_are_the_busiest_of_each(engine):
    state = engine.state
    found = topic_candidates(state, np.array([2]), ("popularity",))
    order = found.items[0][np.argsort(found.scores["rank_popularity"][0])]
    assert all(2 in state.catalogue.item_topics[i] for i in order)
    trend = state.trending[order] + 1e-3 * np.log1p(state.interactions[order])
    assert (np.diff(trend) <= 1e-9).all() and (np.diff(found.items[0]) > 0).all()
    none = topic_candidates(state, np.array([], np.int32), ())
    assert none.items.shape == (1, 0)


def test_what_the_data_does_not_have_is_refused_with_the_nearest(engine):
    with pytest.raises(UsageError, match="no topic 't11'") as error:
        engine.recommend_from([], topics=["t11"])
    assert "t1" in error.value.hint
    with pytest.raises(UsageError, match="no category 'contry'") as error:
        engine.recommend_from([], attributes={"contry": "x"})
    assert "country" in error.value.hint
