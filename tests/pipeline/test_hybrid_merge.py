"""Budgets that one source cannot fill pass to the others; lists merge by quota, by rank or by score."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recsys_cli.pipeline.config import SourcingConfig
from recsys_cli.pipeline.sourcing import Sourcing

NAMES = ("a", "b", "c")
BITS = {name: bit for bit, name in enumerate(NAMES)}


class Lists:
    """A source with a list, best first, for each user; scores fall by one with the rank unless given."""

    def __init__(self, *rows, scores=None):
        self._rows, self._scores = rows, scores

    def retrieve(self, state, users, k):
        items, scores = np.full((len(users), k), -1, np.int32), np.full((len(users), k), -np.inf, np.float32)
        for at, user in enumerate(users):
            row = self._rows[user][:k]
            items[at, : len(row)] = row
            scores[at, : len(row)] = self._scores[user][:k] if self._scores else -np.arange(len(row))
        return items, scores


def sourced(make, sources, users=(0,), catalogue=100, **settings):
    state = make.state(make.catalogue([0] * catalogue))
    config = SourcingConfig(fallback=[], **settings)
    stage = Sourcing(config, sources, BITS, NAMES)
    return stage(make.query(state, users), make.candidates(np.zeros((len(users), 0))))


def row(candidates, at=0):
    return {int(i): int(s) for i, s in zip(candidates.items[at], candidates.sources[at], strict=True) if i >= 0}


def test_a_source_that_runs_dry_is_made_up_for_by_the_others_in_rank_order(make):
    out = sourced(make, {"a": Lists([0, 1]), "b": Lists(range(10, 60))}, candidates=10, shares={"a": 0.5, "b": 0.5})
    assert row(out) == {0: 1, 1: 1, **dict.fromkeys(range(10, 18), 2)}


def test_full_sources_keep_their_quotas(make):
    sources = {"a": Lists(range(50)), "b": Lists(range(50, 100))}
    out = row(sourced(make, sources, candidates=10, shares={"a": 0.7, "b": 0.3}))
    assert out == {**dict.fromkeys(range(7), 1), **{50 + i: 2 for i in range(3)}}


def test_what_two_sources_share_leaves_room_for_more(make):
    sources = {"a": Lists(range(50)), "b": Lists(range(50))}
    assert row(sourced(make, sources, candidates=10, shares={"a": 0.5, "b": 0.5})) == dict.fromkeys(range(10), 3)


def test_room_is_shared_in_proportion_when_a_third_runs_dry(make):
    sources = {"a": Lists([]), "b": Lists(range(50)), "c": Lists(range(50, 100))}
    found = row(sourced(make, sources, candidates=40, shares={"a": 0.25, "b": 0.5, "c": 0.25}))
    assert len(found) == 40
    assert sum(i < 50 for i in found) == pytest.approx(40 * 2 / 3, abs=1)


def test_more_than_the_catalogue_holds_gives_the_catalogue(make):
    sources = {"a": Lists(range(6)), "b": Lists(range(6))}
    assert len(row(sourced(make, sources, catalogue=6, candidates=1500, shares={"a": 0.5, "b": 0.5}))) == 6


def test_rank_fusion_prefers_what_both_know_to_what_one_puts_first(make):
    sources = {"a": Lists([1, 2, 3, 9]), "b": Lists([4, 5, 6, 9])}
    shares = {"a": 0.5, "b": 0.5}
    out = sourced(make, sources, candidates=4, shares=shares, merge="rrf")
    assert row(out)[9] == 3
    assert out.scores["rrf"][0][out.items[0] == 9] == pytest.approx(2 * 0.5 / (60 + 4))


def test_weights_scale_scores_between_sources(make):
    sources = {
        "a": Lists([1, 2, 3], scores=[[1000.0, 500.0, 0.0]]),
        "b": Lists([4, 5, 6], scores=[[0.3, 0.29, 0.1]]),
    }
    out = sourced(make, sources, candidates=3, shares={"a": 0.25, "b": 0.75}, merge="weighted")
    # a: 0.25, 0.125, 0; b: 0.75, 0.7125, 0
    assert set(row(out)) == {4, 5, 1}


def test_learned_weights_add_up_over_the_sources_of_an_item(make):
    sources = {"a": Lists([1, 2, 3]), "b": Lists([4, 2, 5])}
    curves = {"a": [2.0, 1.0, 0, 0, 0, 0, 0], "b": [1.5, 1.2, 0, 0, 0, 0, 0]}
    out = sourced(make, sources, candidates=2, shares={}, merge="learned", curves=curves)
    # at rank 2 a gives 2 − ln 2 / ln 3 and b 1.5 − 0.3 ln 2 / ln 3, together more than either's first
    assert row(out) == {2: 3, 1: 1}
    assert out.scores["rrf"][0][out.items[0] == 2] == pytest.approx(3.5 - 1.3 * np.log(2) / np.log(3), abs=0.05)


lists = st.lists(st.lists(st.integers(0, 29), unique=True, max_size=30), min_size=3, max_size=3)


@given(st.lists(lists, min_size=1, max_size=4), st.integers(1, 40), st.sampled_from(["quota", "rrf", "weighted"]))
def test_rows_are_full_where_the_sources_can_fill_them_and_the_same_alone(make, users, limit, kind):
    sources = {name: Lists(*(rows[b] for rows in users)) for name, b in BITS.items()}
    shares = {"a": 0.5, "b": 0.3, "c": 0.2}
    settings = {"candidates": limit, "shares": shares, "merge": kind, "deepen": 100.0}
    together = sourced(make, sources, range(len(users)), catalogue=30, **settings)
    for at, rows in enumerate(users):
        found = row(together, at)
        assert len(found) >= min(limit, len(set().union(*rows)))
        assert len(found) <= limit
        for item, mark in found.items():
            assert mark & ~sum(1 << b for b in range(3) if item in rows[b]) == 0
        assert row(sourced(make, sources, [at], catalogue=30, **settings)) == found
