"""How often the intervals of evaluation hold the truth, and how often two equal systems are called different.

    python tests/simulations/interval_coverage.py [--trials 2000]

Users have a hit with some chance, worth 1 (hit rate), 1/log2(rank + 1) (NDCG) or a skewed share (recall). Printed for
each number of users and chance: the share of trials in which the interval of `bootstrap_means` was given, and in which
it was given and held the truth, of all those in which it was given; beside the percentile bootstrap. "exact": the
interval of Clopper and Pearson that stands in where fewer than ten users differ. Then: how often a paired comparison of
two equal systems says "higher", which should be 2.5 %, and how often either.
"""

from __future__ import annotations

import argparse

import numpy as np

from recsys_cli.evaluation.intervals import FEWEST, bootstrap_means, differing, resample_counts
from recsys_cli.evaluation.paired import compare, correct

KINDS = ("hit rate", "NDCG", "recall")


def draw(kind: str, chance: float, users: int, trials: int, rng: np.random.Generator) -> tuple[np.ndarray, float]:
    """float64[users, trials] and the true mean."""
    hit = rng.random((users, trials)) < chance
    if kind == "hit rate":
        return hit.astype(float), chance
    if kind == "NDCG":
        gains = 1 / np.log2(1 + np.arange(1, 11))
        return hit * gains[rng.integers(0, 10, (users, trials))], chance * gains.mean()
    return hit * rng.beta(0.5, 3, (users, trials)), chance * 0.5 / 3.5


def percentile(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    means = np.concatenate([w @ values / len(values) for w in resample_counts(len(values), 1000, 1000, 0)])
    return tuple(np.quantile(means, [0.025, 0.975], axis=0))


def coverage(trials: int) -> None:
    rng = np.random.default_rng(0)
    print(f"{'users':>6} {'figure':<9} {'chance':>6} {'given':>6} {'covers':>7} {'exact':>6} {'percentile':>10}")
    for users in (30, 100, 300, 1000):
        for kind in KINDS:
            for chance in (0.01, 0.05, 0.1, 0.2, 0.3, 0.5, 0.8):
                values, truth = draw(kind, chance, users, trials, rng)
                _, low, high = bootstrap_means(values, unit=True)
                inside = (low <= truth) & (truth <= high)
                given = differing(values) >= FEWEST
                first, last = percentile(values)
                plain = ((first <= truth) & (truth <= last)).mean()

                def share(mask: np.ndarray, inside: np.ndarray = inside) -> str:
                    return f"{inside[mask].mean():.3f}" if mask.sum() >= 50 else "–"

                print(
                    f"{users:>6} {kind:<9} {chance:>6} {given.mean():>6.2f} {share(given):>7} {share(~given):>6} "
                    f"{plain:>10.3f}   all {inside.mean():.3f}",
                    flush=True,
                )


def equal_systems(trials: int) -> None:
    rng = np.random.default_rng(1)
    print("\ntwo equal systems: share called higher, called different, of trials with a test")
    for users in (30, 100, 1000):
        for kind in KINDS:
            first, _ = draw(kind, 0.3, users, trials, rng)
            again, _ = draw(kind, 0.3, users, trials, rng)
            same = rng.random((users, trials)) < 0.5  # half of the lists are the same
            second = np.where(same, first, again)
            verdicts = []
            for trial in range(trials):
                tests = compare(first[:, [trial]], second[:, [trial]], ["x@1"], resamples=100)
                correct([tests], "x@1")
                verdicts.append(tests["x@1"]["verdict"])
            counts = {v: verdicts.count(v) for v in ("higher", "lower", "tie", "too few differ")}
            print(
                f"{users:>6} {kind:<9} higher {counts['higher'] / trials:.3f}, different "
                f"{(counts['higher'] + counts['lower']) / trials:.3f}, too few differ "
                f"{counts['too few differ'] / trials:.3f}",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, default=2000)
    trials = parser.parse_args().trials
    coverage(trials)
    equal_systems(min(trials, 1000))


if __name__ == "__main__":
    main()
