"""`recsys presets`: settings for a kind of feed, ready to train with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from recsys_cli.cli.common import Invocation, app, command
from recsys_cli.shipped import preset, presets


@command(app, "presets")
def show_presets(
    call: Invocation,
    name: Annotated[
        str | None, typer.Argument(help="Preset to show  [default: list them]", show_default=False)
    ] = None,
) -> None:
    """List the presets, or show one as a file; `recsys train --preset NAME` trains with it."""
    known = presets()
    if name is None:
        rows = [{"preset": each, "for": headline(path)} for each, path in known.items()]
        call.emit(rows, lambda console: _list(console, rows))
        return
    preset(name)
    text = known[name].read_text(encoding="utf-8")
    document = {"preset": name, "for": headline(known[name]), "text": text}
    call.emit(document, lambda console: console.print(text, markup=False, highlight=False, soft_wrap=True), [document])


def headline(path: Path) -> str:
    """The first line of a preset's file, which says what it is for."""
    return path.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ").rstrip(".")


def _list(console, rows: list[dict]) -> None:
    from rich.table import Table

    table = Table("preset", "", box=None, header_style="bold")
    for row in rows:
        table.add_row(row["preset"], row["for"])
    console.print(table)
    console.print("", "recsys presets NAME shows one, recsys train --preset NAME trains with it", sep="\n")
