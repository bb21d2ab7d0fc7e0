"""The report of a scenario as one HTML file: what each policy did, and the days as a picture."""

from __future__ import annotations

from typing import Any

from recsys_cli.report import facts, grid, html_table, interval_chart, line_chart, page, section

PICTURES = {
    "engagement": "positive actions of an impression", "users": "users who came",
    "topics_per_slate": "topics in a slate", "distinct_items": "different items shown, 7 days",
    "creators_gini": "inequality of creators' impressions, 7 days (Gini)", "bubble_depth": "bubble depth, 7 days",
    "unsafe_share": "unsafe impressions", "spam_share": "spam among impressions",
}


def scenario_page(document: dict[str, Any]) -> str:
    """document: the result of `simulate_scenario`."""
    policies = document["policies"]
    about = f"{document['days']} days, {document['users']:,} users, {document['market']} market"
    head = {"compared with": document["compared_with"], "run": document["run"] or "–"}
    metrics = list(next(iter(policies.values())))
    rows = [{"metric": m.replace("_", " "), **{name: found[m] for name, found in policies.items()}} for m in metrics]
    parts = [section("Policies", facts(head), html_table(rows), note=document["description"])]
    if document["differences"]:
        parts.append(section("Against " + document["compared_with"], grid(*_forests(document)),
                             note=f"Intervals of {1 - document['alpha']:.0%}, over people."))
    shocks = ", ".join(f"{s['kind'].replace('_', ' ')} on day {s['day']}" for s in document["shocks"])
    parts.append(section("Day by day", grid(*_days(document)), note=shocks))
    return page(f"Scenario {document['scenario']}", parts, about)


def _forests(document: dict[str, Any]) -> list[str]:
    charts = []
    for metric in dict.fromkeys(row["metric"] for row in document["differences"]):
        rows = [row for row in document["differences"] if row["metric"] == metric]
        sides = tuple([row[side] for row in rows] for side in ("value", "low", "high"))
        charts.append(interval_chart([row["policy"] for row in rows], {"difference": sides},
                                     title=metric.replace("_", " "), zero_line=True))
    return charts


def _days(document: dict[str, Any]) -> list[str]:
    charts = []
    for key, title in PICTURES.items():
        series = {
            name: ([r["day"] for r in document["daily"] if r["policy"] == name],
                   [r[key] for r in document["daily"] if r["policy"] == name])
            for name in document["policies"]
        }
        charts.append(line_chart(series, title=title, x_label="day"))
    return charts
