"""A report of slates on the terminal, readable at 100 columns."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.markup import escape

from recsys_cli.evaluation.sampled import KINDS, OF_RANK
from recsys_cli.evaluation.slates.metrics import HEADINGS

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

FIRST = ("ndcg", "graded_ndcg", "recall", "hit_rate", "mrr", "map", "precision", "auc", "coverage")
"""Metrics of the first table, as many as fit; all are under `--full`."""
OF_SEGMENTS = ("ndcg", "recall", "hit_rate", "mrr")
ONE_BY_ONE = 3
"""Comparisons that are told in a sentence and a table each; more stand in one table."""
OF_COMPARISON = 12
"""Metrics of a comparison that are shown, those of the headline's length."""


def render(console: Console, document: dict[str, Any], *, full: bool = False) -> None:
    """Draw the report: what was measured, the systems, the comparisons in words, the segments."""
    k = document["headline"]
    truth = document["truth"]
    people = f"{document['users']:,} users"
    if document["days"] is not None:
        people += f" on {document['days']:,} days"
    elif document["sessions"] is not None:
        people += f" in {document['sessions']:,} sessions"
    console.print(
        f"[bold]{people}[/] with {truth['relevant']:,} relevant items · "
        f"{document['items']['open']:,} items",
        highlight=False,
    )
    if document["days"] is not None:
        console.print("intervals and tests count what differs from day to day", style="dim", highlight=False)
    for what, count in truth.items():
        if what not in ("relevant", "graded"):
            console.print(f"{count:,} {what}: left out", style="dim", highlight=False)
    for system in document["systems"]:
        for what, count in system["rows"].items():
            console.print(f"{escape(system['name'])}: {count:,} {what}", style="yellow", highlight=False)
    for remark in document["remarks"]:
        console.print(escape(remark), style="yellow", highlight=False)
    many = len(document["comparisons"]) > ONE_BY_ONE
    for comparison in document["comparisons"] if not many else ():
        if comparison["sentence"]:
            console.print()
            console.print(escape(comparison["sentence"]), style="bold", highlight=False)
    console.print()
    if many:
        console.print(_all_against(document), "")
    console.print(_systems(document, k, console.width) if not full else _all(document))
    if document["samples"]:
        console.print("", _samples(document, k))
        console.print(f" {in_words(document['samples'])}", style="dim", highlight=False)
    for system in document["systems"]:
        if system.get("sources"):
            console.print("", mix_in_words(system), highlight=False, markup=False)
        if system.get("filter_bubble"):
            console.print("", f"{system['name']}: {bubble_in_words(system)}", highlight=False, markup=False)
    for comparison in document["comparisons"] if full or not many else ():
        console.print()
        console.print(_comparison(comparison, k, full))
        _changes(console, comparison)
    for attribute in document["segments"]:
        console.print()
        _segment(console, attribute, k)
    console.print()
    by_reason: dict[str, list[str]] = {}
    for metric, why in document["left_out"].items():
        by_reason.setdefault(why, []).append(metric)
    for why, metrics in by_reason.items():
        console.print(f"Left out: {', '.join(metrics)} ({why})", style="dim", highlight=False)
    if not full:
        console.print("--full shows every metric at every k", style="dim")


def _table(title: str | None, *columns: str, text: int = 1) -> Table:
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", box=None, header_style="dim", padding=(0, 1))
    for at, column in enumerate(columns):
        table.add_column(column, justify="left" if at < text else "right", no_wrap=at >= text)
    return table


def cell(figure: dict[str, Any] | None, digits: int = 3) -> str:
    """`0.123 ±0.006`, the half the larger one of a lopsided interval; a dash without a figure."""
    value = None if figure is None else figure["value"]
    if value is None or value != value:
        return "–"
    low, high = figure["low"], figure["high"]
    if low is None or low != low:
        return f"{value:.{digits}f}"
    return f"{value:.{digits}f} ±{max(value - low, high - value):.{digits}f}"


