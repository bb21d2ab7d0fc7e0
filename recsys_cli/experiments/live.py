"""Experiments from programs: begin one, ask for a user's variant, record what users do, and get the result.

    >>> from recsys_cli.experiments import assign, create_experiment, get_experiment_results, record
    >>> create_experiment({"name": "bolder", "metrics": [{"name": "sales", "numerator": "sold"}]})
    >>> variant = assign("bolder", "ada")
    >>> record("bolder", "ada", exposed=True)
    >>> record("bolder", "ada", sold=2)
    >>> get_experiment_results("bolder")["decision"]["outcome"]
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from recsys_cli.config import validate
from recsys_cli.errors import DataError
from recsys_cli.experiments.assignment import OUTSIDE, assign_units
from recsys_cli.experiments.config import ExperimentConfig, read_experiment
from recsys_cli.experiments.registry import ExperimentRegistry, Started
from recsys_cli.experiments.registry import record as append


def create_experiment(definition: Mapping[str, Any] | str | Path, artifacts: str | Path = "artifacts") -> Started:
    """Check an experiment (a mapping, or the path of its YAML file), freeze it, and begin it."""
    known = isinstance(definition, Mapping)
    config = validate(ExperimentConfig, dict(definition)) if known else read_experiment(definition)
    return ExperimentRegistry(artifacts).start(config)


def assign(
    name: str,
    user_ids: Any,
    *,
    attributes: Mapping[str, Any] | None = None,
    artifacts: str | Path = "artifacts",
) -> str | list[str | None] | None:
    """Variant of a user, or of each of several; None for who takes no part.

    attributes: column → value, or values, of what the experiment targets; `cluster_id` where it assigns clusters.
    """
    started = ExperimentRegistry(artifacts).open(name)
    one = isinstance(user_ids, str) or not isinstance(user_ids, Sequence | np.ndarray)
    ids = [user_ids] if one else user_ids
    known = {c: [v] if one else v for c, v in (attributes or {}).items()}
    arms = assign_units(started.config, ids, clusters=known.get("cluster_id"), attributes=known, day=started.day)
    names = [started.config.arms[a].name if a != OUTSIDE else None for a in arms]
    return names[0] if one else names


def record(
    name: str,
    user_id: Any,
    *,
    variant: str | None = None,
    exposed: bool = False,
    timestamp: datetime | None = None,
    artifacts: str | Path = "artifacts",
    **outcomes: float,
) -> None:
    """Note that a user was exposed, or what a user did.

    variant: what the user was served, by default what is assigned. outcomes: columns of metrics. Raises DataError
    where the user takes no part.
    """
    started = ExperimentRegistry(artifacts).open(name)
    served = variant if variant is not None else assign(name, user_id, artifacts=artifacts)
    called = {arm.name: arm.called for arm in started.config.arms}
    if served not in called:
        raise DataError(f"user {user_id!r} is in no variant of {name}", f"variants: {', '.join(called)}")
    moment = int((timestamp or datetime.now(UTC)).timestamp() * 1e6)
    row = {"user_id": str(user_id), "variant": called[served], "timestamp": moment, "exposed": exposed, **outcomes}
    append(started, [row])


def get_experiment_results(
    name: str, *, log: str | Path | None = None, aa: int = 0, seed: int = 0, artifacts: str | Path = "artifacts"
) -> dict[str, Any]:
    """What is known of an experiment by now: fields as in `recsys docs experiments`, and `decisions`.

    log: exposures and outcomes, by default those that the experiment was started with, else what `record` wrote, else
    the events of the server.
    """
    from recsys_cli.experiments.run import analyse_log

    registry = ExperimentRegistry(artifacts)
    started = registry.open(name)
    path = Path(log) if log is not None else registry.log_of(started)
    document = analyse_log(started.config, read_started(started, path), str(path), aa=aa, seed=seed)
    decision = document["decision"]
    last = [d for d in registry.decisions(started) if d["what"] == "decision"][-1:]
    if not last or last[0]["outcome"] != decision["outcome"]:
        registry.log_decision(
            started, "decision", decision["because"], outcome=decision["outcome"], variant=decision["variant"]
        )
    return document | {
        "state": started.state,
        "started_at": started.started_at.isoformat(),
        "stopped_at": started.stopped_at.isoformat() if started.stopped_at else None,
        "decisions": registry.decisions(started),
    }


def read_started(started: Started, path: Path):
    """`Outcomes` of an experiment's log from its start on, with the variants that its users had in experiments that
    began before it; what `record` wrote says nothing where nothing happened."""
    from dataclasses import replace

    import polars as pl

    from recsys_cli.experiments.carry_over import variants_before
    from recsys_cli.experiments.outcomes import outcomes_of, read_outcomes

    if started.config.interleave is not None:
        raise DataError(
            f"experiment {started.config.name} mixes lists: nobody is in one variant of it",
            f"recsys interleave analyze {started.config.name}",
        )
    before = ExperimentRegistry(started.folder.parents[2]).before(started)

    def known(outcomes):
        return replace(outcomes, earlier=outcomes.earlier | variants_before(before, outcomes.ids))

    if path != started.recorded:
        return known(read_outcomes(path, started.config, start=started.started_at))
    if not path.is_file():
        raise DataError(
            f"nothing was recorded for {started.config.name} yet", "record exposures and outcomes, or name a --log"
        )
    frame = pl.read_ndjson(path, infer_schema_length=None)
    wanted = {c for metric in started.config.metrics for c in metric.outcomes} & set(frame.columns)
    frame = frame.with_columns(pl.col(c).fill_null(0) for c in wanted)
    return known(outcomes_of(frame, started.config, str(path)))
