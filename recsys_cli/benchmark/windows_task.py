"""The whole product on data that it cuts into windows itself, measured as `recsys evaluate` measures."""

from __future__ import annotations

import time
from pathlib import Path

from recsys_cli.benchmark.funnel import FUNNEL, Where
from recsys_cli.benchmark.memory import PeakMemory
from recsys_cli.benchmark.suite_config import WindowsTask
from recsys_cli.config import read_yaml, resolve, validate
from recsys_cli.data.dataset import Dataset
from recsys_cli.data.importer.mapping import Mapping
from recsys_cli.data.importer.readers import find_files
from recsys_cli.data.importer.run import import_dataset
from recsys_cli.engine import RecommendationEngine
from recsys_cli.evaluation.config import EvaluationConfig
from recsys_cli.evaluation.offline import evaluate
from recsys_cli.evaluation.rankings import BEST_SOURCE
from recsys_cli.files import scratch_folder
from recsys_cli.settings import Settings
from recsys_cli.training import train

GROUPS = {"source": "source", "baseline": "baseline", "pipeline": "order", "oracle": "oracle"}
"""Kind of a system in a report → group of its row."""
TRUE = "true_ndcg"
"""What a generated world knows of a list."""


def mapping_of(settings: WindowsTask, base: Path) -> Mapping | None:
    """The mapping of a task with its own actions; None where the world is generated."""
    if settings.mapping is None:
        return None
    path = base / settings.mapping
    tree = read_yaml(path)
    if settings.actions is not None:
        parts = tree.get("impressions", {})
        for part in parts if isinstance(parts, list) else [parts]:
            part["actions"] = settings.actions
    return validate(Mapping, tree, path)


def check_files(settings: WindowsTask, folder: Path, base: Path) -> None:
    """Raises DataError where a file that the mapping needs is missing below the folder."""
    mapping = mapping_of(settings, base)
    if mapping is None:
        return
    for parts in (mapping.users, mapping.items, mapping.impressions, mapping.follows, mapping.blocks, mapping.history):
        for part in parts:
            find_files(part, folder / settings.folder)


def windows_rows(settings: WindowsTask, folder: Path, where: Where) -> tuple[list[dict], dict, dict]:
    """(rows as documents, counts of the data, what is to be told) of a training and its evaluation."""
    where.work.mkdir(parents=True, exist_ok=True)
    with scratch_folder(where.work) as name, PeakMemory() as memory:
        place = Path(name)
        layer = {
            "seed": where.seed, "threads": where.threads,
            "paths": {"data": str(place / "data"), "artifacts": str(place / "artifacts")},
        }
        file = None if settings.config is None else where.base / settings.config
        config = resolve(Settings, file=file, layers=[("file", settings.settings), ("flag", layer)]).config
        start = time.perf_counter()
        _make_dataset(settings, config, folder, place, where)
        made = time.perf_counter()
        train(config, progress=where.progress)
        trained = time.perf_counter()
        engine = RecommendationEngine.load(
            place / "artifacts", pipeline=config.pipeline, threads=where.threads, measured=True
        )
        report = evaluate(
            engine, Dataset.open(place / "data"), EvaluationConfig(k=(settings.k,)), seed=where.seed,
            progress=where.progress,
        )
        seconds = time.perf_counter() - trained
        manifest = engine.manifest
    rows = report_rows(report, settings)
    funnel = next(row for row in rows if row["name"] == FUNNEL)
    funnel |= {"fit_seconds": trained - made, "rank_seconds": seconds}
    told = {
        "order": engine.order.to_json(), "why": manifest.metrics.get("order", {}).get("known", {}).get("why"),
        "import_seconds": made - start, "train_seconds": trained - made, "durations": manifest.durations,
        "remarks": report["remarks"], "notes": manifest.notes,
    }
    for row in rows:
        if row["group"] == "source":
            row["fit_seconds"] = manifest.durations.get(f"fit {row['name'].removesuffix(' (source)')} (checkpoints)")
    funnel["peak_memory_mib"] = memory.mib
    counts = {"test_users": report["users"], "items": report["catalogue"]["items"]}
    return rows, counts, told


def _make_dataset(settings: WindowsTask, config: Settings, folder: Path, place: Path, where: Where) -> None:
    mapping = mapping_of(settings, where.base)
    if mapping is None:
        from recsys_cli.world.generate import generate

        generate(config.world, config.seed, place / "data", threads=where.threads, progress=where.progress)
        return
    import_dataset(mapping, folder / settings.folder, place / "data", mapping_name=settings.mapping,
                   progress=where.progress)


def report_rows(report: dict, settings: WindowsTask) -> list[dict]:
    """Rows of an evaluation report: its systems, with the funnel's difference to the best source, and the ROC-AUC of
    every action on logged impressions."""
    k, names = settings.k, [f"{m}@{settings.k}" for m in settings.metrics]
    names.append(f"{TRUE}@{k}")
    against = {row["role"]: row for row in report["against"]}
    best = against.get(BEST_SOURCE)
    rows = []
    for system in report["systems"]:
        group = "funnel" if system["name"] == FUNNEL else GROUPS[system["kind"]]
        figures = {n: system["metrics"][n] for n in names if n in system["metrics"]}
        row = _row(system["name"], group, figures)
        if best is not None and group == "funnel":
            row["to_best"] = best["metrics"].get(names[0])
        row["best_part"] = best is not None and system["name"] == best["against"]
        rows.append(row)
    for action in (report["impressions"] or {"views": []})["views"][:1]:
        rows += [_row(each["action"], "action", {"roc_auc": each["roc_auc"]}) for each in action["actions"]]
    return rows


def _row(name: str, group: str, figures: dict) -> dict:
    costs = dict.fromkeys(("to_best", "fit_seconds", "rank_seconds", "request_ms", "peak_memory_mib"))
    return {"name": name, "group": group, "figures": figures, "best_part": False, **costs}
