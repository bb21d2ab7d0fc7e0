"""`recsys evaluate`: how good a run is on the last window of its data."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from recsys_cli.cli.common import Invocation, app, command
from recsys_cli.cli.options import EngineOption, RunOption
from recsys_cli.cli.output import json_bytes
from recsys_cli.errors import UsageError

if TYPE_CHECKING:
    from recsys_cli.data.dataset import Dataset
    from recsys_cli.engine import RecommendationEngine
    from recsys_cli.evaluation.config import EvaluationConfig

SlateFiles = Annotated[
    list[str] | None,
    typer.Option(
        "--slates", metavar="[NAME=]FILE", show_default=False,
        help="Measure lists that any system made instead of a run: CSV, Parquet or a TREC run (repeatable)",
    ),
]
TruthFile = Annotated[
    Path | None,
    typer.Option(
        "--truth", help="With slates: what people turned to (CSV, Parquet, TREC qrels)  [default: the test window]",
        show_default=False,
    ),
]
UserTable = Annotated[
    Path | None, typer.Option("--user-table", help="With --truth: attributes by user_id", show_default=False)
]
ItemTable = Annotated[
    Path | None,
    typer.Option("--item-table", help="With --truth: topics and author_id by item_id", show_default=False),
]
HistoryFile = Annotated[
    Path | None,
    typer.Option("--history", help="With --truth: interactions before, for novelty", show_default=False),
]
Segments = Annotated[
    str | None,
    typer.Option("--segments", metavar="NAME,…", help="Attributes of users to tell apart", show_default=False),
]
Negatives = Annotated[
    int | None,
    typer.Option(
        "--negatives", min=1, show_default=False,
        help="Also rank each item to find among so many drawn at random, as sampled metrics do, with their correction",
    ),
]
SampleOf = Annotated[
    int | None,
    typer.Option(
        "--sample-of", metavar="N", min=2, show_default=False,
        help="Lists rank what was to be found among items drawn from N: sampled metrics and their correction",
    ),
]
PerSession = Annotated[
    bool, typer.Option("--per-session", help="Judge lists session by session, and not by all that a user took")
]
Intervals = Annotated[
    str,
    typer.Option(
        "--intervals", metavar="KIND",
        help="users, or days: also what differs from day to day (test windows of five days and more)",
    ),
]
Bubble = Annotated[
    int | None,
    typer.Option(
        "--bubble", metavar="N", min=2, max=100, show_default=False,
        help="Filter-bubble index: how far lists narrow over N sessions in which people take what stands first",
    ),
]
PerUser = Annotated[
    Path | None, typer.Option("--per-user", help="Write each user's figures there (Parquet)", show_default=False)
]
Lengths = Annotated[
    list[str] | None,
    typer.Option(
        "-k", "--k", metavar="K,…", help="Lengths of list (repeatable)  [default: evaluation.k]", show_default=False
    ),
]

UsersOption = Annotated[
    int | None,
    typer.Option("--users", min=1, help="Measure on so many test users  [default: all]", show_default=False),
]
RetrieversOption = Annotated[
    bool,
    typer.Option("--retrievers", help="Compare the sources: recall at 100, 500 and 1,500 (or -k), what each adds"),
]
RollingOption = Annotated[
    bool,
    typer.Option("--rolling", help="Train and measure at each of windows.cuts cuts in time: mean and spread"),
]
FullOption = Annotated[
    bool, typer.Option("--full", help="Every system, metric, source, action and stage, not what matters first")
]
GrowthOption = Annotated[
    bool, typer.Option("--growth", help="How good lists are by how much is known of a person (takes a while)")
]
FrontierOption = Annotated[
    str | None,
    typer.Option(
        "--frontier", metavar="KIND,…", show_default=False,
        help="What diversity costs by its weight: mmr, dpp, calibration (takes a while)",
    ),
]
HtmlOption = Annotated[
    Path | None, typer.Option("--html", help="Write the HTML report here too", show_default=False)
]
RunsOption = Annotated[
    str | None,
    typer.Option("--runs", metavar="A,B,…", help="Runs to measure beside one another", show_default=False),
]
AblateOption = Annotated[
    str | None,
    typer.Option(
        "--ablate", metavar="NAME,…", show_default=False,
        help="Measure the run without each of these stages and sources too; `sources`, `stages`: all of them",
    ),
]


@command(app, "evaluate")
def evaluate(
    call: Invocation,
    run: RunOption = None,
    users: UsersOption = None,
    k: Lengths = None,
    retrievers: RetrieversOption = False,
    rolling: RollingOption = False,
    full: FullOption = False,
    growth: GrowthOption = False,
    frontier: FrontierOption = None,
    html: HtmlOption = None,
    runs: RunsOption = None,
    ablate: AblateOption = None,
    slates: SlateFiles = None,
    truth: TruthFile = None,
    user_table: UserTable = None,
    item_table: ItemTable = None,
    history: HistoryFile = None,
    segments: Segments = None,
    per_user: PerUser = None,
    negatives: Negatives = None,
    sample_of: SampleOf = None,
    per_session: PerSession = False,
    bubble: Bubble = None,
    intervals: Intervals = "users",
    engine: EngineOption = None,
) -> None:
    """Measure the whole funnel and each source on the test window: ranking, coverage, predictions, targets.

    The terminal leads with a verdict; all of it is kept as JSON and HTML under ARTIFACTS/reports/RUN/. With --slates
    the lists of any other system are measured in the same way, without a model.
    """
    lengths = lengths_of(k)
    tables = {"users": user_table, "items": item_table, "history": history}
    asked = {"negatives": negatives, "sample_of": sample_of, "per_session": per_session, "bubble": bubble}
    asked["by_day"] = by_day(intervals)
    of_lists = bool(slates or ablate or segments or per_user or any(asked.values()))
    side_by_side = [*words(runs), *([run] if run and of_lists else [])]
    _check_engine(engine, of_lists or bool(side_by_side), rolling or retrievers)
    if of_lists or side_by_side:
        from recsys_cli.cli.slate_reports import measure_slates

        _check_lists(
            retrievers or rolling or users is not None, bool(growth or frontier),
            truth is not None and bool(side_by_side or ablate or bubble or asked["by_day"]),
        )
        asked["runs"] = side_by_side or ([] if slates else [_in_use(call)])
        measure_slates(
            call, named_files(slates or []), truth, tables, lengths, words(segments), per_user, html,
            ablate=words(ablate), full=full, **asked,
        )
        return
    _check_whole(words(frontier), (rolling or retrievers) and bool(growth or frontier), [truth, *tables.values()])
    settings = _settings(call, users, lengths)
    if rolling:
        _rolling(call, settings, html, run, retrievers)
    elif retrievers:
        _retrievers(call, *_opened(call, run), settings, lengths)
    else:
        _funnel(call, *_opened(call, run), settings, html, engine, growth, words(frontier), full)


def _check_engine(engine: str | None, lists: bool, parts: bool) -> None:
    if engine == "ray" and (lists or parts):
        raise UsageError("--engine ray is for the funnel of one run", "leave it out")


def _settings(call: Invocation, users: int | None, lengths: list[int] | None) -> EvaluationConfig:
    given = {"users": users, "k": tuple(lengths) if lengths else None}
    return call.config.evaluation.model_copy(update={n: v for n, v in given.items() if v is not None})


def _check_whole(kinds: list[str], both: bool, of_lists: list) -> None:
    """Raises UsageError for what goes with lists alone, kinds of stages without a frontier, and two ways of measuring
    at once."""
    from recsys_cli.evaluation.frontier import check_kinds

    if any(of_lists):
        raise UsageError("--truth and tables of users, items and history go with --slates", "name the lists")
    check_kinds(kinds)
    if both:
        raise UsageError("--rolling and --retrievers have no growth curve and no frontier", "ask for one of them")


def _check_lists(sampled: bool, whole: bool, truth: bool) -> None:
    """Raises UsageError for options that do not go with measuring lists."""
    if sampled:
        raise UsageError(
            "--runs, --slates, --segments, --ablate, --per-user, --per-session, --intervals, --bubble "
            "and --negatives measure lists of everybody", "leave out --users, --retrievers and --rolling",
        )  # fmt: skip
    if whole:
        raise UsageError("--growth and --frontier are of one run as a whole",
                         "leave them out, or --runs, --slates, --segments and the like")  # fmt: skip
    if truth:
        raise UsageError("--truth is for files of slates", "runs and days are those of the dataset's test window")


def _opened(call: Invocation, run: str | None) -> tuple[RecommendationEngine, Dataset]:
    """The half of a run that knows nothing of the test window, and the data that it is measured on."""
    from recsys_cli.data.intact import open_intact
    from recsys_cli.engine import RecommendationEngine

    config = call.config
    engine = RecommendationEngine.load(
        config.paths.artifacts, run, config.pipeline, threads=config.threads or os.cpu_count() or 1, trace=call.trace,
        measured=True,
    )
    return engine, open_intact(config.paths.data, config.paths.artifacts)


def _funnel(
    call: Invocation, engine: RecommendationEngine, dataset: Dataset, settings: EvaluationConfig, html: Path | None,
    kind: str | None, growth: bool, frontier: list[str], full: bool,
) -> None:
    """Measure the whole funnel and keep the report. kind: --engine."""
    from recsys_cli.evaluation.html import evaluation_page
    from recsys_cli.evaluation.impressions import baseline_of
    from recsys_cli.evaluation.offline import evaluate as measure
    from recsys_cli.evaluation.rows import report_rows
    from recsys_cli.evaluation.tables import render
    from recsys_cli.files import write_bytes

    config = call.config
    trees = baseline_of(engine.artifacts, engine.manifest.id, config.threads or os.cpu_count() or 1)
    with call.tasks(kind) as tasks:
        document = measure(
            engine, dataset, settings, seed=config.seed, progress=call.progress, trace=call.trace, baseline=trees,
            growth=growth, frontier_of=frontier, tasks=tasks,
        )
    if not set(settings.k) <= set(document["k"]):
        lengths = ", ".join(f"{k:,}" for k in document["k"])
        call.say(f"note: k is {lengths}: nothing is measured far beyond the length of the catalogue")
    page = evaluation_page(document).encode()
    folder = Path(config.paths.artifacts) / "reports" / document["run"]
    write_bytes(folder / "evaluation.json", json_bytes(document))
    write_bytes(folder / "evaluation.html", page)
    if html is not None:
        write_bytes(html, page)
    if call.output is not None and call.output.suffix.lower() in (".html", ".htm") and call.options["format"] is None:
        write_bytes(call.output, page)
        call.wrote()
        return
    call.emit(document, lambda console: render(console, document, full=full), report_rows(document))
    call.say(f"report: {folder / 'evaluation.html'}")


def _in_use(call: Invocation) -> str:
    """Id of the run in use."""
    from recsys_cli.artifacts.runs import RunStore

    return RunStore(call.config.paths.artifacts).open(None).manifest.id


def _rolling(
    call: Invocation, settings: EvaluationConfig, html: Path | None, run: str | None, retrievers: bool
) -> None:
    from recsys_cli.evaluation.rolling import evaluate_rolling, render, rows

    if html is not None or run is not None or retrievers:
        raise UsageError("--rolling trains runs of its own", "leave out --run, --retrievers and --html")
    config = call.config
    document = evaluate_rolling(config, settings, threads=config.threads or os.cpu_count() or 1, progress=call.progress)
    call.emit(document, lambda console: render(console, document), rows(document))


def _retrievers(
    call: Invocation, engine: RecommendationEngine, dataset: Dataset, settings: EvaluationConfig,
    depths: list[int] | None,
) -> None:
    from recsys_cli.evaluation.retriever_table import render, rows
    from recsys_cli.evaluation.retrievers import DEPTHS, evaluate_retrievers
    from recsys_cli.files import write_bytes

    config = call.config
    document = evaluate_retrievers(
        engine, dataset, settings, depths=depths or DEPTHS, seed=config.seed, progress=call.progress, trace=call.trace
    )
    path = Path(config.paths.artifacts) / "reports" / document["run"] / "retrievers.json"
    write_bytes(path, json_bytes(document))
    call.emit(document, lambda console: render(console, document), rows(document))
    call.say(f"report: {path}")


def lengths_of(texts: list[str] | None) -> list[int] | None:
    """Lengths of list from `-k 5,10 -k 50`, ascending, each once; raises UsageError for what is none."""
    if not texts:
        return None
    parts = [part.strip() for text in texts for part in text.split(",") if part.strip()]
    for part in parts:
        if not part.isdigit() or not int(part):
            raise UsageError(f"-k {part}: a length of list is a whole number above 0", "for example -k 5,10,50")
    return sorted({int(part) for part in parts}) or None


def by_day(intervals: str) -> bool:
    """Whether intervals count days; raises UsageError for what is neither users nor days."""
    if intervals not in ("users", "days"):
        raise UsageError(f"--intervals {intervals}: users or days", "users is the default")
    return intervals == "days"


def words(text: str | None) -> list[str]:
    """The names in `a,b`."""
    return [part.strip() for part in (text or "").split(",") if part.strip()]


def named_files(texts: list[str]) -> dict[str, Path]:
    """Name → file from `NAME=FILE` or `FILE`, whose name is that of the file; raises UsageError for a name twice."""
    out: dict[str, Path] = {}
    for text in texts:
        name, equals, file = text.partition("=")
        if not equals or Path(text).is_file():
            name, file = Path(text).name.partition(".")[0], text
        if name in out:
            raise UsageError(f"two slates are called {name!r}", "name them, for example --slates before=a.csv")
        out[name] = Path(file)
    return out
