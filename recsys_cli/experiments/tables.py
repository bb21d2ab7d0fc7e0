"""The result of an experiment on the terminal, readable at 100 columns."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from rich.markup import escape

from recsys_cli.experiments.analysis import ARMS, change, has_lift

if TYPE_CHECKING:
    from rich.console import Console


def render(console: Console, document: dict[str, Any]) -> None:
    """Draw the comparison, the split check, what each arm served, and the verdict."""
    from rich.table import Table

    users = document["users"]
    about = f" · {document['days']} days" if document["days"] else ""
    console.print(
        f"[bold]{escape(document['experiment'])}[/]: {users['control']:,} users in control, "
        f"{users['treatment']:,} in treatment{about}",
        highlight=False,
    )
    if document["description"]:
        console.print(document["description"], highlight=False, style="dim", markup=False)
    console.print()
    level = f"{1 - document['alpha']:.0%}"
    table = Table(box=None, header_style="dim", padding=(0, 1))
    for i, heading in enumerate(("metric", "control", "treatment", "lift", f"{level} interval", "p", "adjusted", "")):
        table.add_column(heading, justify="left" if i in (0, 7) else "right", no_wrap=True)
    for row in document["metrics"]:
        star = "*" if row["covariate"] else ""
        absolute = "" if has_lift(row) else "†"
        table.add_row(
            escape(row["metric"]) + star,
            _figure(row["control"]),
            _figure(row["treatment"]),
            change(row, "value") + (absolute if math.isfinite(row["difference"]["value"]) else ""),
            f"{change(row, 'low')} to {change(row, 'high')}" if math.isfinite(row["difference"]["low"]) else "–",
            _p(row["p_value"]),
            _p(row["p_adjusted"]),
            _mark(row),
            style="bold" if row["metric"] == document["primary"] else None,
        )
    console.print(table)
    if any(row["covariate"] for row in document["metrics"]):
        console.print("* adjusted by what each user did before the experiment (CUPED)", style="dim", highlight=False)
    if any(not has_lift(row) and math.isfinite(row["difference"]["value"]) for row in document["metrics"]):
        console.print(
            "† a difference: a lift over a control of zero or less says nothing", style="dim", highlight=False
        )
    for told in filter(None, (row["covariate_left_out"] for row in document["metrics"])):
        console.print(f"{told}; it is left out", highlight=False, markup=False)
    console.print()
    _arms(console, document)
    split = document["split"]
    planned, actual = (" / ".join(f"{split[w][a]:.1%}" for a in ARMS) for w in ("planned", "actual"))
    outcome = "[green]as planned[/]" if split["passed"] else "[red]NOT as planned[/]"
    console.print(
        f"Split: {outcome} (planned {planned}, came out {actual}, p = {_p(split['p_value'])})", highlight=False
    )
    if document["crossovers"]:
        console.print(f"{document['crossovers']:,} users were in both arms and are left out", highlight=False)
    console.print(f"[bold]{escape(document['verdict'])}[/]", highlight=False)


def _arms(console: Console, document: dict[str, Any]) -> None:
    if not document["arms"]:
        return
    for name in ARMS:
        arm = document["arms"][name]
        console.print(
            f"{name:>9}: {arm['requests']:,} requests, {arm['impressions']:,} impressions of {arm['distinct_items']:,} "
            f"items ({arm['coverage']:.1%} of the catalogue)",
            highlight=False,
        )


def _figure(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) else "–"


def _p(value: float) -> str:
    if not math.isfinite(value):
        return "–"
    return "<0.0001" if value < 0.0001 else f"{value:.4f}"


def _mark(row: dict) -> str:
    if not row["significant"]:
        return ""
    return "[green]better[/]" if (row["difference"]["value"] > 0) == (row["goal"] == "up") else "[red]worse[/]"
