"""`recsys recommend`: slates for one user, some users or everybody."""

from __future__ import annotations

import re
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from recsys_cli.cli.common import Invocation, app, command
from recsys_cli.cli.options import EngineOption, RunOption
from recsys_cli.errors import DataError, UsageError

if TYPE_CHECKING:
    from recsys_cli.answers.slate import Recommendations
    from recsys_cli.engine import RecommendationEngine

MOST_IDS = 100_000
"""Ids that an option with commas takes."""
UserOption = Annotated[list[str] | None, typer.Option("--user", "-u", help="User id (repeatable)")]
UsersFileOption = Annotated[Path | None, typer.Option("--users-file", help="File with one user id a line")]
EverybodyOption = Annotated[bool, typer.Option("--all", help="Every user of the dataset")]
HistoryOption = Annotated[
    str | None,
    typer.Option("--history", metavar="ID,ID,…", help="Items of somebody who is not in the data, oldest first"),
]
TopicsOption = Annotated[
    str | None,
    typer.Option("--topics", metavar="TOPIC,TOPIC,…", help="Topics that somebody new chose", show_default=False),
]
AttributeOption = Annotated[
    list[str] | None,
    typer.Option("--attribute", metavar="KEY=VALUE", help="What is known of somebody new (repeatable)"),
]
NumberOption = Annotated[
    int | None, typer.Option("-n", min=1, help="Items a slate  [default: pipeline.slate_size]", show_default=False)
]
ContextOption = Annotated[
    list[str] | None, typer.Option("--context", metavar="KEY=VALUE", help="surface, device, time, … (repeatable)")
]
ExplainOption = Annotated[
    bool, typer.Option("--explain", help="Predictions, similarities, safety and the reason of each item")
]
WithoutOption = Annotated[
    list[str] | None,
    typer.Option("--without", metavar="STAGE", help="Leave a stage out; --explain lists them (repeatable)"),
]
AdventureOption = Annotated[
    float | None,
    typer.Option("--adventure", metavar="NUMBER", help="From -1, familiar, to 1, adventurous", show_default=False),
]
ServedOption = Annotated[
    str | None, typer.Option("--served", metavar="ID,ID,…", help="Items not to show again, as of the page before")
]
LayoutOption = Annotated[
    Literal["list", "rows"],
    typer.Option("--layout", help="rows: top picks, because you liked, trending, new, topics, who to follow"),
]
FallbackOption = Annotated[
    bool, typer.Option("--fallback/--no-fallback", help="Answer unknown users with trending and popular items")
]
DatabaseOption = Annotated[
    str | None,
    typer.Option(
        "--to-database", metavar="URL", show_default=False,
        help="With --all: write a table of this database, e.g. postgresql://me:${PASSWORD}@host/shop",
    ),
]
TableOption = Annotated[str, typer.Option("--table", help="With --to-database: its name")]
ShardsOption = Annotated[
    int, typer.Option("--shards", min=1, max=10_000, help="Files to write: --output is then a folder of part-*")
]


@command(app, "recommend", answers=True)
def recommend(
    call: Invocation,
    user: UserOption = None,
    users_file: UsersFileOption = None,
    everybody: EverybodyOption = False,
    history: HistoryOption = None,
    topics: TopicsOption = None,
    attribute: AttributeOption = None,
    number: NumberOption = None,
    context: ContextOption = None,
    run: RunOption = None,
    explain: ExplainOption = False,
    without: WithoutOption = None,
    adventure: AdventureOption = None,
    served: ServedOption = None,
    layout: LayoutOption = "list",
    fallback: FallbackOption = True,
    to_database: DatabaseOption = None,
    table: TableOption = "recommendations",
    shards: ShardsOption = 1,
    engine: EngineOption = None,
) -> None:
    """Recommend items: rank, what it is, author, score, sources and reason; the mix and the funnel with --explain.

    As CSV, Parquet or JSON lines: a row an item, whoever was asked for (`recsys docs slate` lists the columns).
    """
    guest = history is not None or topics is not None or bool(attribute)
    as_rows = call.format in ("csv", "parquet", "jsonl")
    changed = without is not None or adventure is not None or served is not None
    _check(
        ways=sum((bool(user), users_file is not None, everybody, guest)),
        shards=shards > 1 and not (as_rows and call.output is not None),
        database=to_database is not None and (not everybody or changed),
        rows=engine == "ray" and not (as_rows and not guest and to_database is None and layout == "list"),
    )
    kind, engine = engine, _opened(call, run)
    values = parse_context(context or [])
    if to_database is not None:
        _write_table(call, engine, to_database, table, number, values)
        return
    ids: list | None
    if guest:
        engine, ids = _guest(call, engine, history, topics, parse_context(attribute or [], "--attribute"))
    elif everybody:
        ids = None
    else:
        ids = _owned(engine, list(user) if user else _read_ids(users_file, engine.bundle.user_ids))
    asked = {"fallback": fallback, "without": without or (), "adventure": adventure}
    asked["served"] = None if served is None else split_history(served, engine.bundle.item_ids)
    if layout == "rows":
        _emit_pages(call, engine, ids, number, without or (), values, fallback)
        return
    if as_rows:
        _emit_rows(call, engine, ids, shards, kind, n=number, context=values, explain=explain, **asked)
        return
    every = engine.bundle.user_ids.external(list(range(len(engine.bundle.user_ids)))) if ids is None else ids
    answers = list(engine.recommend_many(every, number, values, ranks=explain, **asked))
    _emit_answers(call, engine, answers, explain, alone=not everybody and users_file is None)


