"""`recsys import-data`: foreign files into a dataset folder, by a mapping."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from recsys_cli.cli.common import Invocation, app, command


@command(app, "import-data")
def import_data(
    call: Invocation,
    mapping: Annotated[
        Path, typer.Argument(help="Mapping file; configs/import/ holds some and a commented template")
    ],
    source: Annotated[Path, typer.Option("--from", help="Folder of the source files")],
    target: Annotated[
        Path | None,
        typer.Option("--to", help="Dataset folder to write  [default: paths.data]", show_default=False),
    ] = None,
    max_reject_share: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1,
            help="Refuse the import where a table loses more than this share of its rows (instead of the mapping's)",
            show_default=False,
        ),
    ] = None,
    preview: Annotated[
        bool, typer.Option("--preview", help="Show the first rows of every file as they would be read; write nothing")
    ] = False,
) -> None:
    """Import CSV, TSV, JSON lines or Parquet files as a dataset."""
    from recsys_cli.data.importer.mapping import read_mapping
    from recsys_cli.shipped import find

    mapping = find(mapping)
    checked = read_mapping(mapping)
    if preview:
        from recsys_cli.data.importer.preview import preview as look

        found = look(checked, source)
        rows = [{"table": t["table"], "file": t["file"], **row} for t in found["tables"] for row in t["rows"]]
        call.emit(found, lambda console: _render_preview(console, found), rows)
        return
    if max_reject_share is not None:
        checked = checked.model_copy(update={"max_reject_share": max_reject_share})
    target = target or Path(call.config.paths.data)
    with call.trace.timed("import", mapping=str(mapping), source=str(source), dataset=str(target)) as event:
        from recsys_cli.data.importer.run import import_dataset

        summary = import_dataset(checked, source, target, mapping_name=mapping.name, progress=call.progress)
        event.fields |= {"tables": summary["tables"], "digest": summary["digest"]}
    rows = [{"table": name, **counts} for name, counts in summary["tables"].items()]
    call.emit(summary, lambda console: _render(console, summary, rows), rows)


def _render_preview(console, found: dict) -> None:
    from rich.markup import escape
    from rich.table import Table

    for part in found["tables"]:
        console.print(f"{part['table']} from {part['file']}", style="bold", markup=False, highlight=False)
        columns = list(part["rows"][0]) if part["rows"] else []
        table = Table(*map(escape, columns), box=None, header_style="dim")
        for row in part["rows"]:
            table.add_row(*("–" if row[c] is None else escape(str(row[c])[:40]) for c in columns))
        console.print(table, "")
    for r in found["rejects"]:
        value = "" if r["value"] is None else f": {r['value'][:40]!r}"
        told = f"{r['reason']} ({r['count']:,} rows, first {r['file']} line {r['line']}{value})"
        console.print(f"refused in {r['table']}: {told}", markup=False, highlight=False)
    for note in found["notes"]:
        console.print(f"note: {note}", markup=False, highlight=False)


def _render(console, summary: dict, rows: list[dict]) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table("table", box=None, header_style="bold")
    columns = ["read", "rejected", *(c for c in ("merged", "added") if any(row[c] for row in rows)), "rows"]
    for column in columns:
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(row["table"], *(f"{row[c]:,}" for c in columns))
    console.print(table)
    impressions = summary["tables"]["impressions"]["rows"]
    rates = ", ".join(f"{a} {n / impressions:.2%}" for a, n in summary["actions"].items())
    console.print(f"\nactions: {rates}", highlight=False, markup=False)
    for note in summary["notes"]:
        console.print(f"note: {note}", highlight=False, markup=False)
    if summary["rejects"]:
        told = f"\nrejected (all of them in {summary['dataset']}/rejects.parquet)"
        console.print(told, highlight=False, markup=False)
        reasons = Table("table", "reason", box=None, header_style="bold")
        reasons.add_column("rows", justify="right")
        reasons.add_column("first")
        for r in summary["rejects"]:
            value = "" if r["value"] is None else f": {r['value'][:40]!r}"
            reasons.add_row(
                r["table"],
                escape(r["reason"]),
                f"{r['count']:,}",
                escape(f"{r['file']} line {r['line']}{value}"),
            )
        console.print(reasons)
    console.print(
        f"\n{summary['dataset']}: dataset {summary['name']!r}, digest {summary['digest']}, {summary['seconds']:.1f} s",
        highlight=False,
        markup=False,
    )
