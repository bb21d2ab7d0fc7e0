"""Neighbours of sessions against hand-worked cases, and sessions with planted transitions."""

import dataclasses

import numpy as np
import pytest
from planted import DAY, NOW, make_catalogue, make_log, make_window

from recsys_cli.data.ragged import Ragged
from recsys_cli.metrics import list_ndcg
from recsys_cli.pipeline.guest import with_guest
from recsys_cli.progress import Progress
from recsys_cli.retrieval.reason import Reason
from recsys_cli.retrieval.registry import SOURCES, make
from recsys_cli.retrieval.sequential.sessions import sessions_of, visits_of

MINUTE = 60_000_000


def fitted(kind, window, **more):
    source = make(SOURCES[kind].config_type(**more))
    source.fit(window, Progress())
    return source


def window_of(sequences, n_items, ends=None, spacing=MINUTE):
    """Users do the items of their lists a minute apart, the last of each a moment before its `end`."""
    ends = [NOW - 10 * MINUTE] * len(sequences) if ends is None else ends
    rows = [(u, i, ends[u] - (len(s) - at) * spacing) for u, s in enumerate(sequences) for at, i in enumerate(s)]
    return make_window(make_catalogue(len(sequences), [-1] * n_items), make_log(rows))


def as_matrix(source, histories):
    return source.fold_in([np.array(h) for h in histories])


def test_vsknn_by_hand():
    source = fitted("session_neighbours", window_of([[0, 1, 2], [1, 2, 3], [4, 5]], 6))
    scores = as_matrix(source, [[0, 1]])[0]
    # newest counts 1, the one before it 1/2; both sessions of three items hold the newest
    first, second = 1.5 / np.sqrt(3), 1 / np.sqrt(3)
    rarity = np.log1p(3 / np.array([1, 2, 2, 1]))
    np.testing.assert_allclose(scores[:4], [first, first + second, first + second, second] * rarity, rtol=1e-6)
    assert not scores[4:].any()
    assert as_matrix(source, [[1, 0]])[0, 3] == pytest.approx(0.5 / np.sqrt(3) * 0.9 * np.log(4))


def test_stan_by_hand():
    window = window_of([[0, 1, 2], [3, 1, 4], [5, 0]], 6, ends=[NOW - DAY, NOW - 2 * DAY, NOW - 3 * DAY])
    source = fitted(
        "session_neighbours", window, similarity="stan", place_decay=2, age_days=4, distance_decay=3, sessions="history"
    )
    state = with_guest(window.state, np.array([0, 1]))
    items, scores = source.retrieve(state, np.array([3]), 6)
    found = dict(zip(items[0].tolist(), scores[0].tolist(), strict=True))

    def likeness(shared, length, days):
        return shared / np.sqrt(2 * length) * np.exp(-days / 4)

    minute = MINUTE / DAY
    one, two = (likeness(s, 3, d + minute) for s, d in ((1 + np.exp(-0.5), 1), (1, 2)))
    assert found[2] == pytest.approx(one * np.exp(-1 / 3), rel=1e-6)
    assert found[4] == pytest.approx(two * np.exp(-1 / 3), rel=1e-6)
    assert found[3] == pytest.approx(two * np.exp(-1 / 3), rel=1e-6)
    # the newest that the third session shares is the older of the two
    assert found[5] == pytest.approx(likeness(np.exp(-0.5), 2, 3 + minute) * np.exp(-1 / 3), rel=1e-6)


def test_only_the_latest_sessions_are_looked_at():
    ends = [NOW - (10 - u) * DAY for u in range(6)]
    window = window_of([[0, 1], [0, 2], [0, 3], [0, 4], [0, 5], [6, 7]], 8, ends=ends)
    source = fitted("session_neighbours", window, sample=2)
    assert np.flatnonzero(as_matrix(source, [[0]])[0]).tolist() == [0, 4, 5]
    one = fitted("session_neighbours", window, neighbours=1)
    assert np.flatnonzero(as_matrix(one, [[0]])[0]).tolist() == [0, 5]  # of equals the latest


def test_nobody_is_a_neighbour_of_the_session_that_they_are_in():
    window = window_of([[0, 1, 2], [2, 3]], 5)
    source = fitted("session_neighbours", window, exclude_seen=False)
    items = source.retrieve(window.state, np.array([0]), 5)[0]
    assert sorted(items[0][items[0] >= 0].tolist()) == [2, 3]
    assert source.explain(window.state, 0, np.array([3, 4])) == [Reason("similar", 2), Reason("taste")]
    assert (source.score(window.state, np.array([0]), items) > 0).sum() == 2


