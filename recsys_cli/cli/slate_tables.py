"""How a slate looks on a terminal, whatever its width and however long the data's ids and texts are."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from rich.cells import cell_len
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from recsys_cli.answers.reasons import label_of
from recsys_cli.answers.slate import Recommendation, Recommendations

if TYPE_CHECKING:
    from recsys_cli.answers.rows import Page

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


LONGEST_ID = 14
"""Cells that an id of an item or author is given at most."""
NARROW = 12
"""Cells that what an item is, and why it stands there, must each have; other columns go before they have fewer."""
SOURCES_SHOWN = 2
"""Sources named beside an item; further ones are counted."""
GAP = 2
"""Cells between two columns."""


class Column(NamedTuple):
    """One column of a table as text."""

    name: str
    cells: list[str]
    right: bool = False
    longest: int | None = None
    """cells at most; None for as many as the widest takes"""

    @property
    def width(self) -> int:
        natural = max(cell_len(text) for text in (self.name, *self.cells))
        return natural if self.longest is None else min(natural, max(self.longest, cell_len(self.name)))


def render_slate(console: Console, answer: Recommendations, *, explain: bool) -> None:
    """What is recommended and why, the mix of sources and the funnel in a line each; with `explain` also the sources,
    ranks, predictions, similarities and safety scores of each item, and every stage of the funnel."""
    on = f" · by {answer.path}" if answer.path != "history" else ""
    note = f" · {answer.fallback}: trending and popular items" if answer.fallback and answer.path != "topics" else on
    when = f" · as of {answer.now[:19]}" if answer.now else ""
    head = f"[bold]User {escape(str(answer.user_id))}[/] · run {answer.run_id}{when}{note}"
    console.print(head, highlight=False)
    if not answer.items:
        for told in answer.remarks or ("no item is left to recommend",):
            console.print(told, highlight=False, markup=False)
        return
    _print(console, _slate(answer, console.width))
    if explain:
        _render_details(console, answer)
    for told in answer.remarks:
        console.print(told, highlight=False, markup=False, style="yellow")
    _render_mix_and_funnel(console, answer, explain=explain)


def render_page(console: Console, page: Page) -> None:
    """The rows of a page, a table each."""
    on = "" if page.path == "history" else f" · by {page.path}"
    console.print(f"[bold]User {escape(str(page.user_id))}[/] · run {page.run_id}{on}", highlight=False)
    for row in page.rows:
        console.print(f"\n[bold]{escape(row.title)}[/]", highlight=False)
        account = row.kind == "who_to_follow"
        columns = [
            Column("#", [str(n) for n in range(1, len(row.items) + 1)]),
            Column("account" if account else "item", [str(item.id) for item in row.items], longest=LONGEST_ID),
        ]
        texts = [item.text if account else label_of(item.text) for item in row.items]
        if any(texts):
            left = max(console.width - sum(c.width + GAP for c in columns), NARROW)
            columns.append(Column("reason" if account else "title", texts, longest=left))
        _print(console, columns)


def _print(console: Console, columns: list[Column]) -> None:
    table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, GAP, 0, 0))
    for column in columns:
        table.add_column(
            escape(column.name), justify="right" if column.right else "left", no_wrap=True, overflow="ellipsis",
            width=column.width,
        )
    for row in zip(*(column.cells for column in columns), strict=True):
        table.add_row(*map(escape, row))
    console.print(table)


def _slate(answer: Recommendations, width: int) -> list[Column]:
    """Rank, id, title, author, score, sources and reason; in a narrow terminal without sources, then author, then id.

    Titles and reasons share what the others leave.
    """
    items = answer.items
    titles = [label_of(item.text) for item in items]
    reasons = [
        f"(notice: {', '.join(item.interstitial)}) {item.reason}" if item.interstitial else item.reason
        for item in items
    ]
    id_ = Column("item", [str(item.item_id) for item in items], longest=LONGEST_ID)
    title = Column("title", [text or str(item.item_id) for text, item in zip(titles, items, strict=True)])
    author = Column("author", ["–" if i.author_id is None else str(i.author_id) for i in items], longest=LONGEST_ID)
    from_ = Column("sources", [_sources(item.sources) for item in items])
    shown = [
        Column("#", [str(item.rank) for item in items]), id_, *([title] if any(titles) else []),
        *([author] if any(item.author_id is not None for item in items) else []),
        Column("score", _decimals([item.score for item in items]), right=True), from_, Column("reason", reasons),
    ]
    wanted = sum(min(column.width, 2 * NARROW) for column in shown if column.name in ("title", "reason"))
    for spare in (from_, author, id_ if any(titles) else None):
        if spare in shown and _taken(shown) + wanted > width:
            shown.remove(spare)
    return _fitted(shown, width)


def _taken(columns: list[Column]) -> int:
    """Cells of all columns but titles and reasons, with the gaps of all."""
    return sum(c.width for c in columns if c.name not in ("title", "reason")) + GAP * (len(columns) - 1)


def _fitted(columns: list[Column], width: int) -> list[Column]:
    """The columns with titles and reasons cut to what is left; a short one leaves the other more."""
    left = max(width - _taken(columns), 2 * NARROW)
    long = [column for column in columns if column.name in ("title", "reason")]
    if len(long) == 1:
        room = {long[0].name: left}
    else:
        title, reason = long
        given = max(left // 2, left - reason.width)
        room = {"title": min(title.width, given)}
        room["reason"] = left - room["title"]
    return [c._replace(longest=room[c.name]) if c.name in room else c for c in columns]


def _sources(names: list[str]) -> str:
    shown = ",".join(_SHORT.get(s, s) for s in names[:SOURCES_SHOWN])
    return shown + (f",+{len(names) - SOURCES_SHOWN}" if len(names) > SOURCES_SHOWN else "")


def _decimals(values: list[float]) -> list[str]:
    """Three decimals, or as many as the largest needs for three digits."""
    top = max((abs(v) for v in values if math.isfinite(v)), default=0.0)
    digits = 3 if top >= 0.1 or top == 0 else min(2 - math.floor(math.log10(top)), 8)
    return [f"{v:.{digits}f}" if math.isfinite(v) else "–" for v in values]


def _render_details(console: Console, answer: Recommendations) -> None:
    """Reason in full, every source, prediction, similarity and safety score of each item, in as many tables as the
    width takes."""
    items, first = answer.items, answer.items[0]
    console.print("\n[bold]Reasons[/]")
    for item in items:
        console.print(f"{item.rank:>3}  {escape(item.reason)}", highlight=False)
    console.print("\n[bold]Sources[/]")
    for item in items:
        console.print(f"{item.rank:>3}  {', '.join(item.sources)}", highlight=False)
    if any(item.creative for item in items):
        console.print("\n[bold]Creatives[/] (which title or picture is shown, with its probability)")
        for item in items:
            shown = item.creative
            told = f"{shown['number']} ({shown['propensity']:.2f}) {shown['text']}" if shown else "–"
            console.print(f"{item.rank:>3}  {escape(told)}", highlight=False)
    safety = list(dict.fromkeys(name for item in items for name in item.safety))
    stages = list(dict.fromkeys(name for item in items for name in item.ranks))
    if stages:
        console.print("\n[bold]Ranks[/] (place behind each stage that put candidates into another order)")
        cells = [Column(n, [str(item.ranks.get(n, "–")) for item in items], right=True) for n in stages]
        for part in _packed(cells, console.width, items):
            _print(console, part)
    for title, held, names in (
        ("Predictions", [item.predictions for item in items], list(first.predictions)),
        ("Similarities", [item.similarities for item in items], list(first.similarities)),
        ("Safety", [item.safety for item in items], safety),
    ):
        if not names:
            continue
        console.print(f"\n[bold]{title}[/]")
        cells = [
            Column(name, ["–" if name not in row else _short(row[name]) for row in held], right=True)
            for name in names
        ]
        for part in _packed(cells, console.width, items):
            _print(console, part)
    if any(item.text for item in items):
        console.print("\n[bold]Texts[/]")
        for item in items:
            console.print(f"{item.rank:>3}  {escape(item.text)}", highlight=False, no_wrap=True, overflow="ellipsis")


def _packed(columns: list[Column], width: int, items: list[Recommendation]) -> list[list[Column]]:
    """The columns in as many tables as it takes, each with the rank in front."""
    rank = Column("#", [str(item.rank) for item in items])
    tables = [[rank]]
    for column in columns:
        used = sum(c.width + GAP for c in tables[-1])
        if used + column.width > width and len(tables[-1]) > 1:
            tables.append([rank])
        tables[-1].append(column)
    return tables


def _short(value: float) -> str:
    """Three digits without the leading zero: many columns have to fit."""
    if value != value:
        return "–"
    text = f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"
    return text.replace("0.", ".", 1) if text.startswith(("0.", "-0.")) else text


def _render_mix_and_funnel(console: Console, answer: Recommendations, *, explain: bool) -> None:
    console.print("")
    mix = " · ".join(f"{name} {share:.0%}" for name, share in sorted(answer.mix.items(), key=lambda m: -m[1]))
    if mix:
        console.print(f"[bold]Sources of the slate[/] (an item of several counts for each): {mix}", highlight=False)
    if not explain:
        steps = [r for n, r in enumerate(answer.funnel) if n in (0, len(answer.funnel) - 1) or r["out"] < r["in"]]
        counts = " → ".join(f"{row['out']:,.0f} {row['stage']}" for row in steps)
        took = sum(row["ms"] for row in answer.funnel)
        console.print(f"[bold]Funnel[/]: {counts} · {took:.0f} ms", highlight=False)
        console.print("--explain shows predictions, similarities, safety and every stage", style="dim", highlight=False)
        return
    console.print("\n[bold]Funnel[/] (candidates in and out, milliseconds)")
    rows = answer.funnel
    _print(
        console,
        [
            Column("stage", [row["stage"] for row in rows]),
            *(Column(side, [f"{row[side]:,.0f}" for row in rows], right=True) for side in ("in", "out")),
            Column("ms", [f"{row['ms']:.2f}" for row in rows], right=True),
        ],
    )
