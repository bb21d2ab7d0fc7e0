"""The result of an experiment on the terminal, readable at 100 columns."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from rich.markup import escape

from recsys_cli.experiments.compare import FORETOLD, change, has_lift
from recsys_cli.experiments.verdict import headline

if TYPE_CHECKING:
    from rich.console import Console

_COLOURS = {"ship": "green", "roll_back": "red", "invalid": "red"}


def render(console: Console, document: dict[str, Any]) -> None:
    """Draw the comparison, the checks, what each variant served, and the decision."""
    users = document["users"]
    days = document["days"] or document["day"]
    about = f" · day {document['day']} of {document['planned_days']}" if document["day"] else ""
    about = f" · {days} days" if document["kind"] == "simulation" else about
    counts = ", ".join(f"{count:,} {document['unit']}s in {escape(name)}" for name, count in users.items())
    console.print(f"[bold]{escape(document['experiment'])}[/]: {counts}{about}", highlight=False)
    for text in (document["description"], document["hypothesis"]):
        if text:
            console.print(text, highlight=False, style="dim", markup=False)
    console.print()
    _metrics(console, document)
    console.print()
    _arms(console, document)
    _beliefs(console, document)
    _segments(console, document)
    _over_time(console, document)
    _checks(console, document)
    decision = document["decision"]
    colour = _COLOURS.get(decision["outcome"], "bold")
    console.print(f"Decision: [{colour}]{escape(headline(decision))}[/]", highlight=False)
    console.print(f"[bold]{escape(document['verdict'])}[/]", highlight=False)


def _metrics(console: Console, document: dict[str, Any]) -> None:
    from rich.table import Table

    rows = document["metrics"]
    many = len(document["users"]) > 2
    level = f"{1 - document['alpha']:.0%}"
    table = Table(box=None, header_style="dim", padding=(0, 1), pad_edge=False)
    headings = ["metric", "control", "treatment", "lift", f"{level} interval", "p", "adjusted", " "]
    if many:  # the corrected p-value is the one that counts among several
        headings = ["metric", "control", "variant", "", "lift", f"{level} interval", "adjusted", " "]
    for heading in headings:
        left = heading in ("metric", "variant", " ")
        table.add_column(heading, justify="left" if left else "right", no_wrap=True)
    for row in rows:
        marks = ("*" if row["covariate"] else "") + {"permutation": "°", "fisher": "°"}.get(row["method"], "")
        absolute = "" if has_lift(row) else "†"
        table.add_row(
            escape(row["metric"]) + marks,
            _figure(row["control"]),
            *([escape(row["variant"])] if many else []),
            _figure(row["treatment"]),
            _shorter(change(row, "value")) + (absolute if math.isfinite(row["difference"]["value"]) else ""),
            " to ".join(_shorter(change(row, side)) for side in ("low", "high"))
            if math.isfinite(row["difference"]["low"])
            else "–",
            *([] if many else [_p(row["p_value"])]),
            _p(row["p_adjusted"]),
            _mark(row),
            style="bold" if row["metric"] == document["primary"] else None,
        )
    console.print(table)
    for told in _footnotes(rows):
        console.print(told, style="dim", highlight=False)
    for row in rows:
        told = row["covariate_left_out"]
        if told and row["method"] != "fisher":
            console.print(f"{told}; it is left out", highlight=False, markup=False)
        if row["refused"] and not math.isfinite(row["p_value"]):
            console.print(f"{row['metric']} is not compared: {row['refused']}", highlight=False, markup=False)


def _footnotes(rows: list[dict]) -> list[str]:
    notes = []
    if any(row["covariate"] for row in rows):
        kinds = {"CUPAC" if row["covariate"].endswith(FORETOLD) else "CUPED" for row in rows if row["covariate"]}
        notes.append(f"* adjusted by what each user did before the experiment ({', '.join(sorted(kinds))})")
    if any(row["method"] in ("permutation", "fisher") for row in rows):
        notes.append("° an arm is small for this metric: exact or permutation test")
    if any(not has_lift(row) and math.isfinite(row["difference"]["value"]) for row in rows):
        notes.append("† a difference: the control is not clearly above zero, so a lift says nothing")
    return notes


def _arms(console: Console, document: dict[str, Any]) -> None:
    width = max(9, *map(len, document["users"]))
    for name, arm in document["arms"].items():
        console.print(
            f"{escape(name):>{width}}: {arm['requests']:,} requests, {arm['impressions']:,} impressions of "
            f"{arm['distinct_items']:,} items ({arm['coverage']:.1%} of the catalogue)",
            highlight=False,
        )


def _beliefs(console: Console, document: dict[str, Any]) -> None:
    if not document["beliefs"]:
        return
    parts = [f"{escape(b['variant'])} {b['probability_best']:.1%}" for b in document["beliefs"]]
    console.print(f"Best in {document['primary']} with probability: {', '.join(parts)}", highlight=False)


def _segments(console: Console, document: dict[str, Any]) -> None:
    from rich.table import Table

    for group in document["segments"]:
        write = "{:+.1%}".format if group["relative"] else "{:+.4g}".format
        who = "" if len(document["users"]) == 2 else f", {escape(group['variant'])}"
        table = Table(
            escape(group["column"]) + who, "users", "effect", "interval", "shrunk", "interval",
            box=None, header_style="dim", padding=(0, 1),
        )
        for row in group["segments"]:
            table.add_row(
                escape(row["segment"]),
                f"{row['control_users'] + row['treatment_users']:,}",
                write(row["value"]),
                f"{write(row['low'])} to {write(row['high'])}",
                write(row["shrunk"]),
                f"{write(row['shrunk_low'])} to {write(row['shrunk_high'])}",
            )
        console.print(table)
        told = f"effects differ between these segments: p = {_p(group['p_value'])}"
        console.print(told, style="dim", highlight=False)


def _over_time(console: Console, document: dict[str, Any]) -> None:
    for variant, found in document["novelty"].items():
        if found["p_value"] < 0.05:
            way = "grows" if found["slope_per_e_fold"] * found["last_day"] > 0 else "fades"
            console.print(
                f"{escape(variant)}: the effect of single days {way} (p = {_p(found['p_value'])}); the last day's "
                f"may be nearer to what stays",
                highlight=False,
            )
    for variant, found in document["weekdays"].items():
        if found["p_value"] < 0.05:
            console.print(
                f"{escape(variant)}: effects differ by day of the week (p = {_p(found['p_value'])})", highlight=False
            )


def _checks(console: Console, document: dict[str, Any]) -> None:
    for found in document["checks"]:
        word = "[green]passed[/]" if found["passed"] else "[red]FAILED[/]" if found["voids"] else "[yellow]note[/]"
        p = "" if found["p_value"] is None else f" (p = {_p(found['p_value'])})"
        console.print(f"{found['check']}: {word}, {escape(found['told'])}{p}", highlight=False)
    if document.get("crossover_users"):
        console.print(f"in two variants: {escape(', '.join(document['crossover_users']))}", highlight=False)
    for reason, rows in (document.get("left_out") or {}).items():
        console.print(f"left out: {rows:,} rows {escape(reason)}", highlight=False)


def render_plan(console: Console, document: dict[str, Any]) -> None:
    """Draw users and days of each effect."""
    from rich.table import Table

    base = document["baseline"]
    saved = base["variance_reduction"]
    console.print(
        f"[bold]{escape(document['experiment'])}[/]: {escape(document['primary'])} is {base['mean']:.4g}, a user's "
        f"spread {base['cv']:.2f} times that ({escape(base['source'])})",
        highlight=False,
    )
    if saved is not None:
        told = f"What users did before takes {saved:.1%} off the variance ({base['adjustment']})."
        console.print(told, highlight=False)
    table = Table("effect", "control", "variant", "users in all", "days", box=None, header_style="dim", padding=(0, 1))
    for row in document["effects"]:
        days = f"{row['days']:,}" if row["days"] else "–"
        counts = (f"{row[name]:,}" for name in ("control_users", "treatment_users", "users"))
        table.add_row(f"{row['effect']:.1%}", *counts, days)
    console.print(table)
    if document["detectable_lift"] is not None:
        console.print(
            f"In the {document['planned_days']} planned days {document['users_of_planned_days']:,} users come: a "
            f"change of {document['detectable_lift']:.1%} is found {document['power']:.0%} of the time "
            f"(alpha {document['alpha']:g}, stop: {document['stop']}).",
            highlight=False,
        )


def _figure(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) else "–"


def _p(value: float) -> str:
    if not math.isfinite(value):
        return "–"
    return "<0.0001" if value < 0.0001 else f"{value:.4f}"


def _shorter(text: str) -> str:
    """Three digits are enough for a difference in a table: -0.002451 becomes -0.00245."""
    return text if text.endswith("%") or text == "–" else f"{float(text):+.3g}"


def _mark(row: dict) -> str:
    if not row["significant"]:
        return ""
    return "[green]better[/]" if (row["difference"]["value"] > 0) == (row["goal"] == "up") else "[red]worse[/]"
