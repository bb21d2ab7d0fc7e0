"""Error rates, coverage and power of `recsys ab-test`, by the functions that the command calls.

    python tests/simulations/experiments.py [aa] [quantiles] [hard] [sequential] [power] [cluster] [TIMES]

Prints a row a case; takes some minutes of one processor in all. TIMES: runs a case instead of thousands.
"""

from __future__ import annotations

import sys
import time

import numpy as np

from recsys_cli.experiments.clusters import communities, sum_by_cluster
from recsys_cli.experiments.compare import compare
from recsys_cli.experiments.config import ExperimentConfig
from recsys_cli.experiments.daily import DailyOutcomes, follow
from recsys_cli.experiments.metric_config import MetricConfig
from recsys_cli.experiments.plan import Baseline, critical_value, plan

MEAN = MetricConfig(name="m", numerator="y")
METHODS = {
    "welch": MEAN,
    "cuped": MetricConfig(name="m", numerator="y", covariate="before"),
    "ratio": MetricConfig(name="m", numerator="y", denominator="shown"),
    "ratio, cuped": MetricConfig(
        name="m", numerator="y", denominator="shown", covariate="before", denominator_covariate="shown_before"
    ),
    "share": MetricConfig(name="m", numerator="y", at_least=3),
    "median": MetricConfig(name="m", numerator="time", quantile=0.5),
    "90th percentile": MetricConfig(name="m", numerator="time", quantile=0.9),
}
HARD = {
    "2 % binary": lambda rng, n: (rng.random(n) < 0.02).astype(float),
    "10 % binary": lambda rng, n: (rng.random(n) < 0.1).astype(float),
    "lognormal": lambda rng, n: rng.lognormal(0, 1, n),
    "zero-inflated": lambda rng, n: rng.lognormal(0, 1, n) * (rng.random(n) < 0.1),
    "normal": lambda rng, n: rng.normal(10, 2, n),
    "rare counts": lambda rng, n: rng.poisson(0.05, n).astype(float),
}


def people(rng: np.random.Generator, n: int) -> dict[str, np.ndarray]:
    """Users of different tastes, with what they did before."""
    taste, shown, before = rng.beta(3, 12, n), rng.poisson(30, n) + 1, rng.poisson(30, n) + 1
    return {
        "y": rng.binomial(shown, taste).astype(float),
        "shown": shown.astype(float),
        "before": rng.binomial(before, taste).astype(float),
        "shown_before": before.astype(float),
        "time": rng.lognormal(3 * taste, 1),
    }


def deal(rng: np.random.Generator, control: int, treatment: int) -> np.ndarray:
    arm = np.zeros(control + treatment, np.int8)
    arm[rng.choice(control + treatment, treatment, replace=False)] = 1
    return arm


def rates(draw, metric: MetricConfig, control: int, treatment: int, times: int, seed: int) -> tuple[float, float, str]:
    """(false positives, refusals, tests taken) of A/A experiments; p-value and interval must say the same."""
    rng, found, refused, methods = np.random.default_rng(seed), 0, 0, {}
    for _ in range(times):
        row = compare(metric, draw(rng, control + treatment), deal(rng, control, treatment))
        methods[row["method"]] = methods.get(row["method"], 0) + 1
        refused += not np.isfinite(row["p_value"])
        if np.isfinite(row["difference"]["low"]):
            outside = row["difference"]["low"] > 0 or row["difference"]["high"] < 0
            assert outside == (row["p_value"] < 0.05), row
        found += row["p_value"] < 0.05
    return found / times, refused / times, ", ".join(map(str, methods))


def aa(times: int = 5000) -> None:
    even(("welch", "cuped", "ratio", "ratio, cuped", "share"), times)


def quantiles(times: int = 5000) -> None:
    even(("median", "90th percentile"), times)


def even(names: tuple[str, ...], times: int) -> None:
    for name in names:
        metric = METHODS[name]
        rate, refused, taken = rates(people, metric, 500, 500, times, 1)
        show(f"A/A, {name}, 500 and 500 ({taken})", f"{rate:.2%} false positives, {refused:.1%} refused")


def hard(times: int = 5000) -> None:
    for name, draw in HARD.items():
        rate, refused, taken = rates(lambda rng, n, draw=draw: {"y": draw(rng, n)}, MEAN, 450, 50, times, 2)
        show(f"A/A, {name}, 450 and 50 ({taken})", f"{rate:.2%} false positives, {refused:.1%} refused")
    for name in ("cuped", "ratio", "share", "median", "90th percentile"):
        rate, refused, taken = rates(people, METHODS[name], 450, 50, times, 3)
        show(f"A/A, {name}, 450 and 50 ({taken})", f"{rate:.2%} false positives, {refused:.1%} refused")


def arrivals(rng: np.random.Generator, days: int, a_day: int, lift: float) -> tuple[DailyOutcomes, np.ndarray]:
    """Users who come day by day, each once, with skewed outcomes."""
    n = days * a_day
    day = np.repeat(np.arange(1, days + 1), a_day)
    arm = rng.integers(0, 2, n).astype(np.int8)
    y = rng.gamma(1.0, 1.0, n) * (1 + lift * arm)
    return DailyOutcomes(np.arange(n), day, {"y": y}, day), arm


