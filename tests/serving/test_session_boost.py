"""What somebody did in the session that goes on moves the order of their pool."""

import time
from types import SimpleNamespace

import numpy as np
import pytest

from recsys_cli.data.ragged import Ragged
from recsys_cli.serving.config import ServingConfig
from recsys_cli.serving.events import Event
from recsys_cli.serving.live import Live
from recsys_cli.serving.memory import SESSION_GAP, Memory
from recsys_cli.serving.pooling import Pool, build_pools, pool_engine
from recsys_cli.serving.session import Likeness, boosted


@pytest.fixture
def by_topics() -> Likeness:
    catalogue = SimpleNamespace(
        item_topics=Ragged.group(np.array([0, 1, 1, 2]), np.array([0, 0, 1, 1], np.int32), 4),
        item_author=np.array([7, 8, 7, -1], np.int32),
    )
    return Likeness(SimpleNamespace(retrievers={}, catalogue=catalogue))


def test_likeness_is_the_cosine_of_topics_and_author_and_fades_with_each_action(by_topics):
    assert by_topics.source is None
    found = by_topics.of(np.array([0, 1, 2, 3], np.int32), np.array([0], np.int32))
    # of two halves: item 1 shares one of its two topics, item 2 the author, item 3 has neither
    np.testing.assert_allclose(found, [1, 0.5 / np.sqrt(2), 0.5, 0], atol=1e-6)
    towards_the_last = by_topics.of(np.array([0, 2], np.int32), np.array([2, 0], np.int32))
    assert towards_the_last[0] > towards_the_last[1] > 0.5
    assert not by_topics.of(np.array([0], np.int32), np.array([3], np.int32)).any()


def test_an_item_rises_by_standard_deviations_and_takes_its_scores_along():
    scores = {"utility": np.array([4, 2, 0], np.float32), "p_like": np.array([0.1, 0.2, 0.3], np.float16)}
    pool = Pool(np.array([10, 11, 12], np.int32), np.array([1, 2, 4], np.uint32), scores)
    spread = float(np.std([4, 2, 0]))
    moved = boosted(pool, np.array([0, 0, 1], np.float32), 3.0)
    assert moved.items.tolist() == [12, 10, 11] and moved.sources.tolist() == [4, 1, 2]
    np.testing.assert_allclose(moved.scores["utility"], [3 * spread, 4, 2], rtol=1e-6)
    np.testing.assert_allclose(moved.scores["p_like"], np.array([0.3, 0.1, 0.2], np.float16))
    assert boosted(pool, np.array([0, 0, 1], np.float32), 0.0).items.tolist() == [10, 11, 12]


def test_the_next_answer_follows_the_session_until_it_ends(engine):
    live = Live(engine, ServingConfig(session_boost=100.0), "artifacts")
    pool = build_pools(pool_engine(engine, 60), np.array([3], np.int32))[0]
    now = time.time_ns() // 1000
    liked = str(engine.bundle.item_ids.external([int(pool.items[-1])])[0])
    memory = Memory()
    memory.note(Event("impression", "u", liked, now))
    assert live.of_session(pool, memory) is pool  # to be shown something says nothing
    memory.note(Event("like", "u", liked, now))
    moved = live.of_session(pool, memory)
    assert moved.items[0] == pool.items[-1] and sorted(moved.items) == sorted(pool.items)
    memory.latest = now - SESSION_GAP - 1_000_000
    assert live.of_session(pool, memory) is pool
