"""An interleaved experiment on the simulated people of a generated world, beside the same variants as an A/B test."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recsys_cli.errors import ConfigError, DataError
from recsys_cli.experiments.arm_life import ArmLife, Life
from recsys_cli.experiments.interleaving import mix, preferences, users_needed
from recsys_cli.experiments.simulate import ArmWork, check_fits
from recsys_cli.progress import Progress

if TYPE_CHECKING:
    from recsys_cli.data.dataset import Dataset
    from recsys_cli.engine import RecommendationEngine
    from recsys_cli.experiments.config import Experiment, ExperimentConfig


@dataclass
class MixedLife(ArmLife):
    """All users are served mixes of the lists of several engines; `engine` and the others learn from one log."""

    others: list[ArmLife] = field(default_factory=list)
    credit: np.ndarray | None = None
    """float64[n_users, V] interactions with items of each ranking"""
    served: np.ndarray | None = None
    """bool[n_users] who was shown a list"""
    method: str = "team_draft"

    def _serve(self, day, visits, rows):
        parts = [ArmLife._serve(life, day, visits, rows) for life in (self, *self.others)]
        lists = np.stack([items for items, _, _ in parts])
        rng = np.random.default_rng([self.engine.seed, day])
        size = lists.shape[2]
        items, self._credits = mix(self.method, lists, size, rng)
        # nobody knows the probability of a mixed list
        scores = {name: np.full(items.shape, np.nan, np.float32) for name in parts[0][1]}
        fallback: dict[str, int] = {}
        for _, _, told in parts:
            for reason, times in told.items():
                fallback[reason] = fallback.get(reason, 0) + times
        return items, scores, fallback

    def _learn(self, visits, rows, items, responses, propensity):
        positive = np.any([responses[a] for a in self.life.log.positive_actions], axis=0) & (items >= 0)
        user = visits.user[rows]
        if self.credit is None:
            self.credit = np.zeros((len(self.first_day), 1 + len(self.others)))
            self.served = np.zeros(len(self.first_day), bool)
        for v in range(self.credit.shape[1]):
            earned = (positive * self._credits[:, :, v]).sum(axis=1)
            self.credit[:, v] += np.bincount(user, earned, minlength=len(self.credit))
        self.served[user] = True
        return super()._learn(visits, rows, items, responses, propensity)


def run_interleaved(
    experiment: Experiment, engine: RecommendationEngine, dataset: Dataset, *, artifacts: Path | None = None,
    method: str | None = None, against_ab: bool = True, progress: Progress | None = None,
) -> dict[str, Any]:
    """Interleave the variants for the experiment's days, and say how many users an A/B test would have needed.

    method: how lists are mixed, in place of the experiment's `interleave` (team draft by default).
    against_ab: also live each variant with all users apart, with the same visits and reactions, from which the effect
    and the spread of an A/B test follow. Raises DataError where no world stands behind the dataset.
    """
    from recsys_cli.world.simulator import World

    if "generator" not in dataset.manifest.origin:
        raise DataError(f"{dataset.path} was not generated: there are no people to interleave for",
                        "use a world from `recsys generate-data`")
    world, config = World.open(dataset.path), experiment.config
    check_fits(engine, dataset, world, config)
    names = [arm.name for arm in config.arms]
    method = method or config.interleave or "team_draft"
    if method == "optimised" and len(names) > 2:
        raise ConfigError(f"experiment {config.name}: optimised interleaving mixes two variants, not {len(names)}",
                          "take team_draft")
    everybody = np.zeros(len(dataset.user_ids), np.int64)
    works = [
        ArmWork(dataset.path, artifacts, arm.run or (engine.manifest.id if engine.manifest else None), pipeline,
                everybody, config.days, frozenset(), None)
        for arm, pipeline in zip(config.arms, experiment.pipelines, strict=True)
    ]
    total = config.days * (1 + against_ab * len(works))
    with (progress or Progress()).step("simulated days", total=total) as bar:
        life = Life.of(dataset, world)
        lives = [work.begin(engine, dataset, world, life) for work in works]
        first = lives[0]
        mixed = MixedLife(
            first.engine, dataset, world, everybody, first.catalogue, life, others=lives[1:], method=method
        )
        mixed.live(config.days, bar)
        apart = [work.live(engine, dataset, world, bar) for work in works] if against_ab else []
    found = [p.document() for p in preferences(mixed.credit[mixed.served], names, config.alpha)]
    for row in found:
        row["users_needed"] = users_needed(row["effect"], config.alpha, config.power)
        if against_ab:
            row |= _as_ab(row, names, apart, mixed.served, config)
    return {
        "experiment": config.name, "description": config.description, "kind": "interleaving", "method": method,
        "days": config.days,
        "run": engine.manifest.id if engine.manifest else None, "users": int(mixed.served.sum()), "alpha": config.alpha,
        "power": config.power, "requests": sum(day["requests"] for day in mixed.daily),
        "credit": dict(zip(names, mixed.credit.sum(axis=0).tolist(), strict=True)), "preferences": found,
        "fallback": mixed.fallback,
    }


def analyse_interleaved(config: ExperimentConfig, log: Path) -> dict[str, Any]:
    """Which variant people preferred in the mixed lists that a server showed. log: the folder of its events.

    Raises DataError where nobody was shown any.
    """
    from recsys_cli.serving.outcomes import credited

    names = [arm.name for arm in config.arms]
    credit = np.array(list(credited(log, config.key, len(names)).values()))
    found = [p.document() for p in preferences(credit, names, config.alpha)]
    for row in found:
        row["users_needed"] = users_needed(row["effect"], config.alpha, config.power)
    return {
        "experiment": config.name, "description": config.description, "kind": "log", "method": config.interleave,
        "days": None, "log": str(log), "users": len(credit), "alpha": config.alpha, "power": config.power,
        "credit": dict(zip(names, credit.sum(axis=0).tolist(), strict=True)), "preferences": found,
    }


def _as_ab(row: dict, names: list[str], apart: list, served: np.ndarray, config) -> dict[str, Any]:
    """Interactions of a user in either variant alone: the difference, and the users that an A/B test would need."""
    a, b = (apart[names.index(row[side])].sums["interactions"][served] for side in ("a", "b"))
    gap = b - a
    sd = float(np.sqrt((a.var(ddof=1) + b.var(ddof=1)) / 2))
    needed = users_needed(float(gap.mean()) / sd if sd else 0.0, config.alpha, config.power, arms=2)
    error = float(gap.std(ddof=1) / np.sqrt(len(gap)))
    return {
        "ab_difference": float(gap.mean()), "ab_difference_error": error, "ab_users_needed": needed,
        "share_of_ab_users": row["users_needed"] / needed if np.isfinite(needed) and needed else float("nan"),
        "same_direction": bool(gap.mean() * row["mean"] > 0),
    }


def verdict(row: dict[str, Any], alpha: float) -> str:
    """One sentence on a pair."""
    if not row["p_adjusted"] < alpha:
        return f"no preference between {row['a']} and {row['b']} is shown (p = {row['p_adjusted']:.2g})"
    better, worse = (row["b"], row["a"]) if row["mean"] > 0 else (row["a"], row["b"])
    return f"people prefer {better} to {worse} (p = {row['p_adjusted']:.2g})"
