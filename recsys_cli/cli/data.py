"""`recsys data`: what a dataset holds, and whether it is what its manifest says."""

from __future__ import annotations

from pathlib import Path

import typer

from recsys_cli.cli.common import Invocation, app, command

group = typer.Typer(no_args_is_help=True, help="Describe and check datasets.", rich_markup_mode=None)
app.add_typer(group, name="data")


@command(group, "validate")
def validate(call: Invocation) -> None:
    """Check a dataset folder against the schema and its manifest; exit code 4 where a check fails."""
    from dataclasses import asdict

    folder = Path(call.config.paths.data)
    from recsys_cli.data.validate import validate_dataset
    from recsys_cli.errors import DataError

    checks = validate_dataset(folder, call.progress)
    failed = [c for c in checks if not c.ok]

    def render(console) -> None:
        from rich.table import Table

        table = Table("table", "check", "", "found", box=None, header_style="bold")
        for c in checks:
            table.add_row(
                c.table, c.check, "ok" if c.ok else "FAILED", c.detail, style=None if c.ok else "bold red"
            )
        console.print(table)

    rows = [asdict(c) for c in checks]
    call.emit({"dataset": str(folder), "ok": not failed, "checks": rows}, render, rows)
    if failed:
        first = failed[0]
        raise DataError(
            f"{folder}: {len(failed)} of {len(checks)} checks failed, the first: "
            f"{first.table}, {first.check}: {first.detail}",
            "generate or import the dataset again",
        )
    call.say(f"{folder}: all {len(checks)} checks hold")


@command(group, "describe")
def describe(call: Invocation) -> None:
    """Counts, rates, distributions, sessions and rhythm of a dataset; `--output report.html` draws them."""
    import time

    start = time.perf_counter()
    folder = Path(call.config.paths.data)
    from recsys_cli.data.describe import describe_dataset, rows_of

    document = describe_dataset(folder, call.progress, seed=call.config.seed)
    document["seconds"] = round(time.perf_counter() - start, 3)
    if (
        call.output is not None
        and call.output.suffix.lower() in (".html", ".htm")
        and call.options["format"] is None
    ):
        from recsys_cli.data.describe_html import html_report
        from recsys_cli.files import write_bytes

        write_bytes(call.output, html_report(document).encode())
        call.say(f"wrote {call.output}")
        return
    from recsys_cli.data.describe_table import render

    call.emit(document, lambda console: render(console, document), rows_of(document))
    call.say("next: recsys advise, which models fit this data and what training would do with it")
