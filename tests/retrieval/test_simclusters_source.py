"""SimClusters: communities that were planted, and vectors that follow from them."""

import numpy as np
import pytest
from planted import DAY, NOW, edges, make_catalogue, make_log, make_window, planted
from sklearn.metrics import adjusted_rand_score

from recsys_cli.progress import Progress
from recsys_cli.retrieval.graph.communities import Similarities, find_communities
from recsys_cli.retrieval.graph.simclusters import SimClusters, SimClustersConfig
from recsys_cli.retrieval.reason import Reason


def planted_graph(seed: int, n: int, groups: int, inside: float, between: float):
    rng = np.random.default_rng(seed)
    home = np.arange(n) % groups
    linked = np.triu(rng.random((n, n)) < np.where(home[:, None] == home, inside, between), 1)
    rows, columns = np.nonzero(linked)
    return Similarities.of(rows, columns, rng.uniform(0.5, 1.5, len(rows)), n), home


@pytest.mark.parametrize("wanted", [8, 24])
def test_planted_communities_are_found_whether_or_not_their_number_is_known(wanted):
    graph, home = planted_graph(2, 400, 8, 0.4, 0.03)
    assert adjusted_rand_score(home, find_communities(graph, wanted, seed=1)) > 0.9


def test_no_more_communities_than_wanted_and_the_largest_first():
    graph, _ = planted_graph(3, 300, 10, 0.5, 0.01)
    labels = find_communities(graph, 4, seed=1)
    sizes = np.bincount(labels)
    assert 1 <= len(sizes) <= 4 and (np.diff(sizes) <= 0).all() and labels.min() == 0


def test_nodes_without_neighbours_belong_nowhere():
    graph = Similarities.of(np.array([0, 0, 1]), np.array([1, 2, 2]), np.ones(3), 5)
    assert find_communities(graph, 2, seed=0).tolist()[3:] == [-1, -1]
    assert find_communities(Similarities.of(*(np.zeros(0, int),) * 2, np.zeros(0), 3), 2).tolist() == [-1] * 3


def test_two_directions_of_an_edge_are_one():
    graph = Similarities.of(np.array([0, 1, 1]), np.array([1, 0, 1]), np.array([0.2, 0.7, 9.0]), 2)
    assert graph.columns.tolist() == [1, 0] and graph.weights.tolist() == [0.7, 0.7]


@pytest.fixture(scope="module")
def world():
    catalogue, log, follows = planted()
    window = make_window(catalogue, log, NOW - 4 * DAY, follows)
    return window, follows, np.arange(120) % 5


def fit(window, **settings) -> SimClusters:
    source = SimClusters(SimClustersConfig(communities=10, **settings))
    source.fit(window, Progress())
    return source


@pytest.mark.parametrize("graph", ["follows", "authors"])
def test_authors_of_one_community_are_found_together(world, graph):
    window, _, home = world
    labels = fit(window, graph=graph).labels
    known = labels >= 0
    assert known.mean() > 0.8 and adjusted_rand_score(home[known], labels[known]) > 0.8


def test_items_form_the_communities_where_nothing_has_an_author(world):
    window = world[0]
    catalogue = make_catalogue(120, [-1] * 400, window.catalogue.item_created)
    source = fit(make_window(catalogue, window.log, window.end))
    assert source.producers == "items"
    topic = window.catalogue.item_topics.values
    known = source.labels >= 0
    assert adjusted_rand_score(topic[known], source.labels[known]) > 0.7


def test_the_graph_is_chosen_by_what_the_data_has(world):
    window = world[0]
    assert fit(window).producers == "follows"
    assert fit(make_window(window.catalogue, window.log, window.end)).producers == "authors"
    few = edges([(u, 3) for u in range(10)])
    assert fit(make_window(window.catalogue, window.log, window.end, few)).producers == "authors"
    nothing = make_window(window.catalogue, make_log([]))
    assert SimClusters(SimClustersConfig()).missing(nothing) == "needs follows or interactions"
    assert SimClusters(SimClustersConfig(graph="follows")).missing(nothing) == "needs follows of authors"