def _systems(document: dict, k: int, width: int) -> Table:
    there = [m for m in FIRST if f"{m}@{k}" in document["systems"][0]["metrics"]]
    there = there or sorted({m.partition("@")[0] for m in document["systems"][0]["metrics"]})
    room = width - max((len(s["name"]) for s in document["systems"]), default=0) - 4
    shown = there[: max(1, min(len(there), room // 15))]
    table = _table(f"At {k}", "", *(HEADINGS[m] for m in shown))
    for system in document["systems"]:
        table.add_row(escape(system["name"]), *(cell(system["metrics"].get(f"{m}@{k}")) for m in shown))
    return table


def mix_in_words(system: dict) -> str:
    """What the places of a run's slates come from."""
    told = ", ".join(f"{row['source']} {row['share']:.0%}" for row in system["sources"][:6])
    return f"{system['name']}: places by source (several may have proposed one): {told}"


def bubble_in_words(system: dict) -> str:
    """The filter-bubble index of a run and what it is made of."""
    found = system["filter_bubble"]
    last = found["rows"][-1]
    return (
        f"filter-bubble index {cell(found['index'])}: after {found['sessions'] - 1} sessions in which "
        f"{found['users']:,} people take the first {found['taken']} items, a list has {cell(last['taking'], 2)} topics "
        f"(effective number), {cell(last['leaving'], 2)} where they take nothing"
    )


def in_words(samples: dict[str, int | None]) -> str:
    """How items were ranked alone."""
    if samples["of"] is not None:
        return f"each item to find among those of its list; corrected: what all {samples['of']:,} would give"
    return (
        f"each item to find alone: among all, among {samples['negatives']:,} drawn, and what the draw says of all"
    )


def sample_rows(document: dict, k: int) -> list[dict[str, str]]:
    """One row a system and metric: by the rank among all items, among those drawn, and corrected."""
    return [
        {"system": s["name"], "metric": f"{HEADINGS[m]}@{k}"}
        | {kind: cell(s["metrics"].get(f"{kind}_{m}@{k}")) for kind in KINDS}
        for s in document["systems"]
        for m in OF_RANK
    ]


def _samples(document: dict, k: int) -> Table:
    table = _table("Sampled metrics", "", "metric", "among all", "sampled", "corrected", "by EM", text=2)
    for row in sample_rows(document, k):
        table.add_row(escape(row["system"]), row["metric"], *(row[kind] for kind in KINDS))
    return table


def _all(document: dict) -> Table:
    table = _table("Every metric", "metric", *(escape(s["name"]) for s in document["systems"]))
    for name in document["systems"][0]["metrics"]:
        metric, _, k = name.partition("@")
        figures = (cell(s["metrics"].get(name), 4) for s in document["systems"])
        table.add_row(f"{HEADINGS[metric]}@{k}", *figures)
    return table


def _all_against(document: dict) -> Table:
    """Each further system against the first by the metric that is spoken of."""
    first, metric = document["comparisons"][0]["first"], document["quoted"]
    table = _table(escape(f"{metric} less that of {first}"), "", "difference", "95 % interval", "p (Holm)", "", "alike")
    for comparison in document["comparisons"]:
        figures = _test(comparison["metrics"][metric])[:4]
        table.add_row(escape(comparison["second"]), *figures, cell(comparison["overlap"]))
    return table


def _test(row: dict) -> tuple[str, str, str, str, str]:
    """Difference, interval, p, verdict and detectable difference of one metric as cells."""
    known = row["low"] is not None and row["low"] == row["low"]
    span = f"{row['low']:+.4f} to {row['high']:+.4f}" if known else "–"
    p = "–" if row["p_holm"] is None else "< 0.001" if row["p_holm"] < 0.001 else f"{row['p_holm']:.3f}"
    reach = "–" if row["detectable"] is None else f"{row['detectable']:.4f}"
    return f"{row['value']:+.4f}", span, p, row["verdict"], reach


def _comparison(comparison: dict, k: int, full: bool) -> Table:
    table = _table(
        escape(f"{comparison['second']} less {comparison['first']}"),
        "", "difference", "95 % interval", "p (Holm)", "", "detectable",
    )  # fmt: skip
    rows = comparison["metrics"]
    chosen = list(rows) if full else [m for m in rows if m.endswith(f"@{k}")][:OF_COMPARISON]
    for name in chosen:
        row, (metric, _, at) = rows[name], name.partition("@")
        if row["value"] != row["value"]:
            continue
        table.add_row(f"{HEADINGS[metric]}@{at}", *_test(row))
    return table


def _changes(console: Console, comparison: dict) -> None:
    if comparison["users"]:
        row = comparison["users"][0]
        console.print(f"\n [bold]Users whose {row['metric']} changes most", highlight=False)
        table = _table(None, "user", "first", "second", "change")
        for row in comparison["users"]:
            table.add_row(str(row["user"]), f"{row['first']:.3f}", f"{row['second']:.3f}", f"{row['change']:+.3f}")
        console.print(table)
    if comparison["items"]:
        console.print("\n [bold]Items whose number of lists changes most", highlight=False)
        table = _table(None, "item", "first", "second", "change")
        for row in comparison["items"]:
            table.add_row(str(row["item"]), f"{row['first']:,}", f"{row['second']:,}", f"{row['change']:+,}")
        console.print(table)


def _segment(console: Console, attribute: dict, k: int) -> None:
    first = attribute["segments"][0]["metrics"]
    shown = [m for m in OF_SEGMENTS if f"{m}@{k}" in first] or [next(iter(first)).partition("@")[0]]
    title = escape(f"{attribute['system']} by {attribute['by']}, at {k}")
    table = _table(title, "", "users", *(HEADINGS[m] for m in shown))
    for row in attribute["segments"]:
        figures = (cell(row["metrics"].get(f"{m}@{k}")) for m in shown)
        table.add_row(escape(row["segment"]), f"{row['users']:,}", *figures)
    console.print(table)
    if attribute["remark"]:
        console.print(f" {escape(attribute['remark'])}", style="dim", highlight=False)
    for metric in shown[:1]:
        lowest = attribute["worst"].get(f"{metric}@{k}")
        if lowest is None:
            console.print(" no verdict on the lowest segment: too few people in it", style="dim")
            continue
        word = "beyond noise" if lowest["beyond_noise"] else "within noise"
        console.print(
            f" lowest by {HEADINGS[metric]}: {escape(str(lowest['segment']))}, {lowest['value']:.3f} "
            f"({lowest['low']:+.3f} to {lowest['high']:+.3f}) below the others, {word} (p = {lowest['p']:.3f})",
            highlight=False,
        )
