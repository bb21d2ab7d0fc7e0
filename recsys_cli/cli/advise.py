"""`recsys advise`: which models fit the data, and what training would do with it."""

from __future__ import annotations

from recsys_cli.cli.common import Invocation, app, command


@command(app, "advise")
def advise(call: Invocation) -> None:
    """Say which models fit the dataset and why, and what `recsys train` would do with it by default."""
    from recsys_cli.advice import advice_document
    from recsys_cli.data.intact import open_intact

    document = advice_document(open_intact(call.config.paths.data, call.config.paths.artifacts), call.config)
    call.emit(document, lambda console: _render(console, document), document["advice"])


def _render(console, document: dict) -> None:
    from rich.markup import escape
    from rich.table import Table

    data = document["summary"]
    console.print(
        f"[bold]{escape(document['dataset'])}[/]: {data['users']:,} users, {data['items']:,} items, "
        f"{data['impressions']:,} impressions, {data['interactions']:,} interactions",
        highlight=False,
    )

    def table(title: str, *columns: str) -> Table:
        return Table(*columns, title=title, title_justify="left", title_style="bold", box=None, header_style="dim")

    fits = table("Models that fit", "model", "because", "here")
    for row in document["advice"]:
        fits.add_row(row["model"], escape(row["why"]), row["settings"])
    console.print("", fits, "")
    has = table("What the data has", "", "", "so")
    for row in document["properties"]:
        has.add_row(row["property"], "yes" if row["there"] else "no", row["follows"])
    console.print(has, "")
    if not document["sources"]:
        console.print("recsys train needs interactions: there is nothing to learn from yet")
        return
    for line in document["split"]["says"]:
        console.print(line, highlight=False)
    used = [row["source"] for row in document["sources"] if row["used"]]
    console.print(f"[bold]recsys train[/] would fit the sources {', '.join(used) or 'none'}", highlight=False)
    for row in document["sources"]:
        if not row["used"] and row["reason"] != "not enabled":
            console.print(f"  not {row['source']}: {escape(row['reason'])}", highlight=False)
    weights = ", ".join(f"{a} {w:g}" for a, w in document["utility"]["weights"].items())
    console.print(f"and weigh {weights}", highlight=False)
