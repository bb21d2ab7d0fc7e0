"""The training table: which rows it has, and all families of it together against a replay of the log."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from feature_worlds import make_world
from hypothesis import given, settings
from hypothesis import strategies as st
from replayed import replayed

from recsys_cli.features.build import build_table
from recsys_cli.testing.small_world import SmallWorld, similarity


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10_000), row=st.integers(0, 119))
def test_every_feature_equals_a_replay_of_the_log(seed, row):
    spec, catalogue, log, edges = make_world(seed)
    got = build_table(spec, catalogue, log, np.array([row]), edges, edges, similarity).values[0]
    world = SmallWorld(catalogue, log, edges)
    wanted = {f.name: replayed(world, spec, f, row) for f in spec.features}
    assert dict(zip(spec.names, got, strict=True)) == pytest.approx(wanted, rel=1e-4, abs=2e-5)


def test_the_future_changes_what_comes_after_it():
    """The other side of the contract that it changes nothing before."""
    spec, catalogue, log, edges = make_world(3)
    now = log.time == log.time[60]
    flipped = replace(log, actions={k: np.where(now, ~v, v) for k, v in log.actions.items()}, _cache={})
    later = np.flatnonzero(log.time > log.time[60])
    assert not np.array_equal(*(build_table(spec, catalogue, x, later, edges).values for x in (log, flipped)))


def test_rows_of_the_table_are_the_rows_asked_for():
    spec, catalogue, log, edges = make_world(5)
    whole = build_table(spec, catalogue, log, None, edges, edges, similarity)
    rows = np.array([100, 3, 57])
    part = build_table(spec, catalogue, log, rows, edges, edges, similarity)
    np.testing.assert_array_equal(part.values, whole.values[rows])
    np.testing.assert_array_equal(part.item, log.item[rows])
    np.testing.assert_array_equal(part.labels["like"], log.actions["like"][rows])
    own = build_table(spec, catalogue, log, log.take(rows), edges, edges, similarity)
    np.testing.assert_array_equal(own.values, part.values)
    assert part.names == spec.names and part.categories == {
        f.name: f.codes for f in spec.features if f.kind == "categorical"
    }
