"""One experiment from its file to its result, simulated or from a log."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recsys_cli.errors import DataError
from recsys_cli.experiments.analysis import ARMS, analyse
from recsys_cli.experiments.outcomes import Outcomes
from recsys_cli.experiments.simulate import Simulated, simulate

if TYPE_CHECKING:
    from recsys_cli.data.dataset import Dataset
    from recsys_cli.engine import RecommendationEngine
    from recsys_cli.experiments.config import Experiment
    from recsys_cli.progress import Progress


def run_simulated(
    experiment: Experiment,
    engine: RecommendationEngine,
    dataset: Dataset,
    *,
    artifacts: Path | None = None,
    progress: Progress | None = None,
) -> tuple[dict[str, Any], Simulated]:
    """Simulate and analyse; returns the result (fields: `recsys docs experiments`) and what was simulated.

    artifacts: see `simulate`. Raises DataError where no world stands behind the dataset.
    """
    from recsys_cli.world.simulator import World

    if "generator" not in dataset.manifest.origin:
        raise DataError(
            f"{dataset.path} was not generated: there are no people to simulate an experiment on",
            "analyse an experiment that was run elsewhere with --log FILE, or use a world from `recsys generate-data`",
        )
    simulated = simulate(experiment, engine, dataset, World.open(dataset.path), artifacts=artifacts, progress=progress)
    document = _document(experiment, "simulation") | {
        "run": engine.manifest.id if engine.manifest else None,
        "days": experiment.config.days,
        **analyse(simulated.columns, simulated.arm, experiment.config),
        "crossovers": 0,
        "arms": simulated.arms,
        "daily": simulated.daily,
    }
    return document, simulated


def analyse_log(experiment: Experiment, outcomes: Outcomes, path: str) -> dict[str, Any]:
    """Analyse a table of outcomes; the result has the same fields, those of a simulation empty."""
    return _document(experiment, "log") | {
        "log": path,
        "rows": outcomes.rows,
        "days": None,
        **analyse(outcomes.columns, outcomes.arm, experiment.config),
        "crossovers": outcomes.crossovers,
        "arms": {},
        "daily": [],
    }


def _document(experiment: Experiment, kind: str) -> dict[str, Any]:
    config = experiment.config
    return {
        "experiment": config.name,
        "description": config.description,
        "kind": kind,
        "primary": config.deciding,
        "alpha": config.alpha,
        "power": config.power,
        "salt": config.salt,
        "traffic": config.traffic,
        "overrides": {"control": config.control, "treatment": config.treatment},
    }


def exposures(simulated: Simulated, user_ids: list) -> list[dict[str, Any]]:
    """What was simulated as a log that `--log` reads: one row a user with its variant, sums and covariates."""
    names = list(simulated.columns)
    columns = [simulated.columns[n].tolist() for n in names]
    variants = np.array(ARMS)[simulated.arm].tolist()
    return [
        {"user_id": user, "variant": variant, **dict(zip(names, values, strict=True))}
        for user, variant, *values in zip(user_ids, variants, *columns, strict=True)
    ]
