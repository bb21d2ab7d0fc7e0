"""Intervals over users and days at once: against plain loops, and that they cover what days do."""

import numpy as np
import pytest

from recsys_cli.evaluation.day_intervals import UserDays
from recsys_cli.evaluation.paired import compare, correct


def plain(x, user, day):
    """Mean over users of means over days, and the two-way error, by loops."""
    users, days = sorted(set(user)), sorted(set(day))
    mean = np.mean([np.mean([v for v, w in zip(x, user, strict=True) if w == u]) for u in users])
    off = [(v - mean) / user.count(u) / len(users) for v, u in zip(x, user, strict=True)]

    def over(group, of):
        sums = [sum(o for o, g in zip(off, group, strict=True) if g == each) for each in of]
        return sum(s**2 for s in sums) * len(of) / (len(of) - 1)

    of_users, of_days = over(user, users), over(day, days)
    both = of_users + of_days - sum(o**2 for o in off)
    return mean, np.sqrt(max(both, of_users, of_days))


def test_two_way_errors_are_those_of_plain_loops():
    rng = np.random.default_rng(0)
    user = np.repeat(np.arange(12), 5)
    day = np.tile(np.arange(5), 12)
    kept = rng.random(60) < 0.8
    kept[::5] = True
    user, day, x = user[kept], day[kept], rng.random(int(kept.sum()))
    mean, error, freedom = UserDays(user, day).errors(x[:, None])
    assert (mean[0], error[0]) == pytest.approx(plain(x.tolist(), user.tolist(), day.tolist()))
    assert freedom[0] == 4
    assert np.isnan(UserDays(user, np.minimum(day, 3)).errors(x[:, None])[1][0])  # four days say nothing


def draw(rng, effect: float, users: int = 150, days: int = 7):
    active = rng.random((users, days)) < 0.6
    active[np.arange(users), rng.integers(0, days, users)] = True
    user, day = np.nonzero(active)
    chance = 0.4 + rng.uniform(-0.1, 0.1, users)[user] + rng.uniform(-effect, effect, days)[day]
    return UserDays(user, day), (rng.random(len(user)) < chance).astype(float)[:, None]


@pytest.mark.parametrize("effect", [0.05, 0.25])
def test_they_cover_what_differs_from_day_to_day(effect):
    rng, inside = np.random.default_rng(1), 0
    for _ in range(300):
        clusters, x = draw(rng, effect)
        _, low, high = clusters.intervals(x, np.array([True]))
        inside += low[0] <= 0.4 <= high[0]
    assert inside / 300 >= 0.92


def test_equal_systems_are_seldom_called_different_where_days_move_one_of_them():
    rng, called, by_users = np.random.default_rng(2), 0, 0
    for _ in range(300):
        clusters, first = draw(rng, 0.0)
        shift = rng.uniform(-0.15, 0.15, clusters.days)[clusters.day][:, None]
        second = first + shift
        tests = compare(first, second, ["ndcg@10"], days=clusters, resamples=10)
        correct([tests], "ndcg@10")
        called += tests["ndcg@10"]["verdict"] in ("higher", "lower")
        by_users += abs(shift.mean()) > 1.96 * shift.std() / np.sqrt(len(shift))
    assert called / 300 <= 0.08 < by_users / 300
