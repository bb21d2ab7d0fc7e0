"""`recsys similar-items` and `recsys similar-users`: what lies near, by any source that measures it."""

from __future__ import annotations

from typing import Annotated

import typer

from recsys_cli.cli.common import Invocation, app, command

Source = Annotated[
    str | None,
    typer.Option("--source", help="Source that measures  [default: the first that knows any]", show_default=False),
]
Number = Annotated[int, typer.Option("-n", min=1, help="How many")]
Run = Annotated[str | None, typer.Option("--run", help="Run id  [default: the one in use]", show_default=False)]


@command(app, "similar-items", dashed_ids=True, answers=True)
def similar_items(
    call: Invocation,
    item: Annotated[str, typer.Argument(metavar="ID", help="Item id")],
    source: Source = None,
    number: Number = 10,
    run: Run = None,
) -> None:
    """Items most like one: by shared engagement, by vectors or by content."""
    _emit(call, _engine(call, run).similar_items(item, number, source))


@command(app, "similar-users", dashed_ids=True, answers=True)
def similar_users(
    call: Invocation,
    user: Annotated[str, typer.Argument(metavar="ID", help="User id")],
    source: Source = None,
    number: Number = 10,
    run: Run = None,
) -> None:
    """Users most like one, by the vectors or neighbours of a source."""
    _emit(call, _engine(call, run).similar_users(user, number, source))


def _engine(call: Invocation, run: str | None):
    from recsys_cli.engine import RecommendationEngine

    config = call.config
    return RecommendationEngine.load(config.paths.artifacts, run, config.pipeline, trace=call.trace)


def _emit(call: Invocation, answer) -> None:
    document = answer.to_dict()
    rows = [
        {"to": answer.id, "source": answer.source, **row, "topics": ";".join(row["topics"])}
        for row in document["nearest"]
    ]
    call.emit(document, lambda console: _render(console, answer), rows)


def _render(console, answer) -> None:
    from rich.markup import escape
    from rich.table import Table

    title = f"{answer.kind} {answer.id}" + (f": {_cut(answer.text, 50)}" if answer.text else "")
    console.print(f"[bold]Like {escape(title)}[/] · by {answer.source}", highlight=False)
    if not answer.nearest:
        console.print(f"nothing is near: {answer.source} knows too little of this {answer.kind}")
        return
    items = answer.kind == "item"
    more = ("author", "topics", "text") if items else ()
    table = Table("#", answer.kind, "score", "interactions", *more, box=None, header_style="bold", pad_edge=False)
    for column in table.columns[2:4]:
        column.justify = "right"
    for row in answer.nearest:
        author = str(row.author_id) if row.author_id is not None else "–"
        told = (_cut(author, 12), _cut(", ".join(row.topics), 22), _cut(row.text, 30)) if items else ()
        shown = (str(row.id), f"{row.score:.4f}", f"{row.interactions:,}", *told)
        table.add_row(str(row.rank), *(escape(text) for text in shown))
    console.print(table)


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1].rstrip() + "…"
