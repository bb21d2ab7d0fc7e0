"""A page of rows: nothing twice, nothing that filters or the safety policy keep out, rows that are what they say."""

from dataclasses import replace

import numpy as np
import pytest

from recsys_cli.engine import RecommendationEngine
from recsys_cli.pipeline.config import PipelineConfig
from recsys_cli.progress import Progress
from recsys_cli.retrieval.registry import SOURCES
from recsys_cli.testing.planted_bundle import PLANTED_SOURCES, planted_bundle


@pytest.fixture(scope="module")
def bundle():
    made = planted_bundle()
    trending = SOURCES["trending"](SOURCES["trending"].config_type())
    trending.fit(None, Progress())
    sources = {**made.retrievers, "trending": trending}
    return replace(made, retrievers=sources, configured=(*PLANTED_SOURCES, "trending"))


def engine(bundle, **settings):
    sourcing = {"shares": dict.fromkeys(PLANTED_SOURCES, 0.5), "fallback": ["popularity"]}
    return RecommendationEngine(bundle, PipelineConfig.model_validate({"sourcing": sourcing, **settings}))


def test_a_page_has_each_item_once_and_begins_with_the_slate(bundle):
    made = engine(bundle)
    for user in (3, 40, 77):
        page = made.recommend_rows(user, 6)
        kinds = [row.kind for row in page.rows]
        assert kinds[0] == "top_picks" and {"because_you_liked", "trending", "topic", "who_to_follow"} <= set(kinds)
        assert [i.id for i in page.rows[0].items] == [i.item_id for i in made.recommend(user, 6).items]
        items = [i.id for row in page.rows if row.kind != "who_to_follow" for i in row.items]
        assert len(items) == len(set(items)) and all(len(row.items) <= 6 for row in page.rows)
        assert not set(items) & set(bundle.state.seen[user].tolist())


def test_rows_are_what_their_titles_say(bundle):
    page = engine(bundle).recommend_rows(3, 5)
    catalogue, state = bundle.catalogue, bundle.state
    for row in page.rows:
        if row.kind == "topic":
            topic = catalogue.names["topics"].index(row.title.removeprefix("In "))
            assert all(topic in catalogue.item_topics[i.id] for i in row.items)
            assert topic == 3 % 5 or topic in {t for i in state.history[3] for t in catalogue.item_topics[i]}
        if row.kind == "because_you_liked":
            liked = int(row.title.removeprefix("Because you liked "))
            near = bundle.retrievers["item_neighbours"].similar_items(state, np.array([liked]), 25)[0][0]
            assert liked in state.history[3] and {i.id for i in row.items} <= set(near.tolist())
        if row.kind == "who_to_follow":
            assert not {i.id for i in row.items} & set(state.follows[3].tolist())


def test_the_safety_policy_and_the_filters_hold_in_every_row(bundle):
    unsafe = np.zeros(400, np.float32)
    unsafe[::3] = 0.9
    catalogue = replace(bundle.catalogue, item_safety={"nsfw": unsafe})
    safe = replace(bundle, catalogue=catalogue, state=replace(bundle.state, catalogue=catalogue))
    rule = {"task": "nsfw", "above": 0.5, "action": "drop"}
    page = engine(safe, safety={"rules": [rule]}).recommend_rows(3, 5)
    items = [i.id for row in page.rows if row.kind != "who_to_follow" for i in row.items]
    assert items and not any(i % 3 == 0 for i in items)


def test_somebody_unknown_gets_rows_that_need_no_history(bundle):
    page = engine(bundle).recommend_rows("nobody", 5)
    assert page.path == "popularity"
    assert {row.kind for row in page.rows} <= {"top_picks", "trending", "new"}
    assert page.rows[0].kind == "top_picks"


def test_topics_that_somebody_new_chose_fill_the_page(bundle):
    guest = engine(bundle).with_guest([], ["t1", "t4"])
    page = guest.recommend_rows("guest", 4)
    on = {row.kind: {int(t) for i in row.items for t in bundle.catalogue.item_topics[i.id]} for row in page.rows}
    assert page.path == "topics" and on["top_picks"] <= {1, 4}
    assert {row.title for row in page.rows if row.kind == "topic"} == {"In t1", "In t4"}
