"""Choose the settings of a benchmark's model on what may be learned from, never on its test items.

    python -m recsys_cli.benchmark.tune configs/benchmarks/gowalla.yaml --from DIR --model graph_filter

Coordinate search: one setting after the other takes each of its values under `search` of the file, and the best
stays; round after round until none changes. Prints every attempt and, at the end, the settings for the file.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from recsys_cli.benchmark.config import BenchmarkConfig, RatingFolds
from recsys_cli.benchmark.ranking import measure_source
from recsys_cli.benchmark.tasks import RankingTask, ranking_task
from recsys_cli.config import read_yaml, validate
from recsys_cli.data.ragged import Ragged
from recsys_cli.errors import UsageError
from recsys_cli.progress import Progress
from recsys_cli.retrieval import SOURCES

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


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m recsys_cli.benchmark.tune", description=__doc__.split("\n")[0])
    parser.add_argument("file", type=Path, help="the benchmark")
    parser.add_argument("--from", dest="folder", type=Path, required=True, help="folder of its files")
    parser.add_argument("--model", required=True, help="name of the model under `models` and `search`")
    parser.add_argument("--users", type=int, default=20_000, help="users measured in each attempt")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=42)
    options = parser.parse_args()
    config = validate(BenchmarkConfig, read_yaml(options.file), options.file)
    if isinstance(config.protocol, RatingFolds) or options.model not in config.models:
        raise UsageError(f"{options.file} has no source {options.model!r}", f"it has {', '.join(config.models)}")
    task = some_users(
        ranking_task(config.protocol, options.folder, options.seed, validation=True), options.users, options.seed
    )
    given = config.models[options.model]
    values = config.search.get(options.model, {})
    start = {name: getattr(given, name) for name in values}

    def measure(settings: dict[str, Any]) -> Figures:
        model = SOURCES[given.kind].config_type.model_validate({**given.model_dump(), **settings})
        figures = measure_source(model, task, config.protocol.metrics, config.protocol.k, Progress())["figures"]
        print(settings, {n: round(v, 4) for n, v in figures.items()}, flush=True)
        return figures

    best, attempts = coordinate_search(start, values, measure, options.rounds)
    print(f"best of {len(attempts)}: {best}")


if __name__ == "__main__":
    main()