def _emit_answers(
    call: Invocation, engine: RecommendationEngine, answers: list[Recommendations], explain: bool, *, alone: bool
) -> None:
    """alone: whether the answer for one person is no list of answers."""
    _tell_fallback(call, engine, Counter(a.fallback for a in answers if a.fallback))
    _tell_failures(call, Counter(note for a in answers for note in a.failures))
    if explain and call.config.language_model.reasons:
        answers = _worded(call, answers)
    document = [a.to_dict() for a in answers]
    single = alone and len(document) == 1
    call.emit(document[0] if single else document, lambda console: _render(console, answers, explain))


def _check(*, ways: int, shards: bool, database: bool, rows: bool) -> None:
    """Raises UsageError for options that do not go together. ways: in which users are named."""
    if ways != 1:
        raise UsageError(
            "name users with --user, --users-file or --all, or items with --history (topics with --topics)",
            "exactly one of them, e.g. --user 1",
        )
    if shards:
        raise UsageError("--shards needs --output FOLDER and --format csv, parquet or jsonl")
    if database:
        raise UsageError("--to-database writes the slates of --all, as they are served", "leave the other options out")
    if rows:
        raise UsageError("--engine ray makes rows: --format csv, parquet or jsonl of users of the data", "leave it out")


def _opened(call: Invocation, run: str | None) -> RecommendationEngine:
    from recsys_cli.engine import RecommendationEngine

    config = call.config
    engine = RecommendationEngine.load(
        config.paths.artifacts, run, config.pipeline, threads=config.threads, trace=call.trace
    )
    for note in engine.notes:
        call.say(f"note: {note}")
    return engine


def _guest(
    call: Invocation, engine: RecommendationEngine, history: str | None, topics: str | None, attributes: dict[str, str]
) -> tuple[RecommendationEngine, list[str]]:
    from recsys_cli.slate_engine import GUEST

    ids = [] if history is None else split_history(history, engine.bundle.item_ids)
    if history is not None and not ids:
        raise UsageError("--history names no item", "give item ids separated by commas, e.g. --history 12,48,7")
    chosen = [topic.strip() for topic in (topics or "").split(",") if topic.strip()]
    if topics is not None and not chosen:
        raise UsageError("--topics names no topic", "give topics separated by commas")
    engine = engine.with_guest(ids, chosen, attributes)
    for note in engine.told:
        call.say(note)
    return engine, [GUEST]


def _emit_pages(
    call: Invocation, engine: RecommendationEngine, ids: list | None, number: int | None, without, context, fallback
) -> None:
    """A page of rows for each of some users."""
    if ids is None or context:
        raise UsageError("a page of rows is for named users as of now", "leave out --all and --context")
    for user in ids:
        engine.position(user, fallback=fallback)
    pages = [engine.recommend_rows(user, number, without=without) for user in ids]
    document = [page.to_dict() for page in pages]
    rows = [
        {"user_id": page.user_id, "row": number, "kind": row.kind, "title": row.title, "rank": rank, "id": item.id}
        for page in pages for number, row in enumerate(page.rows, 1) for rank, item in enumerate(row.items, 1)
    ]
    call.emit(document[0] if len(document) == 1 else document, lambda console: _render_pages(console, pages), rows)


def _render_pages(console, pages: list) -> None:
    from recsys_cli.cli.slate_tables import render_page

    for page in pages:
        render_page(console, page)


def _emit_rows(
    call: Invocation, engine: RecommendationEngine, ids: list | None, shards: int, kind: str | None, **options
) -> None:
    """Write the slates row by row, as they come. kind: --engine; what a guest is asked stays here."""
    if call.output is None and call.format == "parquet" and sys.stdout.isatty():
        raise UsageError("Parquet does not belong on a terminal", "name a file with --output, or redirect stdout")
    target = sys.stdout.buffer if call.output is None else call.output
    options |= {"shards": shards, "raw": call.raw, "progress": call.progress}
    if engine.guest is not None or (kind or call.config.engine) == "local":
        written = engine.write_slates(ids, target, call.format, **options)
    else:
        from recsys_cli.distributed.slates import write_slates_by_tasks

        with call.tasks(kind) as cluster:
            written = write_slates_by_tasks(cluster, engine, ids, target, call.format, **options)
    _tell_fallback(call, engine, written.fallback)
    _tell_failures(call, written.failures)
    if call.output is not None:
        call.wrote(f"{written.rows:,} recommendations for {written.users:,} users")


