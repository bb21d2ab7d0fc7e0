"""The report of an experiment as one HTML file that asks nothing of the network."""

from __future__ import annotations

from typing import Any

import numpy as np

from recsys_cli.experiments.compare import change, has_lift
from recsys_cli.experiments.verdict import headline
from recsys_cli.report import (
    column_chart,
    facts,
    grid,
    html_table,
    interval_chart,
    line_chart,
    page,
    paragraph,
    percent,
    section,
)


def experiment_page(document: dict[str, Any]) -> str:
    """document: the result of an analysis (`recsys docs experiments`)."""
    parts = [_decision(document), _checks(document), _metrics(document)]
    parts += [part for part in (_days(document), _segments(document), _decisions(document)) if part]
    about = f"{document['kind']}, version {document['version']}"
    if document["day"]:
        about += f", day {document['day']} of {document['planned_days']}"
    return page(f"Experiment {document['experiment']}", parts, about)


def _decision(document: dict[str, Any]) -> str:
    decision = document["decision"]
    head = {"decision": headline(decision)}
    head |= {f"{document['unit']}s in {name}": count for name, count in document["users"].items()}
    texts = [paragraph(t) for t in (document["description"], document["hypothesis"], document["verdict"]) if t]
    beliefs = ""
    if document["beliefs"]:
        rows = document["beliefs"]
        shown = {"variant": "variant", "probability_best": "probability to be best", "relative_loss": "expected loss"}
        beliefs = html_table(rows, shown, {"probability_best": percent, "relative_loss": percent})
    because = "".join(paragraph(f"· {told}") for told in decision["because"])
    return section("Decision", facts(head), *texts, because, beliefs)


def _checks(document: dict[str, Any]) -> str:
    rows = [
        {
            "check": found["check"],
            "outcome": "passed" if found["passed"] else "failed" if found["voids"] else "note",
            "what was seen": found["told"],
            "p": found["p_value"],
        }
        for found in document["checks"]
    ]
    rows += [
        {"check": "left out", "outcome": "note", "what was seen": f"{count:,} rows {reason}", "p": None}
        for reason, count in (document.get("left_out") or {}).items()
    ]
    return section("Checks", html_table(rows), note="A failed check makes every figure below untrustworthy.")


def _metrics(document: dict[str, Any]) -> str:
    many = len(document["users"]) > 2
    rows = [
        {
            "metric": row["metric"],
            "variant": row["variant"],
            "control": row["control"],
            "treatment": row["treatment"],
            "change": change(row, "value"),
            "interval": f"{change(row, 'low')} to {change(row, 'high')}",
            "p": row["p_value"],
            "adjusted": row["p_adjusted"],
            "test": row["method"] or row["refused"] or "",
            "covariate": row["covariate"] or "",
        }
        for row in document["metrics"]
    ]
    told = [row for row in document["metrics"] if has_lift(row)]
    labels = [f"{row['metric']}, {row['variant']}" if many else row["metric"] for row in told]
    sides = tuple([row["lift"][side] for row in told] for side in ("value", "low", "high"))
    forest = interval_chart(labels, {"lift": sides}, title="Lifts with intervals", zero_line=True, write=percent)
    note = f"Intervals of {1 - document['alpha']:.0%}; adjusted: for the number of metrics and variants."
    return section("Metrics", html_table(rows), forest, note=note)


def _days(document: dict[str, Any]) -> str:
    charts = []
    for variant in dict.fromkeys(row["variant"] for row in document["effects_by_day"]):
        rows = [row for row in document["effects_by_day"] if row["variant"] == variant]
        days = [row["day"] for row in rows]
        known = {name: [row[name] for row in rows] for name in ("value", "low", "high", "always_low", "always_high")}
        kind = "relative effect" if rows[0]["relative"] else "difference"
        charts.append(
            line_chart(
                {"so far": (days, known["value"]), "always valid": (days, known["value"])},
                bands={
                    "so far": (known["low"], known["high"]),
                    "always valid": (known["always_low"], known["always_high"]),
                },
                title=f"{document['primary']}, {variant}: {kind} by day",
                note="inner band: one look; outer band: any number of looks",
                x_label="day",
            )
        )
        alone = [row for row in rows if row["day_alone"] is not None]
        reach = [1.96 * row["day_alone_error"] for row in alone]
        values = [row["day_alone"] for row in alone]
        charts.append(
            interval_chart(
                [f"day {row['day']}" for row in alone],
                {"effect": (values, list(np.subtract(values, reach)), list(np.add(values, reach)))},
                title=f"{variant}: each day alone",
                zero_line=True,
            )
        )
    effects = document["weekdays"]
    charts += [
        column_chart(list(found["effects"]), list(found["effects"].values()), title=f"{v}: by weekday")
        for v, found in effects.items()
    ]
    return section("Day by day", grid(*charts)) if any(charts) else ""


def _segments(document: dict[str, Any]) -> str:
    charts = []
    for group in document["segments"]:
        rows = group["segments"]
        series = {
            "as measured": tuple([row[side] for row in rows] for side in ("value", "low", "high")),
            "shrunk": tuple([row[side] for row in rows] for side in ("shrunk", "shrunk_low", "shrunk_high")),
        }
        charts.append(
            interval_chart(
                [row["segment"] for row in rows],
                series,
                title=f"{group['column']}, {group['variant']}",
                note=f"effects differ: p = {group['p_value']:.3g}" if np.isfinite(group["p_value"]) else "",
                zero_line=True,
                write=percent if group["relative"] else str,
            )
        )
    return section("Segments", grid(*charts)) if any(charts) else ""


def _decisions(document: dict[str, Any]) -> str:
    rows = [
        {
            "moment": line["at"][:16].replace("T", " "),
            "what": (line.get("outcome") or line["what"]).replace("_", " "),
            "because": line["because"] if isinstance(line["because"], str) else "; ".join(line["because"]),
        }
        for line in document.get("decisions", ())
    ]
    return section("Decisions", html_table(rows)) if rows else ""
