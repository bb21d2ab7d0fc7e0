"""Two-hop follows and random walks against figures worked by hand and against the exact stationary visits."""

import numpy as np
import pytest
from planted import DAY, NOW, edges, make_catalogue, make_log, make_window, planted

from recsys_cli.progress import Progress
from recsys_cli.retrieval.graph.social_graph import RandomWalk, RandomWalkConfig, TwoHop, TwoHopConfig
from recsys_cli.retrieval.popularity.popularity import Popularity, PopularityConfig
from recsys_cli.retrieval.reason import Reason

ANN, BOB, CID, DAN, EVE = range(5)


@pytest.fixture
def village():
    """Ann follows Bob, Bob follows Cid and Dan, Eve follows Dan. Cid wrote item 0 and clicked Eve's item 2."""
    catalogue = make_catalogue(5, [CID, DAN, EVE, BOB], [NOW - DAY, NOW - 2 * DAY, NOW - 9 * DAY, NOW - DAY])
    log = make_log([(CID, 2, NOW - 1 * DAY)])
    return make_window(catalogue, log, follows=edges([(ANN, BOB), (BOB, CID), (BOB, DAN), (EVE, DAN)]))


def test_two_hops_weigh_the_way_and_the_age(village):
    source = TwoHop(TwoHopConfig(max_age_days=None, engaged_weight=3.0))
    items, scores = source.retrieve(village.state, np.array([ANN]), 4)
    cid, dan = 1 / np.sqrt(2 * 1), 1 / np.sqrt(2 * 2)
    # item 2 comes through Cid's click, item 0 is Cid's own, item 1 Dan's; Bob is followed already
    assert items.tolist() == [[2, 0, 1, -1]]
    np.testing.assert_allclose(scores[0, :3], [3 * cid * 0.5, cid * 0.5, dan * 0.25], rtol=1e-6)
    given = source.score(village.state, np.array([ANN]), np.array([[1, 3]]))
    np.testing.assert_allclose(given, [[dan * 0.25, 0]], rtol=1e-6)


def test_two_hops_name_the_friend_in_between(village):
    source = TwoHop(TwoHopConfig())
    expected = [Reason("circle", BOB), Reason("circle", BOB), Reason("taste")]
    assert source.explain(village.state, ANN, np.array([0, 2, 3])) == expected


def test_two_hops_need_follows(village):
    lonely = make_window(village.catalogue, make_log([(CID, 2, NOW - 1 * DAY)]))
    assert TwoHop(TwoHopConfig()).missing(lonely) == "needs follows"
    assert TwoHop(TwoHopConfig()).missing(village) is None


def test_two_hops_beat_popularity_where_circles_share_taste():
    catalogue, log, follows = planted()
    window = make_window(catalogue, log, NOW - 4 * DAY, follows)
    assert recall(TwoHop(TwoHopConfig()), window, log) > 1.3 * recall(Popularity(PopularityConfig()), window, log)


def test_random_walks_beat_popularity_where_tastes_are_shared():
    catalogue, log, follows = planted()
    window = make_window(catalogue, log, NOW - 4 * DAY, follows)
    source = RandomWalk(RandomWalkConfig(window_days=None))
    assert recall(source, window, log) > 1.5 * recall(Popularity(PopularityConfig()), window, log)


def recall(source, window, log, k: int = 40) -> float:
    source.fit(window, Progress())
    test = log.window(start=window.end)
    found = source.retrieve(window.state, np.arange(window.catalogue.n_users, dtype=np.int32), k)[0]
    return float((found[test.user] == test.item[:, None]).any(axis=1).mean())


def test_walks_visit_as_often_as_the_chain_says():
    """Expected visits by power iteration of the chain user → item → user with restart."""
    rng = np.random.default_rng(4)
    rows = sorted({(int(u), int(i)) for u, i in zip(rng.integers(0, 12, 60), rng.integers(0, 9, 60), strict=True)})
    rows = [(u, i) for u, i in rows]
    touched = np.zeros((12, 9))
    touched[tuple(np.array(rows).T)] = 1
    log = make_log([(u, i, NOW - DAY + n) for n, (u, i) in enumerate(rows)])
    window = make_window(make_catalogue(12, [-1] * 9), log)
    config = RandomWalkConfig(walks=40_000, steps=5, restart=0.3, degree_exponent=0.0, exclude_seen=False)
    to_item = touched / np.maximum(touched.sum(axis=1, keepdims=True), 1)
    to_user = (touched / np.maximum(touched.sum(axis=0), 1)).T
    at, visits = np.eye(12)[3], np.zeros(9)
    for step in range(5):
        if step:
            at = 0.7 * at + 0.3 * np.eye(12)[3]
        visits += at @ to_item / 5
        at = at @ to_item @ to_user
    items = np.arange(9)[None]
    given = RandomWalk(config).score(window.state, np.array([3]), items)[0]
    np.testing.assert_allclose(given / 1000, visits, atol=0.005)


def test_walks_of_people_without_history_start_at_those_they_follow():
    catalogue = make_catalogue(4, [-1, -1, -1], author_user=np.arange(4, dtype=np.int32))
    log = make_log([(1, 0, NOW - DAY), (1, 1, NOW - DAY), (2, 2, NOW - DAY)])
    window = make_window(catalogue, log, follows=edges([(0, 1)]))
    items = RandomWalk(RandomWalkConfig()).retrieve(window.state, np.array([0, 3]), 3)[0]
    assert set(items[0]) == {0, 1, -1} and (items[1] == -1).all()
    assert RandomWalk(RandomWalkConfig()).explain(window.state, 0, np.array([0, 2])) == [
        Reason("friend", 1),
        Reason("taste"),
    ]


def test_walks_go_along_recent_interactions_only():
    catalogue = make_catalogue(3, [-1] * 3)
    rows = [(0, 0, NOW - DAY), (1, 0, NOW - DAY), (1, 1, NOW - DAY), (2, 0, NOW - 5 * DAY), (2, 2, NOW - 5 * DAY)]
    state = make_window(catalogue, make_log(rows)).state
    assert set(RandomWalk(RandomWalkConfig()).retrieve(state, np.array([0]), 3)[0][0]) == {1, -1}
    everything = RandomWalk(RandomWalkConfig(window_days=None))
    assert set(everything.retrieve(state, np.array([0]), 3)[0][0]) == {1, 2, -1}


def test_another_seed_takes_other_walks_and_the_same_seed_the_same():
    catalogue, log, follows = planted()
    state = make_window(catalogue, log, NOW - 4 * DAY, follows).state
    users = np.arange(120, dtype=np.int32)

    def scores(seed):
        return RandomWalk(RandomWalkConfig(window_days=None, seed=seed, walks=50)).retrieve(state, users, 20)[1]

    np.testing.assert_array_equal(scores(1), scores(1))
    assert (scores(1) != scores(2)).any()
