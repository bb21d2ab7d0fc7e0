"""Filters leave out what they name and nothing else."""

import numpy as np
import pytest

from recsys_cli.data.schema import DAY
from recsys_cli.pipeline.config import FilterConfig
from recsys_cli.pipeline.filters import (
    Blocked,
    Fresh,
    Own,
    Published,
    Seen,
    prefilters,
)

NOW = 100 * DAY


def test_seen_items_go_whether_engaged_or_not(make):
    state = make.state(make.catalogue([0] * 5), shown=[(1, 2, True), (1, 3, False), (2, 4, True)])
    out = Seen()(make.query(state, [1, 2, -1]), make.candidates([[2, 3, 4]] * 3))
    assert out.items.tolist() == [[4, -1, -1], [2, 3, -1], [2, 3, 4]]


def test_own_items_go(make):
    state = make.state(make.catalogue([0, 1, -1]))
    out = Own()(make.query(state, [1, 0, -1]), make.candidates([[0, 1, 2]] * 3))
    assert out.items.tolist() == [[0, 2, -1], [1, 2, -1], [0, 1, 2]]


def test_blocked_authors_go_for_the_one_who_blocked(make):
    state = make.state(make.catalogue([0, 1, 2]), blocks=[(3, 1)])
    out = Blocked()(make.query(state, [3, 0]), make.candidates([[0, 1, 2]] * 2))
    assert out.items.tolist() == [[0, 2, -1], [0, 1, 2]]


def test_old_items_go_and_undated_ones_stay(make):
    state = make.state(make.catalogue([0, 0, 0], created=[NOW - 3 * DAY, NOW - 1 * DAY, 0]))
    out = Fresh(2.0)(make.query(state, [0]), make.candidates([[0, 1, 2]]))
    assert out.items.tolist() == [[1, 2]]


def test_items_of_the_future_go(make):
    state = make.state(make.catalogue([0, 0], created=[NOW, NOW - 1]))
    out = Published()(make.query(state, [0]), make.candidates([[0, 1]]))
    assert out.items.tolist() == [[1]]


def test_scores_and_sources_travel_with_their_item(make):
    state = make.state(make.catalogue([0] * 3), shown=[(0, 1, True)])
    out = Seen()(make.query(state, [0]), make.candidates([[0, 1, 2]], light=[[0.1, 0.2, 0.3]]))
    np.testing.assert_allclose(out.scores["light"], [[0.1, 0.3]])


def test_each_filter_can_be_switched_off():
    off = FilterConfig(seen=False, own=False, blocked=False, max_age_days=None)
    assert [s.name for s in prefilters(off)] == ["published"]
    assert {s.name for s in prefilters(FilterConfig())} == {"published", "fresh", "not_own", "not_blocked", "not_seen"}


@pytest.mark.parametrize(("seen", "repeats", "there"), [
    ("auto", False, True), ("auto", True, False), (True, True, True), (False, False, False),
])  # fmt: skip
def test_what_was_seen_is_left_out_as_set_or_as_training_found(seen, repeats, there):
    names = [stage.name for stage in prefilters(FilterConfig(seen=seen), repeats)]
    assert ("not_seen" in names) is there
