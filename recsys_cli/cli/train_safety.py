"""`recsys train-safety`: a classifier of texts or of accounts from labels."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from recsys_cli.cli.common import Invocation, app, command
from recsys_cli.errors import UsageError

TaskOption = Annotated[str, typer.Option("--task", help="What is recognised: toxicity, nsfw, spam, brand_safety, …")]
LabelsOption = Annotated[
    list[Path] | None,
    typer.Option("--labels", help="CSV, TSV, JSON lines or Parquet (repeatable)  [default: the dataset's items]"),
]
TextColumnOption = Annotated[
    str,
    typer.Option("--text-column", metavar="NAME,…", help="Column of the text; words of further ones are marked"),
]
LabelColumnOption = Annotated[
    str | None, typer.Option("--label-column", help="Column of the label  [default: the task]", show_default=False)
]
PositiveOption = Annotated[
    str | None, typer.Option("--positive", metavar="VALUE,…", help="Values of the positive class")
]
NegativeOption = Annotated[
    str | None, typer.Option("--negative", metavar="VALUE,…", help="Values of the other  [default: all others]")
]
AboveOption = Annotated[
    float | None, typer.Option("--above", help="The label is a number; it is positive above this")
]
TestLabelsOption = Annotated[
    list[Path] | None, typer.Option("--test-labels", help="Files to measure on (repeatable)")
]
TestShareOption = Annotated[
    float, typer.Option("--test-share", min=0, max=0.9, help="Without them: share of the rows to measure on")
]
HeaderOption = Annotated[
    bool, typer.Option("--header/--no-header", help="Without a header columns are called 1, 2, 3, …")
]
SeparatorOption = Annotated[str | None, typer.Option("--separator", help="Between fields  [default: by name]")]
QuoteOption = Annotated[
    str | None, typer.Option("--quote", help="Around fields, '' for none  [default: \" in CSV, none in TSV]")
]
EncodingOption = Annotated[str, typer.Option("--encoding", help="Of text files")]
AccountsOption = Annotated[
    bool, typer.Option("--accounts", help="Classify accounts by what they do; the label is a column of users")
]


@command(app, "train-safety")
def train_safety(
    call: Invocation,
    task: TaskOption,
    labels: LabelsOption = None,
    text_column: TextColumnOption = "text",
    label_column: LabelColumnOption = None,
    positive: PositiveOption = None,
    negative: NegativeOption = None,
    above: AboveOption = None,
    test_labels: TestLabelsOption = None,
    test_share: TestShareOption = 0.2,
    header: HeaderOption = True,
    separator: SeparatorOption = None,
    quote: QuoteOption = None,
    encoding: EncodingOption = "utf-8",
    accounts: AccountsOption = False,
) -> None:
    """Train a safety classifier and keep it under artifacts/safety; `recsys train` takes it into its runs."""
    config = call.config
    from recsys_cli.safety.labels import LabelOptions
    from recsys_cli.safety.train import train_account_classifier, train_text_classifier

    options = LabelOptions(
        label=label_column or task,
        positive=_values(positive),
        negative=_values(negative),
        above=above,
        text=_values(text_column),
        header=header,
        separator=separator,
        quote=quote,
        encoding=encoding,
    )
    if not options.text:
        raise UsageError("--text-column names no column", "for example --text-column text")
    place = config.paths.artifacts
    if accounts:
        if labels or test_labels:
            raise UsageError("--accounts takes labels from the dataset's users", "leave out --labels, --test-labels")
        document = train_account_classifier(
            place, task, options, config.paths.data, test_share=test_share, seed=config.seed,
            windows=config.windows,
        )
    else:
        document = train_text_classifier(
            place, task, options, files=labels or (), test_files=test_labels or (), data=config.paths.data,
            test_share=test_share, seed=config.seed, progress=call.progress,
        )
    for reason, count in document["labels"]["left_out"].items():
        if count:
            call.say(f"left out: {count:,} {reason}")
    repeated = document["labels"].get("repeated", 0)
    if repeated:
        call.say(f"{repeated:,} rows repeat the text of another; all rows of a text are on one side of every split")
    rows = [
        {"task": task, "of": document["of"], "on": on, **values} for on, values in document["metrics"].items()
    ]
    call.emit(document, lambda console: _render(console, document), rows)


def _values(text: str | None) -> tuple[str, ...]:
    return tuple(v.strip() for v in (text or "").split(",") if v.strip())


def _render(console, document: dict) -> None:
    from rich.table import Table

    names = ("rows", "positives", "without_score", "roc_auc", "pr_auc", "precision_at_recall_0.9", "log_loss", "ece")
    heads = ("rows", "positives", "no score", "ROC-AUC", "PR-AUC", "P at R 0.9", "log loss", "ECE")
    table = Table("measured on", box=None, header_style="bold", pad_edge=False)
    for head in heads:
        table.add_column(head, justify="right")
    for on, row in document["metrics"].items():
        cells = (f"{row[n]:,}" if isinstance(row[n], int) else f"{row[n]:.4f}" for n in names)
        table.add_row(on.replace("_", "-"), *cells)
    console.print(table, "")
    table = Table("threshold for", box=None, header_style="bold", pad_edge=False)
    for head in ("score above", "precision", "recall", "flagged"):
        table.add_column(head, justify="right")
    for row in document["thresholds"]:
        table.add_row(
            row["for"], f"{row['threshold']:.3f}", f"{row['precision']:.3f}", f"{row['recall']:.3f}",
            f"{row['flagged_share']:.1%}",
        )
    console.print(table)
    where = f"{document['task']} of {document['of']} is kept · {document['seconds']:.1f} s · {document['folder']}"
    console.print(f"\n{where}", highlight=False, soft_wrap=True)
