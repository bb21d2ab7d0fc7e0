"""RealGraph: what it learns of ties, and what follows from them."""

import numpy as np
import pytest
from planted import DAY, NOW, edges, make_catalogue, make_log, make_window
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from recsys_cli.progress import Progress
from recsys_cli.retrieval.graph.real_graph import FEATURES, RealGraph, RealGraphConfig, _logistic
from recsys_cli.retrieval.popularity.popularity import Popularity, PopularityConfig
from recsys_cli.retrieval.reason import Reason


@pytest.fixture(scope="module")
def ties():
    """60 users follow 12 authors each and go on to interact with those three who follow back, whatever they write.

    Returns (window as of 5 days before the end, (user, item) of the later interactions, loved bool[users, users]).
    """
    rng = np.random.default_rng(5)
    users, per_author = 60, 40
    loved, pairs = np.zeros((users, users), bool), []
    for u in range(users):
        for step in (1, 2, 3):
            loved[u, (u + step) % users] = True
            pairs += [(u, (u + step) % users), ((u + step) % users, u)]
    for u in range(users):
        strangers = rng.choice(np.flatnonzero(~loved[u] & ~loved[:, u] & (np.arange(users) != u)), 6, replace=False)
        pairs += [(u, int(v)) for v in strangers]
    authors = np.repeat(np.arange(users), per_author)
    created = NOW - rng.integers(0, 20 * DAY, len(authors))
    rows = []
    for day in range(15):
        start = NOW - (15 - day) * DAY
        live = np.flatnonzero((created < start) & (created > start - 3 * DAY))
        for u in range(users):
            shown = rng.choice(live, 25, replace=False)
            clicked = np.where(loved[u, authors[shown]], rng.random(25) < 0.9, rng.random(25) < 0.03)
            rows += [
                (u, int(i), start + int(rng.integers(0, DAY)), bool(c)) for i, c in zip(shown, clicked, strict=True)
            ]
    log = make_log(rows)
    window = make_window(make_catalogue(users, authors, created), log, NOW - 5 * DAY, edges(pairs))
    later = log.window(start=window.end)
    keep = later.positive & (created[later.item] < window.end)
    return window, (later.user[keep], later.item[keep]), loved


@pytest.fixture(scope="module")
def fitted(ties):
    source = RealGraph(RealGraphConfig(max_age_days=None))
    source.fit(ties[0], Progress())
    return source


def test_ties_that_hold_are_told_from_follows_that_do_not(ties, fitted):
    window, _, loved = ties
    users = np.arange(60, dtype=np.int32)
    places, authors, probability = fitted.ties(window.state, users)
    assert roc_auc_score(loved[places, authors], probability) > 0.95
    follows = window.state.follows.contains(users[places], authors[:, None])[:, 0]
    held = loved[places, authors]
    assert probability[held & follows].mean() > 3 * probability[~held & follows].mean()


def test_ties_propose_better_than_popularity(ties, fitted):
    window, (user, item), _ = ties

    def recall(source):
        found = source.retrieve(window.state, np.arange(60, dtype=np.int32), 40)[0]
        return (found[user] == item[:, None]).any(axis=1).mean()

    popular = Popularity(PopularityConfig(max_age_days=None))
    assert recall(fitted) > 3 * max(recall(popular), 0.02)


def test_score_is_the_tie_times_the_recency_of_the_item(ties, fitted):
    window = ties[0]
    state, users = window.state, np.array([7], np.int32)
    _, authors, probability = fitted.ties(state, users)
    items = np.array([[state.author_items[int(a)][0] for a in authors[:5]]])
    age = (state.now - state.catalogue.item_created[items]) / DAY
    expected = probability[:5] * 2.0 ** (-age / fitted.config.half_life_days)
    np.testing.assert_allclose(fitted.score(state, users, items), expected, rtol=1e-5)


def test_only_followed_authors_where_asked(ties, fitted):
    window = ties[0]
    source = RealGraph(RealGraphConfig(max_age_days=None, authors="followed", exclude_seen=False))
    source.restore(fitted.checkpoint())
    users = np.arange(60, dtype=np.int32)
    items = source.retrieve(window.state, users, 100)[0]
    row, column = np.nonzero(items >= 0)
    authors = window.catalogue.item_author[items[row, column]]
    assert len(row) and window.state.follows.contains(users[row], authors[:, None]).all()


