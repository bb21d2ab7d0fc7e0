"""`recsys check`: the launch list."""

from __future__ import annotations

from typing import Annotated

import typer

from recsys_cli.cli.common import Invocation, app, command


@command(app, "check")
def check(
    call: Invocation,
    run: Annotated[
        str | None, typer.Option("--run", help="Run id  [default: the one in use]", show_default=False)
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="What cannot be judged fails, too")] = False,
) -> None:
    """The launch list with what was measured and how to mend it; exit code 1 where a row fails.

    Thresholds stand under `live.check` of the settings.
    """
    from recsys_cli.errors import RecsysError
    from recsys_cli.live.launch import launch_list

    rows = launch_list(call.config, run)
    failed = [r.gate for r in rows if r.passed is False or (strict and r.passed is None)]
    document = {"ok": not failed, "failed": failed, "rows": [r.to_dict() for r in rows]}
    call.emit(document, lambda console: _render(console, rows, strict), document["rows"])
    if failed:
        raise RecsysError(f"{len(failed)} of {len(rows)} rows fail: {', '.join(failed)}",
                          "the table says how to mend each")


def _render(console, rows: list, strict: bool) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table("", "", "measured", "wanted", box=None, header_style="bold", pad_edge=False)
    unjudged = "[red]NO[/]" if strict else "[yellow]?[/]"
    for row in rows:
        mark = {True: "[green]ok[/]", False: "[red]NO[/]", None: unjudged}[row.passed]
        table.add_row(row.gate, mark, escape(row.measured), escape(row.wanted))
    console.print(table)
    for row in rows:
        if row.passed is False and row.mend:
            console.print(f"{row.gate}: {row.mend}", highlight=False, markup=False)
