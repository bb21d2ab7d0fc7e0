"""An evaluation report on the terminal, readable at 100 columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from recsys_cli.evaluation.offline import headline

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

SHOWN = ("recall", "ndcg", "precision", "map", "mrr", "hit_rate", "coverage")
SHOWN_WITH_PROPENSITIES = ("recall", "ndcg", "replay", "precision", "mrr", "hit_rate", "coverage")
HEADINGS = {
    "recall": "Recall",
    "ndcg": "NDCG",
    "precision": "Precision",
    "map": "MAP",
    "mrr": "MRR",
    "hit_rate": "Hit rate",
    "coverage": "Coverage",
    "diversity": "Topic diversity",
    "novelty": "Novelty (bits)",
    "popularity": "Popularity",
    "authors": "Distinct authors",
    "gini": "Gini of exposure",
}


def render(console: Console, document: dict[str, Any]) -> None:
    """Draw the report; every figure stands with half the width of its 95 % interval."""
    k = headline(document["k"], document["slate_size"])
    truth = document["truth"]
    console.print(
        f"[bold]Run {document['run']}[/] on {document['dataset']['name']}, "
        f"{document['window']['start'][:16]} to {document['window']['end'][:16]} UTC",
        highlight=False,
    )
    console.print(
        f"{document['users']:,} test users · {truth['relevant']:,} items to find "
        f"({truth['repeated']:,} left out as known to the user; {truth['not_yet_published']:,} published only later, "
        f"{'left out' if document['truths'] == 'reachable' else 'kept'}; {truth['seen_before']:,} shown before)",
        highlight=False,
    )
    beyond = f"beyond {document['slate_size']} on the ranking behind the slate, before caps and exploration"
    tables = [
        (_systems(document, k), _notes_on_systems(document, k)),
        (_by_k(document), beyond if document["k"][-1] > document["slate_size"] else None),
        (_sources(document), "an item that several sources proposed counts for each"),
        *((table, None) for table in _actions(document)),
        (_groups(document), None),
    ]
    for table, note in tables:
        if table is not None:
            console.print()
            console.print(table)
        if note is not None:
            console.print(f" {note}", style="dim", highlight=False)
    _dwell(console, document)
    console.print()
    console.print(_funnel(document))
    if document["fallback"]:
        text = ", ".join(f"{n:,} users: {reason}" for reason, n in document["fallback"].items())
        console.print(f"Fallback: {text}", highlight=False)
    console.print()
    console.print(_targets(document))


def _table(title: str, *columns: str, text: int = 1) -> Table:
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", box=None, header_style="dim", padding=(0, 1))
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i < text else "right", no_wrap=i >= text)
    return table


def number(value: float | None, digits: int = 3) -> str:
    return "–" if value is None or value != value else f"{value:.{digits}f}"


def half_width(figure: dict[str, float], digits: int = 3) -> str:
    """`0.123 ±0.006`; the half is the larger one where the interval is lopsided."""
    value, low, high = figure["value"], figure["low"], figure["high"]
    if value is None or value != value:
        return "–"
    if low is None or low != low:
        return number(value, digits)
    return f"{value:.{digits}f} ±{max(value - low, high - value):.{digits}f}"


def _notes_on_systems(document: dict, k: int) -> str:
    text = f"all sources: what they propose together before ranking, {document['sourced']['candidates']:,.0f} a user"
    if f"replay@{k}" in document["systems"][0]["metrics"]:
        text += "\n Replay: interactions among the listed items that were shown, by inverse propensity (SNIPS)"
    return text


def _systems(document: dict, k: int) -> Table:
    replayed = f"replay@{k}" in document["systems"][0]["metrics"]
    shown = SHOWN_WITH_PROPENSITIES if replayed else SHOWN
    table = _table(f"Ranking at {k}", "", *(("Replay" if m == "replay" else HEADINGS[m]) for m in shown))
    for system in document["systems"]:
        figures = [system["metrics"][f"{m}@{k}"] for m in shown]
        cells = [
            half_width(f, 2 if m == "replay" else 3) if m in ("recall", "ndcg", "replay") else number(f["value"])
            for m, f in zip(shown, figures, strict=True)
        ]
        table.add_row(
            system["name"],
            *cells,
            style="bold" if system["kind"] == "pipeline" else "dim" if system["kind"] == "baseline" else None,
        )
    sourced = document["sourced"]
    table.add_row("all sources", half_width(sourced["recall"]), *[""] * (len(shown) - 1))
    return table


def _by_k(document: dict) -> Table:
    funnel = document["systems"][0]["metrics"]
    table = _table("The funnel at every k", "", *(f"@{k}" for k in document["k"]))
    for metric, heading in HEADINGS.items():
        table.add_row(heading, *(half_width(funnel[f"{metric}@{k}"]) for k in document["k"]))
    return table


def _sources(document: dict) -> Table:
    table = _table("Slates by source", "", "slots", "share", "alone", "hits", "share of hits", "precision")
    for row in sorted(document["by_source"], key=lambda r: -r["slots"]):
        table.add_row(
            row["source"],
            f"{row['slots']:,}",
            *(f"{row[c]:.1%}" for c in ("share", "alone")),
            f"{row['hits']:,}",
            "–" if row["share_of_hits"] != row["share_of_hits"] else f"{row['share_of_hits']:.1%}",
            number(row["precision"], 4),
        )
    return table


def _actions(document: dict) -> list[Table]:
    if document["impressions"] is None:
        return []
    out = []
    for view in document["impressions"]["views"]:
        compared = any(row.get("baseline_roc_auc") is not None for row in view["actions"])
        name = "Logged test impressions" if view["view"] == "all" else f"Logged test impressions, {view['view']}"
        table = _table(
            f"{name} ({view['rows']:,} rows)",
            "action",
            "positives",
            "rate",
            "ROC-AUC (95 %)",
            *(("LightGBM",) if compared else ()),
            "PR-AUC",
            "log loss",
            "RCE %",
            "ECE",
        )
        for row in view["actions"]:
            auc = row["roc_auc"]
            interval = "" if auc["low"] != auc["low"] else f" ({auc['low']:.3f}–{auc['high']:.3f})"
            table.add_row(
                row["action"],
                f"{row['positives']:,}",
                f"{row['rate']:.2%}",
                f"{number(auc['value'], 4)}{interval}",
                *((number(row.get("baseline_roc_auc"), 4),) if compared else ()),
                number(row["pr_auc"], 4),
                number(row["log_loss"], 4),
                number(row["rce"], 2),
                number(row["ece"], 4),
            )
        out.append(table)
    return out


def _dwell(console: Console, document: dict) -> None:
    dwell = document["impressions"] and document["impressions"]["views"][0]["dwell"]
    if dwell:
        console.print(
            f"Dwell: mean absolute error {dwell['mae']:.2f} s (always the median: {dwell['mae_of_median']:.2f} s), "
            f"Spearman {number(dwell['spearman'])}, mean {dwell['mean']:.2f} s, "
            f"predicted {dwell['mean_prediction']:.2f} s",
            highlight=False,
        )


def _groups(document: dict) -> Table | None:
    if len(document["groups"]) < 2:
        return None
    metrics = list(document["groups"][0]["metrics"])
    table = _table(
        "The funnel by what was known of the user",
        "",
        "users",
        *(f"{HEADINGS[m.split('@')[0]]}@{m.split('@')[1]}" for m in metrics),
    )
    for row in document["groups"]:
        table.add_row(row["group"], f"{row['users']:,}", *(half_width(row["metrics"][m]) for m in metrics))
    return table


def _funnel(document: dict) -> Table:
    table = _table("Stages, mean over users", "", "in", "out", "ms a user")
    for row in document["funnel"]:
        table.add_row(row["stage"], f"{row['in']:,.1f}", f"{row['out']:,.1f}", f"{row['ms_per_user']:.3f}")
    return table


def _targets(document: dict) -> Table:
    table = _table("Targets", "", "wanted", "measured", "", "")
    marks = {True: "[green]met[/]", False: "[yellow]not met[/]", None: "[dim]cannot tell[/]"}
    for row in document["targets"]:
        table.add_row(
            row["target"], f"> {row['wanted']:g}", number(row["value"]), marks[row["met"]], row["reason"] or ""
        )
    return table
