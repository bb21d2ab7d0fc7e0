"""How often people come back to what they had, by hand and as a decision."""

import numpy as np
import pytest

from recsys_cli.data.log import Log
from recsys_cli.data.repeats import ENOUGH, Repeats, repeats_in


def log_of(rows):
    user, item, time, click = (np.array(c) for c in zip(*[(*r, True)[:4] for r in rows], strict=True))
    return Log(
        user=user.astype(np.int32), item=item.astype(np.int32), time=time.astype(np.int64),
        actions={"click": click.astype(bool)}, positive_actions=("click",), negative_actions=(),
    )  # fmt: skip


def test_repeats_are_of_people_with_a_history_and_of_what_they_had_before_the_window():
    log = log_of([
        (0, 5, 1), (1, 6, 2), (1, 7, 3, False), (0, 5, 10), (0, 6, 11), (0, 6, 12), (1, 7, 13), (2, 5, 14), (2, 5, 15),
        (0, 5, 20),
    ])  # fmt: skip
    found = repeats_in(log, 10, 20)
    # of 0: 5 again, 6 twice but not before; of 1: 7, which was only shown; of 2 nothing was known
    assert found == Repeats(4, 0.25, 0.5)
    assert repeats_in(log, 1, 10) == Repeats(0, 0.0, 0.0)


@pytest.mark.parametrize(("found", "common"), [
    (Repeats(1_000, 0.2, 0.3), True), (Repeats(1_000, 0.19, 0.9), False), (Repeats(1_000, 0.9, 0.29), False),
    (Repeats(ENOUGH - 1, 0.9, 0.9), False), (Repeats(1_000, 0.0, 0.0), False),
])  # fmt: skip
def test_repeats_are_common_where_they_are_many_of_many_people(found, common):
    assert found.common is common
    assert ("may hold" in found.line()) is common and len(found.line()) <= 100


def test_one_heavy_person_does_not_decide():
    rows = [(0, i % 5, i) for i in range(200)] + [(u, 10 + u, 50 + u) for u in range(1, 40)]
    rows += [(0, i % 5, 300 + i) for i in range(100)] + [(u, 60 + u, 300 + u) for u in range(1, 40)]
    found = repeats_in(log_of(sorted(rows, key=lambda r: r[2])), 300, 1_000)
    assert found.share > 0.7 and found.people == pytest.approx(1 / 40) and not found.common
