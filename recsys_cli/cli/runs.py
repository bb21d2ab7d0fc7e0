"""`recsys runs`: what was trained, and which of it is in use."""

from __future__ import annotations

from typing import Annotated

import typer

from recsys_cli.cli.common import Invocation, app, command
from recsys_cli.errors import ArtifactError
from recsys_cli.pipeline.order import order_in_words

group = typer.Typer(no_args_is_help=True, help="List, show, compare, switch and delete runs.", rich_markup_mode=None)
app.add_typer(group, name="runs")


def _store(call: Invocation):
    from recsys_cli.artifacts.runs import RunStore

    return RunStore(call.config.paths.artifacts)


@command(group, "list")
def list_(call: Invocation) -> None:
    """All runs, oldest first; the one in use is marked."""
    store = _store(call)
    current = store.current()
    rows = []
    for run_id in store.ids():
        row = dict.fromkeys(("run", "in_use", "created_at", "dataset", "final", "seconds", "mean_auc"))
        row |= {"run": run_id, "in_use": run_id == current}
        try:
            manifest = store.open(run_id, verify=False).manifest
        except ArtifactError as error:
            call.say(f"unreadable: {error.message}; `recsys runs delete {run_id}` removes it")
            rows.append(row | {"dataset": "unreadable"})
            continue
        row |= {
            "created_at": manifest.created_at, "dataset": manifest.dataset.name, "final": manifest.final,
            "seconds": round(manifest.durations.get("total", 0.0), 1),
        }
        rows.append(row | _headline(manifest))

    def render(console) -> None:
        from rich.table import Table

        if not rows:
            console.print("no runs yet; train one with `recsys train`")
            return
        table = Table("", *[k for k in rows[0] if k != "in_use"], box=None, header_style="bold")
        for row in rows:
            table.add_row("→" if row["in_use"] else "", *[_text(v) for k, v in row.items() if k != "in_use"])
        console.print(table)

    call.emit(rows, render)


def _headline(manifest) -> dict:
    """The numbers that a list has room for."""
    heavy = manifest.metrics.get("heavy", {})
    aucs = [m["roc_auc"] for m in heavy.values() if isinstance(m, dict) and m.get("roc_auc") is not None]
    return {"mean_auc": round(sum(aucs) / len(aucs), 4) if aucs else None}


def _text(value) -> str:
    return "" if value is None else "yes" if value is True else "no" if value is False else str(value)


@command(group, "show")
def show(
    call: Invocation,
    run: Annotated[str | None, typer.Argument(help="Run id  [default: the one in use]", show_default=False)] = None,
    verify: Annotated[bool, typer.Option("--verify", help="Digest every file of the run")] = False,
) -> None:
    """A run's manifest: data, windows, versions, durations, metrics, files."""
    opened = _store(call).open(run)
    if verify:
        opened.verify(everything=True)
    document = opened.manifest.model_dump(mode="json")

    def render(console) -> None:
        from rich.table import Table

        from recsys_cli.config import leaves

        for sentence in order_in_words(document["metrics"].get("order", {})):
            console.print(sentence, highlight=False, markup=False)
        table = Table("key", "value", box=None, header_style="bold")
        for key, value in leaves({k: v for k, v in document.items() if k not in ("settings", "files")}).items():
            table.add_row(key, f"{value:.4f}" if isinstance(value, float) else str(value))
        table.add_row(
            "files", f"{len(document['files'])}, {sum(f['bytes'] for f in document['files'].values()):,} bytes"
        )
        console.print(table)

    call.emit(document, render, [document | {"settings": None, "files": None}])


@command(group, "use")
def use(call: Invocation, run: Annotated[str, typer.Argument(help="Run id")]) -> None:
    """Make a run the one in use."""
    _store(call).use(run)
    call.emit({"current": run}, lambda console: console.print(f"run {run} is in use"), [{"current": run}])


@command(group, "compare")
def compare(
    call: Invocation, first: Annotated[str, typer.Argument()], second: Annotated[str, typer.Argument()]
) -> None:
    """Settings and metrics in which two runs differ."""
    from recsys_cli.config import leaves

    store = _store(call)
    sides = [store.open(run, verify=False).manifest.model_dump(mode="json") for run in (first, second)]
    rows = []
    for part in ("dataset", "windows", "settings", "packages", "durations", "metrics"):
        a, b = (leaves(side[part]) for side in sides)
        for key in sorted({*a, *b}):
            if a.get(key) != b.get(key):
                rows.append({"key": f"{part}.{key}", first: a.get(key), second: b.get(key)})

    def render(console) -> None:
        from rich.table import Table

        table = Table("key", first, second, box=None, header_style="bold")
        for row in rows:
            table.add_row(row["key"], *(_short(row[run]) for run in (first, second)))
        console.print(table if rows else "the runs do not differ")

    call.emit(rows, render, [{k: str(v) for k, v in row.items()} for row in rows])


def _short(value) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value)


@command(group, "delete")
def delete(call: Invocation, run: Annotated[str, typer.Argument(help="Run id")]) -> None:
    """Delete a run that is not in use."""
    _store(call).delete(run)
    call.emit({"deleted": run}, lambda console: console.print(f"run {run} was deleted"), [{"deleted": run}])
