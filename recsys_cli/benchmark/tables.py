"""A benchmark's result as a table: our figures among the published ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.markup import escape

from recsys_cli.benchmark.impression_table import metric_names, render_failures, render_impressions

if TYPE_CHECKING:
    from rich.console import Console

LOWER_IS_BETTER = ("rmse", "mae")


def result_rows(document: dict) -> list[dict]:
    """One row a method, best first by the first figure: ours with seconds and memory, the published with source."""
    names = metric_names(document)
    rows = [
        {
            "method": m["name"],
            **{n: m["figures"].get(n) for n in names},
            "fit_seconds": m["fit_seconds"],
            "rank_seconds": m["rank_seconds"],
            "peak_memory_mib": m["peak_memory_mib"],
            "source": "ours",
            "error": m.get("error"),
        }
        for m in document["models"]
    ] + [
        {
            "method": p["method"],
            **{n: p["figures"].get(n) for n in names},
            "fit_seconds": None,
            "rank_seconds": None,
            "peak_memory_mib": None,
            "source": p["source"],
            "error": None,
        }
        for p in document["published"]
    ]
    first = names[0] if names else "method"  # nothing but failures: none of them is better
    sign = 1 if first in LOWER_IS_BETTER else -1
    return sorted(rows, key=lambda r: sign * r[first] if isinstance(r.get(first), float) else float("inf"))


def render(console: Console, document: dict) -> None:
    """Draw the table of `result_rows`; the best figure of each column is underlined, ours are bold."""
    from rich.table import Table

    if document["protocol"]["kind"] == "impressions":
        render_impressions(console, document)
        return
    rows, names = result_rows(document), metric_names(document)
    best = {n: (min if n in LOWER_IS_BETTER else max)(round(r[n], 4) for r in rows if r[n] is not None) for n in names}
    table = Table(title=escape(document["title"]), title_justify="left", box=None, pad_edge=False)
    table.add_column("method", overflow="fold")
    for name in (*names, "fit s", "rank s", "MiB"):
        table.add_column(name.upper() if name in LOWER_IS_BETTER else name, justify="right")
    table.add_column("source", overflow="fold")
    for row in rows:
        cells = ["" if row[n] is None else f"{row[n]:.4f}" for n in names]
        cells = [
            f"[underline]{c}[/]" if c and round(row[n], 4) == best[n] else c for c, n in zip(cells, names, strict=True)
        ]
        ours = row["source"] == "ours"
        costs = (
            [f"{row['fit_seconds']:.1f}", f"{row['rank_seconds']:.1f}", f"{row['peak_memory_mib']:,.0f}"]
            if ours and not row["error"]
            else ["failed" if ours else "", "", ""]
        )
        table.add_row(escape(row["method"]), *cells, *costs, escape(row["source"]), style="bold" if ours else None)
    console.print(table)
    console.print(", ".join(f"{v:,} {k.replace('_', ' ')}" for k, v in document["data"].items()), style="dim")
    for note in document.get("notes", ()):
        console.print(f"note: {note}", highlight=False, markup=False)
    render_failures(console, document)
