"""A suite from its file to its result: task after task, each a table."""

from __future__ import annotations

import datetime as dt
import os
import platform
import time
import traceback
from importlib.metadata import version
from pathlib import Path

from recsys_cli.benchmark.alone import source_rows
from recsys_cli.benchmark.funnel import Where, funnel_rows
from recsys_cli.benchmark.list_rows import measured, reason
from recsys_cli.benchmark.run import PACKAGES, picked, require_folder
from recsys_cli.benchmark.splits import files_of, list_task
from recsys_cli.benchmark.suite_config import FunnelTask, SuiteConfig, TaskSettings, WindowsTask
from recsys_cli.benchmark.windows_task import check_files, windows_rows
from recsys_cli.errors import DataError, RecsysError
from recsys_cli.progress import Progress

RATIO, BEST = "funnel over best part", "best part"
"""Names in a task's `goal` that are no rows: a ratio, and whichever source or baseline is best."""


def run_suite(
    config: SuiteConfig,
    folder: Path,
    *,
    only: tuple[str, ...] = (),
    seed: int = 42,
    threads: int = 0,
    progress: Progress | None = None,
    base: Path = Path(),
    work: Path = Path("artifacts/work/benchmarks"),
) -> dict:
    """Run the named tasks or all on the files of `folder`; returns the result as a document.

    base: folder of the suite's file, from which it names other files. work: folder for what is trained, removed again,
    and for environments of peers, kept. A task or a row that fails has "error", and the others go on.

    Raises DataError where the folder lacks a file of these tasks, before any of them runs, and UsageError for a task
    that the file does not name.
    """
    progress = progress or Progress()
    chosen = picked(config.tasks, only, "task", "suite")
    require_folder(folder)
    for name, task in chosen.items():
        require_files(name, task, folder, base)
    where = Where(base, work, seed, threads or len(os.sched_getaffinity(0)), progress)
    tasks = []
    with progress.step(config.name, len(chosen)) as step:
        for name, task in chosen.items():
            step.describe(name)
            progress.message(f"{name}: {task.title or task.kind}")
            tasks.append(_one(name, task, config, folder, where))
            step.advance()
    return {
        "benchmark": config.name,
        "title": config.title,
        "created_at": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "seed": seed,
        "cores": os.cpu_count(),
        "tasks": tasks,
        "packages": {
            "python": platform.python_version(), **{p: version(p) for p in (*PACKAGES, "lightgbm", "polars")},
        },
    }


def require_files(name: str, task: TaskSettings, folder: Path, base: Path) -> None:
    """Raises DataError naming the task and the file that it lacks."""
    if isinstance(task, WindowsTask):
        try:
            check_files(task, folder, base)
        except DataError as error:
            raise DataError(f"{name}: {error.message}", error.hint) from None
        return
    for file in files_of(task):
        if not (folder / file).is_file():
            raise DataError(
                f"{name}: no file {folder / file}",
                "name the folder that holds it with --from, or leave the task out with --only",
            )


def _one(name: str, settings: TaskSettings, suite: SuiteConfig, folder: Path, where: Where) -> dict:
    """The result of a task, whatever happens to it."""
    started = time.perf_counter()
    document = {"name": name, "title": settings.title or name, "kind": settings.kind}
    try:
        document |= _measure(settings, suite, folder, where)
    except Exception as error:  # hours of the other tasks are not lost to one
        document |= {"data": {}, "rows": [], "error": reason(error)}
        if not isinstance(error, RecsysError):
            document["traceback"] = traceback.format_exception(error)
        where.progress.message(f"{name} failed: {document['error']}")
    document["published"] = [p.model_dump(mode="json") for p in settings.published]
    document["metrics"] = [f"{m}@{settings.k}" for m in settings.metrics]
    document["ratio"] = ratio(document["rows"], document["metrics"][0])
    document["goal"] = verdict(settings.goal, document)
    document["seconds"] = round(time.perf_counter() - started, 3)
    return document


def _measure(settings: TaskSettings, suite: SuiteConfig, folder: Path, where: Where) -> dict:
    if isinstance(settings, WindowsTask):
        rows, counts, told = windows_rows(settings, folder, where)
        return {"data": counts, "rows": rows, "told": told}
    task = list_task(settings, folder)
    make = funnel_rows if isinstance(settings, FunnelTask) else source_rows
    rows, told = make(task, settings, suite, where)
    found = measured(rows, task, settings, resamples=suite.resamples, seed=where.seed)
    return {"data": task.counts, "rows": found, "told": told}


def ratio(rows: list[dict], metric: str) -> float | None:
    """The funnel's first figure over that of the best part; None where either is missing."""
    value = {side: row["figures"].get(metric, {}).get("value") for row in rows
             for side, is_it in (("funnel", row["group"] == "funnel"), ("best", row["best_part"])) if is_it}
    if not value.get("best") or value.get("funnel") is None:
        return None
    return value["funnel"] / value["best"]


def verdict(goal: dict[str, float], document: dict) -> list[dict]:
    """Each figure to reach with the one measured (null where it was not) and whether it was reached."""
    first, out = document["metrics"][0], []
    rows = {row["name"]: row for row in document["rows"]}
    rows[BEST] = next((row for row in document["rows"] if row["best_part"]), {"figures": {}})
    for name, wanted in goal.items():
        row, _, metric = name.partition(": ")
        if name == RATIO:
            got = document["ratio"]
        else:
            figure = rows.get(row, {"figures": {}})["figures"].get(metric or first)
            got = figure["value"] if figure else None
        out.append({"name": name, "wanted": wanted, "value": got, "met": got is not None and got >= wanted})
    return out


def suite_failures(document: dict) -> dict[str, str]:
    """"Task" or "task: row" → why it has no figures; peers that cannot be had are none."""
    out = {}
    for task in document["tasks"]:
        if "error" in task:
            out[task["name"]] = task["error"]
        out |= {f"{task['name']}: {row['name']}": row["error"] for row in task["rows"] if "error" in row}
    return out
