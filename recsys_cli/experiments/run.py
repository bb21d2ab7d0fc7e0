"""One experiment from its file to its result, simulated or from a log."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recsys_cli.errors import DataError
from recsys_cli.experiments.analysis import Evidence, analyse

if TYPE_CHECKING:
    from recsys_cli.data.dataset import Dataset
    from recsys_cli.engine import RecommendationEngine
    from recsys_cli.experiments.config import Experiment, ExperimentConfig
    from recsys_cli.experiments.outcomes import Outcomes
    from recsys_cli.experiments.simulate import Simulated
    from recsys_cli.progress import Progress

UNEQUAL = 1.5
"""Ratio of shares beyond which arms that learn apart are not alike."""


def run_simulated(
    experiment: Experiment,
    engine: RecommendationEngine,
    dataset: Dataset,
    *,
    artifacts: Path | None = None,
    together: bool = False,
    progress: Progress | None = None,
    aa: int = 0,
    seed: int = 0,
    resume: Path | None = None,
) -> tuple[dict[str, Any], Simulated]:
    """Simulate and analyse; returns the result (fields: `recsys docs experiments`) and what was simulated.

    artifacts, together, resume: see `simulate`. aa, seed: random splits of the A/A check. Raises DataError where no
    world stands behind the dataset.
    """
    from recsys_cli.experiments.simulate import simulate
    from recsys_cli.world.simulator import World

    if "generator" not in dataset.manifest.origin:
        raise DataError(
            f"{dataset.path} was not generated: there are no people to simulate an experiment on",
            "analyse an experiment that was run elsewhere with --log FILE, or use a world from `recsys generate-data`",
        )
    simulated = simulate(
        experiment,
        engine,
        dataset,
        World.open(dataset.path),
        artifacts=artifacts,
        together=together,
        progress=progress,
        resume=resume,
    )
    config = experiment.config
    evidence = Evidence(daily=simulated.by_day, aa=aa, seed=seed, warnings=tuple(warnings_of(config)))
    document = document_of(config, "simulation") | {
        "run": engine.manifest.id if engine.manifest else None,
        "days": config.days,
        **analyse(simulated.columns, simulated.arm, config, evidence),
        "crossovers": 0,
        "arms": simulated.arms,
        "daily": simulated.daily,
    }
    return document, simulated


def warnings_of(config: ExperimentConfig) -> list[str]:
    """What a simulation so set up cannot tell well."""
    shares = [arm.share for arm in config.arms]
    if config.shared_state or max(shares) <= UNEQUAL * min(shares):
        return []
    return [
        "variants learn each from its own users, and have unequal shares: the smaller ones have less to learn from; "
        "shared_state: true lets all learn from one log"
    ]


def analyse_log(
    config: ExperimentConfig, outcomes: Outcomes, path: str, *, aa: int = 0, seed: int = 0
) -> dict[str, Any]:
    """Analyse a table of outcomes; the result has the same fields, those of a simulation empty."""
    evidence = Evidence(
        daily=outcomes.daily,
        first_weekday=outcomes.first_weekday,
        segments=outcomes.segments,
        unknown=outcomes.unknown,
        earlier=outcomes.earlier,
        crossovers=outcomes.crossovers,
        aa=aa,
        seed=seed,
    )
    return document_of(config, "log") | {
        "log": path,
        "rows": outcomes.rows,
        "left_out": outcomes.left_out,
        "days": None,
        **analyse(outcomes.columns, outcomes.arm, config, evidence),
        "crossovers": outcomes.crossovers,
        "crossover_users": list(outcomes.named),
        "arms": {},
        "daily": [],
    }


def document_of(config: ExperimentConfig, kind: str) -> dict[str, Any]:
    """What was tried."""
    return {
        "experiment": config.name,
        "version": config.version,
        "description": config.description,
        "hypothesis": config.hypothesis,
        "kind": kind,
        "primary": config.deciding,
        "stop": config.stop,
        "planned_days": config.days,
        "alpha": config.alpha,
        "power": config.power,
        "salt": config.salt,
        "traffic": config.traffic,
        "overrides": {arm.name: arm.pipeline for arm in config.arms},
    }


def exposures(simulated: Simulated, user_ids: list, names: list[str]) -> list[dict[str, Any]]:
    """What was simulated as a log that `--log` reads: one row a user with its variant, sums and covariates.

    names: of the variants.
    """
    columns = list(simulated.columns)
    values = [simulated.columns[n].tolist() for n in columns]
    variants = np.array(names)[simulated.arm].tolist()
    return [
        {"user_id": user, "variant": variant, **dict(zip(columns, row, strict=True))}
        for user, variant, *row in zip(user_ids, variants, *values, strict=True)
    ]
