"""The estimates on the terminal, readable at 100 columns."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from rich.markup import escape

if TYPE_CHECKING:
    from rich.console import Console


def render(console: Console, document: dict[str, Any]) -> None:
    """Draw what the log earned, each estimate with its intervals, and what weakens them."""
    console.print(f"[bold]{escape(document['policy'])}[/] ({document['kind']}) on {escape(document['log'])}: "
                  f"{document['rows']:,} rows of {document['units']:,} units, {document['actions']:,} items",
                  highlight=False)
    if document["description"]:
        console.print(document["description"], style="dim", highlight=False, markup=False)
    console.print()
    _table(console, "reward of an impression", document["logging"], document["estimates"], document["alpha"])
    if document["slate_estimates"]:
        console.print()
        _table(console, "reward of a slate", document["slate_logging"], document["slate_estimates"], document["alpha"])
    console.print()
    if any(row.get("chosen") for row in document["estimates"]):
        console.print("* the estimator and bound that SLOPE chooses", style="dim", highlight=False)
    told = document["figures"]
    console.print(f"weights: as good as {told['effective_rows']:,.0f} even rows, mean {told['mean_weight']:.3f}, "
                  f"largest {told['largest_weight']:.4g}; {told['rows_without_overlap']:.1%} of the rows have weight 0",
                  highlight=False)
    for reason, n in document["left_out_rows"].items():
        console.print(f"left out: {n:,} rows {reason}", highlight=False, markup=False)
    for reason in dict.fromkeys(document["left_out"].values()):
        names = ", ".join(n for n, why in document["left_out"].items() if why == reason)
        console.print(f"left out: {names}: {reason}", highlight=False, markup=False)
    for text in document["warnings"]:
        console.print(f"warning: {text}", style="yellow", highlight=False, markup=False)


def _table(console: Console, title: str, logged: dict[str, Any], rows: list[dict[str, Any]], alpha: float) -> None:
    from rich.table import Table

    table = Table(box=None, header_style="dim", padding=(0, 1), pad_edge=False)
    for k, heading in enumerate((title, "value", f"{1 - alpha:.0%} bootstrap", "Bernstein", "against the log")):
        table.add_column(heading, justify="right" if k else "left", no_wrap=True)
    for row in [{"estimator": "the log itself", **logged}, *rows]:
        bound = row.get("most_weight")
        name = row["estimator"].removeprefix("slate_").replace("_", " ")
        name += f" ≤{bound:.3g}" if bound is not None else ""
        gap = row.get("difference")
        table.add_row(
            name + ("*" if row.get("chosen") else ""), figure(row["value"]), _span(row["low"], row["high"]),
            _span(row["bernstein_low"], row["bernstein_high"], 2),
            f"{_signed(gap['low'])} to {_signed(gap['high'])}" if gap and math.isfinite(gap["low"]) else "",
        )
    console.print(table)


def figure(value: float) -> str:
    return f"{value:.3g}" if math.isfinite(value) else "–"


def _signed(value: float) -> str:
    return f"{value:+.2g}"


def _span(low: float, high: float, digits: int = 3) -> str:
    return f"{low:.{digits}g} to {high:.{digits}g}" if math.isfinite(low) and math.isfinite(high) else "–"
