"""How a slate looks on a terminal of a hundred columns."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from recsys_cli.data.schema import NEGATIVE_ACTIONS
from recsys_cli.pipeline.explain import Recommendation, Recommendations

_SHORT = {
    "in_network": "net",
    "social_proof": "friends",
    "two_tower": "tower",
    "item_neighbours": "items",
    "trending": "trend",
    "popularity": "pop",
    "two_hop": "2-hop",
    "random_walk": "walk",
    "real_graph": "ties",
    "simclusters": "clust",
    "lightgcn": "gcn",
    "random": "rand",
}


HEADS_SHOWN = 6
"""Positive actions that the scores table has room for; `--explain` shows all."""
SIMILARITIES_SHOWN = 5
"""Similarities that fit beside the predictions."""
SOURCES_SHOWN = 4
"""Sources named beside an item; further ones are counted."""


def render_slate(console: Console, answer: Recommendations, *, explain: bool) -> None:
    """The slate with reasons, its scores, the mix of sources and the funnel; everything else with `explain`."""
    note = f" · {answer.fallback}: trending and popular items" if answer.fallback else ""
    when = f" · as of {answer.now[:19]}" if answer.now else ""
    head = f"[bold]User {escape(str(answer.user_id))}[/] · run {answer.run_id}{when}{note}"
    console.print(head, highlight=False)
    if not answer.items:
        console.print("no item left to recommend")
        return
    console.print(_slate(answer))
    for table in _scores(answer):
        console.print("", table)
    if explain:
        _render_details(console, answer)
    _render_mix_and_funnel(console, answer)


def _table(*columns: str, title: str | None = None, right: bool = False) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False, title=title, title_justify="left")
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if right and i else "left", no_wrap=True, overflow="ellipsis")
    return table


def _slate(answer: Recommendations) -> Table:
    rows = [
        (
            str(item.rank),
            str(item.item_id),
            "–" if item.author_id is None else str(item.author_id),
            f"{item.score:.3f}",
            _sources(item.sources),
            f"(notice: {', '.join(item.interstitial)}) {item.reason}" if item.interstitial else item.reason,
        )
        for item in answer.items
    ]
    table = _table("#", "item", "author", "score", "sources", "reason")
    for i, column in enumerate(table.columns[:-1]):
        # only the reason may be cut short
        column.min_width = max(len(row[i]) for row in rows)
    for row in rows:
        table.add_row(*map(escape, row))
    return table


def _sources(names: list[str]) -> str:
    shown = ",".join(_SHORT.get(s, s) for s in names[:SOURCES_SHOWN])
    return shown + (f",+{len(names) - SOURCES_SHOWN}" if len(names) > SOURCES_SHOWN else "")


def _scores(answer: Recommendations) -> list[Table]:
    """Predictions (negative actions added up), similarities and the combined safety score of each item.

    More than SIMILARITIES_SHOWN similarities stand in a table of their own.
    """
    first = answer.items[0]
    heads = [a for a in first.predictions if a != "dwell_seconds" and a not in NEGATIVE_ACTIONS][:HEADS_SHOWN]
    negative = [a for a in first.predictions if a in NEGATIVE_ACTIONS]
    columns: list[tuple[str, list[str]]] = [(a, [_short(i.predictions[a]) for i in answer.items]) for a in heads]
    if negative:
        columns.append(("neg", [_short(sum(i.predictions[a] for a in negative)) for i in answer.items]))
    if "dwell_seconds" in first.predictions:
        columns.append(("dwell", [f"{i.predictions['dwell_seconds']:.0f}s" for i in answer.items]))
    alike = [(f"~{_SHORT.get(s, s)}", [_short(i.similarities[s]) for i in answer.items]) for s in first.similarities]
    safe = [("safe", [_short(_safety(i)) for i in answer.items])] if any(i.safety for i in answer.items) else []
    if len(alike) > SIMILARITIES_SHOWN:
        return [_by_rank(answer, columns + safe), _by_rank(answer, alike)]
    return [_by_rank(answer, columns + alike + safe)]


def _by_rank(answer: Recommendations, columns: list[tuple[str, list[str]]]) -> Table:
    table = _table("#", *(name for name, _ in columns), right=True)
    for row, item in enumerate(answer.items):
        table.add_row(str(item.rank), *(cells[row] for _, cells in columns))
    return table


def _safety(item: Recommendation) -> float:
    return item.safety.get("combined", 1 - max(item.safety.values(), default=float("nan")))


def _short(value: float) -> str:
    """Three digits without the leading zero: many columns have to fit."""
    if value != value:
        return "–"
    text = f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"
    return text.replace("0.", ".", 1) if text.startswith(("0.", "-0.")) else text


def _render_details(console: Console, answer: Recommendations) -> None:
    first = answer.items[0]
    for title, names in (
        ("All predictions", list(first.predictions)),
        ("Similarities", list(first.similarities)),
        ("Safety scores", list(dict.fromkeys(name for item in answer.items for name in item.safety))),
    ):
        if not names:
            continue
        console.print(f"\n[bold]{title}[/]")
        table = _table("#", "item", *names, right=True)
        for item in answer.items:
            held = item.safety if title == "Safety scores" else {**item.predictions, **item.similarities}
            values = ("–" if n not in held else _short(held[n]) for n in names)
            table.add_row(str(item.rank), escape(str(item.item_id)), *values)
        console.print(table)
    console.print("")
    for item in answer.items:
        if item.text:
            console.print(f"{item.rank:>3} {escape(item.text)}", highlight=False, no_wrap=True, overflow="ellipsis")


def _render_mix_and_funnel(console: Console, answer: Recommendations) -> None:
    console.print("")
    mix = " · ".join(f"{name} {share:.0%}" for name, share in sorted(answer.mix.items(), key=lambda m: -m[1]))
    console.print(f"[bold]Sources of the slate[/] (an item of several counts for each): {mix}", highlight=False)
    console.print("\n[bold]Funnel[/] (candidates in and out, milliseconds)")
    table = _table("stage", "in", "out", "ms", right=True)
    for row in answer.funnel:
        table.add_row(row["stage"], f"{row['in']:,.0f}", f"{row['out']:,.0f}", f"{row['ms']:.2f}")
    console.print(table)
