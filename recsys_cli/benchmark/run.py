"""A benchmark from its file to its result."""

from __future__ import annotations

import datetime as dt
import os
import platform
import traceback
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import orjson
from pydantic import BaseModel

from recsys_cli.benchmark.config import BenchmarkConfig, Impressions, RatingFolds
from recsys_cli.benchmark.folds import measure_ratings, read_ratings
from recsys_cli.benchmark.impressions import impression_task, measure_ranker
from recsys_cli.benchmark.ranking import measure_source
from recsys_cli.benchmark.tasks import ranking_task
from recsys_cli.errors import DataError, RecsysError, UsageError, did_you_mean
from recsys_cli.files import write_new_folder
from recsys_cli.progress import Progress

if TYPE_CHECKING:
    from recsys_cli.config import Section
    from recsys_cli.ranking.heavy_config import HeavyConfig
    from recsys_cli.retrieval.base import RetrieverConfig

T = TypeVar("T")
PACKAGES = ("recsys-cli", "numpy", "scipy", "implicit", "torch")


def require_folder(folder: Path) -> None:
    """Raises DataError where the folder of the data is none."""
    if not folder.is_dir():
        raise DataError(f"no folder {folder}", "name the folder of the data with --from")


def picked(there: Mapping[str, T], names: tuple[str, ...], what: str, where: str) -> dict[str, T]:
    """Those of these names, all where none is given; UsageError for a name that is not there, as "no model 'x' in this
    benchmark"."""
    for name in names:
        if name not in there:
            raise UsageError(
                f"no {what} {name!r} in this {where}", did_you_mean(name, there, f"it has {', '.join(there)}")
            )
    return {name: one for name, one in there.items() if not names or name in names}


def run_benchmark(
    config: BenchmarkConfig,
    folder: Path,
    *,
    models: tuple[str, ...] = (),
    seed: int = 42,
    threads: int = 0,
    progress: Progress | None = None,
    base: Path = Path(),
) -> dict:
    """Run a protocol on the files of `folder`, with the named models or all; returns the result as a document.

    base: folder of the benchmark's file, from which it names other files.

    A model that fails has "error" instead of figures, and the others go on.

    Raises DataError where the folder lacks the files, and UsageError for a model that the file does not name.
    """
    progress = progress or Progress()
    require_folder(folder)
    chosen = picked(config.contenders, models, "model", "benchmark")
    protocol = config.protocol
    more, notes = {}, []
    if isinstance(protocol, Impressions):
        task = impression_task(protocol, folder, base, seed, threads, progress)
        counts, more = task.counts, {"feature_seconds": task.seconds}

        def measure(model: HeavyConfig) -> dict:
            return measure_ranker(model, protocol, task, seed, threads, progress)
    elif isinstance(protocol, RatingFolds):
        ratings, notes = read_ratings(protocol, folder)
        counts = {"users": ratings.users, "items": ratings.items, "ratings": len(ratings.value)}

        def measure(model: Section) -> dict:
            return measure_ratings(model, protocol, ratings, seed, progress)
    else:
        task = ranking_task(protocol, folder, seed)
        counts, notes = task.counts, list(task.notes)

        def measure(model: RetrieverConfig) -> dict:
            return measure_source(model, task, protocol.metrics, protocol.k, progress, threads)

    for note in notes:
        progress.message(f"note: {note}")
    results = _measured(chosen, measure, config.name, progress)
    return {
        "benchmark": config.name,
        "title": config.title,
        "created_at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "seed": seed,
        "cores": os.cpu_count(),
        "protocol": protocol.model_dump(mode="json"),
        "data": counts,
        "notes": notes,
        **more,
        "models": results,
        "published": [p.model_dump(mode="json") for p in config.published],
        "packages": {"python": platform.python_version(), **{p: version(p) for p in PACKAGES}},
    }


def _measured(
    chosen: Mapping[str, BaseModel], measure: Callable[[Any], dict], told: str, progress: Progress
) -> list[dict]:
    """The figures of each model, one after the other."""
    results = []
    with progress.step(told, len(chosen)) as step:
        for name, model in chosen.items():
            step.describe(name)
            try:
                measured = measure(model)
            except Exception as error:  # hours of the others are not lost to one model, whatever it stumbled over
                measured = _failed(error)
                progress.message(f"{name} failed: {measured['error']}")
            results.append({"name": name, **measured, "settings": model.model_dump(mode="json")})
            step.advance()
    return results


def _failed(error: Exception) -> dict:
    """What stands for the figures of a model that could not be measured."""
    empty = {"figures": {}, "fit_seconds": None, "rank_seconds": None, "peak_memory_mib": None}
    if isinstance(error, RecsysError):
        return empty | {"error": "; ".join(str(error).splitlines())}
    reason = f"{type(error).__name__}: {error}".splitlines()[0]
    return empty | {"error": reason, "traceback": traceback.format_exception(error)}


def failures(document: dict) -> dict[str, str]:
    """Model → why it has no figures."""
    return {m["name"]: m["error"] for m in document["models"] if "error" in m}


def keep_result(document: dict, artifacts: Path) -> Path:
    """Write `artifacts/benchmarks/NAME-TIME/result.json`; returns the folder, which appears whole or not at all."""
    moment = dt.datetime.fromisoformat(document["created_at"]).strftime("%Y%m%d-%H%M%S")
    content = orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    return write_new_folder(artifacts / "benchmarks", f"{document['benchmark']}-{moment}", {"result.json": content})