def sequential(times: int = 2000, days: int = 60, effect: float = 0.3) -> None:
    """Both rules see the same A/A experiments; each has users of its own plan for the effect."""
    settings = {
        stop: ExperimentConfig(name="e", metrics=(MEAN,), days=days, stop=stop, planned_effect=effect)
        for stop in ("always_valid", "group_sequential", "fixed")
    }
    baseline = Baseline.of_numbers(1.0, 1.0, None)
    needed = {stop: plan(config, baseline)["effects"][0]["users"] for stop, config in settings.items()}
    for stop, lift in (("always_valid", 0.0), ("always_valid", effect), ("group_sequential", effect)):
        rng, found, when = np.random.default_rng(5), {"always_valid": 0, "group_sequential": 0}, []
        a_day = int(np.ceil(needed[stop] / days))
        for _ in range(times):
            daily, arm = arrivals(rng, days, a_day, lift)
            rows = follow(MEAN, daily, {}, arm, 1, settings[stop])
            hits = {rule: [r["day"] for r in rows if crossed(r, rule, 0.05)] for rule in found}
            found = {rule: found[rule] + bool(hits[rule]) for rule in found}
            when.append(hits[stop][0] if hits[stop] else days)
        for rule in found if not lift else (stop,):
            told = f"found in {found[rule] / times:.2%}"
            if lift:
                at_once = needed["fixed"] / a_day
                told += f", after {np.mean(when):.1f} of {days} days on average (a fixed test takes {at_once:.1f})"
            show(f"{rule}, looked at on each of {days} days, {a_day * days:,} users, lift {lift:.0%}", told)


def crossed(row: dict, stop: str, alpha: float) -> bool:
    return row["always_p_value"] < alpha if stop == "always_valid" else abs(row["z"]) >= row["boundary"]


def power(times: int = 4000) -> None:
    for shares, effect, cv in (((0.5, 0.5), 0.1, 1.0), ((0.8, 0.2), 0.2, 1.5), ((0.5, 0.5), 0.5, 2.0)):
        config = ExperimentConfig(
            name="e", metrics=(MEAN,), planned_effect=effect, split={"control": shares[0], "treatment": shares[1]}
        )
        row = plan(config, Baseline.of_numbers(1.0, cv, None))["effects"][0]
        rng, found = np.random.default_rng(6), 0
        for _ in range(times):
            arm = np.repeat([0, 1], [row["control_users"], row["treatment_users"]])
            y = rng.gamma(1 / cv**2, cv**2, len(arm)) * np.where(arm == 1, 1 + effect, 1.0)
            found += compare(MEAN, {"y": y}, arm)["p_value"] < 0.05
        name = f"plan, lift {effect:.0%}, cv {cv:g}, split {shares[0]:g}/{shares[1]:g}, {row['users']:,} users"
        show(name, f"planned 80.0%, found {found / times:.1%} (z {critical_value(config):.3f})")


def cluster(times: int = 2000, n: int = 6000) -> None:
    """A follow graph of circles of friends; half of the effect comes through the share of treated friends."""
    rng = np.random.default_rng(7)
    home = rng.integers(0, n // 30, n)
    source = np.repeat(np.arange(n), 12)
    mates = [np.flatnonzero(home == h) for h in range(n // 30)]
    near = np.concatenate([rng.choice(mates[h], 12) for h in home])
    target = np.where(rng.random(len(source)) < 0.97, near, rng.integers(0, n, len(source)))
    clusters = communities(source, target, n)
    direct, spill, mixed = 0.5, 0.5, np.random.default_rng(8)
    by_user, by_cluster, covered = [], [], 0
    for _ in range(times):
        taste = 10 + mixed.normal(0, 1, n // 30)[home] * 0.5 + mixed.normal(0, 2, n)
        for unit in ("user", "cluster"):
            labels = np.arange(n) if unit == "user" else clusters
            arm = mixed.integers(0, 2, labels.max() + 1).astype(np.int8)[labels]
            friends = np.bincount(source, weights=arm[target], minlength=n) / 12
            y = taste + direct * arm + spill * friends
            columns = {"y": y}
            if unit == "cluster":
                no_days = DailyOutcomes(np.zeros(1, int), np.ones(1, int), {}, np.zeros(n, int))
                _, arm, columns, _ = sum_by_cluster(clusters, arm, columns, no_days)
            row = compare(MEAN, columns, arm)
            (by_user if unit == "user" else by_cluster).append(row["difference"]["value"])
            if unit == "cluster":
                covered += row["difference"]["low"] <= direct + spill <= row["difference"]["high"]
    show(
        f"clusters, {len(np.unique(clusters))} of {n:,} users, true effect {direct + spill:g}",
        f"users as units say {np.mean(by_user):.3f}, clusters {np.mean(by_cluster):.3f}, "
        f"whose interval covers the truth {covered / times:.1%}",
    )


def show(case: str, told: str) -> None:
    print(f"{time.process_time():7.1f} s  {case}: {told}", flush=True)


if __name__ == "__main__":
    parts = {part.__name__: part for part in (aa, quantiles, hard, sequential, power, cluster)}
    times = [int(word) for word in sys.argv[1:] if word.isdigit()]
    for name in [word for word in sys.argv[1:] if not word.isdigit()] or parts:
        parts[name](*times)
