"""The result of a study on a terminal and as an HTML page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

SHOWN = 8
"""Trials in the table of a terminal."""


def trial_rows(document: dict[str, Any]) -> list[dict[str, Any]]:
    """One row a trial and the default: `trial`, `state`, each figure, `seconds`, each setting and `error`."""
    base = document["default"]
    rows = [{"trial": "default", "state": "complete", **base["figures"], "seconds": None, "error": None}]
    for row in document["trials"]:
        rows.append({
            "trial": str(row["number"]), "state": row["state"], **row["figures"], "seconds": row["seconds"],
            "error": row.get("error"), **row["settings"],
        })  # fmt: skip
    columns = list(dict.fromkeys(key for row in rows for key in row))
    return [{column: _cell(row.get(column)) for column in columns} for row in rows]


def _cell(value: Any) -> Any:
    return value if value is None or isinstance(value, str | int | float) else str(value)


def render_study(console: Console, document: dict[str, Any], paths: dict[str, Any]) -> None:
    """The best trials, what mattered, and whether the winner is confirmed."""
    from rich.table import Table

    counts, people = document["counts"], document["people"]
    told = ", ".join(f"{n} {state}" for state, n in counts.items() if n)
    console.print(
        f"study {document['study']}: {told or 'no'} trials; {people['searching']:,} people searched on, "
        f"{people['confirming']:,} to confirm", highlight=False, style="bold", markup=False,
    )
    figures = [o["figure"] for o in document["objectives"]]
    table = Table("trial", *figures, "settings", box=None, header_style="bold", pad_edge=False)
    for column in table.columns[1:-1]:
        column.justify = "right"
    ordered = best_first(document)
    for place, row in enumerate(ordered):
        if place >= SHOWN and row["number"] >= 0:
            continue
        name = "default" if row["number"] < 0 else str(row["number"])
        changed = ", ".join(f"{_brief(k, row['settings'])} {_short(v)}" for k, v in row["settings"].items())
        table.add_row(name, *(f"{row['figures'][f]:.4f}" for f in figures), changed or "as they are")
    console.print(table)
    for figure, shares in document["importance"].items():
        named = ", ".join(f"{key} {share:.0%}" for key, share in list(shares.items())[:4])
        console.print(f"what moves {figure}: {named}", highlight=False, markup=False)
    for line in verdict_lines(document):
        console.print(line, highlight=False, markup=False)
    if len(figures) > 1:
        front = ", ".join("default" if n < 0 else str(n) for n in document["pareto"])
        console.print(f"nothing beats trials {front} in everything (pareto/NUMBER.yaml)", highlight=False, markup=False)
    console.print(f"{paths['winner']} is the configuration; {paths['report']} shows it all", highlight=False,
                  markup=False, soft_wrap=True)
    console.print(f"recsys train -c {paths['winner']} && recsys evaluate -c {paths['winner']}", highlight=False,
                  markup=False, soft_wrap=True, style="dim")


def best_first(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Completed trials and the default, the best by the first objective first."""
    first = document["objectives"][0]
    sign = -1 if first["direction"] == "maximise" else 1
    rows = [document["default"], *(r for r in document["trials"] if r["state"] == "complete")]
    return sorted(rows, key=lambda r: sign * r["figures"][first["figure"]])


def verdict_lines(document: dict[str, Any]) -> list[str]:
    """Whether the best trial is kept, in words."""
    verdict, best = document["verdict"], document["best"]
    if best is None:
        return [f"The default is kept: {verdict['why']}."]
    out = []
    for side, who in (("searching", "people searched on"), ("confirming", "people who had no part in the search")):
        found = verdict[side]
        span = "" if found["low"] is None else f" [{found['low']:+.4f}, {found['high']:+.4f}]"
        out.append(f"trial {best['number']} less the default by {verdict['figure']}: {found['value']:+.4f}{span}, "
                   f"{found['users']:,} {who}")
    kept = f"Trial {best['number']} wins" if verdict["kept"] == "winner" else "The default is kept"
    return [*out, f"{kept}: {verdict['why']}."]


def study_page(document: dict[str, Any]) -> str:
    """The report: verdict, how the search went, what mattered, the Pareto front, and every trial."""
    from recsys_cli import charts
    from recsys_cli.report import html_table, page, paragraph, section

    figures = [o["figure"] for o in document["objectives"]]
    first = figures[0]
    parts = [section("Verdict", *(paragraph(line) for line in verdict_lines(document)))]
    parts.append(section("The search", _path(document, first)))
    for figure, shares in document["importance"].items():
        chart = charts.bar_chart(list(shares), list(shares.values()), title=f"Share of the variance of {figure}")
        table = html_table([{"setting": key, "share": share} for key, share in shares.items()])
        note = "by a random forest over the completed trials (fANOVA)"
        parts.append(section(f"What moves {figure}", chart, table, note=note))
    rows = best_first(document)
    if len(figures) > 1:
        named = [{"series": "front" if r["number"] in document["pareto"] else "beaten",
                  "name": "default" if r["number"] < 0 else f"trial {r['number']}", **r["figures"]} for r in rows]
        for other in figures[1:]:
            front = sorted((r for r in named if r["series"] == "front"), key=lambda r: r[other])
            points = [{"name": r["name"], "series": r["series"], "x": r[other], "y": r[first]} for r in front]
            beaten = [{"name": r["name"], "x": r[other], "y": r[first]} for r in named]
            parts.append(section(
                f"{first} against {other}",
                charts.path_chart(points, title="The Pareto front", x_label=other, y_label=first),
                charts.scatter_chart(beaten, title="Every trial", x_label=other, y_label=first, most="default"),
            ))  # fmt: skip
    listed = [
        {"trial": "default" if r["number"] < 0 else str(r["number"]), **r["figures"],
         "settings": ", ".join(f"{k} = {_short(v)}" for k, v in r["settings"].items())}
        for r in rows
    ]  # fmt: skip
    parts.append(section("Completed trials", html_table(listed, formats=dict.fromkeys(figures, "{:.4f}".format))))
    counts = ", ".join(f"{n} {state}" for state, n in document["counts"].items())
    return page(f"Study {document['study']}", parts, counts, style=charts.STYLE, end=charts.scripts())


def _path(document: dict[str, Any], figure: str) -> str:
    """The best so far after each trial."""
    from recsys_cli import charts

    first = document["objectives"][0]
    better = max if first["direction"] == "maximise" else min
    best, points = document["default"]["figures"][figure], []
    for place, row in enumerate(r for r in document["trials"] if r["state"] == "complete"):
        best = better(best, row["figures"][figure])
        points.append({"series": "best so far", "name": f"trial {row['number']}", "x": place + 1, "y": best})
        points.append({"series": "each trial", "name": f"trial {row['number']}", "x": place + 1,
                       "y": row["figures"][figure]})
    points.sort(key=lambda p: p["series"])
    return charts.path_chart(points, title=f"{figure} over the completed trials", x_label="trial", y_label=figure)


def _brief(key: str, others: Any) -> str:
    """The end of a dotted name by which it is told from the others."""
    parts = key.split(".")
    for length in range(1, len(parts)):
        end = ".".join(parts[-length:])
        if sum(f".{other}".endswith(f".{end}") for other in others) == 1:
            return end
    return key


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