def test_the_columns_say_what_they_say():
    """Ann follows Bob and Cid, Bob follows Ann and Cid; Ann clicked Bob's item a day ago and saw two of his."""
    ann, bob, cid = range(3)
    catalogue = make_catalogue(3, [bob, bob, cid, ann], [NOW - 3 * DAY] * 4)
    log = make_log([(ann, 0, NOW - 1 * DAY), (ann, 1, NOW - 2 * DAY, False), (bob, 3, NOW - 2 * DAY)])
    window = make_window(catalogue, log, follows=edges([(ann, bob), (ann, cid), (bob, ann), (bob, cid)]))
    source = RealGraph(RealGraphConfig(action_half_life_days=1.0))
    source.fit(window, Progress())
    users = np.array([ann])
    places, authors = source._edges(window.state, users)
    assert authors.tolist() == [bob, cid]
    values = source._features(window.state, source._counts, users, places, authors)
    columns = dict(zip((*FEATURES, *source.actions), values.T, strict=True))
    assert columns["follows"].tolist() == [1, 1] and columns["followed_by"].tolist() == [1, 0]
    assert columns["mutual"].tolist() == [1, 0]
    np.testing.assert_allclose(columns["tie"], [np.log1p(2 ** (-1 / 14)), 0], rtol=1e-6)
    np.testing.assert_allclose(columns["tie_back"], [np.log1p(2 ** (-2 / 14)), 0], rtol=1e-6)
    np.testing.assert_allclose(columns["shared_follows"], [1 / 2, 0])
    np.testing.assert_allclose(columns["recency"], [0.5, 0])
    np.testing.assert_allclose(columns["shown"], np.log1p([2, 0]))
    np.testing.assert_allclose(columns["followers"], np.log1p([1, 2]))
    np.testing.assert_allclose(columns["posts"], np.log1p([2, 1]))
    np.testing.assert_allclose(columns["click"], [np.log1p(0.5), 0], rtol=1e-6)


def test_what_happens_in_the_slice_is_no_feature_of_it():
    """The follow is made in the slice, by an action: the fit must not have seen it as given."""
    rng = np.random.default_rng(0)
    users = 40
    catalogue = make_catalogue(users, np.arange(40), np.full(40, NOW - 30 * DAY))
    rows = [
        (u, int(i), NOW - 20 * DAY + int(rng.integers(0, 10 * DAY)))
        for u in range(users)
        for i in rng.choice(40, 8, replace=False)
    ]
    rows += [
        (u, int(i), NOW - int(rng.integers(1, DAY))) for u in range(users) for i in rng.choice(40, 3, replace=False)
    ]
    log = make_log(rows)
    late = log.time > NOW - 2 * DAY
    log.actions["follow"] = late.copy()
    window = make_window(catalogue, log)
    source = RealGraph(RealGraphConfig(slice_share=0.3))
    source.fit(window, Progress())
    assert len(window.state.follows.values) and late.mean() < 0.3
    assert source.coefficients[FEATURES.index("follows")] == 0


def test_logistic_agrees_with_scikit_learn():
    rng = np.random.default_rng(1)
    values = rng.normal(size=(400, 5)) * [1, 3, 0.2, 1, 0] + 2
    targets = rng.random(400) < 1 / (1 + np.exp(-(values[:, 0] - 0.5 * values[:, 1])))
    mean, scale = values.mean(axis=0), np.maximum(values.std(axis=0), 1e-12)
    coefficients, intercept = _logistic(values, targets, 1.0)
    scaled = np.where(values.std(axis=0) > 1e-9, (values - mean) / scale, 0)
    other = LogisticRegression(C=1.0, tol=1e-10, max_iter=1000).fit(scaled, targets)
    np.testing.assert_allclose(
        1 / (1 + np.exp(-(values @ coefficients + intercept))), other.predict_proba(scaled)[:, 1], atol=1e-6
    )


def test_reasons_name_the_author(ties, fitted):
    state = ties[0].state
    mine = int(state.author_items[8][0])
    assert fitted.explain(state, 7, np.array([mine])) == [Reason("follow", 8)]
    authorless = make_catalogue(2, [-1, -1])
    assert fitted.missing(make_window(authorless, make_log([(0, 0, NOW - 1)]))) == "needs items with authors"
    lonely = make_window(make_catalogue(2, [0, 1]), make_log([]))
    assert fitted.missing(lonely) == "needs interactions or follows"