def test_vectors_are_sparse_and_of_unit_length(world):
    window = world[0]
    source = fit(window, active=2)
    vectors = source.interested_in(window.state, np.arange(-1, 120))
    assert (vectors.ids >= 0).sum(axis=1).max() <= 2 and not vectors.weights[0].any()
    np.testing.assert_allclose(np.linalg.norm(vectors.weights[1:], axis=1), 1, rtol=1e-6)


def test_an_item_nobody_engaged_with_has_the_communities_of_its_author(world):
    window, follows, home = world
    source = fit(window)
    writer = 17
    authors = np.append(window.catalogue.item_author, writer)
    created = np.append(window.catalogue.item_created, window.end - 1)
    state = make_window(make_catalogue(120, authors, created), window.log, window.end, follows).state
    source.adapt(state.catalogue)
    score = source.score(state, np.arange(120, dtype=np.int32), np.full((120, 1), 400))[:, 0]
    assert score[home == home[writer]].mean() > 3 * score[home != home[writer]].mean()
    assert source.explain(state, writer, np.array([400])) == [Reason("community")]


def test_a_new_item_moves_to_those_who_engage_with_it(world):
    """Fresh engagement after the fit counts at once: vectors of items are of the State."""
    window, follows, home = world
    source = fit(window)
    writer = 17
    elsewhere = np.flatnonzero(home == (home[writer] + 1) % 5)[:12]
    catalogue = make_catalogue(
        120, np.append(window.catalogue.item_author, writer), np.append(window.catalogue.item_created, window.end - 1)
    )
    rows = zip(window.log.user, window.log.item, window.log.time, strict=True)
    rows = [tuple(int(x) for x in r) for r in rows] + [(int(u), 400, window.end + 1) for u in elsewhere]
    state = make_window(catalogue, make_log(rows), window.end + 2, follows).state
    source.adapt(catalogue)
    score = source.score(state, np.arange(120, dtype=np.int32), np.full((120, 1), 400))[:, 0]
    assert score[home == home[elsewhere[0]]].mean() > 2 * score[home == home[writer]].mean()


def test_weights_halve_with_the_half_life():
    """Two interactions, one a half-life older, by people of different communities."""
    pairs = [(a, b) for a in range(20) for b in range(20) if a != b and a // 10 == b // 10]
    catalogue = make_catalogue(20, [*range(20), -1], [NOW - 9 * DAY] * 21)
    log = make_log([(0, 20, NOW - 2 * DAY), (10, 20, NOW - 1 * DAY)])
    window = make_window(catalogue, log, follows=edges(pairs))
    source = fit(window, min_followers=1, norm_exponent=0.0, item_half_life_days=1.0)
    assert source.count == 2
    given = source.score(window.state, np.array([1, 11]), np.array([[20], [20]]))[:, 0]
    np.testing.assert_allclose(given[0] / given[1], 0.5, rtol=1e-5)


def test_folding_in_a_known_history_comes_close_to_the_user(world):
    window = world[0]
    source = fit(window, graph="authors")
    users = np.arange(120)
    own = source._dense(source.interested_in(window.state, users))[:, :-1]
    folded = source.fold_in([window.state.history[u] for u in users])
    assert folded.shape == own.shape and np.mean((own * folded).sum(axis=1)) > 0.9
    assert not source.fold_in([np.zeros(0, np.int32), np.array([9999, -1])]).any()


def test_the_nearest_users_and_items_share_the_community(world):
    window, _, home = world
    source = fit(window)
    users, _ = source.similar_users(window.state, np.array([17]), 10)
    assert (home[users[0]] == home[17]).mean() > 0.8 and 17 not in users
    topic = window.catalogue.item_topics.values
    items, scores = source.similar_items(window.state, np.array([30, -1]), 20)
    assert (topic[items[0]] == topic[30]).mean() > 0.7 and 30 not in items[0] and (items[1] == -1).all()
    assert (np.diff(scores[0]) <= 1e-6).all() and scores[0, 0] <= 1 + 1e-5
