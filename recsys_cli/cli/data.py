"""`recsys data`: what a dataset holds, whether it is what its manifest says, and smaller ones of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from recsys_cli.cli.common import Invocation, app, command

group = typer.Typer(
    no_args_is_help=True, help="Describe, check, compare, sample and split datasets.", rich_markup_mode=None
)
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
    from recsys_cli.data.describe.profile import describe_dataset, rows_of

    document = describe_dataset(folder, call.progress, seed=call.config.seed)
    document["seconds"] = round(time.perf_counter() - start, 3)
    if (
        call.output is not None
        and call.output.suffix.lower() in (".html", ".htm")
        and call.options["format"] is None
    ):
        from recsys_cli.data.describe.html import html_report
        from recsys_cli.files import write_bytes

        write_bytes(call.output, html_report(document).encode())
        call.wrote()
        return
    from recsys_cli.data.describe.table import render

    call.emit(document, lambda console: render(console, document), rows_of(document))
    call.say("next: recsys advise, which models fit this data and what training would do with it")


@command(group, "diff")
def diff(
    call: Invocation,
    one: Annotated[Path, typer.Argument(metavar="A", help="Dataset folder")],
    other: Annotated[Path, typer.Argument(metavar="B", help="Dataset folder that it is compared with")],
) -> None:
    """Rows, users, items, actions and columns that only one of two datasets has."""
    from recsys_cli.data.describe.compare import diff_datasets

    document = diff_datasets(one, other)
    call.emit(document, lambda console: _render_diff(console, document), document["tables"])


def _render_diff(console, document: dict) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table("table", box=None, header_style="bold")
    for column in ("rows A", "rows B", "only in A", "only in B", "changed"):
        table.add_column(column, justify="right")
    for t in document["tables"]:
        table.add_row(t["table"], *(f"{t[c]:,}" for c in ("rows_a", "rows_b", "only_a", "only_b", "changed")))
    console.print(table)
    for t in document["tables"]:
        for side in "ab":
            for example in t[f"examples_{side}"]:
                console.print(f"{t['table']}, only in {side.upper()}: {escape(str(example))[:90]}", highlight=False)
    for note in document["notes"]:
        console.print(f"note: {note}", markup=False, highlight=False)
    console.print("the same" if document["same"] else "they differ", highlight=False)


@command(group, "sample")
def sample(
    call: Invocation,
    users: Annotated[int, typer.Option("--users", min=1, help="How many users, of those who have impressions")],
    target: Annotated[Path, typer.Option("--to", help="Dataset folder to write")],
    all_items: Annotated[
        bool, typer.Option("--all-items", help="Keep items that nobody in the sample has seen")
    ] = False,
) -> None:
    """A smaller dataset: some users, drawn with the seed, with all that is theirs."""
    from recsys_cli.data.derive import sample_dataset
    from recsys_cli.data.intact import open_intact

    dataset = open_intact(call.config.paths.data, call.config.paths.artifacts)
    manifest = sample_dataset(dataset, target, users, seed=call.config.seed, all_items=all_items)
    _tell(call, target, {t: info.rows for t, info in manifest.tables.items()}, manifest.digest, [])


@command(group, "split")
def split(
    call: Invocation,
    target: Annotated[Path, typer.Option("--to", help="Dataset folder to write")],
    apart: Annotated[
        bool, typer.Option("--apart", help="A dataset of its own for each part, in TO/train, TO/valid and TO/test")
    ] = False,
) -> None:
    """The dataset with its train, valid and test parts fixed, as `windows` in the configuration splits it.

    `recsys train` keeps to parts that are fixed, and other tools find them in the column `split`.
    """
    from recsys_cli.data.derive import split_dataset
    from recsys_cli.data.intact import open_intact

    dataset = open_intact(call.config.paths.data, call.config.paths.artifacts)
    counts, told = split_dataset(dataset, target, call.config.windows, seed=call.config.seed, apart=apart)
    _tell(call, target, counts, None, list(told))


@command(group, "label-topics")
def label_topics(
    call: Invocation,
    target: Annotated[Path, typer.Option("--to", help="Dataset folder to write")],
) -> None:
    """The dataset with topics for items that have a text and none, chosen by the language model of the settings.

    Sends the texts of those items to `language_model.url` (`recsys docs semantic` says what else).
    """
    from recsys_cli.data.derive import label_dataset, require_other, without_topics
    from recsys_cli.data.intact import open_intact
    from recsys_cli.language_model.labels import label_texts

    config = call.config.language_model
    dataset = open_intact(call.config.paths.data, call.config.paths.artifacts)
    require_other(dataset, target)
    items = dataset.items
    if "text" not in items.columns:
        from recsys_cli.errors import DataError

        raise DataError(f"{dataset.path}: items have no text", "topics are chosen by what items say")
    bare = without_topics(dataset)
    texts = items["text"].gather(bare).fill_null("").to_list()
    topics = list(config.topics)
    if not topics and "topics" in items.columns:
        topics = items["topics"].explode().drop_nulls().unique().sort().to_list()
    labels = label_texts(config, texts, topics, call.progress)
    chosen = {int(bare[place]): found for place, found in labels.topics.items() if found}
    manifest = label_dataset(dataset, target, chosen, {"model": config.model})
    told = {
        "dataset": str(target), "digest": manifest.digest, "items": items.height, "without_topics": len(bare),
        "labelled": len(chosen), "asked": labels.asked, "failed": dict(labels.answers.failed),
        "not_asked": labels.answers.unasked,
    }
    left = f"; language model: {labels.answers.told}" if labels.answers.without else ""
    line = (
        f"{target}: {len(chosen):,} of {len(bare):,} items without topics labelled, "
        f"{labels.asked:,} questions asked{left}"
    )
    rows = [{**told, "failed": labels.answers.told}]
    call.emit(told, lambda console: console.print(line, markup=False, highlight=False), rows)


def _tell(call: Invocation, target: Path, counts: dict[str, int], digest: str | None, notes: list[str]) -> None:
    """What a command has written."""
    document = {"dataset": str(target), "rows": counts, "digest": digest, "notes": notes}
    rows = [{"part": name, "rows": n} for name, n in counts.items()]

    def render(console) -> None:
        for note in notes:
            console.print(note, markup=False, highlight=False)
        shown = ", ".join(f"{name} {n:,}" for name, n in counts.items())
        console.print(f"{target}: {shown} rows", markup=False, highlight=False)

    call.emit(document, render, rows)