def test_an_earlier_session_of_the_same_person_is_a_neighbour():
    rows = [(0, i, NOW - DAY + i * MINUTE) for i in (0, 1, 2)] + [(0, 0, NOW - 5 * MINUTE)]
    rows += [(1, 3, NOW - DAY), (1, 4, NOW - DAY + MINUTE)]
    window = make_window(make_catalogue(2, [-1] * 5), make_log(rows))
    source = fitted("session_neighbours", window, exclude_seen=False)
    items, _ = source.retrieve(window.state, np.array([0]), 5)
    # asked with the newest session, the item 0 alone
    assert sorted(items[0][items[0] >= 0].tolist()) == [0, 1, 2]


def lists(found):
    return [(int(user), found.items[at].tolist()) for at, user in enumerate(found.user)]


def test_sessions_are_made_by_column_gap_or_history():
    ago = {(0, 0): 300, (0, 1): 299, (1, 3): 298, (0, 2): 100}
    window = make_window(make_catalogue(2, [-1] * 4), make_log([(*pair, NOW - m * MINUTE) for pair, m in ago.items()]))
    assert lists(sessions_of(window, "gap", 30 * MINUTE)) == [(0, [0, 1]), (0, [2]), (1, [3])]
    assert lists(sessions_of(window, "history")) == [(0, [0, 1, 2]), (1, [3])]

    def named(names):
        return dataclasses.replace(window, log=dataclasses.replace(window.log, session=np.array(names, np.int64)))

    # one name of two people is two sessions; they stand in the order in which they began
    found = sessions_of(named([7, 5, 7, 7]), "session_id")
    assert lists(found) == [(0, [0, 2]), (0, [1]), (1, [3])]
    assert found.gap == pytest.approx(200 * MINUTE)
    assert [(e - s) // MINUTE for s, e in zip(found.start, found.end, strict=True)] == [200, 0, 0]
    assert len(sessions_of(named([-1] * 4), "session_id")) == 4


def test_what_a_session_is_follows_from_the_data():
    visits = window_of([[0, 1], [1, 2], [0, 2]], 3)
    assert visits_of(visits, "auto", 30)[1] == "gap"
    ratings = window_of([[0, 1], [1, 2], [0, 2]], 3, spacing=DAY)
    assert visits_of(ratings, "auto", 30)[1] == "history"
    named = dataclasses.replace(ratings.log, session=np.zeros(6, np.int64))
    assert visits_of(dataclasses.replace(ratings, log=named), "auto", 30)[1] == "session_id"


def planted_sessions(seed, sessions=3_000, items=150, noise=0.15):
    """Each item is mostly followed by one of three; visitors are anonymous, a session each of 4 to 8 items."""
    rng = np.random.default_rng(seed)
    after = np.array([rng.choice(items, 3, replace=False) for _ in range(items)])
    out = []
    for _ in range(sessions):
        session = [int(rng.integers(items))]
        for _ in range(rng.integers(3, 8)):
            follows = rng.choice(after[session[-1]], p=[0.6, 0.3, 0.1])
            session.append(int(rng.integers(items) if rng.random() < noise else follows))
        out.append(session)
    return out


def test_planted_transitions_are_found_by_neighbours_of_sessions_and_not_by_those_of_items():
    sequences = planted_sessions(1)
    tested = [s for s in sequences[-1_000:] if s[-1] not in s[:-1]]
    known = sequences[:-1_000] + [s[:-1] for s in tested]
    window = window_of(known, 150, ends=[NOW - DAY + u * 20_000_000 for u in range(len(known))])
    users = np.arange(len(known) - len(tested), len(known), dtype=np.int32)
    wanted = Ragged(np.arange(len(tested) + 1), np.array([s[-1] for s in tested], np.int32))

    def ndcg(kind, **more):
        return list_ndcg(fitted(kind, window, **more).retrieve(window.state, users, 10)[0], wanted, 10)

    cosine = ndcg("item_neighbours")
    for kind, more in (("session_neighbours", {}), ("session_neighbours", {"similarity": "stan"}), ("markov", {})):
        gain = ndcg(kind, **more) - cosine
        low = gain.mean() - 1.96 * gain.std(ddof=1) / np.sqrt(len(gain))
        print(kind, more, round(float(gain.mean()), 3), round(float(low), 3), round(float(cosine.mean()), 3))
        assert low > 0, (kind, more)
