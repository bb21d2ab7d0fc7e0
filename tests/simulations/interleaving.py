"""How many users interleaving needs where an A/B test needs many, and how often it errs where nothing differs; by the
functions that `recsys interleave` calls.

    python tests/simulations/interleaving.py [aa] [planted] [TIMES]

People come as often as they like to (a gamma's Poisson), see ten items, look at a place less the lower it stands, and
turn to what they look at by how much they like it. One ranking knows their liking with more noise than the other;
requests are of 2,000 kinds, each with its two rankings, which in A/A experiments change places at random.
TIMES: experiments of a case, 5,000 by default, of which each takes other people.
"""

from __future__ import annotations

import sys
import time

import numpy as np

from recsys_cli.experiments.interleaving import METHODS, mix, preferences, users_needed

SIZE, POOL = 10, 25
"""Items of a list, and items that a ranking orders."""
KINDS = 2_000
"""Of requests; the programmes of twice as many lists are remembered."""
ALPHA, POWER = 0.05, 0.8
NOISE = {"small": (0.6, 0.75), "large": (0.6, 1.1)}
"""Difference → noise of the ranking that is better and of the other, in units of the liking's logit."""
AA_USERS = 200
CHUNK = 50_000
"""People that are simulated at once."""


def kinds(noise: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """(float[KINDS, POOL] logit of the liking, int32[2, KINDS, POOL] both rankings) of every kind of request."""
    rng = np.random.default_rng(7)
    logit = rng.normal(-2.0, 1.0, (KINDS, POOL))
    lists = np.stack([np.argsort(-(logit + rng.normal(0, sd, logit.shape)), axis=1) for sd in noise])
    return logit, lists.astype(np.int32)


def people(rng: np.random.Generator, n: int, noise: tuple[float, float]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(int[R] person of each request, float[R, POOL] their liking, int32[2, R, POOL] the two rankings)."""
    logit, lists = kinds(noise)
    visits = rng.poisson(rng.gamma(1.5, 2.0, n))
    user = np.repeat(np.arange(n), visits)
    kind = rng.integers(0, KINDS, len(user))
    liking = 1 / (1 + np.exp(-logit[kind] - rng.normal(0, 0.4, n)[user, None]))
    asked = lists[:, kind]
    if noise[0] == noise[1]:
        turned = rng.random(len(user)) < 0.5
        asked = np.where(turned[None, :, None], asked[::-1], asked)
    return user, liking, asked


def turned_to(rng: np.random.Generator, liking: np.ndarray, items: np.ndarray) -> np.ndarray:
    """bool[R, SIZE] what people turned to of a list."""
    looked = 0.9 ** np.arange(SIZE)
    return rng.random(items.shape) < looked * np.take_along_axis(liking, items, axis=1)


def credit_of(rng: np.random.Generator, n: int, noise: tuple[float, float], method: str) -> np.ndarray:
    """float64[n, 2] what the mixed lists earned each ranking, of each person."""
    user, liking, lists = people(rng, n, noise)
    items, credits = mix(method, lists, SIZE, rng)
    earned = turned_to(rng, liking, items)[:, :, None] * credits
    return np.stack([np.bincount(user, earned[:, :, v].sum(axis=1), minlength=n) for v in (0, 1)], axis=1)


def alone(rng: np.random.Generator, n: int, noise: tuple[float, float], which: int) -> np.ndarray:
    """float64[n] interactions of each person with one ranking alone."""
    user, liking, lists = people(rng, n, noise)
    return np.bincount(user, turned_to(rng, liking, lists[which, :, :SIZE]).sum(axis=1), minlength=n).astype(float)


def decided(credit: np.ndarray) -> float:
    """1 for the first ranking, -1 for the second, 0 for neither."""
    found = preferences(credit, ["better", "other"], ALPHA)[0]
    return -np.sign(found.mean) if found.p_adjusted < ALPHA else 0.0


def shares(users: int, times: int, noise: tuple[float, float], method: str, seed: int) -> np.ndarray:
    """float64[3] shares of experiments decided for the first, for neither and for the second ranking."""
    rng, count, made = np.random.default_rng(seed), np.zeros(3), 0
    while made < times:
        some = min(max(CHUNK // users, 1), times - made)
        credit = credit_of(rng, some * users, noise, method).reshape(some, users, 2)
        for one in credit:
            count[1 - int(decided(one))] += 1
        made += some
    return count / times


def of_ab(users: int, times: int, noise: tuple[float, float], seed: int) -> np.ndarray:
    """The same shares of A/B tests by Welch's test, so many users in both arms together."""
    from scipy import stats

    rng, count, made, half = np.random.default_rng(seed), np.zeros(3), 0, users // 2
    while made < times:
        some = min(max(CHUNK // users, 1), times - made)
        a, b = (alone(rng, some * half, noise, which).reshape(some, half) for which in (0, 1))
        test = stats.ttest_ind(a, b, axis=1, equal_var=False)
        sign = np.where(test.pvalue < ALPHA, np.sign(test.statistic), 0).astype(int)
        count += np.bincount(1 - sign, minlength=3)
        made += some
    return count / times


def planted(name: str, noise: tuple[float, float], times: int) -> None:
    rng = np.random.default_rng(0)
    a, b = (np.concatenate([alone(rng, CHUNK, noise, which) for _ in range(2)]) for which in (0, 1))
    spread = float(np.sqrt((a.var() + b.var()) / 2))
    many = 2 * int(users_needed((a.mean() - b.mean()) / spread, ALPHA, POWER, arms=2) // 2)
    print(f"{name}: {a.mean():.3f} against {b.mean():.3f} interactions a person ({a.mean() / b.mean() - 1:+.1%})")
    better, neither, worse = of_ab(many, max(times // 20, 20), noise, 1)
    print(f"  A/B test              {many:>7,} users: right {better:.3f}, undecided {neither:.3f}, wrong {worse:.3f}")
    for method in METHODS:
        for share in (0.02, 0.05, 0.1):
            users = max(round(share * many), 2)
            better, neither, worse = shares(users, max(times // 5, 50), noise, method, 2)
            print(f"  {method:<12} {share:>6.0%}  {users:>8,} users: right {better:.3f}, undecided {neither:.3f}, "
                  f"wrong {worse:.3f}", flush=True)


def alike(times: int) -> None:
    for method in METHODS:
        for users in (30, AA_USERS):
            better, _, worse = shares(users, times, (0.8, 0.8), method, 3)
            print(f"A/A, {method}, {users} users, {times:,} experiments: {better + worse:.2%} decided", flush=True)


def main() -> None:
    asked = sys.argv[1:]
    times = next((int(word) for word in asked if word.isdigit()), 5000)
    parts = [word for word in asked if not word.isdigit()] or ["aa", "planted"]
    began = time.process_time()
    if "aa" in parts:
        alike(times)
    if "planted" in parts:
        for name, noise in NOISE.items():
            planted(name, noise, times)
    print(f"{time.process_time() - began:.0f} s of processor time")


if __name__ == "__main__":
    main()
