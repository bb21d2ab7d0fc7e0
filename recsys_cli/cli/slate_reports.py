"""Reports of slates and of comparisons, written where `evaluate` and `compare` say."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from recsys_cli.cli.common import Invocation
from recsys_cli.errors import UsageError

if TYPE_CHECKING:
    from recsys_cli.engine import RecommendationEngine
    from recsys_cli.evaluation.slates.evaluate import SlateReport


def measure_slates(
    call: Invocation, slates: Mapping[str, Path], truth: Path | None, tables: Mapping[str, Path | None],
    k: list[int] | None, segments: list[str], per_user: Path | None, html: Path | None, *, full: bool,
    runs: Sequence[str] = (), ablate: Sequence[str] = (), order: Sequence[str] | None = None,
    **asked: int | bool | None,
) -> None:
    """Measure files of slates and runs and write what was asked for: without --truth on the dataset's test window.

    ablate: stages that the first run is measured without, too. order: names of the systems, the first one first.
    asked: negatives, sample_of, per_session, bubble and by_day, see `evaluation.slates.evaluate`.
    """
    config = call.config
    resamples = config.evaluation.resamples
    if truth is not None:
        from recsys_cli.evaluation.slates.evaluate import evaluate

        asked = {name: value for name, value in asked.items() if name not in ("bubble", "by_day")}
        report = evaluate(
            slates, truth, k=k, segments=segments, resamples=resamples, seed=config.seed, **tables, **asked
        )
    else:
        if any(tables.values()):
            raise UsageError("tables of users, items and history go with --truth", "without it the dataset has them")
        from recsys_cli.evaluation.slates.of_dataset import evaluate_on_dataset

        engines = {name: _engine(call, name) for name in runs}
        report = evaluate_on_dataset(
            slates, config, engines=engines, ablate=ablate, k=k, segments=segments, order=order, **asked
        )
    write_report(call, report, per_user, html, full=full)


def _engine(call: Invocation, run: str) -> RecommendationEngine:
    """The half of a run that knows nothing of the test window."""
    from recsys_cli.engine import RecommendationEngine

    config = call.config
    threads = config.threads or os.cpu_count() or 1
    return RecommendationEngine.load(config.paths.artifacts, run, threads=threads, trace=call.trace, measured=True)


def write_report(
    call: Invocation, report: SlateReport, per_user: Path | None, html: Path | None, *, full: bool
) -> None:
    """The report in the format that was asked for, and beside it each user's figures and the page."""
    from recsys_cli.evaluation.slates.evaluate import figure_rows
    from recsys_cli.evaluation.slates.tables import render
    from recsys_cli.files import write_bytes

    if per_user is not None:
        import io

        buffer = io.BytesIO()
        report.per_user.write_parquet(buffer)
        write_bytes(per_user, buffer.getvalue())
        call.say(f"wrote {per_user}")
    document = report.document
    to_page = call.output is not None and call.output.suffix.lower() in (".html", ".htm")
    if html is not None or to_page:
        from recsys_cli.evaluation.slates.page import slates_page
    for path in dict.fromkeys(filter(None, (html, call.output if to_page else None))):
        write_bytes(path, slates_page(document).encode())
        if path == call.output:
            call.wrote()
        else:
            call.say(f"wrote {path}")
    if not to_page:
        call.emit(document, lambda console: render(console, document, full=full), figure_rows(document))
