"""The state is what was known at a moment, and nothing later."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from recsys_cli.data.catalogue import Catalogue
from recsys_cli.data.log import Log
from recsys_cli.data.ragged import Ragged
from recsys_cli.data.state import HISTORY_LENGTH, TREND_HALF_LIFE, State

USERS, ITEMS = 4, 6


def catalogue(created=(0,) * ITEMS, author=(0, 0, 1, 1, 2, -1)):
    return Catalogue(
        n_users=USERS,
        n_authors=USERS,
        item_author=np.array(author, np.int32),
        item_created=np.array(created, np.int64),
        item_topics=Ragged.empty(ITEMS),
        item_text=Ragged.empty(ITEMS),
        item_codes={},
        item_numbers={},
        item_safety={},
        user_created=np.zeros(USERS, np.int64),
        user_codes={},
        user_numbers={},
        author_user=np.arange(USERS, dtype=np.int32),
    )


def log_of(rows):
    """rows: (time, user, item, click, follow, mute)"""
    rows = sorted(rows, key=lambda r: (r[0], r[1]))
    columns = [np.array([r[i] for r in rows]) for i in range(6)] if rows else [np.zeros(0)] * 6
    return Log(
        user=columns[1].astype(np.int32),
        item=columns[2].astype(np.int32),
        time=columns[0].astype(np.int64),
        actions={n: columns[3 + i].astype(bool) for i, n in enumerate(("click", "follow", "mute"))},
        positive_actions=("click", "follow"),
        negative_actions=("mute",),
    )


ROWS = st.lists(
    st.tuples(
        st.integers(1, 30),
        st.integers(0, USERS - 1),
        st.integers(0, ITEMS - 1),
        st.booleans(),
        st.booleans(),
        st.booleans(),
    ),
    max_size=40,
)


@settings(deadline=None)
@given(ROWS, st.integers(1, 31))
def test_a_state_agrees_with_a_replay_and_never_sees_its_own_moment_or_later(rows, now):
    cat = catalogue()
    state = State.build(cat, log_of(rows), now)
    past = [r for r in sorted(rows, key=lambda r: (r[0], r[1])) if r[0] < now]
    for user in range(USERS):
        mine = [r for r in past if r[1] == user]
        assert state.history[user].tolist() == [r[2] for r in mine if r[3] or r[4]]
        assert state.seen[user].tolist() == sorted({r[2] for r in mine})
        author = cat.item_author
        assert state.follows[user].tolist() == sorted({int(author[r[2]]) for r in mine if r[4] and author[r[2]] >= 0})
        assert state.blocked[user].tolist() == sorted({int(author[r[2]]) for r in mine if r[5] and author[r[2]] >= 0})
    assert state.interactions.tolist() == [sum(r[2] == i and (r[3] or r[4]) for r in past) for i in range(ITEMS)]
    assert state.impressions.tolist() == [sum(r[2] == i for r in past) for i in range(ITEMS)]


def test_trending_halves_in_a_half_life():
    rows = [(1, 0, 3, True, False, False), (1 + TREND_HALF_LIFE, 1, 4, True, False, False)]
    state = State.build(catalogue(), log_of(rows), 1 + TREND_HALF_LIFE + 1)
    np.testing.assert_allclose(state.trending[[3, 4, 5]], [0.5, 1.0, 0.0], rtol=1e-5)


def test_given_edges_count_from_their_moment():
    edges = {
        "from": np.array([0, 0], np.int32),
        "to": np.array([1, 2], np.int32),
        "time": np.array([5, 20]),
        "weight": np.ones(2, np.float32),
    }
    state = State.build(catalogue(), log_of([]), 10, follows=edges)
    assert state.follows[0].tolist() == [1]
    assert state.author_followers.tolist() == [0, 1, 0, 0]


def test_an_authors_items_are_newest_first_and_published():
    state = State.build(catalogue(created=(3, 7, 5, 50, 0, 2)), log_of([]), 10)
    assert [state.author_items[a].tolist() for a in range(3)] == [[1, 0], [2], [4]]
    assert state.available.tolist() == [True, True, True, False, True, True]


def test_the_history_keeps_the_latest():
    rows = [(t, 0, t % ITEMS, True, False, False) for t in range(1, HISTORY_LENGTH + 8)]
    state = State.build(catalogue(), log_of(rows), 10_000)
    assert state.history[0].tolist() == [t % ITEMS for t in range(8, HISTORY_LENGTH + 8)]
    assert state.history_time[0][0] == 8


def test_a_state_survives_being_stored(tmp_path):
    from recsys_cli.arrays import load_arrays, save_arrays

    cat = catalogue()
    state = State.build(cat, log_of([(1, 0, 3, True, True, False), (2, 1, 4, False, False, True)]), 9)
    save_arrays(tmp_path / "state.bin", *state.to_arrays())
    save_arrays(tmp_path / "catalogue.bin", *cat.to_arrays())
    again_cat = Catalogue.from_arrays(*load_arrays(tmp_path / "catalogue.bin"))
    again = State.from_arrays(*load_arrays(tmp_path / "state.bin"), again_cat)
    for name, array in state.to_arrays()[0].items():
        np.testing.assert_array_equal(again.to_arrays()[0][name], array)
    assert again.now == 9 and again_cat.n_items == ITEMS
