"""The comparison of candidate sources on the terminal and as rows of a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.markup import escape

from recsys_cli.evaluation.period import window_text

if TYPE_CHECKING:
    from rich.console import Console


def render(console: Console, document: dict[str, Any]) -> None:
    """Draw one row a source, the merge and the union, readable at 100 columns."""
    from rich.table import Table

    focus = document["focus"]
    console.print(
        f"[bold]Sources of run {document['run']}[/] on {escape(document['dataset']['name'])}, "
        f"{window_text(document['window'])}",
        highlight=False,
    )
    console.print(
        f"{document['users']:,} test users · {document['catalogue']['available']:,} items available", highlight=False
    )
    recalls = [f"R@{depth}" for depth in document["depths"]]
    columns = ("source", *recalls, "adds", "items", "cover", "novelty", "popular", "ms/user")
    table = Table(*columns, box=None, header_style="bold", pad_edge=False)
    for column in table.columns[1:]:
        column.justify = "right"
    for at, row in enumerate(document["retrievers"]):
        previous = document["retrievers"][at - 1]["kind"] if at else row["kind"]
        if previous == "source" != row["kind"]:
            table.add_section()
        table.add_row(
            row["name"],
            *(f"{row['recall'][str(depth)]['value']:.4f}" for depth in document["depths"]),
            "" if row["adds"] is None else f"{row['adds']:.4f}",
            f"{row['candidates']:,.0f}",
            f"{row['coverage']:.1%}",
            f"{row['novelty']:.2f}",
            f"{row['popularity']:.3f}",
            "" if row["ms_per_user"] is None else f"{row['ms_per_user']:.2f}",
        )
    console.print("", table, "")
    console.print(
        f"From adds on, figures are of the first {focus:,}. adds: recall that no other source brings. items: different "
        "ones a user. cover: share of the available items that somebody gets. novelty: bits. popular: mean place by "
        "popularity, 1 the most popular. merged: so many candidates chosen as `pipeline.sourcing` says.",
        highlight=False,
    )


def rows(document: dict[str, Any]) -> list[dict[str, Any]]:
    """One flat row a source."""
    return [
        {
            "run": document["run"],
            "source": row["name"],
            "kind": row["kind"],
            **{f"recall@{depth}": figure["value"] for depth, figure in row["recall"].items()},
            **{
                f"{name}@{document['focus']}": row[name]
                for name in ("adds", "candidates", "coverage", "novelty", "popularity")
            },
            "ms_per_user": row["ms_per_user"],
        }
        for row in document["retrievers"]
    ]
