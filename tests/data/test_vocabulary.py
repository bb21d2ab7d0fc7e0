"""Positions and ids are each other's inverse, whatever the ids are."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys_cli.data.vocabulary import Vocabulary
from recsys_cli.errors import DataError

INTEGERS = st.lists(st.integers(-(2**63) + 2, 2**63 - 1), unique=True, max_size=60)
# a fixed-width array of bytes cannot tell trailing NULs from padding
TEXTS = st.lists(
    st.text(min_size=1, max_size=12).filter(lambda s: not s.endswith("\0")), unique=True, max_size=60
)
TEXTS = TEXTS.filter(lambda ids: all(s.encode("utf-8", "replace").decode() == s for s in ids))


@given(INTEGERS, INTEGERS)
def test_integer_ids_find_their_positions_and_strangers_find_none(ids, others):
    vocabulary = Vocabulary(np.array(ids, np.int64))
    assert vocabulary.positions(np.array(ids, np.int64)).tolist() == list(range(len(ids)))
    assert vocabulary.external(np.arange(len(ids))) == ids
    expected = [ids.index(o) if o in ids else -1 for o in others]
    assert vocabulary.positions(np.array(others, np.int64)).tolist() == expected


@given(TEXTS, TEXTS)
def test_text_ids_find_their_positions_and_strangers_find_none(ids, others):
    vocabulary = Vocabulary(np.array(ids, object))
    assert vocabulary.positions(ids).tolist() == list(range(len(ids)))
    assert vocabulary.external(range(len(ids))) == ids
    assert vocabulary.positions(others).tolist() == [ids.index(o) if o in ids else -1 for o in others]


@given(st.integers(-(2**40), 2**40), st.integers(1, 50))
def test_a_run_of_integers_is_looked_up_like_any_other_ids(first, n):
    ids = np.arange(first, first + n)
    run, shuffled = Vocabulary(ids), Vocabulary(ids[::-1].copy())
    asked = np.array([first - 1, *ids.tolist(), first + n, -(2**63), 2**63 - 1])
    assert run.positions(asked).tolist() == [-1, *range(n), -1, -1, -1]
    assert shuffled.positions(asked).tolist() == [-1, *reversed(range(n)), -1, -1, -1]


@pytest.mark.parametrize(
    ("value", "position"),
    [
        ("20", 1),
        (20, 1),
        (20.0, 1),
        (20.5, -1),
        ("20.0", -1),
        ("020", -1),
        ("2_0", -1),
        ("+20", -1),
        (" 20", -1),
        ("x", -1),
        (None, -1),
        (float("nan"), -1),
        (10**30, -1),
        ("9" * 30, -1),
    ],
)
def test_only_what_spells_an_integer_finds_an_integer_id(value, position):
    assert Vocabulary(np.array([10, 20])).position(value) == position


@pytest.mark.parametrize(
    "ids", [np.arange(5, 9), np.array([9, 2, 4]), np.array(["b", "ä", "a"], object), np.zeros(0, np.int64)]
)
def test_a_saved_vocabulary_is_the_same_after_loading(tmp_path, ids):
    vocabulary = Vocabulary(ids)
    vocabulary.save(tmp_path, "user")
    loaded = Vocabulary.load(tmp_path, "user")
    assert loaded.external(range(len(ids))) == vocabulary.external(range(len(ids))) == ids.tolist()
    assert loaded.positions(ids).tolist() == list(range(len(ids)))


def test_an_empty_vocabulary_knows_nobody():
    vocabulary = Vocabulary(np.zeros(0, np.int64))
    assert len(vocabulary) == 0 and vocabulary.positions([1, 2]).tolist() == [-1, -1]
    assert vocabulary.external([-1]) == [None]


def test_an_id_that_stands_twice_is_named():
    Vocabulary(np.array([3, 1, 2])).require_unique("user_id")
    with pytest.raises(DataError, match="user_id 3 stands more than once"):
        Vocabulary(np.array([3, 1, 3])).require_unique("user_id")
    with pytest.raises(DataError, match="item_id 'b'"):
        Vocabulary(np.array(["b", "a", "b"], object)).require_unique("item_id")


@pytest.mark.parametrize("ids", [np.array([5, 7]), np.array(["a", "b"], object), np.zeros(0, np.int64)])
def test_no_positions_are_no_ids(ids):
    assert Vocabulary(ids).external([]) == []


def test_text_longer_than_every_id_is_unknown_and_makes_no_others_wider():
    vocabulary = Vocabulary(np.array(["a,b", "ü", "c"], object))
    assert vocabulary.positions(["c", "cc", "x" * 10**6, *["ü"] * 50_000, "a,bc", "a,b"]).tolist() == [
        2, -1, -1, *[1] * 50_000, -1, 0
    ]
    assert vocabulary.comma_counts() == [0, 1] and Vocabulary(np.array([1, 2])).comma_counts() == []
