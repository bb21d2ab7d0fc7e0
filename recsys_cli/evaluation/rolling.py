"""Several cuts in time: a run is trained and measured at each, and figures get a mean and a spread over them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from recsys_cli.data.intact import open_intact
from recsys_cli.data.windows.config import WindowsConfig
from recsys_cli.engine import RecommendationEngine
from recsys_cli.errors import ConfigError
from recsys_cli.evaluation.offline import evaluate
from recsys_cli.files import scratch_folder
from recsys_cli.progress import Progress
from recsys_cli.safety.models import FOLDER
from recsys_cli.training import train

if TYPE_CHECKING:
    from rich.console import Console

    from recsys_cli.evaluation.config import EvaluationConfig
    from recsys_cli.settings import Settings

SHOWN = ("recall", "ndcg", "hit_rate")


def evaluate_rolling(
    settings: Settings, config: EvaluationConfig, *, threads: int = 1, progress: Progress | None = None
) -> dict[str, Any]:
    """Train and measure at each of `windows.cuts` cuts in time; nothing is published.

    Returns "cuts" (window, users and seconds of each) and "systems": each metric of the lists as mean, standard
    deviation over the cuts, and its value at each. Raises ConfigError where dates are set or the data has no time,
    and DataError as training and evaluation do.
    """
    progress, started = progress or Progress(), time.perf_counter()
    if settings.windows.dated:
        raise ConfigError("windows: a date is set, and rolling cuts are made by shares", "leave out the dates")
    cuts, values = [], []
    for cut in range(1, settings.windows.cuts + 1):
        begun = time.perf_counter()
        with scratch_folder() as folder:
            report = _at(settings, config, cut, folder, threads, progress)
        cuts.append({k: report[k] for k in ("window", "users")} | {"seconds": round(time.perf_counter() - begun, 3)})
        values.append({s["name"]: s for s in report["systems"]})
    systems = []
    for name, first in values[0].items():
        if all(name in at for at in values):
            metrics = {m: _spread([at[name]["metrics"][m]["value"] for at in values]) for m in first["metrics"]}
            systems.append({"name": name, "kind": first["kind"], "metrics": metrics})
    return {
        "dataset": report["dataset"],
        "k": report["k"],
        "slate_size": report["slate_size"],
        "cuts": cuts,
        "systems": systems,
        "seconds": round(time.perf_counter() - started, 3),
    }


def _at(
    settings: Settings, config: EvaluationConfig, cut: int, folder: str, threads: int, progress: Progress
) -> dict[str, Any]:
    """The report of a run of one cut, trained in a folder of its own."""
    windows = WindowsConfig.model_validate(settings.windows.model_dump() | {"split": "rolling", "cut": cut})
    paths = settings.paths.model_copy(update={"artifacts": folder})
    safety = Path(settings.paths.artifacts).resolve() / FOLDER
    if safety.is_dir():
        (Path(folder) / FOLDER).symlink_to(safety)
    run = train(settings.model_copy(update={"windows": windows, "paths": paths}), progress=progress)
    engine = RecommendationEngine.load(folder, run.id, settings.pipeline, threads=threads)
    dataset = open_intact(settings.paths.data, settings.paths.artifacts)
    return evaluate(engine, dataset, config, seed=settings.seed, progress=progress)


def _spread(each: list[float]) -> dict[str, Any]:
    return {"mean": float(np.mean(each)), "sd": float(np.std(each, ddof=1)), "each": each}


def rows(document: dict[str, Any]) -> list[dict[str, Any]]:
    """One row a system, metric, k and cut."""
    return [
        {"name": s["name"], "metric": m.partition("@")[0], "k": int(m.partition("@")[2]), "cut": cut, "value": value}
        for s in document["systems"]
        for m, figure in s["metrics"].items()
        for cut, value in enumerate(figure["each"], 1)
    ]


def render(console: Console, document: dict[str, Any]) -> None:
    """One row a system: mean and standard deviation over the cuts, and NDCG at each."""
    from rich.table import Table

    from recsys_cli.evaluation.figures import headline
    from recsys_cli.evaluation.period import window_text
    from recsys_cli.evaluation.tables import HEADINGS, number

    k = headline(document["k"], document["slate_size"])
    for number_of, cut in enumerate(document["cuts"], 1):
        console.print(f"cut {number_of}: {window_text(cut['window'])}, {cut['users']:,} test users", highlight=False)
    columns = (*(f"{HEADINGS[m]}@{k}" for m in SHOWN), *(f"NDCG, cut {n + 1}" for n in range(len(document["cuts"]))))
    table = Table("", *columns, box=None, header_style="bold", pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for system in document["systems"]:
        figures = [system["metrics"][f"{m}@{k}"] for m in SHOWN]
        cells = [f"{number(f['mean'])} ±{number(f['sd'])}" for f in figures]
        table.add_row(system["name"], *cells, *map(number, system["metrics"][f"ndcg@{k}"]["each"]))
    console.print("", table, "")
    console.print("mean ± standard deviation over the cuts; each was trained and measured anew", highlight=False)
