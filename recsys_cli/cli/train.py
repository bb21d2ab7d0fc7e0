"""`recsys train`: from a dataset to a published run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from recsys_cli.cli.common import Invocation, app, command
from recsys_cli.cli.options import EngineOption
from recsys_cli.errors import UsageError
from recsys_cli.pipeline.order import below_best_part, order_in_words

if TYPE_CHECKING:
    from rich.table import Table

FinalOption = Annotated[
    bool, typer.Option("--final", help="Hold nothing out: the run cannot be measured")
]
NoRefitOption = Annotated[
    bool, typer.Option("--no-refit", help="Serve what is measured, which knows nothing of the test window")
]
ResumeOption = Annotated[
    bool, typer.Option("--resume", help="Go on from the last checkpoint of a killed training")
]
OnlyOption = Annotated[
    list[str] | None,
    typer.Option("--only", metavar="NAME,NAME,…", help="Fit these sources, take the others from the run in use"),
]
WarmStartOption = Annotated[
    str | None,
    typer.Option(
        "--warm-start",
        metavar="RUN",
        help="Begin the rankers with the weights of this run (id, or current)",
        show_default=False,
    ),
]
EventsOption = Annotated[
    Path | None,
    typer.Option(
        "--events",
        metavar="LOG",
        help="Train on the dataset and the events of this log together, written to paths.data with -events behind",
        show_default=False,
    ),
]


@command(app, "train")
def train(
    call: Invocation,
    final: FinalOption = False,
    no_refit: NoRefitOption = False,
    resume: ResumeOption = False,
    only: OnlyOption = None,
    warm_start: WarmStartOption = None,
    events: EventsOption = None,
    engine: EngineOption = None,
) -> None:
    """Fit the candidate sources and the rankers, and publish them as the run in use."""
    config = call.config
    from recsys_cli.training import train as run_training

    names = [name.strip() for part in only or () for name in part.split(",") if name.strip()]
    if only and not names:
        raise UsageError("--only names no source", "give names of `retrieval`, e.g. --only two_tower,als")
    if events is not None:
        from recsys_cli.cli.import_data import with_events

        target = with_events(call, events, None)
        config = config.model_copy(update={"paths": config.paths.model_copy(update={"data": str(target)})})
    with call.tasks(engine) as tasks:
        run = run_training(
            config, final=final, refit=not no_refit, resume=resume, only=names, warm=warm_start, tasks=tasks,
            progress=call.progress, trace=call.trace,
        )
    manifest = run.manifest
    document = {
        "run": run.id,
        "folder": str(run.folder),
        "dataset": manifest.dataset.model_dump(),
        "final": manifest.final,
        "warm_start": manifest.warm_start,
        "windows": manifest.windows.model_dump(),
        "durations": manifest.durations,
        "metrics": manifest.metrics,
        "notes": manifest.notes,
        "warnings": below_best_part(manifest.metrics.get("order", {}), **config.pipeline.order.model_dump()),
    }
    call.emit(document, lambda console: _render(console, document), _rows(document))


def _rows(document: dict) -> list[dict]:
    return [
        {"run": document["run"], "part": part, "name": name, "metric": metric, "value": value}
        for part, table in document["metrics"].items()
        for name, row in table.items()
        for metric, value in (row if isinstance(row, dict) else {"recall@500": row}).items()
        if isinstance(value, int | float)
    ]


def _source_table(sources: dict[str, float], seconds: dict[str, float], indexes: dict[str, dict]) -> Table:
    """Recall of each source, what fitting it took, and how it finds the nearest items."""
    from rich.table import Table

    table = Table(
        "source", "recall@500", "fit s", "nearest items by",
        title="Sources, on the window after the one they were fitted on", title_justify="left", box=None,
        header_style="bold",
    )
    for name, recall in sources.items():
        fit = f"{seconds.get(f'fit {name} (history)', 0):.1f}"
        table.add_row(name, f"{recall:.4f}", fit, _index(indexes.get(name)))
    return table


def _head_table(heads: dict[str, dict], trees: dict[str, dict]) -> Table:
    """Figures of each head of the heavy ranker, beside those of the trees where there are some."""
    from rich.table import Table

    columns: tuple[str, ...] = ("positives", "roc_auc", "log_loss_raw", "log_loss", "ece_raw", "ece")
    if any("auc_mean" in row for row in heads.values()):  # of several seeds
        columns = (*columns[:2], "auc_mean", "auc_sd", *columns[2:])
    table = Table(
        "head", *columns, *(("roc_auc of LightGBM",) if trees else ()),
        title="Heavy ranker, on the validation window", title_justify="left", box=None, header_style="bold",
    )
    for name, row in heads.items():
        beside = (_number(trees.get(name, {}).get("roc_auc")),) if trees else ()
        table.add_row(name, *(_number(row.get(c)) for c in columns), *beside)
    return table


def _render(console, document: dict) -> None:
    sources, heavy = document["metrics"].get("sources", {}), document["metrics"].get("heavy", {})
    seconds = document["durations"]
    if sources:
        console.print(_source_table(sources, seconds, document["metrics"].get("index", {})), "")
    heads = {name: row for name, row in heavy.items() if isinstance(row, dict) and "roc_auc" in row}
    if heads:
        console.print(_head_table(heads, document["metrics"].get("baseline", {})), "")
    if document["warm_start"] is not None:
        console.print(f"the rankers began with those of run {document['warm_start']}", highlight=False)
    _render_segments(console, heads, heavy.get("segments", {}))
    if document["metrics"].get("int8"):
        console.print(_int8_line(document["metrics"]["int8"]), highlight=False)
    cut = document["metrics"].get("light", {}).get("cut")
    if cut is not None:
        share, keep = next((v, k.rpartition("_")[2]) for k, v in cut.items() if k.startswith("top"))
        console.print(
            f"light ranker: {100 * share:.1f} % of the heavy ranker's best 100 are among its own best {keep} "
            f"({cut['users']:,} users, {cut['candidates']:,.0f} candidates each)", highlight=False,
        )
    utility = document["metrics"].get("utility")
    if utility and heads:
        console.print(_weights_line(utility), highlight=False)
    account = document["metrics"].get("order", {})
    for sentence in order_in_words(account):
        console.print(sentence, highlight=False, markup=False)
    for warning in document["warnings"]:
        console.print(f"warning: {warning}", markup=False, highlight=False, style="yellow")
    for note in document["notes"]:
        console.print(f"note: {note}", highlight=False)
    console.print(f"run {document['run']} is in use · {seconds['total']:.1f} s · {document['folder']}", highlight=False)


def _weights_line(utility: dict[str, dict[str, float]]) -> str:
    """The weights of the utility, those that were proposed from rarity marked."""
    proposed = utility["proposed"]
    parts = [f"{action}{'*' if action in proposed else ''} {weight:g}" for action, weight in utility["weights"].items()]
    rule = "; * by rarity, name your own under pipeline.utility.weights" if proposed else ""
    return f"utility weighs {', '.join(parts)}{rule}"


def _int8_line(quantised: dict[str, dict[str, float]]) -> str:
    """What serving in int8 costs: head → ROC-AUC of both forms, NaN where a head has no positive or no negative."""
    losses = {task: row["float32"] - row["int8"] for task, row in quantised.items() if row["int8"] == row["int8"]}
    if not losses:
        return "served in int8; no head has both classes in the validation window, so its cost is unknown"
    mean, worst = sum(losses.values()) / len(losses), max(losses, key=losses.get)
    return (
        f"served in int8: ROC-AUC on the validation window falls by {mean:.4f} on average, most "
        f"for {worst} ({quantised[worst]['float32']:.4f} to {quantised[worst]['int8']:.4f})"
    )


def _render_segments(console, heads: dict, segments: dict) -> None:
    """Calibration of the two commonest heads on each surface, where there are several."""
    from rich.table import Table

    shown = sorted((t for t in segments if t in heads), key=lambda t: -heads[t]["positives"])[:2]
    names = list(dict.fromkeys(name for task in shown for name in segments[task]))
    if len(names) < 2:
        return
    console.print("Calibration error by surface, before → after", style="bold", highlight=False)
    table = Table("surface", "rows", box=None, header_style="bold")
    table.columns[1].justify = "right"
    for task in shown:
        table.add_column(task, justify="right")
    for name in names:
        rows = [segments[task].get(name) for task in shown]
        cells = ("–" if r is None else f"{r['ece_raw']:.4f} → {r['ece']:.4f}" for r in rows)
        table.add_row(str(name), f"{next(r['rows'] for r in rows if r):,}", *cells)
    console.print(table, "")


def _index(report: dict | None) -> str:
    """How a source with vectors finds the nearest items: chosen by the size of the catalogue."""
    if report is None:
        return ""
    if report["kind"] == "exact":
        return f"exact product with {report['items']:,}"
    return f"{report['kind']}: recall@100 {report['recall@100']:.3f}, {report['ms_per_query']:.2f} ms"


def _number(value) -> str:
    return "–" if value is None else f"{value:,}" if isinstance(value, int) else f"{value:.4f}"
