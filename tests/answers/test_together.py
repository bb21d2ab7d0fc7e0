"""What is taken together: lifts by hand, within visits or whole histories."""

import numpy as np
import pytest

from recsys_cli.answers.together import together_with
from recsys_cli.data.state import State
from recsys_cli.testing.planted_world import NOW, make_catalogue, make_log

MINUTE = 60_000_000


def state_of(baskets, gap=120, n_items=8):
    """One user a basket pair: baskets of a user are `gap` minutes apart, items within a minute."""
    rows = []
    for number, (user, items) in enumerate(baskets):
        start = NOW - (len(baskets) - number) * (gap + 30) * MINUTE
        rows += [(user, item, start + place * MINUTE) for place, item in enumerate(items)]
    catalogue = make_catalogue(3, [-1] * n_items)
    return State.build(catalogue, make_log(rows), NOW)


BASKETS = [
    (0, [0, 1]), (0, [0, 1, 2]), (1, [2, 3]), (1, [0, 2]), (2, [2, 4]), (2, [0, 1]), (0, [2, 5]), (1, [3, 4]),
    (2, [5, 4]), (0, [6, 2]),
]


def test_lift_is_shared_baskets_over_what_chance_would_bring():
    found = together_with(state_of(BASKETS), 0, 5)
    # of ten baskets four hold item 0, three hold item 1, all of them with 0; two hold 0 and 2, and chance foretells 2.4
    assert found.by == "visit" and found.items.tolist() == [1]
    assert found.lift.tolist() == [pytest.approx(3 / (4 * 3 / 10))] and found.shared.tolist() == [3]


def test_where_nothing_stands_beside_anything_whole_histories_are_baskets():
    alone = [(user, [item]) for user in range(3) for item in ((0, 1) if user < 2 else (2, 3))]
    found = together_with(state_of(alone), 0, 5)
    assert found.by == "history" and found.items.tolist() == [1] and found.lift.tolist() == [pytest.approx(2 * 3 / 4)]


def test_an_item_that_nobody_took_goes_with_nothing():
    assert not len(together_with(state_of(BASKETS), 7, 5).items)
    assert not len(together_with(state_of([]), 0, 5).items)


def test_rare_pairs_do_not_come_before_well_known_ones():
    often = [(0, [0, 1])] * 20 + [(1, [0, 2])] * 2 + [(2, [3, 4])] * 20
    found = together_with(state_of(often), 0, 5)
    assert found.items.tolist() == [1, 2] and np.diff(found.lift)[0] == pytest.approx(0)
