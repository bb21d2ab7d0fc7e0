"""`recsys evaluate`: how good a run is on the last window of its data."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from recsys_cli.cli.common import Invocation, app, command, json_bytes


@command(app, "evaluate")
def evaluate(
    call: Invocation,
    run: Annotated[
        str | None, typer.Option("--run", help="Run id  [default: the one in use]", show_default=False)
    ] = None,
    users: Annotated[
        int | None,
        typer.Option("--users", min=1, help="Measure on so many test users  [default: all]", show_default=False),
    ] = None,
    k: Annotated[
        list[int] | None,
        typer.Option(
            "-k", "--k", min=1, help="Length of list (repeatable)  [default: evaluation.k]", show_default=False
        ),
    ] = None,
    retrievers: Annotated[
        bool,
        typer.Option("--retrievers", help="Compare the sources: recall at 100, 500 and 1,500 (or -k), what each adds"),
    ] = False,
    rolling: Annotated[
        bool,
        typer.Option("--rolling", help="Train and measure at each of windows.cuts cuts in time: mean and spread"),
    ] = False,
    full: Annotated[
        bool, typer.Option("--full", help="Every system, metric, source, action and stage, not what matters first")
    ] = False,
    html: Annotated[
        Path | None, typer.Option("--html", help="Write the HTML report here too", show_default=False)
    ] = None,
) -> None:
    """Measure the whole funnel and each source on the test window: ranking, coverage, predictions, targets.

    The terminal leads with a verdict; all of it is kept as JSON and HTML under ARTIFACTS/reports/RUN/.
    """
    config = call.config
    from recsys_cli.data.dataset import Dataset
    from recsys_cli.engine import RecommendationEngine
    from recsys_cli.evaluation.html import evaluation_page
    from recsys_cli.evaluation.offline import evaluate as measure
    from recsys_cli.evaluation.rows import report_rows
    from recsys_cli.evaluation.tables import render
    from recsys_cli.files import write_bytes

    settings = config.evaluation.model_copy(
        update={n: v for n, v in (("users", users), ("k", tuple(sorted(set(k))) if k else None)) if v is not None}
    )
    if rolling:
        _rolling(call, settings, html, run, retrievers)
        return
    engine = RecommendationEngine.load(
        config.paths.artifacts, run, config.pipeline, threads=config.threads or os.cpu_count() or 1, trace=call.trace,
        measured=True,
    )
    dataset = Dataset.open(config.paths.data)
    if retrievers:
        _retrievers(call, engine, dataset, settings, k)
        return
    document = measure(
        engine,
        dataset,
        settings,
        seed=config.seed,
        progress=call.progress,
        trace=call.trace,
        baseline=_baseline(call, engine.manifest.id),
    )
    if not set(settings.k) <= set(document["k"]):
        lengths = ", ".join(f"{k:,}" for k in document["k"])
        call.say(f"note: k is {lengths}: nothing is measured far beyond the length of the catalogue")
    page = evaluation_page(document).encode()
    folder = Path(config.paths.artifacts) / "reports" / document["run"]
    write_bytes(folder / "evaluation.json", json_bytes(document))
    write_bytes(folder / "evaluation.html", page)
    if html is not None:
        write_bytes(html, page)
    if call.output is not None and call.output.suffix.lower() in (".html", ".htm") and call.options["format"] is None:
        write_bytes(call.output, page)
        call.say(f"wrote {call.output}")
        return
    call.emit(document, lambda console: render(console, document, full=full), report_rows(document))
    call.say(f"report: {folder / 'evaluation.html'}")


def _baseline(call: Invocation, run: str):
    """The trees that the run's heavy ranker is compared with; None where it has none."""
    from recsys_cli.artifacts.runs import RunStore
    from recsys_cli.ranking.registry import load_ranker

    folder = RunStore(call.config.paths.artifacts).folder / "runs" / run / "bundle" / "ranking" / "baseline"
    return load_ranker(folder, threads=call.config.threads or os.cpu_count() or 1) if folder.is_dir() else None


def _rolling(call: Invocation, settings, html: Path | None, run: str | None, retrievers: bool) -> None:
    from recsys_cli.errors import UsageError
    from recsys_cli.evaluation.rolling import evaluate_rolling, render, rows

    if html is not None or run is not None or retrievers:
        raise UsageError("--rolling trains runs of its own", "leave out --run, --retrievers and --html")
    config = call.config
    document = evaluate_rolling(config, settings, threads=config.threads or os.cpu_count() or 1, progress=call.progress)
    call.emit(document, lambda console: render(console, document), rows(document))


def _retrievers(call: Invocation, engine, dataset, settings, depths: list[int] | None) -> None:
    from recsys_cli.evaluation.retriever_table import render, rows
    from recsys_cli.evaluation.retrievers import DEPTHS, evaluate_retrievers
    from recsys_cli.files import write_bytes

    config = call.config
    document = evaluate_retrievers(
        engine, dataset, settings, depths=depths or DEPTHS, seed=config.seed, progress=call.progress, trace=call.trace
    )
    path = Path(config.paths.artifacts) / "reports" / document["run"] / "retrievers.json"
    write_bytes(path, json_bytes(document))
    call.emit(document, lambda console: render(console, document), rows(document))
    call.say(f"report: {path}")
