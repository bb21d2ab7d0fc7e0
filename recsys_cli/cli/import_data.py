"""`recsys import-data`: foreign files into a dataset folder, by a mapping."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from recsys_cli.cli.common import Invocation, app, command

if TYPE_CHECKING:
    from recsys_cli.data.importer.mapping import Mapping

FilesOption = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="MAPPING|FILE",
        help="Mapping file (configs/import/ holds some and a commented template); with --guess the files, or the "
        "address of a database",
        show_default=False,
    ),
]
SourceOption = Annotated[
    str | None,
    typer.Option(
        "--from",
        metavar="FOLDER",
        help="Folder of the source files, here or at an address such as s3://bucket/logs  [default: that of the "
        "mapping]",
        show_default=False,
    ),
]
TargetOption = Annotated[
    Path | None,
    typer.Option("--to", help="Dataset folder to write  [default: paths.data]", show_default=False),
]
GuessOption = Annotated[
    bool,
    typer.Option(
        "--guess",
        help="Look at FILEs (a folder, a database), write a commented mapping, and import where that is sure",
    ),
]
WriteOption = Annotated[
    Path, typer.Option("--write", help="With --guess: where the mapping goes (a file there is kept)")
]
YesOption = Annotated[bool, typer.Option("--yes", help="With --guess: import even where the guess is not sure")]
AppendOption = Annotated[
    bool, typer.Option("--append", help="Add what is new to the dataset that is there, such as new days of a log")
]
MaxRejectShareOption = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=1,
        help="Refuse the import where a table loses more than this share of its rows (instead of the mapping's)",
        show_default=False,
    ),
]
PreviewOption = Annotated[
    bool, typer.Option("--preview", help="Show the first rows of every file as they would be read; import nothing")
]
EventsOption = Annotated[
    Path | None,
    typer.Option(
        "--events",
        metavar="LOG",
        help="Instead of files: the dataset at paths.data with the events of a server's log, written to --to",
        show_default=False,
    ),
]


@command(app, "import-data")
def import_data(
    call: Invocation,
    files: FilesOption = None,
    source: SourceOption = None,
    target: TargetOption = None,
    guess: GuessOption = False,
    write: WriteOption = Path("mapping.yaml"),
    yes: YesOption = False,
    append: AppendOption = False,
    max_reject_share: MaxRejectShareOption = None,
    preview: PreviewOption = False,
    events: EventsOption = None,
) -> None:
    """Import CSV, TSV, JSON lines or Parquet files, or tables of a database, as a dataset.

    From files to a slate: `recsys import-data --guess log.csv items.csv`, `recsys train`, `recsys recommend --user ID`.
    """
    from recsys_cli.data.importer.mapping import read_mapping
    from recsys_cli.errors import UsageError
    from recsys_cli.shipped import find

    if events is not None:
        if files or guess or append or preview:
            raise UsageError("--events takes the place of files, --guess, --append and --preview", "leave them out")
        with_events(call, events, target, emit=True)
        return
    if not files:
        raise UsageError("nothing to import is named", "name a mapping, files after --guess, or a log after --events")
    target = target or Path(call.config.paths.data)
    if guess:
        if source is not None:
            raise UsageError("--guess is given the files themselves: --from is of no use", "leave --from out")
        found, mapping, source = _guess(call, files, write, target)
    elif len(files) > 1:
        raise UsageError(
            f"one mapping file is read, {len(files)} files are given", "add --guess to have a mapping made of them"
        )
    else:
        found, mapping = None, find(Path(files[0]))
    checked = read_mapping(mapping)
    if max_reject_share is not None:
        checked = checked.model_copy(update={"max_reject_share": max_reject_share})
    with _source_folder(checked, source or mapping.parent) as folder:
        if preview:
            _preview(call, checked, folder, found)
            return
        if found is not None:
            _require_sure(call, found, checked, folder, mapping, yes)
        _import(call, checked, mapping, folder, str(source or folder), target, append=append)
    if found is not None:
        call.say("next: recsys train, then recsys recommend --user ID")


@contextmanager
def _source_folder(checked: Mapping, source: str | Path) -> Iterator[Path]:
    """The folder that the mapping's files are read from: what lies elsewhere is copied here first."""
    from recsys_cli.remote import fetched, is_remote, local_path

    if not is_remote(source):
        yield local_path(str(source))
        return
    with fetched(str(source), checked.file_names()) as folder:
        yield folder


def _import(
    call: Invocation, checked: Mapping, mapping: Path, folder: Path, told: str, target: Path, *, append: bool
) -> None:
    """told: what the log names as the place of the source files."""
    with call.trace.timed("import", mapping=str(mapping), source=told, dataset=str(target)) as event:
        from recsys_cli.data.importer.append import append_dataset
        from recsys_cli.data.importer.run import import_dataset

        run = append_dataset if append else import_dataset
        summary = run(checked, folder, target, mapping_name=mapping.name, progress=call.progress)
        event.fields |= {"tables": summary["tables"], "digest": summary["digest"]}
    rows = [{"table": name, **counts} for name, counts in summary["tables"].items()]
    call.emit(summary, lambda console: _render(console, summary, rows), rows)


def _guess(call: Invocation, files: list[str], write: Path, target: Path):
    """(the guess, the mapping file that it was written to, the folder of its files)."""
    from recsys_cli.data.importer.guess.plan import guess
    from recsys_cli.data.importer.guess.write import free_name, mapping_text
    from recsys_cli.files import write_bytes

    found = guess(files)
    path = free_name(write, lambda place: mapping_text(found, str(place), str(target)))
    write_bytes(path, mapping_text(found, str(path), str(target)).encode())
    call.say(f"wrote {path}: the mapping, with what it was told from")
    for doubt in found.doubts:
        call.say(f"{'NOT SURE' if doubt.asks else 'taken so'}: {doubt.text}")
    return found, path, found.folder


