"""The frontier and the regret of the cut in words, as a table of the terminal and as a section of the page."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from recsys_cli import charts, report
from recsys_cli.evaluation.frontier import PLAIN, SERVED

if TYPE_CHECKING:
    from rich.table import Table


def cut_in_words(document: dict[str, Any]) -> str:
    """What the light ranker's cut takes from the list; empty where nothing is cut."""
    cut = document["cut"]
    if cut is None:
        return ""
    change = cut["ndcg"]
    known = change["low"] is not None and change["low"] == change["low"]
    span = f" ({change['low']:+.4f} to {change['high']:+.4f})" if known else ""
    return (
        f"The light ranker's cut from {cut['candidates']:,.0f} to {cut['keep']:,} candidates keeps "
        f"{cut['kept']['value']:.1%} of the heavy ranker's first {cut['k']} and costs {cut['utility']['value']:.2%} of "
        f"their utility; without it NDCG@{cut['k']} would be {change['value']:+.4f}{span} ({cut['users']:,} users)."
    )


def _told(figure: dict[str, float | None], digits: int = 3) -> str:
    value = figure["value"]
    return "–" if value is None or value != value else f"{value:.{digits}f}"


def _rows(document: dict[str, Any]) -> list[dict[str, str]]:
    out = []
    for row in document["frontier"]["rows"]:
        change = row["change"]
        known = change["low"] is not None and change["low"] == change["low"]
        span = f" ({change['low']:+.3f} to {change['high']:+.3f})" if known else ""
        out.append(
            {"": name_of(row), **{m: _told(f) for m, f in row["metrics"].items()},
             "change": "" if row["kind"] == PLAIN else f"{change['value']:+.3f}{span}",
             "best": "yes" if row["best"] else ""}
        )  # fmt: skip
    return out


def name_of(row: dict[str, Any]) -> str:
    """`mmr 0.2`, or what has no weight by its name."""
    return row["kind"] if row["weight"] is None else f"{row['kind']} {row['weight']:g}"


def _heads(k: int) -> dict[str, str]:
    return {"": "", "ndcg": f"NDCG@{k}", "change": "less relevance alone", "diversity": "topics", "authors": "authors",
            "coverage": "coverage", "best": "on the frontier"}  # fmt: skip


def frontier_table(document: dict[str, Any]) -> Table:
    """Every setting with its figures; those that nothing beats in both NDCG and topic diversity are marked."""
    from rich.table import Table

    heads = _heads(document["frontier"]["k"])
    title = f"Accuracy and diversity ({document['frontier']['users']:,} users)"
    table = Table(title=title, title_justify="left", title_style="bold", box=None, header_style="dim", padding=(0, 1))
    for name, head in heads.items():
        table.add_column(head, justify="right" if name else "left", no_wrap=True)
    for row in _rows(document):
        table.add_row(*(row[name] for name in heads))
    return table


def frontier_section(document: dict[str, Any]) -> str:
    """Chart and table; empty without a frontier."""
    found = document["frontier"]
    if not found:
        return ""
    k, rows = found["k"], found["rows"]
    points = [
        {"series": r["kind"], "name": name_of(r), "x": r["metrics"]["diversity"]["value"],
         "y": r["metrics"]["ndcg"]["value"]}
        for r in rows
    ]  # fmt: skip
    chart = charts.path_chart(
        points, title="What diversity costs", x_label=f"topic diversity@{k}", y_label=f"NDCG@{k}",
        note="along a line the weight of diversity grows",
    )  # fmt: skip
    note = (
        f"The same ranking of the same {found['users']:,} people each time, without caps and exploration; "
        f"“{SERVED}” is the pipeline as it stands. On the frontier: nothing here is as good in both and better in one."
    )
    remarks = [report.paragraph(note) for note in found["notes"]]
    return report.section(
        "The frontier of accuracy and diversity", report.grid(chart), *remarks,
        report.html_table(_rows(document), _heads(k)), note=note,
    )  # fmt: skip
