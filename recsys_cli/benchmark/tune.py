"""Choose the settings of a benchmark's model on what may be learned from, never on its test items.

    python -m recsys_cli.benchmark.tune configs/benchmarks/gowalla.yaml --from DIR --model graph_filter

Coordinate search: one setting after the other takes each of its values under `search` of the file, and the best
stays; round after round until none changes. Prints every attempt and, at the end, the settings for the file.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from recsys_cli.benchmark.config import BenchmarkConfig, HeldOut, NextItem
from recsys_cli.benchmark.ranking import measure_source
from recsys_cli.benchmark.tasks import RankingTask, ranking_task
from recsys_cli.config import read_yaml, validate
from recsys_cli.data.ragged import Ragged
from recsys_cli.errors import RecsysError, UsageError
from recsys_cli.progress import Progress
from recsys_cli.retrieval.registry import SOURCES

Figures = dict[str, float]


def coordinate_search(
    start: dict[str, Any],
    values: dict[str, list],
    measure: Callable[[dict[str, Any]], Figures],
    rounds: int = 3,
    least_gain: float = 0.0005,
) -> tuple[dict[str, Any], list[tuple[dict[str, Any], Figures]]]:
    """(best settings, every attempt with its figures in the order tried).

    The goal is the mean ratio of the figures to those of the start; a gain below `least_gain` is taken for noise.
    A combination is measured once.
    """
    first = measure(start)
    attempts = [(start, first)]

    def goal(figures: Figures) -> float:
        return float(np.mean([figures[n] / first[n] if first[n] else figures[n] for n in first]))

    best, top = dict(start), goal(first)
    for _ in range(rounds):
        before = dict(best)
        for name, options in values.items():
            for option in options:
                candidate = {**best, name: option}
                if any(candidate == tried for tried, _ in attempts):
                    continue
                figures = measure(candidate)
                attempts.append((candidate, figures))
                if goal(figures) > top + least_gain:
                    best, top = candidate, goal(figures)
        if best == before:
            break
    return best, attempts


def some_users(task: RankingTask, number: int, seed: int) -> RankingTask:
    """The task for a sample of its users; all where it has no more."""
    if number >= len(task.users):
        return task
    kept = np.sort(np.random.default_rng(seed).choice(len(task.users), number, replace=False))
    places, items = task.relevant.take(kept)
    return replace(task, users=task.users[kept], relevant=Ragged.group(places, items, number))


def search_settings(
    config: BenchmarkConfig, folder: Path, name: str, *, users: int, rounds: int, seed: int, threads: int = 0
) -> tuple[dict[str, Any], int]:
    """(best settings of the model found on the slice for validation, number of attempts); prints every attempt.

    Raises UsageError for a model that is no source of the file, or for which `search` names nothing to try.
    """
    from threadpoolctl import threadpool_limits

    if not isinstance(config.protocol, HeldOut | NextItem) or name not in config.models:
        known = ", ".join(config.models) or "none: its protocol ranks no items"
        raise UsageError(f"{config.name} has no source {name!r}", f"it has {known}")
    if not (values := config.search.get(name)):
        raise UsageError(
            f"{config.name} names no values of {name!r} to try",
            f"write them under search.{name}; there are some for {', '.join(config.search) or 'no model'}",
        )
    given = config.models[name]
    if unknown := [setting for setting in values if setting not in type(given).model_fields]:
        raise UsageError(f"search.{name} names {unknown[0]!r}, which {given.kind} does not have")
    task = some_users(ranking_task(config.protocol, folder, seed, validation=True), users, seed)

    def measure(settings: dict[str, Any]) -> Figures:
        model = SOURCES[given.kind].config_type.model_validate({**given.model_dump(), **settings})
        measured = measure_source(model, task, config.protocol.metrics, config.protocol.k, Progress(), threads)
        figures = {n: round(v, 4) for n, v in measured["figures"].items()}
        print(settings, figures, f"{measured['fit_seconds']:.1f} s", flush=True)
        return measured["figures"]

    # as in `recsys benchmark`: models are fitted side by side on threads of their own, not on those of BLAS
    with threadpool_limits(1, "blas"):
        best, attempts = coordinate_search({n: getattr(given, n) for n in values}, values, measure, rounds)
    return best, len(attempts)


def main() -> None:
    """Search the settings of one model, as the options of the command line say."""
    parser = argparse.ArgumentParser(prog="python -m recsys_cli.benchmark.tune", description=__doc__.split("\n")[0])
    parser.add_argument("file", type=Path, help="the benchmark")
    parser.add_argument("--from", dest="folder", type=Path, required=True, help="folder of its files")
    parser.add_argument("--model", required=True, help="name of the model under `models` and `search`")
    parser.add_argument("--users", type=int, default=20_000, help="users measured in each attempt")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--threads", type=int, default=0, help="threads that rank; 0 takes all cores")
    options = parser.parse_args()
    try:
        config = validate(BenchmarkConfig, read_yaml(options.file), options.file)
        best, attempts = search_settings(
            config, options.folder, options.model,
            users=options.users, rounds=options.rounds, seed=options.seed, threads=options.threads,
        )  # fmt: skip
    except RecsysError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
    print(f"best of {attempts}: {best}")


if __name__ == "__main__":
    main()
