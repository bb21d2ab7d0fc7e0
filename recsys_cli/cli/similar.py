"""`recsys similar-items` and `recsys similar-users`: what lies near, by any source that measures it."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from recsys_cli.cli.common import Invocation, app, command
from recsys_cli.cli.options import RunOption
from recsys_cli.errors import UsageError

Source = Annotated[
    str | None,
    typer.Option("--source", help="Source that measures  [default: the first that knows any]", show_default=False),
]
Number = Annotated[int, typer.Option("-n", min=1, help="How many")]


@command(app, "similar-items", dashed_ids=True, answers=True)
def similar_items(
    call: Invocation,
    item: Annotated[str, typer.Argument(metavar="ID", help="Item id")],
    source: Source = None,
    number: Number = 10,
    run: RunOption = None,
    kind: Annotated[
        Literal["alike", "together"],
        typer.Option("--kind", help="alike: what could stand in its place; together: what is taken along with it"),
    ] = "alike",
) -> None:
    """Items most like one, by shared engagement, by vectors or by content; or those taken together with it, by lift."""
    if kind == "together":
        if source is not None:
            raise UsageError("what is taken together is counted, not measured by a source", "leave out --source")
        _emit(call, _engine(call, run).items_together(item, number))
        return
    _emit(call, _engine(call, run).similar_items(item, number, source))


@command(app, "similar-users", dashed_ids=True, answers=True)
def similar_users(
    call: Invocation,
    user: Annotated[str, typer.Argument(metavar="ID", help="User id")],
    source: Source = None,
    number: Number = 10,
    run: RunOption = None,
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
    together = answer.source in ("visit", "history")
    told = "Together with" if together else "Like"
    by = f"lift within a {answer.source}" if together else answer.source
    console.print(f"[bold]{told} {escape(title)}[/] · by {by}", highlight=False)
    if not answer.nearest:
        near = f"is near: {by} knows too little of this {answer.kind}"
        console.print(f"nothing {'goes with it oftener than by chance' if together else near}")
        return
    items = answer.kind == "item"
    more = ("author", "topics", "text") if items else ()
    numbers = ("lift", "together") if together else ("score", "interactions")
    table = Table("#", answer.kind, *numbers, *more, box=None, header_style="bold", pad_edge=False)
    for column in table.columns[2:4]:
        column.justify = "right"
    for row in answer.nearest:
        author = str(row.author_id) if row.author_id is not None else "–"
        told = (_cut(author, 12), _cut(", ".join(row.topics), 22), _cut(row.text, 30)) if items else ()
        shown = (str(row.id), f"{row.score:.4f}", f"{row.together if together else row.interactions:,}", *told)
        table.add_row(str(row.rank), *(escape(text) for text in shown))
    console.print(table)


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1].rstrip() + "…"
