"""How often intervals hold the truth where days differ: two-way ones over users and days, and over users alone.

    python tests/simulations/day_coverage.py [--trials 600]

200 users are there on some of the days; each has a chance of a hit of their own, and each day moves everybody's.
"""

from __future__ import annotations

import argparse

import numpy as np

from recsys_cli.evaluation.day_intervals import UserDays

USERS, CHANCE = 200, 0.3


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=600)
    trials = parser.parse_args().trials
    rng = np.random.default_rng(0)
    print(f"{'days':>4} {'sd of days':>10} {'two-way':>8} {'users alone':>11}")
    for days in (5, 7, 14):
        for effect in (0.0, 0.05, 0.15):
            both = alone = 0
            for _ in range(trials):
                active = rng.random((USERS, days)) < 0.6
                active[np.arange(USERS), rng.integers(0, days, USERS)] = True
                user, day = np.nonzero(active)
                chance = CHANCE + rng.normal(0, 0.1, USERS)[user] + rng.normal(0, effect, days)[day]
                hit = (rng.random(len(user)) < np.clip(chance, 0, 1)).astype(float)
                _, low, high = UserDays(user, day).intervals(hit[:, None], np.array([True]))
                both += low[0] <= CHANCE <= high[0]
                mean = np.bincount(user, weights=hit) / np.bincount(user)
                alone += abs(mean.mean() - CHANCE) < 1.96 * mean.std(ddof=1) / np.sqrt(USERS)
            print(f"{days:>4} {effect:>10} {both / trials:>8.3f} {alone / trials:>11.3f}", flush=True)


if __name__ == "__main__":
    main()
