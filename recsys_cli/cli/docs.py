"""`recsys docs`: the documents, in the terminal, without a network."""

from __future__ import annotations

import os
import re
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from recsys_cli.cli.common import Invocation, app, command
from recsys_cli.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from rich.console import Console


@command(app, "docs")
def docs(
    call: Invocation,
    page: Annotated[
        str | None, typer.Argument(help="Page to show  [default: list the pages]", show_default=False)
    ] = None,
) -> None:
    """List the pages of the documentation, or show one (`recsys docs ranking`)."""
    from recsys_cli import docs as documents

    if page is None:
        rows = [
            {"chapter": chapter, "page": name, "title": documents.title(name)}
            for chapter, names in documents.CHAPTERS.items()
            for name in names
        ]
        call.emit(rows, lambda console: _list(console, rows))
        return
    name = page.removesuffix(".md")
    if name not in documents.PAGES:
        raise UsageError(
            f"no page {page!r}", did_you_mean(name, documents.PAGES, "`recsys docs` lists the pages")
        )
    text = documents.read(name)
    document = {"page": name, "title": documents.title(name), "text": text}
    call.emit(document, lambda console: _show(console, text, paged=call.output is None), [document])


def for_terminal(text: str) -> str:
    """Markdown in which a link to a page is the command that shows it, and a picture its description."""
    text = re.sub(r"!\[([^\]]*)\]\([^)]*\)", r"*(picture: \1)*", text)
    text = re.sub(r"\[([^\]]+)\]\(#[^)]*\)", r"\1", text)
    return re.sub(r"\[([^\]]+)\]\(([\w-]+)\.md(?:#[^)]*)?\)", r"\1 (`recsys docs \2`)", text)


def _list(console: Console, rows: list[dict]) -> None:
    from rich.table import Table

    table = Table("page", "", box=None, header_style="bold")
    chapter = None
    for row in rows:
        if row["chapter"] != chapter:
            chapter = row["chapter"]
            table.add_row(f"\n[dim]{chapter}[/]", "")
        table.add_row(row["page"], row["title"])
    console.print(table)
    console.print("\nrecsys docs PAGE shows one", style="dim", highlight=False)


def _show(console: Console, text: str, *, paged: bool) -> None:
    from rich.markdown import Markdown

    drawn = Markdown(for_terminal(text), hyperlinks=False)
    if paged and sys.stdout.isatty():
        # colours are kept, and what fits on the screen is not paged
        os.environ.setdefault("LESS", "-RFX")
        with console.pager(styles=True):
            console.print(drawn, width=min(console.width, 100))
    else:
        console.print(drawn)