def _write_table(call: Invocation, engine, database: str, table: str, n: int | None, values: dict) -> None:
    """Put the slates of everybody into a database."""
    from recsys_cli.live.database import write_to_database

    done = write_to_database(engine, database, table, n=n, context=values, progress=call.progress)
    _tell_fallback(call, engine, done.written.fallback)
    _tell_failures(call, done.written.failures)
    told = {"table": done.table, "run_id": done.run_id, "batch_id": done.batch_id, "rows": done.written.rows,
            "users": done.written.users, "removed": done.removed}
    line = (
        f"{done.table}: {done.written.rows:,} rows for {done.written.users:,} users of run {done.run_id}; "
        f"{done.removed:,} older ones removed"
    )
    call.emit(told, lambda console: console.print(line, highlight=False, markup=False), [told])


def _tell_fallback(call: Invocation, engine: RecommendationEngine, reasons: Counter[str]) -> None:
    if engine.topics:
        return
    helpers = " and ".join(engine.pipeline.sourcing.fallback)
    for reason, users in reasons.items():
        call.say(f"{users:,} user{'s' if users > 1 else ''}: {reason}; filled from {helpers}")


def _worded(call: Invocation, answers: list) -> list:
    """Slates whose reasons the language model of the settings words."""
    from recsys_cli.language_model.reasons import word_reasons

    answers, note = word_reasons(call.config.language_model, answers, call.progress)
    if note is not None:
        call.say(note)
    return answers


def _tell_failures(call: Invocation, failures: Counter[str]) -> None:
    for failure in failures:
        call.say(f"warning: {failure}")


def split_history(text: str, known) -> list[str]:
    """The ids of `--history`; an id of the data may hold commas itself, the longest that is known is taken.

    known: the Vocabulary of items. Raises UsageError for more than MOST_IDS.
    """
    import numpy as np

    parts, ids = text.split(","), []
    if len(parts) > MOST_IDS:
        raise UsageError(f"{len(parts):,} ids are more than a command line takes",
                         f"name {MOST_IDS:,} or fewer, of a history the latest")
    # longest known id that begins at each part, in parts
    length = np.ones(len(parts), np.int64)
    for commas in known.comma_counts():
        if 0 < commas < len(parts):
            joined = [",".join(parts[at : at + commas + 1]).strip() for at in range(len(parts) - commas)]
            length[: len(joined)][known.positions(joined) >= 0] = commas + 1
    at = 0
    while at < len(parts):
        ids.append(",".join(parts[at : at + length[at]]).strip())
        at += int(length[at])
    return [i for i in ids if i]


def _owned(engine, ids: list) -> list:
    """Ids as the owner writes them: the shell gives text where the dataset may have integers."""
    positions = engine.bundle.user_ids.positions(ids)
    known = engine.bundle.user_ids.external(positions)
    return [k if k is not None else given for k, given in zip(known, ids, strict=True)]


def _read_ids(path: Path, known) -> list[str]:
    """The ids of a file. known: the Vocabulary of users. Raises DataError for what are no ids of users."""
    from recsys_cli.data.importer.text import read_lines

    what = "one user id a line"
    lines = read_lines(path, what)
    if lines and next(iter(lines.values())) == "user_id" and known.position("user_id") < 0:
        lines.pop(next(iter(lines)))  # the head of a table of one column
    if not lines:
        raise DataError(f"{path} names no user", f"write {what}")
    ids = list(lines.values())
    unknown = known.positions(ids) < 0
    odd = re.compile(r"[,;\t\"{}\[\]]" if known.is_text else r"(?!^-)[^0-9]")
    for number, line in (pair for pair, new in zip(lines.items(), unknown, strict=True) if new):
        found = odd.search(line)
        if found:
            kind = "a separator" if known.is_text else "no digit"
            raise DataError(f"{path} line {number} column {found.start() + 1}: {line[:40]!r} is no user id ({kind})",
                            f"it must be text with {what}")
    return ids


def parse_context(pairs: list[str], option: str = "--context") -> dict[str, str]:
    """KEY=VALUE pairs of the command line; raises UsageError for anything else."""
    out = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            example = "surface=home" if option == "--context" else "country=de"
            raise UsageError(f"{option} {pair!r} is not of the form key=value", f"for example {option} {example}")
        out[key] = value
    return out


def _render(console, answers: list, explain: bool) -> None:
    from recsys_cli.cli.slate_tables import render_slate

    for answer in answers:
        render_slate(console, answer, explain=explain)
