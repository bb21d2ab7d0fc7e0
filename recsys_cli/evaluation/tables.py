"""An evaluation report on the terminal, readable at 100 columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.markup import escape

from recsys_cli.evaluation.figures import headline
from recsys_cli.evaluation.frontier_report import cut_in_words, frontier_table
from recsys_cli.evaluation.period import window_text
from recsys_cli.evaluation.stage_tables import positions_in_words, stage_rows, stages_in_words
from recsys_cli.evaluation.summary import leading, verdict
from recsys_cli.pipeline.order import order_in_words

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

SHOWN = ("recall", "ndcg", "precision", "map", "mrr", "hit_rate", "coverage")
SHOWN_WITH_PROPENSITIES = ("recall", "ndcg", "replay", "precision", "mrr", "hit_rate", "coverage")
SHOWN_WITH_TRUTH = ("recall", "ndcg", "replay", "true_ndcg", "true_value", "hit_rate", "coverage")
MOST_SHOWN = 6
"""Metrics beside one another where the truth is among them; more would not fit into a hundred columns."""
FIRST_TO_GO = ("mrr", "map", "precision", "replay", "hit_rate", "true_value", "recall", "coverage")
"""Metrics that a narrow terminal goes without, in this order."""
WITH_INTERVALS = ("recall", "ndcg", "replay", "true_ndcg", "true_value")
HEADINGS = {
    "recall": "Recall",
    "ndcg": "NDCG",
    "replay": "Replay",
    "true_ndcg": "True NDCG",
    "true_value": "True value",
    "precision": "Precision",
    "map": "MAP",
    "mrr": "MRR",
    "hit_rate": "Hit rate",
    "r_precision": "R-precision",
    "coverage": "Coverage",
    "diversity": "Topic diversity",
    "novelty": "Novelty (bits)",
    "popularity": "Popularity",
    "authors": "Distinct authors",
    "gini": "Gini of exposure",
    "vector_diversity": "Vector diversity",
    "serendipity": "Serendipity",
    "popularity_lift": "Popularity lift",
    "age_days": "Age (days)",
    "unsafe": "Unsafe",
    "sentiment": "Sentiment",
}
BESIDE = ("vector_diversity", "serendipity", "popularity_lift", "age_days", "unsafe", "sentiment")
"""Metrics that are taken at one length of list."""


def render(console: Console, document: dict[str, Any], *, full: bool = False) -> None:
    """Draw the report: what matters first, and with `full` every figure with half the width of its 95 % interval."""
    k = headline(document["k"], document["slate_size"])
    truth = document["truth"]
    kept = "left out" if document["truths"] == "reachable" else "kept"
    seen = "left out" if truth["seen_left_out"] == truth["seen_before"] else "kept"
    known = "kept" if document["repeats"] else "left out"
    console.print(
        f"[bold]Run {document['run']}[/] on {escape(document['dataset']['name'])}, "
        f"{window_text(document['window'])}",
        highlight=False,
    )
    console.print(
        f"{document['users']:,} test users · {truth['relevant']:,} items to find "
        f"({truth['repeated']:,} known to the user, {known}; {truth['not_yet_published']:,} published only later, "
        f"{kept}; {truth['seen_before']:,} shown before, {seen})",
        highlight=False,
    )
    for remark in document["remarks"]:
        console.print(f"[yellow]{remark}[/]", highlight=False)
    console.print()
    for sentence in verdict(document):
        console.print(sentence, highlight=False, style="bold" if sentence.startswith("The list") else None)
    for sentence in order_in_words(document["order"], full=full):
        console.print(sentence, highlight=False, markup=False)
    if any(row["role"] == "best source" for row in document["against"]):
        console.print("The best source is picked on these very lists, which flatters it.", style="dim")
    if full:
        _everything(console, document, k)
    else:
        console.print()
        console.print(_systems(document, k, leading(document), console.width))
        for table in (_repeats(document, k), _groups(document, console.width)):
            if table is not None:
                console.print("", table)
        told = (lost_in_words(document), cut_in_words(document), stages_in_words(document), *growth_in_words(document))
        for sentence in told:
            if sentence:
                console.print("", sentence, highlight=False)
    if document["frontier"]:
        console.print("", frontier_table(document))
        for note in document["frontier"]["notes"]:
            console.print(f" {escape(note)}", style="dim", highlight=False)
    console.print()
    console.print(_targets(document))
    for what, why in document["left_out"].items():
        console.print(f"Left out: {what} ({why})", style="dim", highlight=False)
    if not full:
        console.print("--full shows every system, metric, source, action and stage", style="dim", highlight=False)


def _everything(console: Console, document: dict[str, Any], k: int) -> None:
    beyond = f"beyond {document['slate_size']} on the ranking behind the slate, before caps and exploration"
    tables = [
        (_systems(document, k, document["systems"], console.width), _notes_on_systems(document, k)),
        (_repeats(document, k), "the same lists, measured by what the user had not had, had had, and by both"),
        (_heavy_ranker(document, k), None),
        (_by_k(document), beyond if document["k"][-1] > document["slate_size"] else None),
        (_sources(document), "an item that several sources proposed counts for each"),
        *_actions(document),
        (_groups(document, console.width), None),
        (_lost(document), "of what a user was to find, share that ends in each way"),
        (_overlap(document, k), "how alike to the funnel's lists; rank-biased: the first places weigh most"),
        (_ages(document), "places: the share of the list's places that items of that age have"),
    ]
    for table, note in tables:
        if table is not None:
            console.print()
            console.print(table)
        if note is not None and table is not None:
            console.print(f" {note}", style="dim", highlight=False)
    _dwell(console, document)
    console.print()
    console.print(_funnel(document))
    if document["positions"]:
        console.print(positions_in_words(document), highlight=False)
    if document["fallback"]:
        text = ", ".join(f"{n:,} users: {reason}" for reason, n in document["fallback"].items())
        console.print(f"Fallback: {text}", highlight=False)


def _table(title: str, *columns: str, text: int = 1) -> Table:
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", box=None, header_style="dim", padding=(0, 1))
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i < text else "right", no_wrap=i >= text)
    return table


def number(value: float | None, digits: int = 3) -> str:
    """A figure with so many decimals, a dash where it is unknown (None or NaN)."""
    return "–" if value is None or value != value else f"{value:.{digits}f}"


def half_width(figure: dict[str, float], digits: int = 3) -> str:
    """`0.123 ±0.006`; the half is the larger one where the interval is lopsided."""
    value, low, high = figure["value"], figure["low"], figure["high"]
    if value is None or value != value:
        return "–"
    if low is None or low != low:
        return number(value, digits)
    return f"{value:.{digits}f} ±{max(value - low, high - value):.{digits}f}"


def has(document: dict, metric: str) -> bool:
    """Whether the report holds a metric, at any k."""
    return any(name.split("@")[0] == metric for name in document["systems"][0]["metrics"])


def _notes_on_systems(document: dict, k: int) -> str:
    text = f"all sources: what they propose together before ranking, {document['sourced']['candidates']:,.0f} a user"
    if document["silent"]:
        text += f"\n –: {', '.join(document['silent'])} proposed nothing to anybody"
    if has(document, "replay"):
        text += "\n Replay: interactions among the listed items that were shown, by inverse propensity (SNIPS)"
    if document["oracle"] is not None:
        choice = document["oracle"]["items"]
        text += f"\n True NDCG: gains are true expected utility; 1: the best {k} of {choice:,.0f} items open to a user"
        if f"true_value@{k}" in document["systems"][0]["metrics"]:
            text += "\n True value: expected utility of a place when the list is shown as one slate"
        if document["oracle"]["users"] < document["users"]:
            text += f"\n both: asked about {document['oracle']['users']:,} of the users, drawn with the seed"
    return text


def _systems(document: dict, k: int, systems: list[dict], width: int) -> Table:
    """Metrics of systems beside one another, as many as the width has room for."""
    shown = SHOWN_WITH_PROPENSITIES if has(document, "replay") else SHOWN
    if document["oracle"] is not None:
        there = [m for m in SHOWN_WITH_TRUTH if f"{m}@{k}" in document["systems"][0]["metrics"]]
        shown = [*there[: MOST_SHOWN - 1], "coverage"]
    columns = {
        m: ["–" if s["name"] in document["silent"] else _cell(s["metrics"][f"{m}@{k}"], m) for s in systems]
        for m in shown
    }
    columns = _fitting(columns, max(len(system["name"]) for system in systems), width)
    table = _table(f"Ranking at {k}", "", *(HEADINGS[m] for m in columns))
    table.columns[0].no_wrap = True
    styles = {"pipeline": "bold", "baseline": "dim", "oracle": "dim"}
    for row, system in enumerate(systems):
        table.add_row(system["name"], *(cells[row] for cells in columns.values()), style=styles.get(system["kind"]))
    recall = half_width(document["sourced"]["recall"])
    table.add_row("all sources", *(recall if m == "recall" else "" for m in columns))
    return table


def _cell(figure: dict[str, float], metric: str) -> str:
    if metric not in WITH_INTERVALS:
        return number(figure["value"])
    return half_width(figure, 2 if metric in ("replay", "true_value") else 3)


def _fitting(columns: dict[str, list[str]], names: int, width: int) -> dict[str, list[str]]:
    """Those columns that fit beside names of so many cells; what is told least goes first."""
    wide = {m: max(map(len, (HEADINGS[m], *cells))) + 2 for m, cells in columns.items()}
    kept = list(columns)
    for metric in FIRST_TO_GO:
        if names + 2 + sum(wide[m] for m in kept) > width and metric in kept:
            kept.remove(metric)
    return {m: columns[m] for m in kept}


def _repeats(document: dict, k: int) -> Table | None:
    """NDCG of new items, repeats and both, where lists may hold what users had."""
    if not document["repeats"]:
        return None
    names = list(document["repeats"][0]["systems"])
    table = _table(f"NDCG@{k} of new items, repeats and both", "", "users", "to find", *names)
    unknown = {"value": None, "low": None, "high": None}
    for row in document["repeats"]:
        cells = (half_width(row["systems"][name].get(f"ndcg@{k}", unknown)) for name in names)
        table.add_row(row["of"], f"{row['users']:,}", f"{row['relevant']:,}", *cells)
    return table


def lost_in_words(document: dict) -> str:
    """Where the funnel loses most of what people turned to."""
    rows = {row["fate"]: row["value"] for row in document["lost"]}
    told = ", ".join(f"{name} {value:.0%}" for name, value in rows.items() if name != "shown" and value >= 0.005)
    return f"Of what was to be found {rows['shown']:.0%} is shown; lost: {told or 'nothing'}."


def growth_in_words(document: dict) -> list[str]:
    """NDCG of the list and of its best part by how much is known of a person."""
    growth = document.get("growth")
    if not growth:
        return []
    out = []
    for known in growth["known"]:
        rows = [r for r in growth["rows"] if r["known"] == known]
        ours = next(r for r in rows if r["system"] == "funnel")
        best = max((r for r in rows if r["system"] != "funnel"), key=lambda r: r["value"], default=None)
        beside = f"; best part {best['system']} {best['value']:.3f}" if best is not None else ""
        out.append(f"{known:>4} known interactions: NDCG@{growth['k']} {half_width(ours)}{beside}")
    return [f"What {growth['users']:,} people get when less is known of them:\n" + "\n".join(out)]


def _lost(document: dict) -> Table:
    table = _table("Where what was to be found is lost", "", "share")
    for row in document["lost"]:
        table.add_row(row["fate"], half_width(row))
    return table


def _overlap(document: dict, k: int) -> Table | None:
    if not document["overlap"]:
        return None
    table = _table("Lists in common with the funnel", "", f"first {k}", "rank-biased")
    for row in document["overlap"]:
        table.add_row(row["system"], half_width(row["overlap"]), half_width(row["rank_biased_overlap"]))
    return table


def _ages(document: dict) -> Table | None:
    if not document["ages"]:
        return None
    names = list(document["ages"][0]["systems"])
    heads = [h for n in names for h in (f"{n}: recall", "places")]
    table = _table("By age of the item", "", "to find", *heads)
    for row in document["ages"]:
        figures = [row["systems"][n] for n in names]
        cells = [c for f in figures for c in (half_width(f["recall"]), _share(f["exposure"]))]
        table.add_row(row["age"], f"{row['relevant']:,}", *cells)
    return table


def _heavy_ranker(document: dict, k: int) -> Table | None:
    if not document["heavy_ranker"]:
        return None
    rows = document["heavy_ranker"]
    table = _table(f"What ranking adds at {k}", "", *(f"over {r['against']}" for r in rows))
    for metric, heading in HEADINGS.items():
        if f"{metric}@{k}" in rows[0]["metrics"]:
            table.add_row(heading, *(difference(r["metrics"][f"{metric}@{k}"]) for r in rows))
    return table


def difference(figure: dict[str, float]) -> str:
    """`+0.053 (+0.046 to +0.060)`."""
    value, low, high = (figure[side] for side in ("value", "low", "high"))
    if value is None or value != value:
        return "–"
    if low is None or low != low:
        return f"{value:+.3f}"
    return f"{value:+.3f} ({low:+.3f} to {high:+.3f})"


def _by_k(document: dict) -> Table:
    funnel = document["systems"][0]["metrics"]
    table = _table("The funnel at every k", "", *(f"@{k}" for k in document["k"]))
    unknown = {"value": None, "low": None, "high": None}
    for metric, heading in HEADINGS.items():
        known = any(funnel[m]["value"] == funnel[m]["value"] for m in funnel if m.split("@")[0] == metric)
        if has(document, metric) and known:
            table.add_row(heading, *(half_width(funnel.get(f"{metric}@{k}", unknown)) for k in document["k"]))
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


def _actions(document: dict) -> list[tuple[Table, str | None]]:
    if document["impressions"] is None:
        return []
    out = []
    for view in document["impressions"]["views"]:
        actions = view["actions"]
        compared = any(row["baseline_roc_auc"] is not None for row in actions)
        truth = any(row["oracle_roc_auc"] is not None for row in actions)
        name = "Logged test impressions" if view["view"] == "all" else f"Logged test impressions, {view['view']}"
        oracle = {
            "oracle": lambda row: number(row["oracle_roc_auc"], 4), "share": lambda row: _share(row["oracle_share"])
        }
        columns = {
            "positives": lambda row: f"{row['positives']:,}",
            "rate": lambda row: f"{row['rate']:.2%}",
            "ROC-AUC (95 %)": _auc,
            **({"LightGBM": lambda row: number(row["baseline_roc_auc"], 4)} if compared else {}),
            # both beside each other would not fit into a hundred columns
            **(oracle if truth else {"log loss": lambda row: number(row["log_loss"], 4)}),
            "PR-AUC": lambda row: number(row["pr_auc"], 4),
            "RCE %": lambda row: number(row["rce"], 2),
            "ECE": lambda row: number(row["ece"], 4),
        }
        table = _table(f"{name} ({view['rows']:,} rows)", "action", *columns)
        for row in actions:
            table.add_row(escape(row["action"]), *(write(row) for write in columns.values()))
        note = "oracle: the true probabilities; share: how much of the way from 0.5 to them the ranker goes"
        out.append((table, note if truth else None))
    return out


def _auc(row: dict) -> str:
    auc = row["roc_auc"]
    interval = "" if auc["low"] != auc["low"] else f" ({auc['low']:.3f}–{auc['high']:.3f})"
    return f"{number(auc['value'], 4)}{interval}"


def _share(value: float | None) -> str:
    return "–" if value is None or value != value else f"{value:.1%}"


def _dwell(console: Console, document: dict) -> None:
    dwell = document["impressions"] and document["impressions"]["views"][0]["dwell"]
    if dwell:
        console.print(
            f"Dwell: mean absolute error {dwell['mae']:.2f} s (always the median: {dwell['mae_of_median']:.2f} s), "
            f"root mean square {dwell['rmse']:.2f} s, Spearman {number(dwell['spearman'])}{of_oracle(dwell)}, "
            f"mean {dwell['mean']:.2f} s, "
            f"predicted {dwell['mean_prediction']:.2f} s",
            highlight=False,
        )


def of_oracle(dwell: dict) -> str:
    """What the true expected seconds reach, where they are known."""
    return "" if dwell["oracle_spearman"] is None else f" (the truth: {number(dwell['oracle_spearman'])})"


def _groups(document: dict, width: int) -> Table | None:
    if len(document["groups"]) < 2:
        return None
    metrics = list(document["groups"][0]["metrics"])
    ndcg = next(m for m in metrics if m.startswith("ndcg@"))
    shown = metrics if width >= 100 else [ndcg]
    headings = [f"{HEADINGS[m.split('@')[0]]}@{m.split('@')[1]}" for m in shown]
    table = _table("The funnel by what was known of the user", "", "users", *headings, "NDCG over popularity")
    table.columns[0].no_wrap = True
    for row in document["groups"]:
        cells = (half_width(row["metrics"][m]) for m in shown)
        table.add_row(escape(row["group"]), f"{row['users']:,}", *cells, difference(row["over_popularity"][ndcg]))
    return table


def _funnel(document: dict) -> Table:
    """Each stage with its cost and, where it can be left out, what it brings."""
    brought = {"changed": "changes", "ndcg": "NDCG", "diversity": "topic diversity"} if document["stages"] else {}
    table = _table("Stages: what they cost and bring, mean over users", "", "in", "out", "ms a user", *brought.values())
    table.columns[0].no_wrap = True
    for row in stage_rows(document, _changed):
        cells = (f"{row['in']:,.1f}", f"{row['out']:,.1f}", f"{row['ms_per_user']:.3f}")
        table.add_row(row["stage"], *cells, *(row[name] for name in brought))
    return table


def _changed(figure: dict[str, float]) -> str:
    """`+0.053 ±0.007`; the half is the larger one where the interval is lopsided."""
    told = half_width(figure)
    return f"+{told}" if (figure["value"] or 0) > 0 and told != "–" else told


def _targets(document: dict) -> Table:
    table = _table("Targets", "", "wanted", "measured", "", "")
    marks = {True: "[green]met[/]", False: "[yellow]not met[/]", None: "[dim]cannot tell[/]"}
    for row in document["targets"]:
        table.add_row(
            row["target"], f"> {row['wanted']:g}", number(row["value"]), marks[row["met"]], row["reason"] or ""
        )
    return table
