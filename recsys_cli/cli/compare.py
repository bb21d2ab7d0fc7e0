"""`recsys compare`: what changed between two runs, or two files of slates, for whom, and whether it is beyond noise."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from recsys_cli.cli.common import Invocation, app, command
from recsys_cli.cli.evaluate import (
    HistoryFile,
    HtmlOption,
    Intervals,
    ItemTable,
    Lengths,
    Negatives,
    PerSession,
    PerUser,
    SampleOf,
    Segments,
    TruthFile,
    UserTable,
    by_day,
    lengths_of,
    named_files,
    words,
)
from recsys_cli.cli.slate_reports import measure_slates
from recsys_cli.errors import UsageError


@command(app, "compare")
def compare(
    call: Invocation,
    first: Annotated[str, typer.Argument(metavar="A", help="Run id, or [NAME=]FILE of slates")],
    second: Annotated[str, typer.Argument(metavar="B", help="Run id, or [NAME=]FILE of slates")],
    k: Lengths = None,
    truth: TruthFile = None,
    user_table: UserTable = None,
    item_table: ItemTable = None,
    history: HistoryFile = None,
    segments: Segments = None,
    per_user: PerUser = None,
    negatives: Negatives = None,
    sample_of: SampleOf = None,
    per_session: PerSession = False,
    intervals: Intervals = "users",
    full: Annotated[bool, typer.Option("--full", help="Every metric at every k")] = False,
    html: HtmlOption = None,
) -> None:
    """Compare B with A, user by user: paired tests with Holm's correction, who and what changes most, a sentence.

    Runs and files may be mixed as long as they are measured on the test window of the dataset (no --truth).
    """
    if first == second:
        raise UsageError("A and B are the same", "name two runs or two files")
    runs = [name for name in (first, second) if _is_run(name)]
    files = named_files([name for name in (first, second) if name not in runs])
    if truth is not None and (runs or by_day(intervals)):
        raise UsageError("--truth is for files of slates", "runs are measured on the test window of their dataset")
    tables = {"users": user_table, "items": item_table, "history": history}
    order = [name if name in runs else next(iter(named_files([name]))) for name in (first, second)]
    measure_slates(
        call, files, truth, tables, lengths_of(k), words(segments), per_user, html, full=full, runs=runs, order=order,
        negatives=negatives, sample_of=sample_of, per_session=per_session, by_day=by_day(intervals),
    )


def _is_run(name: str) -> bool:
    """Whether a name is that of a run and not of a file."""
    return "=" not in name and "/" not in name and "." not in name and not Path(name).exists()
