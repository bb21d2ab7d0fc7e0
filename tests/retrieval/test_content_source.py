"""Content: words, topics and attributes, for items and users of which nothing else is known."""

import dataclasses

import numpy as np
import pytest
from planted import DAY, NOW, edges, make_catalogue, make_log, make_window, planted_past_and_future, recall

from recsys_cli.pipeline.guest import with_guest
from recsys_cli.retrieval.content.content import Content, ContentConfig
from recsys_cli.retrieval.exploration.random_items import Random, RandomConfig
from recsys_cli.retrieval.popularity.popularity import Popularity, PopularityConfig


def small(**settings):
    return Content(ContentConfig(max_age_days=None, **settings))


@pytest.fixture(scope="module")
def world():
    return planted_past_and_future()


@pytest.mark.parametrize("kept", ["text_weight", "topic_weight"])
def test_words_or_topics_alone_find_more_than_popularity(world, kept):
    weights = {name: float(name == kept) for name in ("text_weight", "topic_weight", "attribute_weight")}
    popularity = recall(Popularity(PopularityConfig()), *world, 60)
    assert recall(small(**weights), *world, 60) > 1.2 * popularity


def test_authors_alone_find_more_than_chance(world):
    chance = recall(Random(RandomConfig()), *world, 60)
    assert recall(small(text_weight=0, topic_weight=0), *world, 60) > 1.5 * chance


def test_words_weigh_by_their_rarity():
    words = [[1, 2], [1, 3], [2, 3], [1, 4], [1, 5], [2, 5], [6, 7], [6, 7]]
    catalogue = make_catalogue(1, [-1] * 8, [NOW - 5] * 8, words=words)
    state = make_window(catalogue, make_log([(0, 0, NOW - 3)])).state
    source = small(attribute_weight=0)
    n, df = 8, {1: 4, 2: 3, 3: 2, 4: 1, 5: 2, 6: 2, 7: 2}

    def vector(item):
        out = np.zeros(8)
        for word in words[item]:
            if df[word] > 1:
                out[word] = np.log(1 + n / df[word])
        return out / np.linalg.norm(out)

    expected = np.array([vector(0) @ vector(i) for i in range(8)])
    given = source.score(state, np.array([0]), np.arange(8)[None])[0]
    np.testing.assert_allclose(given, expected, atol=1e-5)
    items, scores = source.retrieve(state, np.array([0], np.int32), 8)
    order = [i for i in np.argsort(-expected, kind="stable") if expected[i] > 0 and i != 0]
    assert items[0, : len(order)].tolist() == order and (items[0, len(order) :] == -1).all()
    np.testing.assert_allclose(scores[0, : len(order)], expected[order], atol=1e-5)


def test_what_was_liked_lately_counts_more():
    catalogue = make_catalogue(
        1, [-1] * 6, [NOW - 60 * DAY] * 6, topics=[[0], [1], [0], [1], [2], [2]], topic_names="abc"
    )
    log = make_log([(0, 0, NOW - 30 * DAY), (0, 1, NOW - 2)])
    source = small(history_weighting={"kind": "time", "half_life_days": 7.0})
    items, scores = source.retrieve(make_window(catalogue, log).state, np.array([0], np.int32), 3)
    assert items[0].tolist() == [3, 2, -1]
    assert scores[0, 1] / scores[0, 0] == pytest.approx(2 ** (-30 / 7), rel=1e-3)


def test_an_item_published_a_second_ago_is_found(world):
    window, _ = world
    like = int(np.argmax(window.state.interactions))
    more = make_catalogue(
        120, window.catalogue.item_author[like : like + 1], [window.end - 1_000_000],
        [window.catalogue.item_topics[like]], [window.catalogue.item_text[like]],
    )  # fmt: skip
    catalogue = window.catalogue.append_items(more)
    state = dataclasses.replace(
        window.state, catalogue=catalogue, **{
            name: np.append(getattr(window.state, name), 0) for name in ("interactions", "impressions", "trending")
        },
    )  # fmt: skip
    source = small()
    source.adapt(catalogue)
    assert source.similar_items(state, np.array([like], np.int32), 1)[0][0, 0] == catalogue.n_items - 1
    mine = np.arange(120) % 5 == window.catalogue.item_topics.values[like]
    found = (source.retrieve(state, np.arange(120, dtype=np.int32), 100)[0] == catalogue.n_items - 1).any(axis=1)
    assert found[mine].mean() > 0.9 and found[~mine].mean() < 0.5


def test_a_guest_with_three_items_and_a_newcomer_with_follows_are_served(world):
    window, _ = world
    topic = window.catalogue.item_topics.values
    state = with_guest(window.state, np.flatnonzero(topic == 2)[:3])
    items = small().retrieve(state, np.array([120], np.int32), 20)[0][0]
    assert (topic[items] == 2).mean() > 0.9
    catalogue = window.catalogue
    newcomer = make_window(catalogue, make_log([(1, 1, window.end - 5)]), window.end, edges([(0, 3), (0, 8)])).state
    items = small().retrieve(newcomer, np.array([0], np.int32), 20)[0][0]
    assert (items >= 0).all() and (topic[items] == topic[newcomer.author_items[3][0]]).mean() > 0.4
    nobody = small(per_author=0).retrieve(newcomer, np.array([0, -1], np.int32), 5)[0]
    assert (nobody == -1).all()


def test_items_without_content_are_near_nothing_and_say_what_is_missing():
    catalogue = dataclasses.replace(make_catalogue(2, [-1, -1], [NOW - 9, NOW - 9]), n_authors=0)
    window = make_window(catalogue, make_log([(0, 0, NOW - 3)]))
    source = small()
    assert source.missing(window) == "needs items with text, topics or attributes"
    assert (source.retrieve(window.state, np.array([0, 1], np.int32), 2)[0] == -1).all()
    assert not source.score(window.state, np.array([0]), np.array([[0, 1]])).any()


def test_the_reason_is_the_nearest_item_of_the_history(world):
    window, _ = world
    items = small().retrieve(window.state, np.array([4], np.int32), 3)[0][0]
    for reason, item in zip(small().explain(window.state, 4, items), items, strict=True):
        assert reason.kind == "similar" and reason.refers_to in window.state.history[4]
        mine = set(window.catalogue.item_text[item]) | set(window.catalogue.item_topics[item] + 100_000)
        other = reason.refers_to
        theirs = set(window.catalogue.item_text[other]) | set(window.catalogue.item_topics[other] + 100_000)
        assert mine & theirs