def _preview(call: Invocation, checked, source: Path, found) -> None:
    from recsys_cli.data.importer.preview import preview as look

    seen = look(checked, source)
    if found is not None:
        seen["doubts"] = [{"text": d.text, "about": d.key, "asks": d.asks} for d in found.doubts]
    rows = [{"table": t["table"], "file": t["file"], **row} for t in seen["tables"] for row in t["rows"]]
    call.emit(seen, lambda console: _render_preview(console, seen), rows)


def _require_sure(call: Invocation, found, checked, source: Path, mapping: Path, yes: bool) -> None:
    """Show the first rows as they would be read; raises DataError where the guess asks and there is no --yes."""
    from recsys_cli.data.importer.preview import preview as look
    from recsys_cli.errors import DataError

    if not call.quiet and call.format == "table":
        from recsys_cli.terminal import console

        _render_preview(console(stderr=True), look(checked, source, rows=3))
    asked = [d.text for d in found.doubts if d.asks]
    if asked and not yes:
        more = f" (and {len(asked) - 1} more)" if len(asked) > 1 else ""
        raise DataError(
            f"not imported, since the guess is not sure: {asked[0]}{more}",
            f"look at {mapping}, then `recsys import-data {mapping} --from {source}`; or add --yes to take it as it is",
        )


def _render_preview(console, found: dict) -> None:
    from rich.markup import escape
    from rich.table import Table

    for part in found["tables"]:
        console.print(f"{part['table']} from {part['file']}", style="bold", markup=False, highlight=False)
        columns = list(part["rows"][0]) if part["rows"] else []
        shown = _that_fit(part["rows"], columns, console.width)
        table = Table(*map(escape, shown), box=None, header_style="dim")
        for row in part["rows"]:
            table.add_row(*(escape(_cell(row[c])) for c in shown))
        console.print(table)
        if len(shown) < len(columns):
            rest = ", ".join(c for c in columns if c not in shown)
            console.print(f" and {rest}", style="dim", markup=False, highlight=False)
        console.print()
    for r in found["rejects"]:
        value = "" if r["value"] is None else f": {r['value'][:40]!r}"
        told = f"{r['reason']} ({r['count']:,} rows, first {r['file']} line {r['line']}{value})"
        console.print(f"refused in {r['table']}: {told}", markup=False, highlight=False)
    for note in found["notes"]:
        console.print(f"note: {note}", markup=False, highlight=False)


def _cell(value: object) -> str:
    text = "–" if value is None else str(value).replace("\n", " ")
    return text.removesuffix("+00:00").removesuffix(".000000") if "T" in text else text[:32]


def _that_fit(rows: list[dict], columns: list[str], width: int) -> list[str]:
    """As many of the columns, from the first, as stand beside each other on a line."""
    shown, used = [], 0
    for column in columns:
        used += 2 + max([len(column), *(len(_cell(row[column])) for row in rows)])
        if shown and used > width:
            break
        shown.append(column)
    return shown


def _render(console, summary: dict, rows: list[dict]) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table("table", box=None, header_style="bold")
    columns = [
        "read",
        "rejected",
        *(c for c in ("merged", "added", "before") if any(row.get(c) for row in rows)),
        "rows",
    ]
    for column in columns:
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(row["table"], *(f"{row.get(c, 0):,}" for c in columns))
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


def with_events(call: Invocation, log: Path, target: Path | None, *, emit: bool = False) -> Path:
    """Write the dataset of the settings with the events of a log; returns its folder.

    target: paths.data with -events behind where None. emit: the outcome is the result of the command.
    """
    from recsys_cli.data.intact import open_intact
    from recsys_cli.errors import RecsysError, UsageError

    try:
        from recsys_cli.serving.export import export_events
    except ModuleNotFoundError as error:
        hint = "pip install 'recsys-cli[serve]'"
        raise RecsysError(f"events need {error.name}, which is not installed", hint) from None

    base = Path(call.config.paths.data)
    target = target or base.with_name(f"{base.name}-events")
    dataset = open_intact(base, call.config.paths.artifacts)
    if dataset.manifest.origin.get("kind") == "events":
        raise UsageError(f"{base} holds events already", "name the dataset that they were added to with --data-dir")
    if target.resolve() == base.resolve():
        raise UsageError(f"{target} is the dataset itself", "name another folder with --to")
    with call.trace.timed("events", log=str(log), dataset=str(target)) as event:
        done = export_events(log, dataset, target)
        event.fields |= {"events": done.events, "digest": done.manifest.digest}
    told = {
        "dataset": str(target), "digest": done.manifest.digest, "events": done.events,
        "impressions": done.impressions, "new_users": done.new_users, "new_items": done.new_items,
        "rows": {name: info.rows for name, info in done.manifest.tables.items()}, "notes": done.notes,
    }
    lines = [
        f"{target}: {done.events:,} events made {done.impressions:,} impressions, {done.new_users:,} new users and "
        f"{done.new_items:,} new items",
        *(f"note: {note}" for note in done.notes),
    ]
    if emit:
        call.emit(told, lambda console: [console.print(x, highlight=False, markup=False) for x in lines], [told])
    else:
        for line in lines:
            call.say(line)
    return target
